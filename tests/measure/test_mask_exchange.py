"""What units meet beyond their place: detectors wired by hand, units that know a place only, and an untrained network."""

import numpy as np
import pytest
import torch
from scipy.stats import binom, norm
from torch import nn

import facexkit as fx
from facexkit.faces.regions import REGIONS
from facexkit.measure.mask_exchange import TIGHT, chances, over_position
from facexkit.models.face_model import FaceModel

SIDE, PARTS = 36, 8
HOW = {"quantile": 0.02, "mask_size": SIDE, "progress": False}


def parts(count, seed):
    """Pictures of eight parts, each of its own colour and in a place of its own, give or take a few pixels."""
    rng = np.random.default_rng(seed)
    colours = rng.normal(size=(PARTS, 3))
    colours /= np.linalg.norm(colours, axis=1, keepdims=True)
    index, images = np.zeros((count, SIDE, SIDE), int), rng.normal(0, 0.05, (count, SIDE, SIDE, 3))
    y, x = np.mgrid[:SIDE, :SIDE]
    for n in range(count):
        for part in range(PARTS):
            centre = 12 * np.array(divmod(part, 3)) + 6 + rng.integers(-2, 3, 2)
            own = (y - centre[0]) ** 2 + (x - centre[1]) ** 2 < rng.integers(8, 15)
            index[n][own], images[n][own] = part + 1, colours[part] + rng.normal(0, 0.05, 3)
    return np.clip(255 * (images + 1.3) / 2.6, 0, 255).astype(np.uint8), index, colours


def model_of(network, mean=0.5):
    return FaceModel(nn.Sequential(network, nn.ReLU(), nn.Flatten()), name="wired", image_size=SIDE,
                     normalize={"mean": mean, "std": 1 / 2.6}, device="cpu")  # fmt: skip


@pytest.fixture(scope="module", params=range(3))
def wired(request, faces_of):
    """A convolution whose unit k answers to the colour of part k + 1."""
    images, index, colours = parts(60, request.param)
    network = nn.Conv2d(3, PARTS, 1, bias=False)
    network.weight.data = torch.from_numpy(colours[:, :, None, None]).float()
    return fx.dissect(model_of(network), faces_of(images, index), "0", **HOW)


def test_detectors_of_a_colour_are_labelled_right_and_supported(wired):
    right = wired.best_concept.to_numpy() == np.array(REGIONS[1 : PARTS + 1])
    assert (right & wired.supported.to_numpy()).mean() >= 0.95
    assert np.median(wired.could_be_best.sum("concept")) == 1
    own = wired.isel(unit=range(PARTS), concept=range(PARTS))
    assert (np.diag(own.gain_low) > 0).all() and (np.diag(own.gain) == np.diag(own.iou - own.position_iou)).all()


def test_units_that_know_a_place_only_are_not_supported(faces_of):
    """The pictures of other faces behind the masks: what is seen tells nothing of the mask, all but the place."""
    supported = []
    for seed in range(3):
        images, index, _ = parts(120, seed)
        torch.manual_seed(seed)
        network = nn.Sequential(nn.Conv2d(3, 40, 5, padding=2), nn.ReLU(), nn.Conv2d(40, 80, 5, padding=2))
        found = fx.dissect(model_of(network), faces_of(images[:60], index[60:]), "0.2", **HOW)
        assert (found.best_iou > 0.04).any()
        supported.append(found.supported.mean())
    assert np.mean(supported) <= 0.05


def test_an_untrained_network_has_few_supported_units(faces_of, drawn_faces):
    model = fx.load_model("torchvision:resnet18", num_classes=2, image_size=96, normalize="imagenet", seed=3, device="cpu")
    found = fx.dissect(model, drawn_faces[:32], "layer4", mask_size=48, progress=False)
    assert found.interpretable.any() and found.supported.mean() <= 0.05


def test_position_iou_is_that_of_a_loop_over_the_exchanged_masks(faces_of):
    images, index, colours = parts(12, 0)
    faces = faces_of(images, index)
    network = nn.Conv2d(3, 2, 1, bias=False)
    network.weight.data = torch.from_numpy(colours[:2, :, None, None]).float()
    model = model_of(network)
    found = fx.dissect(model, faces, "0", **HOW, seed=4, concepts=["skin", "nose"])
    with torch.no_grad():
        maps = model.network[0](model.prepare(torch.from_numpy(images).permute(0, 3, 1, 2))).numpy()
    active = maps > found.threshold.to_numpy()[:, None, None]
    circle = np.argsort(-chances(np.arange(12), 4))
    for c, own in enumerate((index == 1, index == 2)):
        given = np.empty_like(own)
        given[circle] = own[np.roll(circle, -1)]
        both = (active & given[:, None]).sum((0, 2, 3)) / (active | given[:, None]).sum((0, 2, 3))
        np.testing.assert_allclose(found.position_iou[:, c], both)


def test_no_mask_is_read_a_second_time(faces_of, monkeypatch):
    images, index, _ = parts(12, 0)
    faces, read = faces_of(images, index), []
    given = faces.masks.read
    monkeypatch.setattr(faces.masks, "read", lambda path: read.append(path) or given(path))
    fx.dissect(model_of(nn.Conv2d(3, 2, 1)), faces, "0", **HOW, workers=0)
    assert sorted(read) == sorted(faces.table.path)


def test_a_concept_of_one_image_is_given_nobodys_mask(faces_of):
    images, index, _ = parts(6, 0)
    index[1:][index[1:] == 2] = 0
    network = nn.Conv2d(3, 4, 1)
    found = fx.dissect(model_of(network), faces_of(images, index), "0", **HOW).isel(concept=1)
    assert found.gain.isnull().all() and (found.q_value == 1).all()


@pytest.mark.parametrize("images", [1, 5, 20, 60])
def test_the_bound_holds_for_random_signs(images):
    """Of equal moves the sum of signs is binomial, and p must not fall short of what it is."""
    ahead = np.arange(images + 1)
    exact = binom.sf(ahead - 1, images, 0.5)
    z = (2 * ahead - images) / np.sqrt(images)
    assert (np.minimum(1, TIGHT * norm.sf(z)) >= exact * (1 - 1e-4)).all()
    counted = np.ones((51, 3, 1, images + 1), np.int64) * np.array([1, 1, 3])[:, None, None]
    q = over_position(counted, (2 * ahead - images)[None], np.full((1, images + 1), images))["q_value"]
    assert q.shape == (1, images + 1) and (np.diff(q[0]) <= 0).all()
