"""Tiny faces with a known truth: hair tells the class dimly, lips gave it away in the lessons of a tiny network."""

from types import SimpleNamespace

import numpy as np
import pandas as pd
import pytest
import torch
import torch.nn.functional as F
from PIL import Image
from torch import nn

from facexkit.faces.faceset import FaceSet
from facexkit.faces.regions import REGIONS
from facexkit.models.face_model import FaceModel
from facexkit.models.training import teach
from facexkit.models.weights import seeded

SIDE, CLASSES = 24, ["no", "yes"]
PLACES = {"hair": np.s_[:7], "skin": np.s_[7:15, 4:20], "u_lip": np.s_[16:19, 6:18], "l_lip": np.s_[19:22, 6:18]}


def faces_of(hair_tells=1.0, lips_tell=0.95, count=600, seed=0):
    """Return faces: class, look of the lips, whether they agree, persons of two pictures each, and a split."""
    rng = np.random.default_rng(seed)
    truth, test = rng.integers(0, 2, count), np.arange(count) >= count // 2
    look = np.where(rng.random(count) < np.where(test, 0.5, lips_tell), truth, 1 - truth)
    pixels = rng.normal(120, 25, (count, SIDE, SIDE, 3))
    pixels[:, PLACES["hair"]] = (120 + 11 * hair_tells * (2 * truth - 1) + rng.normal(0, 12, count))[:, None, None, None]
    for lip in ("u_lip", "l_lip"):
        pixels[(slice(None), *PLACES[lip], 0)] = np.where(look, 230, 30)[:, None, None]
    masks = {name: np.zeros((SIDE, SIDE), bool) for name in PLACES}
    for name, place in PLACES.items():
        masks[name][place] = True
    images = {f"{row}.png": Image.fromarray(pixels[row].clip(0, 255).astype(np.uint8)) for row in range(count)}
    table = pd.DataFrame({
        "path": list(images), "kind": np.array(CLASSES, object)[truth], "look": np.where(look, "red", "blue"),
        "agrees": np.where(look == truth, "agree", "contradict"), "identity": np.arange(count) // 2,
        "split": np.where(test, "test", "train"),
    })  # fmt: skip
    digest = lambda path: f"{seed} {hair_tells} {path}".encode()  # noqa: E731
    read, source = images.__getitem__, SimpleNamespace(read=lambda path: masks, digest=digest, names=REGIONS)
    return FaceSet(table, SimpleNamespace(read=read, digest=digest), source, name="tiny faces", target="kind")


def network():
    """Return an untaught network; every layer is one that users' networks have."""
    first = nn.Sequential(nn.Conv2d(3, 8, 3, 2, 1), nn.BatchNorm2d(8), nn.ReLU())
    second = nn.Sequential(nn.Conv2d(8, 12, 3, 2, 1), nn.BatchNorm2d(12), nn.ReLU())
    return nn.Sequential(first, second, nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(12, 2))


def taught(faces):
    """Return a model taught on the split "train" of faces."""
    own = faces[faces.table.split == "train"]
    batch = next(own.batches(SIDE, len(own)))
    with seeded(0):
        model = FaceModel(network(), name="tiny", image_size=SIDE, normalize="half", class_names=CLASSES, device="cpu")
        images, truth = model.prepare(batch.images), torch.tensor([CLASSES.index(kind) for kind in own.table.kind])
        lessons = lambda _: zip(images.split(30), truth.split(30), strict=True)  # noqa: E731
        model.network.requires_grad_(True)
        teach(model.network, lambda x, y: F.cross_entropy(model(x), y), lessons, (6, 10, 2e-2))
        model.network.requires_grad_(False)
    return model


@pytest.fixture(scope="session")
def tiny_faces():
    return faces_of()


@pytest.fixture(scope="session")
def tiny_model(tiny_faces):
    return taught(tiny_faces)
