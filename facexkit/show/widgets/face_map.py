"""The face map as a live picture: the drawing and the script of the report."""

from __future__ import annotations

import xarray as xr

from facexkit.faces.regions import REGIONS, UNIONS
from facexkit.show.face_map import face_map
from facexkit.show.readings import names_of, one_class, ranked
from facexkit.show.widgets.base import Widget, script, text


class FaceMap(Widget):
    """One class's scores on the face: pointing at a region tells its number, a click selects it as `region`.

    Where two are drawn as one, such as the lips, that is the region; one lip alone can be selected by Python.
    """

    _esm = script("map")
    svg, region = text(), text(fits=lambda _, value: value in (*REGIONS, *UNIONS))
    shows = "svg"

    def __init__(self, scores: xr.Dataset) -> None:
        super().__init__(title=" · ".join(names_of(one_class(scores))))
        self.draw(scores)

    def draw(self, scores: xr.Dataset, limit: float | None = None) -> None:
        """Show the scores of a class; the region stays, or is the highest one at first. `limit`: see `face_map`."""
        self.region = self.region or ranked(scores, missing=True)[0].region
        self.svg = str(face_map(scores, title="", interactive=True, limit=limit))

    def still(self) -> str:
        return self.svg
