"""A face by name, by label, at random or from disk, with what the model makes of it."""

from __future__ import annotations

import io
from functools import cache, lru_cache
from types import SimpleNamespace

import numpy as np
import pandas as pd
import traitlets as t
import xarray as xr
from PIL import Image

from facexkit.errors import FacexkitError
from facexkit.faces.faceset import FaceSet
from facexkit.faces.images import as_rgb
from facexkit.faces.landmarks import LandmarkParser
from facexkit.faces.regions import REGIONS
from facexkit.models.face_model import FaceModel
from facexkit.show.pictures import data_uri, face_as_seen
from facexkit.show.widgets.base import Paged, script, synced
from facexkit.show.widgets.class_explorer import group_options
from facexkit.show.widgets.face_view import look_at
from facexkit.show.widgets.scores import Scores

LARGEST, LONGEST, KEPT = 5_000_000, 50_000_000, 1024
"""Bytes and pixels that an uploaded picture may have, and the side that is kept of it."""


class FacePicker(Paged):
    """Faces whose path has `search` in it, of a `group`; `path` is the chosen one, `detail` what is shown of it.

    An uploaded picture (`upload`, its bytes, with `upload_name`) is looked at like a face of the set; its regions come
    from found landmarks.

    Parameters
    ----------
    found : what `dissect` gave for the layer, if known.
    """

    _esm = script("faces")
    path = synced(t.Unicode())
    search = synced(t.Unicode())
    group = synced(t.Unicode())
    groups = synced(t.List())
    random = synced(t.Int())
    upload = synced(t.Bytes())
    upload_name = synced(t.Unicode())
    largest = synced(t.Int(LARGEST))
    detail = synced(t.Dict())

    def __init__(
        self, model: FaceModel, faces: FaceSet, layer: str = "layer4", target_class: int | str = 1, found: xr.Dataset | None = None
    ) -> None:
        super().__init__(title="One face", groups=group_options(faces))
        self.faces, self.model, self.rng = faces, model, np.random.default_rng(0)
        self.thumbnail = lru_cache(4096)(lambda path: data_uri(face_as_seen(faces, path, 104)))
        self.scores = Scores(faces)
        self.ask(layer, target_class, found)
        self._list()

    def ask(self, layer: str, target_class: int | str, found: xr.Dataset | None = None) -> None:
        """Look through another layer, or at another class."""
        self.layer, self.target, self.found = layer, self.model.class_index(target_class), found
        self._look()

    @t.observe("search", "group", "page")
    def _list(self, _change: object = None) -> None:
        if not hasattr(self, "scores"):
            return
        with self.in_words():
            table = self.scores.of(self.group).table
            table = table[table.path.str.contains(self.search, case=False, regex=False)]
            self.turn(table.index.tolist(), lambda k: self._card(table.loc[k]), f"{len(table):,} of {len(self.faces):,} faces")

    def _card(self, row: pd.Series) -> dict:
        label = str(row[self.faces.target]) if self.faces.target else ""
        return {"key": row.path, "picture": self.thumbnail(row.path), "title": row.path.rpartition("/")[2], "text": label}

    @t.observe("random")
    def _draw(self, _change: object) -> None:
        with self.in_words():
            of = self.scores.of(self.group).table.path
            self.path = str(of.iloc[int(self.rng.integers(len(of)))])

    @t.observe("path")
    def _look(self, _change: object = None) -> None:
        if self.path:
            with self.in_words():
                self.detail = look_at(self.model, self.faces, self.path, self.layer, self.target, self.found)

    @t.observe("upload")
    def _take(self, _change: object) -> None:
        if self.upload:
            name = self.upload_name or "your picture"
            with self.in_words():
                own = uploaded(bytes(self.upload), name)
                self.path = ""
                detail = look_at(self.model, own, name, self.layer, self.target, self.found)
                note = "" if own.masks else " No face was found in it, so it has no regions."
                self.detail = {**detail, "said": detail["said"] + note}


def uploaded(content: bytes, name: str) -> FaceSet:
    """Return a picture file as a face set of one, with regions by landmarks where a face is found in it.

    Raises
    ------
    FacexkitError if it is too large, or no picture.
    """
    if len(content) > LARGEST:
        raise FacexkitError(f"{name} has {len(content) / 1e6:.1f} MB; at most {LARGEST / 1e6:g} MB can be taken")
    try:
        with Image.open(io.BytesIO(content)) as opened:
            if opened.width * opened.height > LONGEST:
                raise FacexkitError(f"{name} has {opened.width}×{opened.height} pixels; save it smaller")
            picture = as_rgb(opened)
    except (OSError, SyntaxError, ValueError, Image.DecompressionBombError) as error:
        raise FacexkitError(f"{name} is no picture that can be read; take a JPEG or PNG file") from error
    picture.thumbnail((KEPT, KEPT))
    (index,) = _parser().parse([picture])
    masks = None if index is None else {REGIONS[k]: index == k for k in np.unique(index)}
    source = SimpleNamespace(read=lambda _path: picture, digest=lambda _path: content)
    mask_source = SimpleNamespace(names=REGIONS, read=lambda _path: masks, digest=lambda _path: b"") if masks else None
    return FaceSet(pd.DataFrame({"path": [name]}), source, mask_source, name="your picture")


@cache
def _parser() -> LandmarkParser:
    return LandmarkParser()
