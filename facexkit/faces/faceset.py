"""A set of faces: a table with one row an image, where the pixels and the region masks come from, and batches."""

from __future__ import annotations

import hashlib
import os
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Protocol

import numpy as np
import pandas as pd
import torch
from PIL import Image
from torch.utils.data import DataLoader, Dataset

from facexkit.errors import FacexkitError, unknown


class ImageSource(Protocol):
    """Where pixels come from."""

    def read(self, path: str) -> Image.Image:
        """Return the RGB image of a row by its path; raise OSError where it cannot be decoded."""

    def digest(self, path: str) -> bytes:
        """Return bytes that change when the image's content does; cheap."""


class MaskSource(Protocol):
    """Where masks come from; masks may overlap and may have another size than the image."""

    names: tuple[str, ...]

    def read(self, path: str) -> dict[str, np.ndarray]:
        """Return the masks that this image has, by name: bool (H, W). Names that it lacks are left out."""


@dataclass(frozen=True)
class MaskView:
    """Which masks a computation wants, at which size.

    Parameters
    ----------
    names : regions or concepts, the channels of the result in this order.
    size : side length in pixels.
    resample : "nearest", or "antialias" (Pillow's antialiased bilinear, then > 0).
    """

    names: tuple[str, ...]
    size: int
    resample: str = "nearest"

    def of(self, masks: dict[str, np.ndarray]) -> np.ndarray:
        """Return bool (len(names), size, size) of one image's masks."""
        out = np.zeros((len(self.names), self.size, self.size), bool)
        for channel, name in enumerate(self.names):
            mask = masks.get(name)
            if mask is None:
                continue
            if self.resample == "nearest":
                rows = _nearest(mask.shape[0], self.size)
                out[channel] = mask[rows[:, None], _nearest(mask.shape[1], self.size)]
            else:
                grey = Image.fromarray(mask.astype(np.uint8) * 255)
                out[channel] = np.asarray(grey.resize((self.size, self.size), Image.Resampling.BILINEAR)) > 0
        return out


def _nearest(length: int, size: int) -> np.ndarray:
    """Return the source position of each of `size` places, as OpenCV's INTER_NEAREST takes it."""
    return np.minimum((np.arange(size) * (length / size)).astype(int), length - 1)


@dataclass
class FaceBatch:
    """What the face set yields.

    Attributes
    ----------
    rows : int64 (B,), positions in the face set's table.
    images : uint8 (B, 3, S, S), RGB.
    masks : for each asked view, bool (B, names, size, size).
    skipped : (row, path, reason) of the images of this batch that could not be decoded.
    """

    rows: np.ndarray
    images: torch.Tensor
    masks: dict[MaskView, torch.Tensor] = field(default_factory=dict)
    skipped: list[tuple[int, str, str]] = field(default_factory=list)


class FaceSet:
    """Faces with labels, groups and masks.

    Parameters
    ----------
    table : one row an image: `path`, and any label and group columns; `split` where the set has one.
    images, masks : sources of pixels and masks by path; `masks` may be None.
    name : what the set is called in reports.
    target : the column that a model predicts, if any.
    protected : the columns by which groups are compared.
    """

    def __init__(
        self,
        table: pd.DataFrame,
        images: ImageSource,
        masks: MaskSource | None = None,
        *,
        name: str,
        target: str | None = None,
        protected: Sequence[str] = (),
    ) -> None:
        self.table = table.reset_index(drop=True)
        self.images, self.masks, self.name = images, masks, name
        self.target, self.protected = target, tuple(protected)
        for column in (*((target,) if target else ()), *self.protected):
            if column not in self.table:
                raise unknown("label column", column, self.table.columns)

    def __len__(self) -> int:
        return len(self.table)

    def __getitem__(self, chosen: slice | Sequence[int] | Sequence[bool] | pd.Series) -> FaceSet:
        """Return the chosen rows as a face set: a slice, positions, or a boolean column."""
        if isinstance(chosen, slice):
            table = self.table.iloc[chosen]
        else:
            chosen = np.asarray(chosen)
            if chosen.dtype == bool and len(chosen) != len(self):
                raise FacexkitError(f"a choice of {len(chosen)} rows does not fit a face set of {len(self)}")
            table = self.table.iloc[np.flatnonzero(chosen) if chosen.dtype == bool else chosen]
        return FaceSet(table, self.images, self.masks, name=self.name, target=self.target, protected=self.protected)

    def batches(
        self,
        image_size: int,
        batch_size: int = 32,
        masks: Sequence[MaskView] = (),
        workers: int | None = None,
        pin_memory: bool = False,
    ) -> Iterator[FaceBatch]:
        """Yield the faces in order, decoded and resized (antialiased bilinear) in worker processes.

        Parameters
        ----------
        image_size : side length S of the images in pixels.
        masks : views of the masks that each batch shall hold.
        workers : decoding processes; None takes as many as there are cores, none for a small set.
        """
        if masks and self.masks is None:
            raise FacexkitError(
                f"the face set {self.name!r} has no masks; load it with masks=FOLDER, masks='landmarks' or a face parser"
            )
        if workers is None:
            workers = 0 if len(self) <= 2 * batch_size else min(os.cpu_count() or 1, 8)
        yield from DataLoader(
            _Decoder(self, image_size, tuple(masks)),
            batch_size=batch_size,
            num_workers=workers,
            collate_fn=_collate,
            pin_memory=pin_memory,
        )

    def fingerprint(self) -> str:
        """Return 16 hexadecimal digits that change with the table or with the content of the images."""
        digest = hashlib.sha256(self.table.to_csv(index=False).encode())
        for path in self.table.path.iloc[:: max(1, len(self) // 256)]:
            digest.update(self.images.digest(path))
        return digest.hexdigest()[:16]


class _Decoder(Dataset):
    """One face at a time, decoded and resized, for the DataLoader's workers."""

    def __init__(self, faces: FaceSet, image_size: int, views: tuple[MaskView, ...]) -> None:
        self.paths = faces.table.path.tolist()
        self.images, self.masks = faces.images, faces.masks
        self.image_size, self.views = image_size, views

    def __len__(self) -> int:
        return len(self.paths)

    def __getitem__(self, row: int) -> tuple:
        path = self.paths[row]
        try:
            image = self.images.read(path).resize((self.image_size, self.image_size), Image.Resampling.BILINEAR)
            pixels = torch.from_numpy(np.array(image)).permute(2, 0, 1)
        except (OSError, SyntaxError, Image.DecompressionBombError) as error:
            return row, path, str(error) or type(error).__name__
        masks = self.masks.read(path) if self.views else {}
        return row, pixels, {view: torch.from_numpy(view.of(masks)) for view in self.views}


def _collate(items: list[tuple]) -> FaceBatch:
    good = [item for item in items if not isinstance(item[1], str)]
    views = good[0][2] if good else ()
    return FaceBatch(
        rows=np.array([row for row, _, _ in good], np.int64),
        images=torch.stack([image for _, image, _ in good]) if good else torch.empty(0, 3, 0, 0, dtype=torch.uint8),
        masks={view: torch.stack([masks[view] for _, _, masks in good]) for view in views},
        skipped=[item for item in items if isinstance(item[1], str)],
    )
