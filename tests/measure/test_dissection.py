"""Dissection against a slow, obvious version: the full array, numpy's sort, OpenCV's resize, loops."""

from __future__ import annotations

import cv2
import numpy as np
import pandas as pd
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image
from torch import nn

from facexkit.errors import FacexkitError
from facexkit.faces.faceset import FaceSet
from facexkit.faces.mask_view import MaskView
from facexkit.measure.active_area import ActiveArea
from facexkit.measure.candidates import Candidates
from facexkit.measure.dissection import dissect
from facexkit.measure.hierarchy import rank_concepts
from facexkit.measure.iou_tally import IoUTally
from facexkit.measure.kept_tail import COUNTED, MAPS, VALUES
from facexkit.measure.tail_quantile import TailQuantile
from facexkit.models.face_model import FaceModel
from facexkit.probe.accumulator import ProbedBatch
from facexkit.probe.tail import place_of

CONCEPTS = ("left", "small", "rare")


class Arrays:
    """Images and masks in memory, by path."""

    names = CONCEPTS

    def __init__(self, content: dict) -> None:
        self.content = content

    def read(self, path: str):
        return self.content[path]

    def digest(self, path: str) -> bytes:
        return path.encode()


def masks_of(count: int, side: int, rng: np.random.Generator) -> list[dict[str, np.ndarray]]:
    """A half of the image, a few pixels that may vanish when resized, and one that few images have."""
    found = []
    for n in range(count):
        left, small, rare = (np.zeros((side, side), bool) for _ in CONCEPTS)
        left[:, : side // 2 + n % 3] = True
        y, x = rng.integers(0, side - 2, 2)
        small[y : y + 2, x : x + 2] = True
        rare[rng.random((side, side)) < 0.3] = n % 4 == 0
        found.append({"left": left, "small": small} | ({"rare": rare} if n % 4 == 0 else {}))
    return found


def batches_of(maps: np.ndarray, masks: list, view: MaskView, sizes: list[int]) -> list[ProbedBatch]:
    batches, start = [], 0
    for size in sizes:
        rows = np.arange(start, min(start + size, len(maps)))
        start += size
        if len(rows):
            batches.append(
                ProbedBatch(
                    rows=rows,
                    images=torch.empty(len(rows), 3, 0, 0),
                    masks={view: torch.from_numpy(np.stack([view.of(masks[n]) for n in rows]))},
                    present={view: torch.tensor([view.present(masks[n]) for n in rows])},
                    activations={"layer": torch.from_numpy(maps[rows])},
                )
            )
    return batches


def slow_thresholds(maps: np.ndarray, q: float) -> np.ndarray:
    values = maps.transpose(1, 0, 2, 3).reshape(maps.shape[1], -1)
    return np.array([sorted(unit, reverse=True)[place_of(q, len(unit))] for unit in values], np.float32)


def slow_tally(maps, masks, thresholds, size, concepts, rule="labelled"):
    """Counts, and how many pixels lie within 1e-6 (relative) of the threshold and so may fall either way."""
    units = maps.shape[1]
    intersection, union, unsure = (np.zeros((units, len(concepts)), int) for _ in range(3))
    for n in range(len(maps)):
        for u in range(units):
            up = cv2.resize(maps[n, u], (size, size), interpolation=cv2.INTER_LINEAR)
            active = up > thresholds[u]
            close = np.abs(up - thresholds[u]) <= 1e-6 * max(abs(thresholds[u]), np.abs(maps[n, u]).max())
            for c, concept in enumerate(concepts):
                mask = masks[n].get(concept)
                if mask is None or (rule == "active" and not active.any()):
                    continue
                small = np.asarray(Image.fromarray(mask).resize((size, size), Image.Resampling.NEAREST))
                intersection[u, c] += (active & small).sum()
                union[u, c] += (active | small).sum()
                unsure[u, c] += close.sum()
    return intersection, union, unsure


def run(maps, masks, q, size, sizes, rule="labelled", level=MAPS, room=1 << 30):
    """What `dissect` does, on given maps."""
    view = MaskView(CONCEPTS, size)
    paths = np.array([f"{n}.png" for n in range(len(maps))], object)
    candidates = Candidates("layer", paths, q, view, room)
    candidates.tail.level = min(level, candidates.tail.level)
    batches = batches_of(maps, masks, view, sizes)
    for batch in batches:
        candidates.update(batch)
    if second := candidates.second():
        for batch in batches:
            second.update(batch)
    candidates.finish()
    seen = candidates.result(second and second.counts)
    tally = IoUTally("layer", seen.threshold.to_numpy(), view, paths, rule, 3, candidates.exchange())
    if candidates.tail.level < MAPS:
        for batch in batches:
            tally.update(batch)
    else:
        candidates.replay(tally)
    return seen.merge(tally.result()), candidates


def special_maps(rng: np.random.Generator, shape: tuple[int, int, int]) -> np.ndarray:
    """Random, tied, constant, dead, all-negative, sparse and one-image units."""
    count, height, width = shape
    maps = rng.normal(size=(count, 7, height, width)).astype(np.float32)
    maps[:, 1] = np.round(maps[:, 1])
    maps[:, 2] = 3.0
    maps[:, 3] = 0.0
    maps[:, 4] = -np.abs(maps[:, 4]) - 1
    maps[:, 5] = np.maximum(maps[:, 5] - 2, 0)
    maps[1:, 6] = 0.0
    return maps


@pytest.mark.parametrize("rule", ["labelled", "active"])
@pytest.mark.parametrize("shape", [(9, 7, 7), (9, 1, 1), (8, 5, 3), (6, 16, 16), (5, 40, 40)])
@pytest.mark.parametrize("level", [MAPS, VALUES, COUNTED])
def test_dissection_equals_the_slow_version(shape, rule, level):
    rng = np.random.default_rng(3)
    maps, masks, q, size = special_maps(rng, shape), masks_of(shape[0], 50, rng), 0.15, 28
    found, candidates = run(maps, masks, q, size, [4] * 3, rule, level)
    assert candidates.tail.level == level
    thresholds = slow_thresholds(maps, q)
    np.testing.assert_array_equal(found.threshold, thresholds)
    intersection, union, unsure = slow_tally(maps, masks, thresholds, size, CONCEPTS, rule)
    assert (np.abs(found.intersection - intersection) <= unsure).all()
    assert (np.abs(found.union - union) <= unsure).all()
    assert found.intersection[[0, 1, 5]].sum() > 0 and not found.intersection[[2, 3]].any()


@settings(max_examples=25, deadline=None)
@given(seed=st.integers(0, 10**6), sizes=st.lists(st.integers(1, 7), min_size=12, max_size=12))
def test_batches_do_not_change_a_dissection(seed, sizes):
    rng = np.random.default_rng(seed)
    maps, masks = special_maps(rng, (12, 4, 6)), masks_of(12, 20, rng)
    whole, _ = run(maps, masks, 0.05, 16, [12])
    parts, _ = run(maps, masks, 0.05, 16, sizes)
    assert whole.identical(parts)


@given(q=st.floats(0.001, 0.9), values=st.lists(st.integers(-5, 5), min_size=1, max_size=60))
def test_threshold_leaves_at_most_q_above(q, values):
    maps = np.array(values, np.float32).reshape(-1, 1, 1, 1)
    quantile = TailQuantile("layer", np.array([str(n) for n in range(len(maps))], object), q)
    for batch in batches_of(maps, [{}] * len(maps), MaskView((), 1), [7] * 10):
        quantile.update(batch)
    threshold = quantile.result().threshold.item()
    assert threshold == sorted(values, reverse=True)[place_of(q, len(values))]
    assert (maps > threshold).sum() <= place_of(q, len(values))


@pytest.mark.parametrize("room", [0, 20_000, 60_000, 200_000, 1 << 30])
def test_thresholds_are_the_same_however_much_room_there_is(room):
    rng = np.random.default_rng(8)
    maps, masks = special_maps(rng, (24, 6, 6)), masks_of(24, 10, rng)
    found, candidates = run(maps, masks, 0.05, 16, [4] * 6, room=room)
    assert (candidates.tail.level == MAPS) == (room == 1 << 30) and (candidates.tail.level == COUNTED) <= (room <= 20_000)
    np.testing.assert_array_equal(found.threshold, slow_thresholds(maps, 0.05))


def test_maps_that_cannot_matter_are_dropped_on_the_way():
    rng = np.random.default_rng(0)
    maps, masks = rng.normal(size=(400, 3, 7, 7)).astype(np.float32), masks_of(400, 10, rng)
    view = MaskView(CONCEPTS, 8)
    whole = Candidates("layer", np.array([f"{n}.png" for n in range(400)], object), 0.005, view, 1 << 30)
    shards = []
    for batch in batches_of(maps, masks, view, [50] * 8):
        shards.append(whole.fresh())
        shards[-1].update(batch)
        whole.merge(shards[-1])
    kept = [len(part["maps"]) for part in whole.tail.every_part()]
    came = [len(part["maps"]) for shard in shards for part in shard.tail.every_part()]
    assert sum(kept) < sum(came) and kept[-1] < kept[0] / 2


@pytest.mark.parametrize(("height", "width", "size"), [(7, 7, 224), (7, 7, 112), (3, 5, 17), (1, 1, 9), (16, 16, 32), (30, 20, 12)])
def test_active_pixels_are_those_of_opencvs_resize(height, width, size):
    rng = np.random.default_rng(1)
    maps = rng.normal(size=(20, height, width)).astype(np.float32)
    masks = rng.random((20, 2, size, size)) < 0.5
    counted, inside = ActiveArea(height, width, size).count(
        torch.from_numpy(maps), torch.full((20,), 0.7), torch.arange(20), torch.from_numpy(masks)
    )
    for n in range(20):
        up = cv2.resize(maps[n], (size, size), interpolation=cv2.INTER_LINEAR)
        unsure = (np.abs(up - 0.7) < 1e-6).sum()
        assert abs(int(counted[n]) - (up > 0.7).sum()) <= unsure
        assert (np.abs(inside[n].numpy() - (masks[n] & (up > 0.7)).sum((1, 2))) <= unsure).all()


def test_top_images_are_those_with_the_highest_iou_of_their_own():
    rng = np.random.default_rng(5)
    maps, masks = rng.normal(size=(12, 2, 5, 5)).astype(np.float32), masks_of(12, 30, rng)
    found, _ = run(maps, masks, 0.05, 20, [5, 7])
    for unit in range(2):
        per_image = {}
        for n in range(12):
            one = slow_tally(maps[n : n + 1, unit : unit + 1], masks[n : n + 1], found.threshold.to_numpy()[[unit]], 20, ["left"])
            per_image[f"{n}.png"] = one[0][0, 0] / one[1][0, 0]
        best = sorted(per_image, key=per_image.get, reverse=True)[:3]
        best = [name for name in best if per_image[name] > 0]
        pair = found.sel(unit=unit, concept="left")
        assert [name for name in pair.top_image.to_numpy() if name] == best
        np.testing.assert_allclose(pair.top_iou[: len(best)], [per_image[name] for name in best])
        peaks = maps[:, unit].max((1, 2))
        assert pair.strongest_image[0] == f"{peaks.argmax()}.png"
        np.testing.assert_array_equal(pair.strongest_map[0], maps[peaks.argmax(), unit])


def test_a_unit_that_is_not_a_number_is_named_with_its_image():
    maps = np.ones((4, 3, 2, 2), np.float32)
    maps[2, 1, 0, 1] = np.nan
    with pytest.raises(FacexkitError, match=r"unit 1 .* '2\.png'"):
        run(maps, masks_of(4, 8, np.random.default_rng(0)), 0.1, 4, [4])


@pytest.fixture
def small() -> tuple[FaceModel, FaceSet]:
    rng = np.random.default_rng(2)
    paths = [f"face {n}.png" for n in range(10)]
    images = {path: Image.fromarray(rng.integers(0, 255, (24, 24, 3), dtype=np.uint8)) for path in paths}
    masks = dict(zip(paths, masks_of(10, 24, rng), strict=True))
    with torch.random.fork_rng():
        torch.manual_seed(0)
        network = nn.Sequential(nn.Conv2d(3, 6, 3, stride=2), nn.ReLU(), nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(6, 2))
    faces = FaceSet(pd.DataFrame({"path": paths}), Arrays(images), Arrays(masks), name="arrays")
    return FaceModel(network, name="small", image_size=24, device="cpu"), faces


@pytest.mark.parametrize("memory", [1 << 30, 0])
def test_dissect_says_how_often_the_faces_passed(small, memory):
    model, faces = small
    found = dissect(model, faces, "1", quantile=0.02, mask_size=24, memory=memory, batch_size=4, progress=False)
    assert found.attrs["forward_passes"] == (1 if memory else 3)
    with torch.no_grad():
        inputs = torch.stack([torch.from_numpy(np.array(faces.images.read(p))).permute(2, 0, 1) for p in faces.table.path])
        maps = model.network[:2](model.prepare(inputs)).numpy()
    thresholds = slow_thresholds(maps, 0.02)
    np.testing.assert_allclose(found.threshold, thresholds, rtol=1e-5)
    intersection, union, unsure = slow_tally(maps, [faces.masks.read(p) for p in faces.table.path], thresholds, 24, CONCEPTS)
    assert (np.abs(found.intersection - intersection) <= unsure + 2).all()
    np.testing.assert_allclose(found.maximum, maps.max((2, 3)), rtol=1e-5)
    assert found.images.to_numpy().tolist() == [10, 10, 3]


@pytest.mark.parametrize(
    ("wrong", "message"),
    [
        ({"quantile": 0}, "between 0 and 1"),
        ({"mask_size": 25}, "input size 24; give mask_size=24"),
        ({"union": "all"}, "unknown union"),
        ({"concepts": ["lefty"]}, "did you mean 'left'"),
        ({"top_images": 0}, "at least 1"),
        ({"layer": "7"}, "unknown layer"),
    ],
)
def test_dissect_refuses_what_cannot_be(small, wrong, message):
    model, faces = small
    with pytest.raises(FacexkitError, match=message):
        dissect(model, faces, **({"layer": "1", "mask_size": 24, "progress": False} | wrong))


def test_two_vocabularies_at_once_are_dissected_as_each_alone(small_model, drawn_faces):
    faces = drawn_faces[:8]
    sources = {"regions": faces.masks, "concepts": faces.masks.concepts, "both": faces.masks.both}
    found = {}
    for name, faces.masks in sources.items():
        found[name] = dissect(small_model, faces, "conv2", mask_size=32, progress=False)
    parts = {"nose": "nose_part", "mouth": "mouth_part"}
    for name, renamed in (("regions", {}), ("concepts", parts)):
        alone = found[name]
        same = found["both"].sel(concept=[renamed.get(c, c) for c in alone.concept.to_numpy()])
        for counted in ("intersection", "union", "images", "has_concept"):
            np.testing.assert_array_equal(same[counted], alone[counted])
    ranked = rank_concepts(found["both"])
    kinds = dict(zip(ranked.concept.to_numpy(), zip(ranked.concept_area.to_numpy(), ranked.concept_type.to_numpy())))
    assert kinds["mouth"] == ("mouth", "region") and kinds["mouth_part"] == ("mouth", "part")
    assert kinds["nose_part"] == ("nose", "part") and kinds["Smiling"] == ("mouth", "attribute")
