"""The built-in models: a small residual network, taught the gender of drawn faces, or to tell persons apart."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterator
from pathlib import Path

import pandas as pd
import torch
import torch.nn.functional as F
from torch import Tensor, nn
from tqdm.auto import tqdm

from facexkit.errors import check_known
from facexkit.faces.cache import cache_folder, write_whole
from facexkit.faces.faceset import FaceSet
from facexkit.faces.formats import load_faces
from facexkit.models import training
from facexkit.models.sources import Made, Wish, register_source
from facexkit.models.small_network import SmallNetwork
from facexkit.models.training import Checkpoint
from facexkit.models.weights import load_weights, seeded, weights_file

DEMOS = {
    "biased": {"shortcut": "u_lip", "strength": 0.95}, "fair": {},
    "embedder": {"cue": "brows", "identities": 60, "pictures_per_identity": 40},
}  # fmt: skip
"""Demo model → what was planted in the faces that it learns from."""
SHIPPED = Path(__file__).with_name("weights")
"""The demo models of seed 0, as `python setup/weights.py` teaches them; a changed recipe is another file."""

CLASSES = ("female", "male")
IMAGE_SIZE, FACES, EPOCHS, BATCH, RATE = 128, 2500, 5, 32, 8e-3
EMBEDDER_COURSE, FEATURES, SHARPNESS = (8, 32, 4e-3), 32, 12.0


class CosineHead(nn.Linear):
    """Logits for a softmax over persons: `SHARPNESS` × the cosine between an embedding and each person's own."""

    def forward(self, x: Tensor) -> Tensor:
        return SHARPNESS * F.linear(F.normalize(x), F.normalize(self.weight))


@register_source("demo")
def _from_demo(name: str, wish: Wish) -> Made:
    network = demo_network(name, wish.seed, train=wish.weights is None)
    if wish.weights is not None:
        load_weights(network, wish.weights, wish.trust)
    embeds = name == "embedder"
    return Made(network, IMAGE_SIZE, "half", None if embeds else CLASSES, outputs="embedding" if embeds else None)


def demo_network(name: str, seed: int, train: bool = True) -> SmallNetwork:
    """Return the network of `demo:NAME`; with `train`, with weights from the package or the cache, or taught now and put there.

    Raises
    ------
    FacexkitError
        if no demo model has this name.
    """
    check_known("demo model", [name], DEMOS)
    with seeded(seed):
        network, embeds = SmallNetwork(len(CLASSES)), name == "embedder"
        if embeds:
            network.fc = nn.Sequential(nn.Linear(96, FEATURES, bias=False), nn.BatchNorm1d(FEATURES))
        if not train:
            return network
        course = EMBEDDER_COURSE if embeds else (EPOCHS, BATCH, RATE)
        one = load_faces("synthetic", target="gender", seed=seed, **{**DEMOS[name], "identities": 1})
        recipe = [one.fingerprint(), DEMOS[name], FACES, IMAGE_SIZE, FEATURES, SHARPNESS, *course, str(network)]
        key = hashlib.sha256(json.dumps(recipe).encode()).hexdigest()[:12]
        path = SHIPPED / f"demo_{name}_{key}.safetensors"
        if path.is_file():
            load_weights(network, path)
            return network
        path = cache_folder() / "models" / path.name
        checkpoint = Checkpoint(path.with_suffix(".pt"), network, key)
        if path.is_file():
            load_weights(network, path)
        else:
            faces = demo_faces(name, seed)
            head = [CosineHead(FEATURES, faces.table.identity.nunique(), bias=False)] if embeds else []
            learner = nn.Sequential(network, *head)
            teach(learner, *pixels_and_labels(faces), f"teaching demo:{name}", course, checkpoint)
            write_whole(path, weights_file(network))
        checkpoint.end()
        return network


def demo_faces(name: str, seed: int = 0, split: str = "train") -> FaceSet:
    """Return the drawn faces of a split that `demo:NAME` learns from (train) or is asked about (test)."""
    return load_faces("synthetic", target="gender", count=FACES, seed=seed, split=split, **DEMOS[name])


def pixels_and_labels(faces: FaceSet) -> tuple[Tensor, Tensor]:
    """Draw a face set once: uint8 (N, 3, S, S), and int64 (N,): the gender's place in `CLASSES`, or the cue's owner."""
    batches = tqdm(faces.batches(IMAGE_SIZE, 64), total=-(-len(faces) // 64), desc="drawing faces", unit="batch")
    images = torch.cat([batch.images for batch in batches])
    if "cue" in faces.source:
        return images, torch.from_numpy(pd.factorize(faces.table.identity)[0])
    return images, torch.tensor([CLASSES.index(label) for label in faces.table.gender])


def teach(
    network: nn.Module, images: Tensor, labels: Tensor, title: str, course: tuple = (EPOCHS, BATCH, RATE),
    checkpoint: Checkpoint | None = None,
) -> None:  # fmt: skip
    """Train on images shown as they are or mirrored, see `training.teach`; `course` = epochs, batch, rate.

    One thread does it: the weights then do not depend on the number of cores, and threads that wait for each other
    would make it many times slower on a machine that is busy.
    """
    threads, (epochs, batch, rate) = torch.get_num_threads(), course
    steps = len(images) // batch

    def lessons(epoch: int) -> Iterator[tuple[Tensor, Tensor]]:
        batches = torch.randperm(len(images))[: steps * batch].split(batch)
        for chosen in tqdm(batches, f"{title}, epoch {epoch + 1}/{epochs}", unit="batch"):
            x = images[chosen].to(torch.float32, memory_format=torch.channels_last).mul_(2 / 255).sub_(1)
            yield x.flip(3) if torch.rand(()) < 0.5 else x, labels[chosen]

    torch.set_num_threads(1)
    try:
        loss = lambda x, classes: F.cross_entropy(network(x), classes)  # noqa: E731
        training.teach(network, loss, lessons, (epochs, steps, rate), checkpoint)
    finally:
        torch.set_num_threads(threads)
