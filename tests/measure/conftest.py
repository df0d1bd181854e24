"""Small sets and models with a known truth, for the measures."""

import numpy as np
import pandas as pd
import pytest
import torch
from PIL import Image
from torch import nn

from facexkit.faces.faceset import FaceSet
from facexkit.faces.regions import REGIONS
from facexkit.models.face_model import FaceModel


class Pictures:
    """Pixels and masks in memory: images {path: uint8 (H, W, 3) or None where broken}, masks {path: {name: bool}}."""

    names = REGIONS

    def __init__(self, content):
        self.content = content

    def read(self, path):
        found = self.content[path]
        if found is None:
            raise OSError("this is no picture")
        return Image.fromarray(found) if isinstance(found, np.ndarray) else found

    def digest(self, path):
        return path.encode()


@pytest.fixture(scope="session")
def faces_of():
    """Make a face set of uint8 images (N, H, W, 3), None where broken, and masks: a list of {name: bool (H, W)}, or
    index maps (N, H, W), or None."""

    def make(images, masks=None, name="small"):
        paths = [f"{row}.png" for row in range(len(images))]
        if masks is not None and not isinstance(masks[0], dict):
            masks = [{REGIONS[r]: index == r for r in np.unique(index)} for index in masks]
        return FaceSet(
            pd.DataFrame({"path": paths}),
            Pictures(dict(zip(paths, images, strict=True))),
            None if masks is None else Pictures(dict(zip(paths, masks, strict=True))),
            name=name,
        )

    return make


@pytest.fixture(scope="session")
def small_faces(faces_of):
    """20 random pictures of 40×40 with smooth random regions; hat (14) is in three of them, neck_l (16) in none."""
    rng = np.random.default_rng(3)
    coarse = rng.integers(0, 256, (20, 5, 5, 3), np.uint8)
    images = [np.asarray(Image.fromarray(picture).resize((40, 40))) for picture in coarse]
    blocks = rng.choice([r for r in range(19) if r not in (14, 16)], (20, 5, 5))
    blocks[[2, 7, 11], 0, :3] = 14
    return faces_of(images, blocks.repeat(8, 1).repeat(8, 2))


class SmallNet(nn.Module):
    """Two convolutions with a residual that is added in place, and a linear head."""

    def __init__(self, classes=3):
        super().__init__()
        self.conv1 = nn.Conv2d(3, 6, 3, stride=2, padding=1)
        self.bn = nn.BatchNorm2d(6)
        self.relu = nn.ReLU(inplace=True)
        self.conv2 = nn.Conv2d(6, 8, 3, stride=2, padding=1)
        self.fc = nn.Linear(8, classes)

    def forward(self, x):
        first = self.conv1(x)
        x = self.bn(first)
        x += first
        x = self.relu(self.conv2(self.relu(x)))
        return self.fc(x.mean((2, 3)))


@pytest.fixture(scope="session")
def small_model():
    """An untrained network of 32×32 inputs: layers conv1 and bn (16×16), conv2 (8×8); 3 classes."""
    torch.manual_seed(5)
    return FaceModel(SmallNet(), name="small net", image_size=32, normalize="half", device="cpu")


class OfPixels(nn.Module):
    """Logits (0, f) where f is a function of the prepared pixels."""

    def __init__(self, of):
        super().__init__()
        self.of = of

    def forward(self, x):
        f = self.of(x)
        return torch.stack([torch.zeros_like(f), f], 1)


@pytest.fixture(scope="session")
def model_of():
    """Make a model of size S whose margin for class 1 is a function of its float (B, 3, S, S) input in 0–1."""
    return lambda of, size: FaceModel(OfPixels(of), name="made by hand", image_size=size, device="cpu")
