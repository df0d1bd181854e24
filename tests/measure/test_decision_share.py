import numpy as np
import pytest
import torch
import xarray as xr
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn

from facexkit.errors import FacexkitError
from facexkit.faces.regions import REGIONS, TOP_TO_BOTTOM, UNIONS
from facexkit.measure.decision_share import draw_pairs
from facexkit.measure.region_scores import score_regions
from facexkit.measure.share_interval import accused, known_well, share_interval
from facexkit.models.face_model import FaceModel
from facexkit.models.loading import load_model
from facexkit.models.outputs import Meaning, are_probabilities

SIZE = 8
LIPS = (slice(5, 6), slice(2, 6))


def noise_images(n, seed=0):
    return np.random.default_rng(seed).integers(0, 256, (n, SIZE, SIZE, 3), np.uint8)


def one_layout(n):
    """The same regions in every face: background, skin inside, and upper lip at LIPS."""
    index = np.zeros((n, SIZE, SIZE), np.uint8)
    index[:, 1:7, 1:7] = REGIONS.index("skin")
    index[:, LIPS[0], LIPS[1]] = REGIONS.index("u_lip")
    return index


def varied_masks(n, seed=0):
    """Overlapping masks that differ from face to face, every pixel in one at least or in none."""
    rng = np.random.default_rng(seed)
    names = ["skin", "nose", "hair", "eye_g", "u_lip", "background"]
    return [{name: rng.random((SIZE, SIZE)) < 0.35 for name in names if rng.random() < 0.8} for _ in range(n)]


def share(model, faces, target=1, **options):
    return score_regions(model, faces, target_class=target, method="share", **{"progress": False, **options})


def owner(masks_i, masks_j, y, x):
    for name in TOP_TO_BOTTOM:
        if any(name in masks and masks[name][y, x] for masks in (masks_i, masks_j)):
            return name
    return "background"


def slow_shares(f, images, masks, seed, partners):
    """share(r) by loops over pairs, regions and pixels; f: float (3, S, S) in 0–1 → margin."""
    above, below = dict.fromkeys(REGIONS, 0.0), 0.0
    regions_met = {name: set() for name in REGIONS}
    for (i, j), order in zip(*draw_pairs(len(images), partners, seed), strict=True):
        away = f(images[j]) - f(images[i])
        below += away**2
        owners = np.array([[owner(masks[i], masks[j], y, x) for x in range(SIZE)] for y in range(SIZE)])
        exchanged, before = images[i].copy(), f(images[i])
        for name in (REGIONS[k] for k in order if REGIONS[k] in owners):
            exchanged[owners == name] = images[j][owners == name]
            above[name] += (f(exchanged) - before) * away
            before = f(exchanged)
            regions_met[name] |= {i, j}
    return {name: above[name] / below for name in REGIONS}, regions_met


def test_shares_are_those_of_loops_over_pairs_regions_and_pixels(faces_of, model_of):
    images, masks = noise_images(5), varied_masks(5)
    weight = torch.randn(3, SIZE, SIZE, generator=torch.Generator().manual_seed(0))

    def of(x):  # not additive: a square of a sum
        return (x * weight).sum((1, 2, 3)) + (x * weight.flip(2)).sum((1, 2, 3)) ** 2 / 20

    def f(image):
        return of(torch.from_numpy(image).permute(2, 0, 1)[None].double() / 255).item()

    expected, met = slow_shares(f, images, masks, 0, 3)
    for batch_size in (3, 64):
        found = share(model_of(of, SIZE), faces_of(images, masks), partners=3, batch_size=batch_size).isel(target_class=0)
        for name in REGIONS:
            here = found.sel(region=name)
            assert here.images == len(met[name])
            if met[name]:
                assert here.score == pytest.approx(expected[name], abs=1e-4)
                assert here.per_image.mean() == pytest.approx(expected[name], abs=1e-4)
            else:
                assert np.isnan(here.score) and np.isnan(here.score_low) and here.per_image.isnull().all()
        assert found.score.sum() == pytest.approx(1, abs=1e-6) and sum(expected.values()) == pytest.approx(1)
        for union, parts in UNIONS.items():
            here = found.sel(union=union)
            assert here.union_images == len(set.union(*(met[name] for name in parts)))
            if here.union_images:
                assert here.union_score == pytest.approx(sum(expected[name] for name in parts), abs=1e-4)
                assert here.union_score_low < here.union_score < here.union_score_high
            else:
                assert np.isnan(here.union_score)
        np.testing.assert_allclose(found.output, [f(image) for image in images], rtol=1e-4)
    assert not {"hat", "cloth"} & {name for name in REGIONS if met[name]}


def test_a_model_that_looks_at_the_lips_alone_has_its_whole_decision_there(faces_of, model_of):
    model = model_of(lambda x: 10 * x[:, 0, LIPS[0], LIPS[1]].mean((1, 2)) ** 2, SIZE)
    found = share(model, faces_of(noise_images(30), one_layout(30)), seed=3)
    assert found.score.sel(region="u_lip") == pytest.approx(1)
    assert found.score.sel(region="skin") == 0 and found.score.sel(region="background") == 0
    assert found.score.isnull().sum() == 16


@settings(deadline=None, max_examples=15)
@given(seed=st.integers(0, 10**6), n=st.integers(2, 6), partners=st.integers(1, 4))
def test_shares_add_up_to_one(faces_of, model_of, seed, n, partners):
    generator = torch.Generator().manual_seed(seed)
    bend = torch.rand(3, SIZE, SIZE, generator=generator) * 4
    weight = torch.randn(3, SIZE, SIZE, generator=generator)
    model = model_of(lambda x: (weight * (bend * x).sin()).sum((1, 2, 3)) + x.sum((1, 2, 3)) ** 2 / 99, SIZE)
    found = share(model, faces_of(noise_images(n, seed), varied_masks(n, seed)), partners=partners)
    assert found.score.sum() == pytest.approx(1, abs=1e-6)
    assert found.per_image.sum("region").mean() == pytest.approx(1, abs=1e-6)


def test_pairs_share_no_face_until_all_came_and_then_come_from_the_other_end_in_the_same_order():
    pairs, orders = draw_pairs(9, 4, seed=1)
    assert len(pairs) == 32 and len(draw_pairs(3, 9, seed=1)[0]) == 4 == len(draw_pairs(4, 1, seed=1)[0])
    for start in range(0, 32, 8):
        there, back = slice(start, start + 4), slice(start + 4, start + 8)
        assert len(np.unique(pairs[there])) == 8
        assert (pairs[back] == pairs[there, ::-1]).all() and (orders[back] == orders[there]).all()
    assert (np.sort(orders, 1) == np.arange(19)).all() and len(np.unique(orders, axis=0)) == 16


def test_the_interval_is_that_of_a_loop_over_pairs_that_share_a_face():
    rng = np.random.default_rng(0)
    pairs, _ = draw_pairs(12, 4, seed=0)
    pairs = pairs[:40]
    toward, square = rng.normal(size=(len(pairs), 2)), rng.random(len(pairs))
    share, low, high = share_interval(pairs, toward, square)
    influence = {frozenset(pair): 0 for pair in pairs.tolist()}
    for pair, above, below in zip(pairs.tolist(), toward, square, strict=True):
        influence[frozenset(pair)] += (above - share * below) / square.sum()
    apart = [(pairs != face).all(1) for face in range(12)]
    without = np.array([toward[kept].sum(0) / square[kept].sum() for kept in apart])
    apart = sum(own**2 for own in influence.values())
    variance = np.maximum(11 * without.var(0) - apart, apart)
    np.testing.assert_allclose(share, toward.sum(0) / square.sum())
    np.testing.assert_allclose(high - share, 2.200985 * np.sqrt(variance), rtol=1e-5)
    np.testing.assert_allclose(share - low, high - share)


def additive_walks(rng, pairs, faces):
    """c (P, 3 regions, 1 target), noisy, of faces whose margins are sums of the lips', the hair's and the skin's own."""
    c = np.diff((rng.normal(size=(faces, 3)) * (1.0, 0.8, 0.3))[pairs], axis=1)[:, 0]
    noise = rng.normal(size=(len(pairs), 3)) * 0.6
    moved = np.zeros((len(pairs), len(REGIONS), 1))
    moved[:, [REGIONS.index(name) for name in ("u_lip", "hair", "skin")], 0] = c + noise - noise.mean(1, keepdims=True)
    return moved


def test_stopping_when_the_largest_shares_are_known_leaves_the_interval_true(half_width=0.1):
    """Of 200 sets of 256 faces about 95 % of the intervals hold the truth, and not all took all of the pairs."""
    rng, covered, walked = np.random.default_rng(4), 0, []
    for _ in range(200):
        pairs = draw_pairs(256, 4, seed=int(rng.integers(1 << 30)))[0]
        moved = additive_walks(rng, pairs, 256)
        ends = [end for end in range(128, 1025, 64) if end == 1024 or known_well(pairs[:end], moved[:end], half_width)]
        c = moved[: ends[0], REGIONS.index("u_lip")]
        way = moved[: ends[0], :, 0].sum(1)
        share, low, high = (each[0] for each in share_interval(pairs[: ends[0]], c * way[:, None], way**2))
        covered += low <= 1 / 1.73 <= high
        walked.append(ends[0])
        assert ends[0] == 1024 or high - share <= half_width
    assert 0.91 <= covered / 200 <= 0.985 and np.mean(walked) < 600


def test_the_interval_covers():
    """Of 400 sets of 64 faces whose margins are sums of two regions' own, about 95 % of the intervals hold the truth."""
    rng, covered = np.random.default_rng(5), 0
    for _ in range(400):
        lips, hair = rng.normal(size=64) * 1.0, rng.normal(size=64) * 0.8
        pairs, _ = draw_pairs(64, 4, seed=int(rng.integers(1 << 30)))
        moved = np.stack([np.diff(own[pairs])[:, 0] for own in (lips, hair)], 1)
        away = moved.sum(1)
        _, low, high = share_interval(pairs, moved * away[:, None], away**2)
        covered += low[0] <= 1 / 1.64 <= high[0]
    assert 0.91 <= covered / 400 <= 0.98


def test_it_stops_where_the_three_largest_are_known_and_goes_on_alike_after_an_interruption(faces_of, model_of, tmp_path):
    model, faces = model_of(lambda x: x.sum((1, 2, 3)) / 9, SIZE), faces_of(noise_images(24), one_layout(24))
    how = {"partners": 9, "half_width": 0.9}
    whole, stopped = share(model, faces, partners=9, half_width=0.0), share(model, faces, **how)
    assert whole.attrs["walks"] == 216 and stopped.attrs["walks"] == 128
    written = share(model, faces, **how, folder=tmp_path)
    shards = sorted(tmp_path.rglob("000*.npz"))
    assert any(path.name == "000001.npz" for path in shards) and not list(tmp_path.rglob("000002.npz"))
    next(path for path in shards if path.name == "000001.npz").unlink()
    for again in (written, share(model, faces, **how, folder=tmp_path), share(model, faces, **how, workers=2)):
        assert again.equals(stopped)
    quick = share(model, faces, partners=9, quick=True)
    assert quick.attrs["walks"] == 96 and share(model, faces, partners=9, walks=40).attrs["walks"] == 40


def some_shares(faces=29, **own):
    """Shares of 2 ± 1 % of regions and unions, but for those that are given as (score, low)."""
    values = np.array([own.get(name, (0.02, 0.01)) for name in (*REGIONS, *UNIONS)])
    score, low = values.T
    own, unions = slice(len(REGIONS)), slice(len(REGIONS), None)
    numbers = {"score": ("region", score[own]), "score_low": ("region", low[own])}
    numbers |= {"union_score": ("union", score[unions]), "union_score_low": ("union", low[unions])}
    numbers |= {"images": ("region", np.full(len(REGIONS), faces)), "union_images": ("union", np.full(len(UNIONS), faces))}
    return xr.Dataset(numbers, {"region": list(REGIONS), "union": list(UNIONS), "target_class": 1})


def test_only_regions_beyond_doubt_are_accused():
    wider = 2.713 / 1.96  # of 19 − 8 + 4 = 15 regions at once, one-sided
    inside, beyond = 0.04 - 0.0199 / wider, 0.04 - 0.0201 / wider
    assert accused(some_shares(hat=(0.04, inside), nose=(0.04, beyond), hair=(0.3, 0.25))) == ["hair", "hat"]
    assert accused(some_shares(u_lip=(0.5, 0.45), lips=(0.6, 0.5))) == ["lips"]
    assert accused(some_shares(skin=(1.0, np.nan))) == [] == accused(some_shares(skin=(0.3, -0.01)))
    assert accused(some_shares(30, skin=(1.0, np.nan))) == ["skin"]
    assert accused(some_shares(u_lip=(0.5, 0.45)).drop_dims("union")) == ["u_lip"]


CERTAIN = {
    "lips": lambda x: 10 * x[:, 0, LIPS[0], LIPS[1]].mean((1, 2)) ** 2,
    "skin": lambda x: (3 * x[:, 1, 1:5, 1:7].mean((1, 2))).sin() - 2 * x[:, 2, 6, 1:7].mean(1),
    "background": lambda x: x[:, :, 0].mean((1, 2)) * x[:, :, 7].mean((1, 2)) * 9,
}


@pytest.mark.parametrize("part", CERTAIN)
def test_of_a_model_set_by_hand_its_cause_is_accused_and_nothing_else(faces_of, model_of, part):
    found = share(model_of(CERTAIN[part], SIZE), faces_of(noise_images(40), one_layout(40)))
    assert accused(found) == [part]


class Last(nn.Module):
    """The same decision in other clothes: logits, probabilities, one logit, one probability."""

    def __init__(self, form):
        super().__init__()
        self.form = form

    def forward(self, x):
        f = 8 * x[:, 0, LIPS[0], LIPS[1]].mean((1, 2)) - 4 + (x[:, 1].mean((1, 2)) - 0.5)
        logits = torch.stack([f * 0 + 1, f + 1], 1)
        return {
            "logits": logits,
            "shifted logits": logits + x.mean((1, 2, 3))[:, None] * 5,
            "probabilities": logits.softmax(1),
            "one logit": f[:, None],
            "one probability": f.sigmoid()[:, None],
        }[self.form]


@pytest.mark.parametrize("form", ["shifted logits", "probabilities", "one logit", "one probability"])
def test_the_form_of_the_output_does_not_matter(faces_of, form):
    faces = faces_of(noise_images(8), one_layout(8))
    expected = share(FaceModel(Last("logits"), name="m", image_size=SIZE, device="cpu"), faces)
    found = share(load_model(Last(form), image_size=SIZE, device="cpu"), faces)
    np.testing.assert_allclose(found.score, expected.score, atol=1e-3)
    assert 0.1 < expected.score.sel(region="u_lip") < 1.1


def test_margins():
    outputs = torch.tensor([[1.0, 2.0, 4.0], [0.0, 0.0, 0.0]], dtype=torch.float64)
    expected = [2 - np.log(np.e + np.exp(4)), -np.log(2)]
    np.testing.assert_allclose(Meaning().margin(outputs, 1), expected)
    np.testing.assert_allclose(Meaning().margin(outputs.softmax(1), 1), expected)
    np.testing.assert_allclose(Meaning("labels", False).margin(outputs, 1), outputs[:, 1])
    np.testing.assert_allclose(Meaning(blocks=(("a", (0,)), ("b", (1, 2)))).margin(outputs, 1), [-2, 0])
    assert Meaning("binary", True).margin(torch.tensor([[0.0], [1.0]], dtype=torch.float64), 0).isfinite().all()
    assert are_probabilities(outputs.softmax(1)) and not are_probabilities(outputs)
    assert not are_probabilities(torch.tensor([[0.3, 0.3]])) and are_probabilities(torch.tensor([[0.3], [1.0]]))


def test_several_classes_equal_separate_runs(small_model, small_faces):
    both = share(small_model, small_faces, target=[2, 0], images=6, partners=2)
    for target in (0, 2):
        alone = share(small_model, small_faces, target=target, images=6, partners=2)
        for name in alone.drop_vars([name for name in alone if alone[name].dtype == object]):
            np.testing.assert_allclose(both[name].sel(target_class=[target]), alone[name], atol=1e-9)


def test_the_seed_draws_faces_and_partners(small_model, small_faces):
    one, same, other = (share(small_model, small_faces, images=6, partners=1, seed=seed) for seed in (1, 1, 2))
    assert one.identical(same)
    assert set(one.image.values) != set(other.image.values)
    assert one.sizes["image"] == 6 and one.image.values.tolist() == sorted(one.image.values, key=lambda p: int(p[:-4]))


def test_faces_without_masks_and_undecodable_ones_are_left_out_and_listed(faces_of, model_of):
    images, masks = list(noise_images(7)), varied_masks(7, seed=1)
    images[1], masks[4] = None, {}
    model = model_of(lambda x: x.sum((1, 2, 3)), SIZE)
    found = share(model, faces_of(images, masks), max_skipped=0.2)
    assert found.attrs["skipped"] == ["1.png: this is no picture", "4.png: it has no region mask"]
    assert found.image.values.tolist() == ["0.png", "2.png", "3.png", "5.png", "6.png"]
    kept = [0, 2, 3, 5, 6]
    alone = share(model, faces_of([images[k] for k in kept], [masks[k] for k in kept]))
    same = alone.assign_coords(image=found.image).drop_vars(names := ["turned_image", "turned_other"])
    assert found.drop_vars(names).equals(same)
    assert {*found.turned_image.values.ravel()} < {*found.image.values}
    with pytest.raises(FacexkitError, match="1 of 7 images cannot be decoded, max_skipped=0.01"):
        share(model, faces_of(images, masks))


def test_too_few_faces_and_models_that_do_not_decide_are_refused(faces_of, model_of):
    model = model_of(lambda x: x.sum((1, 2, 3)), SIZE)
    with pytest.raises(FacexkitError, match="two faces with masks at least; 'small' has 1 of 3"):
        share(model, faces_of(noise_images(3), [varied_masks(1)[0], {}, {}]))
    with pytest.raises(FacexkitError, match="the face set 'small' is empty"):
        share(model, faces_of(noise_images(3), varied_masks(3))[:0])
    with pytest.raises(FacexkitError, match="images=1, partners=4 give none"):
        share(model, faces_of(noise_images(3), varied_masks(3)), images=1)
    with pytest.raises(FacexkitError, match="has no masks; load it with masks="):
        share(model, faces_of(noise_images(3)))
    with pytest.raises(FacexkitError, match="decides alike for all"):
        share(model_of(lambda x: x.sum((1, 2, 3)) * 1e-12 + 1, SIZE), faces_of(noise_images(3), varied_masks(3)))
    with pytest.raises(FacexkitError, match="not finite"):
        share(model_of(lambda x: x.sum((1, 2, 3)).log() * torch.nan, SIZE), faces_of(noise_images(3), varied_masks(3)))
