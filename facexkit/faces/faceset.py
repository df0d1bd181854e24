"""A set of faces: a table with one row an image, where the pixels and the region masks come from, and batches."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator, Mapping, Sequence
from copy import copy
from dataclasses import KW_ONLY, dataclass, field, replace
from threading import current_thread, main_thread
from typing import Protocol

import numpy as np
import pandas as pd
import torch
from PIL import Image
from torch.utils.data import DataLoader

from facexkit.errors import FacexkitError, check_known, told
from facexkit.faces.cores import cores
from facexkit.faces.geometry import Geometry, Size
from facexkit.faces.mask_view import MaskView, PackedMasks
from facexkit.faces.notes import MOST_VALUES
from facexkit.faces.preview import face_set_html

MOST_DIGESTED = 2000
"""So many faces are read for a fingerprint."""

Face = tuple[torch.Tensor, dict[MaskView, tuple[torch.Tensor, list[bool]]]]
"""Pixels, uint8 (S, S, 3), and for each view what `MaskView.pack` and `present` return."""
NO_IMAGES = torch.empty(0, 3, 0, 0, dtype=torch.uint8)


class ImageSource(Protocol):
    """Where pixels come from."""

    def read(self, path: str) -> Image.Image:
        """Return the RGB image of a row by its path; raise OSError where it cannot be decoded."""

    def digest(self, path: str) -> bytes:
        """Return bytes that change when the image's content does; cheap."""


class MaskSource(Protocol):
    """Where masks come from; masks may overlap and may have another size than the image."""

    names: tuple[str, ...]

    def read(self, path: str) -> Mapping[str, np.ndarray]:
        """Return the masks that this image has, by name: bool (H, W). Names that it lacks are left out."""

    def digest(self, path: str) -> bytes:
        """Return bytes that change when the image's masks do; cheap."""


@dataclass
class FaceBatch:
    """What the face set yields.

    Attributes
    ----------
    rows : int64 (B,), positions in the face set's table.
    images : uint8 (B, 3, S, S), RGB.
    masks : for each asked view, bool (B, names, size, size), unpacked when it is first read.
    present : for each asked view, bool (B, names): which masks have a pixel before they are resized.
    skipped : (row, path, reason) of the images of this batch that could not be decoded.
    """

    rows: np.ndarray
    images: torch.Tensor
    masks: Mapping[MaskView, torch.Tensor] = field(default_factory=dict)
    present: dict[MaskView, torch.Tensor] = field(default_factory=dict)
    skipped: list[tuple[int, str, str]] = field(default_factory=list)

    def pin_memory(self) -> FaceBatch:
        """Return the batch in page-locked memory, as the DataLoader asks for faster copies to a GPU."""
        return replace(self, images=self.images.pin_memory(), masks=self.masks.pin_memory())


@dataclass(eq=False, repr=False)
class FaceSet:
    """Faces with labels, groups and masks.

    Parameters
    ----------
    table : one row an image: `path`, and any label and group columns; `split` where the set has one.
    images, masks : sources of pixels and masks by path; `masks` may be None.
    name : what the set is called in reports.
    target : the column that a model predicts, if any.
    protected : the columns by which groups are compared.
    notes : sentences on what reading the set met: faces without a mask, labels without a value.
    source : what made the set (format, root, options), for the records.
    """

    table: pd.DataFrame
    images: ImageSource
    masks: MaskSource | None = None
    _: KW_ONLY
    name: str
    target: str | None = None
    protected: Sequence[str] = ()
    notes: Sequence[str] = ()
    source: Mapping[str, object] | None = None

    def __post_init__(self) -> None:
        self.table, self.protected = self.table.reset_index(drop=True), tuple(self.protected)
        self.notes, self.source = list(self.notes), dict(self.source or {})
        self._fingerprint: tuple[tuple, str] = (), ""
        check_known("label column", [*([self.target] if self.target else []), *self.protected], self.table.columns)

    def __len__(self) -> int:
        return len(self.table)

    def __getitem__(self, chosen: slice | Sequence[int] | Sequence[bool] | pd.Series) -> FaceSet:
        """Return the chosen rows as a face set: a slice, positions, or a boolean column."""
        if not isinstance(chosen, slice):
            chosen = np.atleast_1d(np.asarray(chosen, None if np.size(chosen) else int))
        with told(f"choose faces by a slice, True or False for each, or positions up to {len(self) - 1}", kinds=IndexError):
            rows = np.arange(len(self))[chosen]
        faces = copy(self)
        faces.table, faces.notes = self.table.iloc[rows].reset_index(drop=True), list(self.notes)
        return faces

    def balanced(self, by: str | Sequence[str] | None = None, seed: int = 0) -> FaceSet:
        """Return equally many random faces of every group: as many as the smallest has (as FaceX balances).

        Parameters
        ----------
        by : the column, or columns whose combinations are the groups; the protected columns by default.
            Faces without a value there are left out, and `notes` says how many.
        """
        by = [by] if isinstance(by, str) else list(self.protected if by is None else by)
        if not by:
            raise FacexkitError("balanced() needs columns: balanced(by='gender'), or a set with protected=('gender',)")
        check_known("label column", by, self.table.columns)
        groups = self.table.groupby(by, observed=True)
        if not len(groups):
            raise FacexkitError(f"no face of {self.name!r} has a value in {', '.join(by)}; balance by other columns")
        smallest = int(groups.size().min())
        faces = self[np.sort(groups.sample(n=smallest, random_state=seed).index.to_numpy())]
        unlabelled = int(self.table[by].isna().any(axis=1).sum())
        faces.notes.append(
            f"balanced by {', '.join(by)}: {smallest} faces in each of {len(groups)} groups"
            + (f"; {unlabelled} faces without a value left out" if unlabelled else "")
        )
        return faces

    def describe(self, quiet: bool = False) -> pd.DataFrame:
        """Count the faces by every label, group and split, and print the notes unless `quiet`.

        Returns
        -------
        table indexed by `column` and `value`: `faces`, and their `share` of the set. A column of numbers with many
        values is one row from its least to its greatest, any other with many values is left out.
        """
        for note in [] if quiet else self.notes:
            print(note)
        first = [c for c in (self.target, *self.protected, "split") if c in self.table]
        rows = []
        for column in dict.fromkeys([*first, *self.table.columns.drop("path")]):
            values = self.table[column]
            if values.nunique() <= MOST_VALUES:
                counts = values.value_counts(dropna=False).sort_index(key=lambda v: v.astype(str))
                rows += [(column, "(no value)" if pd.isna(v) else str(v), n) for v, n in counts.items()]
            elif pd.api.types.is_numeric_dtype(values):
                rows.append((column, f"{values.min():g} to {values.max():g}", int(values.notna().sum())))
        table = pd.DataFrame(rows, columns=["column", "value", "faces"]).set_index(["column", "value"])
        return table.assign(share=table.faces / max(1, len(self)))

    def __repr__(self) -> str:
        told = [f"target {self.target}"] if self.target else []
        told += [f"protected {', '.join(self.protected)}"] if self.protected else []
        return f"<{'; '.join([f'{self.name}: {len(self):,} faces', *told, 'masks' if self.masks else 'no masks'])}>"

    def _repr_html_(self) -> str:
        return face_set_html(self)

    def batches(
        self,
        image_size: Geometry | Size,
        batch_size: int = 32,
        masks: Sequence[MaskView] = (),
        workers: int | None = None,
        pin_memory: bool = False,
        rows: Sequence[np.ndarray] | None = None,
        remember: int = 0,
    ) -> Iterator[FaceBatch]:
        """Yield the faces in order, decoded and resized in worker processes.

        Parameters
        ----------
        image_size : what a network sees of a photograph, as a model's `preprocess`; or the images' size in pixels.
        masks : views of the masks that each batch shall hold.
        workers : decoding processes; None takes as many as there are cores for this process, none for a small set.
        rows : the row numbers of each batch; all rows in order, `batch_size` at a time, by default.
        remember : how many decoded faces each process keeps, for rows that come more than once.
        """
        if masks and self.masks is None:
            raise FacexkitError(f"the face set {self.name!r} has no masks; load it with masks=FOLDER, 'landmarks' or a face "
                                "parser")  # fmt: skip
        if rows is None:
            rows = np.split(np.arange(len(self)), range(batch_size, len(self), batch_size))
        if workers is None:
            workers = 0 if len(rows) <= 2 else min(cores(), 8)
        from_thread = workers and current_thread() is not main_thread()  # where a fork would copy locks that are held
        loader = DataLoader(
            range(len(self)),
            batch_sampler=[list(map(int, batch)) for batch in rows],
            num_workers=workers,
            generator=torch.Generator(),  # its own: the loader draws from it, and everybody's numbers stay as they were
            collate_fn=_Decoder(self, Geometry.of(image_size), tuple(masks), remember),
            pin_memory=pin_memory,
            multiprocessing_context="forkserver" if from_thread else None,
        )
        killed = (RuntimeError, ConnectionError, EOFError) if workers else ()  # what torch raises, by system and Python
        with told(f"decoding {self.name!r} stopped", "if memory is short, take fewer workers=", killed):
            for batch in loader:
                if isinstance(batch, FacexkitError):
                    raise batch
                yield batch

    def fingerprint(self) -> str:
        """Return 16 hexadecimal digits that change with the table or with the content of the images or masks.

        Content is read of every face of a set of up to 2,000, and of as many taken evenly from a larger one; once, unless
        the table, `images` or `masks` become others.
        """
        digest = hashlib.sha256(self.table.to_csv(index=False).encode())
        whose = self.images, self.masks, digest.digest()
        if self._fingerprint[0] != whose:
            for path in self.table.path.iloc[:: -(-len(self) // MOST_DIGESTED) or 1]:
                digest.update(self.images.digest(path))
                if self.masks is not None:
                    digest.update(self.masks.digest(path))
            self._fingerprint = whose, digest.hexdigest()[:16]
        return self._fingerprint[1]


class _Decoder:
    """Decodes and resizes the faces of a batch, in the DataLoader's workers."""

    def __init__(self, faces: FaceSet, seen: Geometry, views: tuple[MaskView, ...], remember: int) -> None:
        self.paths, self.images, self.masks = faces.table.path.tolist(), faces.images, faces.masks
        self.seen, self.views, self.remember = seen, views, remember
        self.known: dict[int, Face | str] = {}

    def __call__(self, rows: list[int]) -> FaceBatch | FacexkitError:
        try:
            faces = [(row, self._kept(row)) for row in rows]
        except FacexkitError as error:
            return error  # raised by `batches`: an error that crosses from a worker would bring its traceback along
        good = [(row, *face) for row, face in faces if not isinstance(face, str)]
        views = {view: [masks[view] for _, _, masks in good] for view in self.views if good}
        return FaceBatch(
            rows=np.array([row for row, _, _ in good], np.int64),
            images=torch.stack([pixels for _, pixels, _ in good]).permute(0, 3, 1, 2) if good else NO_IMAGES,
            masks=PackedMasks({view: torch.stack([packed for packed, _ in own]) for view, own in views.items()}),
            present={view: torch.tensor([present for _, present in own]) for view, own in views.items()},
            skipped=[(row, self.paths[row], face) for row, face in faces if isinstance(face, str)],
        )

    def _kept(self, row: int) -> Face | str:
        face = self.known.get(row) or self._decoded(self.paths[row])
        if len(self.known) < self.remember:
            self.known[row] = face
        return face

    def _decoded(self, path: str) -> Face | str:
        """Return the pixels of a face and its masks in each view, or why it cannot be decoded."""
        try:
            pixels = torch.from_numpy(np.array(self.seen.picture(self.images.read(path))))
        except (OSError, SyntaxError, Image.DecompressionBombError) as error:
            return str(error) or type(error).__name__
        masks = self.seen.masks(self.masks.read(path)) if self.views else {}
        masks = masks if set(masks) - {"background"} else {}  # where all is background there is no face mask
        return pixels, {view: (torch.from_numpy(view.pack(masks)), view.present(masks)) for view in self.views}
