"""A face by name, by label, at random or from disk, with what the model makes of it."""

from __future__ import annotations

import hashlib
import io
from functools import lru_cache
from types import SimpleNamespace

import numpy as np
import pandas as pd
import traitlets as t
import xarray as xr
from PIL import Image

from facexkit.errors import FacexkitError
from facexkit.faces.faceset import FaceSet
from facexkit.faces.images import as_rgb
from facexkit.measure.made_masks import landmark_masks
from facexkit.models.face_model import FaceModel
from facexkit.show.pictures import face_as_seen, picture_uri
from facexkit.show.widgets.base import LARGEST, Paged, a_face, a_line, among, count, rows, script, table, text, whole
from facexkit.show.widgets.class_explorer import group_options
from facexkit.show.widgets.face_view import look_at
from facexkit.show.widgets.scores import Scores

MOST_PIXELS, KEPT = 50_000_000, 1024
"""What an uploaded picture may have, and the side that is kept of it."""
KINDS = ("JPEG", "PNG")
"""What an uploaded picture may be: Pillow tells the size of these from their head, before anything is decoded."""


def _a_file(_: object, value: object) -> bool:
    return isinstance(value, (bytes, memoryview))


class FacePicker(Paged):
    """Faces whose path has `search` in it, of a `group`; `path` is the chosen one, `detail` what is shown of it.

    An uploaded picture (`upload`, its bytes, with `upload_name`) is looked at like a face of the set.

    Parameters
    ----------
    found : what `dissect` gave for the layer, if known.
    """

    _esm = script("faces")
    path, search, group = text(fits=a_face), text(fits=a_line), text(fits=among("groups"))
    groups, detail, random, largest = rows(), table(), whole(fits=count), whole(LARGEST)
    upload_name, upload = text(fits=a_line), t.CBytes().tag(sync=True, fits=_a_file)  # it comes as a memoryview

    def __init__(
        self, model: FaceModel, faces: FaceSet, layer: str = "layer4", target_class: int | str = 1,
        found: xr.Dataset | None = None,
    ) -> None:  # fmt: skip
        super().__init__(title="One face", groups=group_options(faces))
        self.faces, self.model, self.of, self.rng = faces, model, Scores(faces).of, np.random.default_rng(0)
        self.thumbnail = lru_cache(4096)(lambda path: picture_uri(face_as_seen(faces, path, 104, model.preprocess)))
        self.ask(layer, target_class, found)
        self.work("Making thumbnails …", self._list, alone=False)

    def ask(self, layer: str, target_class: int | str, found: xr.Dataset | None = None) -> None:
        """Look through another layer, or at another class."""
        self.layer, self.target, self.found = layer, self.model.class_index(target_class), found
        self._look()

    @t.observe("search", "group", "page")
    def _list(self, _change: object = None) -> None:
        with self.in_words():
            found = self.of(self.group).table.reset_index(drop=True)
            found = found[found.path.str.contains(self.search, case=False, regex=False)]
            told = found.path if self.faces.target is None else found[self.faces.target].astype(str)
            cards = [
                {"key": path, "title": path.rpartition("/")[2], "text": label}
                for path, label in zip(found.path, told, strict=True)
            ]
            self.turn(
                cards,
                lambda card: {**card, "picture": self.thumbnail(card["key"])},
                f"{len(cards):,} of {len(self.faces):,} faces",
            )

    @t.observe("random")
    def _draw(self, _change: object) -> None:
        self.path = str(self.rng.choice(self.of(self.group).table.path))

    @t.observe("path")
    def _look(self, _change: object = None) -> None:
        if self.path:
            with self.in_words():
                self.detail = look_at(self.model, self.faces, self.path, self.layer, self.target, self.found)

    @t.observe("upload")
    def _take(self, _change: object) -> None:
        with self.in_words():
            own, self.path = uploaded(bytes(self.upload), self.upload_name or "your picture"), ""
            detail = look_at(self.model, own, own.table.path[0], self.layer, self.target, self.found)
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
        with Image.open(io.BytesIO(content), formats=KINDS) as opened:
            if opened.width * opened.height > MOST_PIXELS:
                raise FacexkitError(f"{name} has {opened.width}×{opened.height} pixels; save it smaller")
            picture = as_rgb(opened)
    except FacexkitError:
        raise
    except Exception as error:  # Pillow's readers end in whatever a damaged file leads them to
        raise FacexkitError(f"{name} is no picture that can be read; take a JPEG or PNG file") from error
    picture.thumbnail((KEPT, KEPT))
    source = SimpleNamespace(read=lambda _: picture, digest=lambda _: hashlib.blake2b(content, digest_size=16).digest())
    own = FaceSet(pd.DataFrame({"path": [name]}), source, name="your picture")
    masks, _ = landmark_masks(None, own, workers=0, progress=False)
    own.masks = masks if masks.faces else None
    return own
