"""The exchange itself: the pairs whose decision one region, taken from the other face, turned most."""

from __future__ import annotations

import numpy as np
import xarray as xr
from PIL import Image

from facexkit.errors import FacexkitError
from facexkit.faces.faceset import FaceSet
from facexkit.faces.mask_view import MaskView
from facexkit.faces.regions import REGIONS
from facexkit.measure.share_interval import PARTS
from facexkit.probe.exchange import composed
from facexkit.show.face_map import Drawing
from facexkit.show.pages import templates
from facexkit.show.pictures import FACE_SIDE, picture_uri
from facexkit.show.readings import names_of, one_class, read_regions


def show_exchanges(scores: xr.Dataset, faces: FaceSet) -> Drawing:
    """Return the exchanges that turned a decision most as HTML: the face, the other, and the face with its region.

    Parameters
    ----------
    scores : a one-class result of the method "share". faces : the face set that was scored.
    """
    return Drawing(templates().get_template("exchanges.html").render(exchanges_told(scores, faces), side=FACE_SIDE))


def exchanges_told(scores: xr.Dataset, faces: FaceSet) -> dict[str, object]:
    """Return what is shown of the exchanges: a `sentence`, and `rows` of three pictures with title, alt and value."""
    scores = one_class(scores)
    if "turned_output" not in scores:
        raise FacexkitError('exchanges are shown of a result of method="share"; this one has none')
    part, (class_name, _) = str(scores.turned_region.values[0]), names_of(scores)
    label, the = (getattr(read_regions(scores)[part], name) for name in ("label", "the"))
    titles = ("face", "other face", f"face with the other's {label}")
    rows = []
    for first, second, said in zip(*(scores[f"turned_{k}"].values for k in ("image", "other", "output")), strict=True):
        if first:
            alts = (first, second, f"{first} with {the} of {second}")
            shown = zip(exchange_pictures(faces, [first, second], part), titles, alts, said, strict=True)
            rows.append([{"uri": picture_uri(p), "title": t, "alt": alt, "value": f"{v:.2f}"} for p, t, alt, v in shown])
    sentence = f"Where {the} of another face moved “{class_name}” most, and what the model says of it:"
    return {"rows": rows, "sentence": sentence}


def exchange_pictures(faces: FaceSet, paths: list[str], part: str, side: int = FACE_SIDE) -> list[Image.Image]:
    """Return a face, another one, and the first with a region, or union of regions, of the second: RGB side×side."""
    places, view = [np.flatnonzero(faces.table.path == path) for path in paths], MaskView(REGIONS, side)
    if not all(map(len, places)):
        raise FacexkitError(f"image {paths[0]!r} is not in the face set {faces.name!r}; pass the face set that was scored")
    rows = np.array([place[0] for place in places])
    (batch,) = faces.batches(side, 2, [view], workers=0, rows=[rows])
    pixels = [*batch.images, composed(batch, view, PARTS[part])[0]]
    return [Image.fromarray(each.permute(1, 2, 0).numpy()) for each in pixels]
