import math

import numpy as np
import pytest
import torch
import xarray as xr
from hypothesis import given, settings
from hypothesis import strategies as st

from facexkit.faces.regions import REGIONS, UNIONS
from facexkit.measure.facex import HighImpactPatches, RegionScores, above_mean, scaled
from facexkit.measure.region_scores import score_regions
from facexkit.probe.accumulator import Attributed, ProbedBatch
from facexkit.probe.attribution import attribute

KEY = Attributed("layer", 1)


def upsampled(map_, size):
    """Bilinear upsampling with half-pixel centres, pixel by pixel."""
    height, width = map_.shape

    def weights(length, place):
        at = min(max((place + 0.5) * length / size - 0.5, 0), length - 1)
        low = min(int(at), length - 1)
        return low, min(low + 1, length - 1), at - low

    out = np.zeros((size, size))
    for y in range(size):
        top, bottom, v = weights(height, y)
        for x in range(size):
            left, right, u = weights(width, x)
            out[y, x] = (map_[top, left] * (1 - u) + map_[top, right] * u) * (1 - v)
            out[y, x] += (map_[bottom, left] * (1 - u) + map_[bottom, right] * u) * v
    return out


def slow_scores(map_, masks):
    """FaceX scores of one image from its map and bool masks (19, 64, 64), as DESIGN puts it."""
    spread = map_.max() - map_.min()
    picture = upsampled((map_ - map_.min()) / spread if spread else map_ * 0, 64)
    positive = picture[picture > 0]
    lit = picture > (positive.mean() if len(positive) else np.inf)
    return np.array([lit[mask].sum() / mask.sum() if mask.any() else np.nan for mask in masks])


def slow_patch(map_, mask):
    """The best 16×16 tile of one image in one region: (value, y, x), or None."""
    size = len(mask)
    picture, best = upsampled(map_, size), None
    for y in range(0, size, 16):
        for x in range(0, size, 16):
            tile = (slice(y, y + 16), slice(x, x + 16))
            value = picture[tile][mask[tile]].sum()
            if value > 0 and (best is None or value > best[0]):
                best = (value, y, x)
    return best


def random_batch(n, view, seed, side=5):
    rng = np.random.default_rng(seed)
    coarse = rng.random((n, len(view.names), 4, 4)) < 0.3
    coarse[rng.random((n, len(view.names))) < 0.3] = False
    coarse[:, 3] = False  # no image has glasses
    yx = np.arange(view.size) * 4 // view.size
    maps = np.maximum(rng.normal(0, 1, (n, side, side)), 0).astype(np.float32)
    maps[0] = 0
    return maps, coarse[:, :, yx[:, None], yx]


def probed(view, rows, maps, masks):
    outputs = torch.stack([torch.zeros(len(rows)), torch.from_numpy(np.asarray(rows) / 7).float()], 1)
    return ProbedBatch(
        np.asarray(rows, np.int64),
        torch.empty(len(rows), 3, 0, 0, dtype=torch.uint8),
        {view: torch.from_numpy(masks[rows])},
        attributions={KEY: torch.from_numpy(maps[rows])},
        outputs=outputs,
    )


PATHS = np.array([f"{row}.png" for row in range(9)], object)
ACCUMULATORS = {
    "region scores": lambda: RegionScores(KEY, PATHS, 32),
    "patches": lambda: HighImpactPatches(KEY, PATHS, 40),
}


@pytest.mark.parametrize("kind", ACCUMULATORS)
@settings(deadline=None, max_examples=8)
@given(order=st.permutations(range(9)), cuts=st.lists(st.integers(0, 9), max_size=3), swap=st.booleans())
def test_a_result_is_the_same_for_any_batches_shards_and_merge_order(kind, order, cuts, swap):
    make = ACCUMULATORS[kind]
    view = make().view
    maps, masks = random_batch(9, view, seed=4)
    maps[5], masks[5] = maps[2], masks[2]  # a tie
    whole = make()
    whole.update(probed(view, np.arange(9), maps, masks))
    shards = []
    for rows in np.split(np.array(order), sorted(cuts)):
        shards.append(make())
        for part in np.array_split(rows, 2):
            if len(part):
                shards[-1].update(probed(view, part, maps, masks))
    first, *others = reversed(shards) if swap else shards
    for other in others:
        first.merge(other)
    xr.testing.assert_identical(first.result(), whole.result())


def test_scores_are_those_of_a_loop_over_images():
    kept = RegionScores(KEY, PATHS, 32)
    maps, masks = random_batch(9, kept.view, seed=1)
    kept.update(probed(kept.view, np.arange(9), maps, masks))
    found = kept.result()
    expected = np.stack([slow_scores(m.astype(float), mask) for m, mask in zip(maps, masks, strict=True)])
    np.testing.assert_allclose(found.per_image, expected, atol=1e-9)
    for region, name in enumerate(REGIONS):
        column = expected[:, region][~np.isnan(expected[:, region])]
        assert found.images.sel(region=name) == len(column)
        if len(column):
            assert found.score.sel(region=name) == pytest.approx(column.mean())
            assert found.score_low.sel(region=name) <= found.score.sel(region=name) <= found.score_high.sel(region=name)
    assert np.isnan(found.score.sel(region="eye_g")) and np.isnan(found.score_low.sel(region="eye_g"))
    assert (found.per_image.sel(image="0.png").fillna(0) == 0).all()  # its map is 0 everywhere
    np.testing.assert_allclose(found.output, np.arange(9) / 7, rtol=1e-6)
    for region, name in enumerate(REGIONS):
        ranked = sorted((-v, row) for row, v in enumerate(expected[:, region]) if not np.isnan(v))[:4]
        names = [PATHS[row] for _, row in ranked] + [""] * (4 - len(ranked))
        assert found.example_image.sel(region=name).values.tolist() == names
        for place, (_, row) in enumerate(ranked):
            from_0_to_1 = (maps[row] - maps[row].min()) / (np.ptp(maps[row]) or 1)
            np.testing.assert_allclose(found.example_map.sel(region=name)[place], from_0_to_1, atol=1e-6)


@pytest.mark.parametrize("size", [40, 16, 23, 9])
def test_patches_are_those_of_a_loop_over_tiles(size):
    kept = HighImpactPatches(KEY, PATHS, size)
    maps, masks = random_batch(9, kept.view, seed=size)
    kept.update(probed(kept.view, np.arange(9), maps, masks))
    found = kept.result()
    assert found.sizes["patch"] == 20
    for region, name in enumerate(REGIONS):
        best = [(slow_patch(maps[row].astype(float), masks[row, region]), row) for row in range(9)]
        best = sorted([(*patch, row) for patch, row in best if patch], key=lambda p: (-p[0], p[3]))
        here = found.sel(region=name)
        assert here.patch_image.values.tolist() == [PATHS[p[3]] for p in best] + [""] * (20 - len(best))
        np.testing.assert_allclose(here.patch_value[: len(best)], [p[0] for p in best], rtol=1e-5)
        assert here.patch_value[len(best) :].isnull().all()
        places = list(zip(here.patch_y.values, here.patch_x.values, strict=True))
        assert places[: len(best)] == [(p[1], p[2]) for p in best]
    assert found.patch_value.max() > 0


def test_no_more_than_twenty_patches_are_kept_and_the_best():
    paths = np.array([str(row) for row in range(30)], object)
    kept = HighImpactPatches(KEY, paths, 16)
    maps = np.arange(30, dtype=np.float32)[:, None, None] + np.zeros((30, 2, 2), np.float32)
    masks = np.zeros((30, len(kept.view.names), 16, 16), bool)
    masks[:, 2, 3, 4:6] = True
    kept.update(probed(kept.view, np.arange(30), maps, masks))
    found = kept.result().sel(region="nose")
    assert found.patch_value.values.tolist() == [2.0 * row for row in range(29, 9, -1)]


@pytest.mark.parametrize("value", [0.0, 0.7])
def test_a_constant_map_lies_on_nothing(value):
    maps = torch.full((2, 3, 3), value)
    assert (scaled(maps) == 0).all() and not above_mean(scaled(maps)).any()


def test_only_what_exceeds_the_mean_of_the_positive_values_counts():
    assert above_mean(torch.tensor([[[0.0, 1.0, 2.0, 3.0]], [[0.0, 0.0, 0.0, 1.0]]])).tolist() == [
        [[False, False, False, True]],
        [[False] * 4],
    ]


def test_scaling_is_by_each_maps_own_range():
    maps = torch.tensor([[[1.0, 3.0]], [[-2.0, 0.0]]])
    assert scaled(maps).tolist() == [[[0, 1]], [[0, 1]]]


def test_the_whole_chain_equals_a_loop_over_images(small_model, small_faces):
    found = score_regions(small_model, small_faces, "conv2", 2, batch_size=6, progress=False).sel(target_class=2)
    views = [RegionScores(Attributed("conv2", 2), [], 32).view, HighImpactPatches(Attributed("conv2", 2), [], 32).view]
    scores, best = [], []
    for row in range(len(small_faces)):
        batch = next(iter(small_faces[[row]].batches(32, 1, views, workers=0)))
        maps, _ = attribute(small_model, "conv2", small_model.prepare(batch.images), [2])
        map_ = maps[2][0].numpy().astype(float)
        scores.append(slow_scores(map_, batch.masks[views[0]][0].numpy()))
        best.append(slow_patch(map_, batch.masks[views[1]][0, 1].numpy()))
    assert np.nanmax(scores) > 0.5
    both = xr.concat([found.per_image, found.union_per_image.rename(union="region")], "region")
    np.testing.assert_allclose(both, scores, atol=2e-3)  # a pixel at the threshold may fall either way
    assert both.region.values.tolist() == [*REGIONS, *UNIONS]
    for region, name in enumerate(REGIONS):
        column = np.array(scores)[:, region]
        if name != "neck_l":
            assert found.score.sel(region=name) == pytest.approx(np.nanmean(column), abs=1e-3)
    assert found.images.sel(region="hat") == 3 and found.images.sel(region="neck_l") == 0
    assert np.isnan(found.score.sel(region="neck_l"))
    expected = sorted((b[0] for b in best if b), reverse=True)
    skin = found.patch_value.sel(region="skin").values
    np.testing.assert_allclose(skin[: len(expected)], expected[:20], rtol=1e-4)


@pytest.mark.parametrize("batch_size", [1, 3, 20])
def test_the_batch_size_changes_nothing(small_model, small_faces, batch_size):
    expected = score_regions(small_model, small_faces, "conv2", 1, batch_size=7, progress=False)
    found = score_regions(small_model, small_faces, "conv2", 1, batch_size=batch_size, progress=False)
    np.testing.assert_allclose(found.per_image, expected.per_image, atol=2e-3)
    np.testing.assert_allclose(found.score, expected.score, atol=1e-4)
    assert (found.patch_image == expected.patch_image).mean() > 0.99
    assert not math.isnan(found.score_low.sel(region="skin").item())
