"""Faces that are decoded once: to train on with regions of another face, and to be shown to several models."""

from __future__ import annotations

import tempfile
from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
import torch
from PIL import Image
from torch import Tensor

from facexkit.faces.faceset import FaceSet
from facexkit.faces.mask_view import IndexMask, MaskView
from facexkit.faces.regions import REGIONS, TOP_TO_BOTTOM, index_map
from facexkit.probe.options import PassOptions
from facexkit.probe.progress import progress_bar
from facexkit.probe.work import check_skipped

DEPTH = torch.tensor([TOP_TO_BOTTOM.index(name) for name in REGIONS])
"""How far from the top each region lies."""
IN_MEMORY = 1 << 30


@dataclass
class Decoded:
    """Pixels by path; `digest` is the source's own."""

    pixels: np.ndarray
    places: dict[str, int]
    source: object

    def read(self, path: str) -> Image.Image:
        return Image.fromarray(self.pixels[self.places[path]].transpose(1, 2, 0))

    def digest(self, path: str) -> bytes:
        return self.source.digest(path)


class DecodedMasks(Decoded):
    """The masks of which each pixel's uppermost region is left."""

    names = REGIONS

    def read(self, path: str) -> IndexMask:
        return IndexMask(self.pixels[self.places[path]], REGIONS)


def decoded(faces: FaceSet, size: int, how: PassOptions) -> FaceSet:
    """Return the faces that can be decoded, held in memory, or in a file without a name, as a model of that size sees them."""
    views, good, lost = (MaskView(REGIONS, size),) if faces.masks is not None else (), [], []
    images, owners = _room(len(faces), 3, size, size), _room(len(faces) * len(views), size, size)
    with progress_bar(how.progress, total=len(faces), desc=f"reading {faces.name}", unit="face") as bar:
        for batch in faces.batches(size, 64, views, how.workers):
            lost += [f"{path}: {reason}" for _, path, reason in batch.skipped]
            check_skipped(lost, len(faces), how.max_skipped, empty=len(lost) == len(faces))
            if len(batch.rows):
                good.append(batch.rows)
                images[batch.rows] = batch.images.numpy()
            for view in views if len(batch.rows) else ():
                owners[batch.rows] = index_map(batch.masks[view].numpy())
            bar.update(len(batch.rows) + len(batch.skipped))
    places, kept = {path: row for row, path in enumerate(faces.table.path)}, faces[np.concatenate(good)]
    kept.images = Decoded(images, places, faces.images)
    kept.masks = DecodedMasks(owners, places, faces.masks) if views else None
    return kept


@dataclass
class Lessons:
    """Batches of `decoded` faces.

    Attributes
    ----------
    faces : whose. classes : int64 (N,).
    """

    faces: FaceSet
    classes: np.ndarray

    def __post_init__(self) -> None:
        rows = np.array([self.faces.images.places[path] for path in self.faces.table.path])
        images, owners = (torch.from_numpy(source.pixels) for source in (self.faces.images, self.faces.masks))
        masked = torch.tensor([bool(owners[row].any()) for row in rows])
        self.images, self.owners, self.rows = images, owners, torch.from_numpy(rows)[masked]
        self.truth = torch.tensor(self.classes)[masked]

    def __len__(self) -> int:
        return len(self.rows)

    def epoch(self, number: int, regions: tuple[str, ...], batch: int, seed: int) -> Iterator[tuple[Tensor, Tensor]]:
        """Yield batches of images and classes, in an order, with partners and mirrored as seed and epoch fix it.

        Faces without a mask of any region but the background are left out.
        """
        state = int(np.random.SeedSequence([seed, number]).generate_state(1)[0])
        dice, count = torch.Generator().manual_seed(state), len(self)
        order = torch.randperm(count, generator=dice)
        others = (order + torch.randint(1, count, (count,), generator=dice)) % count
        mirrored = torch.rand(count, generator=dice) < 0.5
        for start in range(0, count - batch + 1, batch):
            own, other, turned = (each[start : start + batch] for each in (order, others, mirrored))
            shown = self.exchanged(self.rows[own], self.rows[other], regions)
            yield torch.where(turned[:, None, None, None], shown.flip(3), shown), self.truth[own]

    def exchanged(self, rows: Tensor, others: Tensor, regions: tuple[str, ...]) -> Tensor:
        """Return faces in which nothing of the regions is their own: uint8 (B, 3, S, S).

        Another face's pixels stand wherever the face has one of the regions, and wherever the other has one that
        nothing of the face lies above.
        """
        asked = torch.tensor([name in regions for name in REGIONS])
        own, other = (self.owners[at].long() for at in (rows, others))
        taken = asked[own] | (asked[other] & (DEPTH[other] < DEPTH[own]))
        return torch.where(taken[:, None], self.images[others], self.images[rows])


def _room(*shape: int) -> np.ndarray:
    if np.prod(shape) <= IN_MEMORY:
        return np.empty(shape, np.uint8)
    return np.memmap(tempfile.TemporaryFile(), np.uint8, "w+", shape=shape)
