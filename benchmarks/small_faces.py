"""Small drawn faces in memory, and small models that are taught while somebody waits: for benchmarks of many models."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import torch
from PIL import Image

import facexkit as fx
from facexkit.drawn.demo import teach
from facexkit.faces.cache import cache_folder
from facexkit.faces.faceset import FaceSet
from facexkit.faces.regions import REGIONS
from facexkit.models.face_model import FaceModel
from facexkit.models.small_network import SmallNetwork
from facexkit.models.weights import seeded

QUIET = {"progress": False, "workers": 0, "batch_size": 256}


class Held:
    """Drawn faces or their masks in memory: drawn once, and kept in a file for the next time."""

    names = REGIONS

    def __init__(self, faces: FaceSet, kind: str, file: Path) -> None:
        if not file.is_file():
            drawn = [(np.asarray(faces.images.read(path)), faces.masks.read(path)) for path in faces.table.path]
            none = np.zeros(drawn[0][0].shape[:2], bool)
            bits = [[np.packbits(masks.get(name, none)) for name in REGIONS] for _, masks in drawn]
            file.parent.mkdir(parents=True, exist_ok=True)
            np.savez(file, images=np.stack([image for image, _ in drawn]), masks=np.array(bits))
        self.kind, self.row = kind, {path: row for row, path in enumerate(faces.table.path)}
        self.held = np.load(file)[kind]

    def read(self, path: str) -> Image.Image | dict[str, np.ndarray]:
        """Return the picture of a path, or its masks."""
        own = self.held[self.row[path]]
        if self.kind == "images":
            return Image.fromarray(own)
        side = int((8 * own.shape[1]) ** 0.5)
        shown = ((name, bits) for name, bits in zip(REGIONS, own, strict=True) if bits.any())
        return {name: np.unpackbits(bits).reshape(side, side).astype(bool) for name, bits in shown}

    def digest(self, path: str) -> bytes:
        """Return bytes that are the path's."""
        return path.encode()


def small_faces(count: int, side: int, seed: int) -> FaceSet:
    """Return drawn faces of persons of their own, whose looks say nothing about each other."""
    drawn = fx.load_faces("synthetic", count=count, size=side, seed=seed, target="gender")
    file = cache_folder() / "benchmarks" / f"faces_{count}_{side}_{seed}.npz"
    held = (Held(drawn, kind, file) for kind in ("images", "masks"))
    return FaceSet(drawn.table, *held, name=f"{count} drawn faces", target="gender")


def pixels(faces: FaceSet) -> torch.Tensor:
    """Return the pictures of a small face set, uint8 (N, 3, S, S)."""
    rows = [faces.images.row[path] for path in faces.table.path]
    return torch.from_numpy(faces.images.held[rows]).permute(0, 3, 1, 2)


def untaught(side: int, seed: int) -> FaceModel:
    """Return a small model with random weights, of two classes."""
    with seeded(seed):
        return _model(SmallNetwork(2), side)


def taught(faces: FaceSet, labels: np.ndarray, seed: int, epochs: int = 5) -> FaceModel:
    """Return a small model that was taught labels, 0 or 1, of faces."""
    return taught_of(pixels(faces), labels, seed, epochs)


def taught_of(images: torch.Tensor, labels: np.ndarray, seed: int, epochs: int = 5) -> FaceModel:
    """Return a small model that was taught labels, 0 or 1, of images, uint8 (N, 3, S, S)."""
    truth = torch.from_numpy(np.array(labels, np.int64))
    with seeded(seed):
        network = SmallNetwork(2)
        teach(network, images, truth, "teaching", (epochs, 32, 8e-3))
    return _model(network, images.shape[-1])


def _model(network: SmallNetwork, side: int) -> FaceModel:
    return FaceModel(network, name="small", image_size=side, normalize="half", class_names=["female", "male"], device="cpu")


def right(model: FaceModel, faces: FaceSet, labels: np.ndarray) -> float:
    """Return the share of the faces whose label the model says."""
    with torch.no_grad():
        said = model(model.prepare(pixels(faces))).argmax(1).numpy()
    return float((said == np.asarray(labels)).mean())
