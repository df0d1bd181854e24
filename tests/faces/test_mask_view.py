"""Masks in bits: each is what the slow resizing of that mask alone gives."""

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from hypothesis import example, given, settings
from hypothesis import strategies as st
from PIL import Image

from facexkit.faces.faceset import FaceBatch
from facexkit.faces.mask_view import IndexMask, MaskView, PackedMasks
from facexkit.faces.regions import FACE_DICTIONARY, REGIONS, UNIONS

CONCEPTS = tuple(concept for concepts in FACE_DICTIONARY.values() for concept in concepts)
ASKED = (*reversed(REGIONS), *UNIONS, "no_such_mask")
seeds, sides = st.integers(0, 2**32 - 1), st.integers(1, 70)
throughs = st.none() | st.integers(1, 70)


def noise(seed, names, height, width):
    """Overlapping masks of all densities, each with a few blobs; some are empty."""
    rng = np.random.default_rng(seed)
    masks = {}
    for name in names:
        masks[name] = rng.random((height, width)) < rng.choice([0, 0.002, 0.05, 0.6])
        for y, x in zip(rng.integers(0, height, 2), rng.integers(0, width, 2), strict=True):
            masks[name][y : y + rng.integers(0, 9), x : x + rng.integers(0, 30)] = True
    return masks


def parts_of(masks, name):
    """Return an image's mask by its own name or a union's, or None."""
    parts = [masks[part] for part in (name, *UNIONS.get(name, ())) if part in masks]
    return np.any(parts, axis=0) if parts else None


def slow_nearest(mask, size):
    return np.asarray(Image.fromarray(mask.astype(np.uint8)).resize((size, size), Image.Resampling.NEAREST)) > 0


def slow_antialias(mask, size, through):
    if through:
        grey = Image.fromarray(mask.astype(np.uint8) * 255)
        mask = np.asarray(grey.resize((through, through), Image.Resampling.BILINEAR)) > 0
    grey = torch.from_numpy(mask).float()[None, None]
    return F.interpolate(grey, (size, size), mode="bilinear", antialias=True)[0, 0].numpy() > 0


def assert_view_is(view, masks, slow):
    found, present = view.of(masks), view.present(masks)
    assert found.shape == (len(view.names), view.size, view.size) and found.dtype == bool
    for name, one, here in zip(view.names, found, present, strict=True):
        mask = parts_of(masks, name)
        assert here == (mask is not None and bool(mask.any())), name
        assert (one == (False if mask is None else slow(mask))).all(), name


@settings(deadline=None, max_examples=150)
@given(seeds, sides, sides, sides)
@example(0, 512, 512, 224)
@example(0, 1, 1, 1)
def test_a_nearest_view_is_each_mask_resized_by_pillow(seed, height, width, size):
    view = MaskView(ASKED, size)
    assert_view_is(view, noise(seed, REGIONS[1:], height, width), lambda mask: slow_nearest(mask, size))


@pytest.mark.parametrize(("length", "size"), [(512, 32), (300, 224), (218, 64), (7, 64)])
def test_nearest_takes_the_source_pixel_at_each_centre(length, size):
    rows = np.arange(size)
    columns = np.floor((rows + 0.5) * length / size).astype(int)
    ramp = np.random.default_rng(0).random((1, length)) < 0.5
    assert (MaskView(("skin",), size).of({"skin": ramp})[0, 0] == ramp[0, columns]).all()


@settings(deadline=None, max_examples=150)
@given(seeds, sides, sides, sides, throughs)
@example(1, 512, 512, 64, 224)
@example(1, 200, 90, 64, 32)
@example(0, 1, 1, 9, 5)
def test_an_antialiased_view_is_each_mask_resized_and_above_0(seed, height, width, size, through):
    view = MaskView(ASKED, size, "antialias", through)
    assert_view_is(view, noise(seed, REGIONS[1:], height, width), lambda mask: slow_antialias(mask, size, through))


@settings(deadline=None, max_examples=40)
@given(seeds, sides, sides, st.sampled_from(["nearest", "antialias"]), throughs)
def test_an_index_mask_is_seen_as_its_masks_are(seed, height, width, resample, through):
    index = np.random.default_rng(seed).choice([0, 1, 1, 1, 4, 5, 17, 18], (height, width)).astype(np.uint8)
    masks = IndexMask(index, REGIONS)
    plain = {REGIONS[value]: index == value for value in np.unique(index)}
    assert list(masks) == list(plain) and all((masks[name] == plain[name]).all() for name in plain)
    assert "hat" not in masks and masks.get("no_region") is None and len(masks) == len(plain)
    for names in (REGIONS, ASKED):
        view = MaskView(names, 24, resample, through)
        assert (view.pack(masks) == view.pack(plain)).all() and view.present(masks) == view.present(plain)


@pytest.mark.parametrize("resample", ["nearest", "antialias"])
def test_more_than_32_concepts_take_two_integers(resample):
    view, masks = MaskView(CONCEPTS, 20, resample), noise(3, CONCEPTS, 40, 30)
    assert len(CONCEPTS) == 38 and view.pack(masks).shape == (2, 20, 20) and view.pack(masks).dtype == np.int32
    slow = slow_nearest if resample == "nearest" else lambda mask, size: slow_antialias(mask, size, None)
    assert_view_is(view, masks, lambda mask: slow(mask, 20))


@pytest.mark.parametrize("resample", ["nearest", "antialias"])
def test_masks_of_one_image_may_differ_in_size(resample):
    masks = noise(1, ["nose"], 30, 50) | noise(2, ["skin"], 11, 7)
    view = MaskView(("skin", "nose"), 16, resample, through=None)
    for name, found in zip(view.names, view.of(masks), strict=True):
        assert (found == MaskView((name,), 16, resample).of({name: masks[name]})[0]).all()


@settings(deadline=None)
@given(seeds, st.integers(0, 70), st.integers(1, 3))
def test_unpacking_gives_back_every_bit(seed, count, faces):
    names = tuple(f"m{k}" for k in range(count))
    view, masks = MaskView(names, 6), [noise(seed + k, names, 6, 6) for k in range(faces)]
    packed = torch.from_numpy(np.stack([view.pack(each) for each in masks]))
    found = view.unpack(packed)
    assert found.shape == (faces, count, 6, 6) and found.dtype == torch.bool
    assert all((found[k, c].numpy() == masks[k][name]).all() for k in range(faces) for c, name in enumerate(names))


def test_a_batch_unpacks_what_is_asked_for_only():
    views = MaskView(("skin",), 4), MaskView(REGIONS, 8)
    packed = {view: torch.from_numpy(view.pack(noise(0, REGIONS, 8, 8)))[None] for view in views}
    batch = FaceBatch(np.arange(1), torch.zeros(1, 3, 8, 8), PackedMasks(packed))
    assert list(batch.masks) == list(views) and not batch.masks.unpacked
    assert batch.masks[views[1]] is batch.masks[views[1]] and list(batch.masks.unpacked) == [views[1]]
    assert torch.equal(batch.masks.to(torch.device("cpu"))[views[0]], batch.masks[views[0]])


@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a GPU")
def test_masks_are_unpacked_on_the_gpu():
    view = MaskView(CONCEPTS, 9)
    packed = torch.from_numpy(np.stack([view.pack(noise(k, CONCEPTS, 20, 20)) for k in range(3)]))
    on_gpu = PackedMasks({view: packed}).pin_memory().to(torch.device("cuda"))
    assert on_gpu[view].device.type == "cuda" and torch.equal(on_gpu[view].cpu(), view.unpack(packed))
