"""What lies behind a region: the patches with the highest impact, the faces with the highest score."""

from __future__ import annotations

from collections.abc import Sequence
from copy import copy

import traitlets as t
import xarray as xr

from facexkit.faces.faceset import FaceSet
from facexkit.models.face_model import FaceModel
from facexkit.show.pictures import Album
from facexkit.show.readings import one_class, read_regions
from facexkit.show.report import behind, show_examples
from facexkit.show.widgets.base import Widget, a_face, number, script, share, table, text
from facexkit.show.widgets.face_view import look_at


class PatchGallery(Widget):
    """Patches and examples of the `region`; `opacity` is the veil's, `opened` the image that is shown large.

    Parameters
    ----------
    scores : a one-class result of the method "facex"; `show` takes another.
    model : gives an opened face its map and prediction.
    """

    _esm = script("gallery")
    region, opacity, opened = text("skin"), number(0.65, fits=share), text(fits=a_face)
    shown, detail = table(), table()
    scores: xr.Dataset | None = None
    shows = "shown"

    def __init__(self, scores: xr.Dataset | None, faces: FaceSet, model: FaceModel, region: str = "skin") -> None:
        super().__init__(title="What lies behind it", region=region)
        self.faces, self.model = faces, model
        if scores is not None:
            self.show(scores)

    def show(self, scores: xr.Dataset, beside: Sequence[xr.Dataset] = ()) -> None:
        """Show another result, with other methods' numbers `beside` it; pictures are cut out in the background."""
        self.scores, self.behind, self.album = one_class(scores), {}, Album(self.faces)
        self.numbered = [*(other for other in beside if other.attrs["method"] != scores.attrs["method"]), self.scores]
        self._fill()
        self.work("Cutting out patches …", self._cut, alone=False)

    def _cut(self) -> None:
        for region in (region for region in read_regions(self.scores) if not self.ended):
            self._behind(region)

    @t.observe("region")
    def _fill(self, _change: object = None) -> None:
        if self.scores is not None:
            with self.in_words():
                self.shown = self._behind(self.region)

    def _behind(self, region: str) -> dict:
        if region not in self.behind:
            album = copy(self.album)  # it shares the faces that were read
            album.clear()
            self.behind[region] = {"region": behind(self.numbered, region, album), "uris": album.uris}
        return self.behind[region]

    @t.observe("opened")
    def _open(self, _change: object) -> None:
        with self.in_words():
            where = (self.scores.attrs["layer"], self.scores.target_class.item()) if self.opened else ()
            self.detail = look_at(self.model, self.faces, self.opened, *where) if where else {}

    def still(self) -> str:
        return str(show_examples(self.scores, self.faces, self.region, 10)) if self.scores is not None else ""
