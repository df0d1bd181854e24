"""Networks that count what runs, and pictures to show them."""

import numpy as np
import pandas as pd
import pytest
import torch
from PIL import Image
from torch import nn

from facexkit.faces.faceset import FaceSet
from facexkit.models.face_model import FaceModel
from facexkit.models.loading import load_model


class Chain(nn.Module):
    """Three stages and a head; the middle one is followed by an in-place sum."""

    def __init__(self):
        super().__init__()
        self.first = nn.Conv2d(3, 4, 3, stride=2, padding=1)
        self.second = nn.Conv2d(4, 4, 3, padding=1)
        self.third = nn.Conv2d(4, 5, 3, stride=2, padding=1)
        self.head = nn.Linear(5, 3)

    def forward(self, x):
        x = self.first(x).relu()
        y = self.second(x)
        y += x
        return self.head(self.third(y).relu().mean((2, 3)))


@pytest.fixture
def chain():
    torch.manual_seed(2)
    return FaceModel(Chain(), name="chain", image_size=12, device="cpu")


@pytest.fixture(scope="session")
def resnet():
    return load_model("torchvision:resnet18", num_classes=3, image_size=64, device="cpu")


@pytest.fixture(scope="session")
def vit():
    """A ViT of 4×4 patches with a class token, small enough for a test."""
    from torchvision.models.vision_transformer import VisionTransformer

    torch.manual_seed(0)
    network = VisionTransformer(32, 8, num_layers=2, num_heads=2, hidden_dim=16, mlp_dim=24, num_classes=3)
    nn.init.normal_(network.heads.head.weight)
    return FaceModel(network, name="small ViT", image_size=32, device="cpu")


@pytest.fixture
def images():
    """Make n random pictures, uint8 (n, 3, S, S)."""
    rng = np.random.default_rng(0)
    return lambda n, size: torch.from_numpy(rng.integers(0, 256, (n, 3, size, size), np.uint8))


class Noise:
    """Pictures by path; those named in `broken` cannot be decoded. As a mask source: the left half is skin."""

    names = ("skin",)

    def __init__(self, broken=(), masks=False):
        self.broken, self.masks = set(broken), masks

    def read(self, path):
        if path in self.broken:
            raise OSError("truncated")
        if self.masks:
            return {"skin": np.arange(12)[None].repeat(12, 0) < 6}
        return Image.fromarray(np.random.default_rng(int(path)).integers(0, 256, (12, 12, 3), np.uint8))

    def digest(self, path):
        return path.encode()


@pytest.fixture
def noise():
    """Make a face set of n noise pictures with half-masks."""

    def make(n, broken=()):
        table = pd.DataFrame({"path": [str(k) for k in range(n)]})
        return FaceSet(table, Noise(map(str, broken)), Noise(masks=True), name="noise")

    return make


@pytest.fixture
def ran():
    """Count the modules of a model that a forward pass calls: returns the growing list of their names."""
    handles = []

    def watch(model):
        names = []
        for name, module in model.network.named_modules():
            handles.append(module.register_forward_hook(lambda *_, name=name: names.append(name)))
        return names

    yield watch
    for handle in handles:
        handle.remove()
