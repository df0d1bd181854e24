"""A FaceX score by hand: one face, its attribution map, what of it is lit, and how much of a region that is."""

from __future__ import annotations

import numpy as np
import torch
import torch.nn.functional as F
import xarray as xr
from matplotlib.figure import Figure

from facexkit.errors import FacexkitError
from facexkit.faces.faceset import FaceSet
from facexkit.faces.geometry import Geometry
from facexkit.faces.mask_view import MaskView
from facexkit.faces.regions import REGIONS
from facexkit.measure.facex import SIDE, above_mean
from facexkit.show.figures import drawn, subplots
from facexkit.show.pictures import face_as_seen
from facexkit.show.readings import one_class
from facexkit.show.words import title_of


@drawn
def plot_one_face(maps: xr.Dataset, faces: FaceSet, region: str | None = None, image: int | None = None) -> Figure:
    """Draw how one face's FaceX score of a region comes about, step by step.

    Parameters
    ----------
    maps : of `fx.attribution_maps`, one class.
    faces : the face set that they are of.
    region : a region, or a union as "lips"; None for the one of which most is lit.
    image : which of the maps' images; None for the first that shows the region, or any.
    """
    one, seen = one_class(maps), Geometry.of(maps.attrs)
    one = one if image is None else one.isel(image=[image])
    own = faces[one.row.values]
    view = MaskView((region,) if region else REGIONS[1:], SIDE, "antialias", through=seen.size)
    (batch,) = own.batches(seen, len(own), [view], workers=0)
    masks = batch.masks[view].numpy()
    shows = masks.any((1, 2, 3))
    if not shows.any():
        what = "no region" if region is None else f"nothing of {title_of(region)}"
        raise FacexkitError(f"{one.image.values[0]} shows {what}; take another face, or another region")
    place = int(shows.argmax())
    values = torch.from_numpy(one.attribution.values[batch.rows[place]])
    grown = F.interpolate(values[None, None], (SIDE, SIDE), mode="bilinear")[0]
    lit, grown = above_mean(grown)[0].numpy(), grown[0].numpy()
    areas, counts = masks[place].sum((1, 2)), (masks[place] & lit).sum((1, 2))
    best = int((counts / np.maximum(areas, 1)).argmax())
    mask, title = masks[place, best], title_of(view.names[best])
    face = np.asarray(face_as_seen(own, own.table.path[batch.rows[place]], SIDE, seen), float) / 255
    why = "nothing is lit: no value\nof the map is positive"
    if lit.any():
        why = f"lit: above {grown[grown > 0].mean():.2f}, the mean\nof the map's positive values"
    dimmed = lambda shown: np.where(shown[..., None], face, 0.25 * face)  # noqa: E731
    steps = {
        f"a face, and the edge of\nits {title}": face,
        f"its map for “{one.class_name.item()}”,\nfrom 0 to 1": grown,
        why: dimmed(lit),
        f"of {areas[best]} pixels of the {title}\n{counts[best]} are lit: score {counts[best] / areas[best]:.2f}": dimmed(lit & mask),
    }
    figure, axes = subplots(1, 4, figsize=(10, 3.1))
    for ax, (said, picture) in zip(axes, steps.items(), strict=True):
        ax.imshow(picture, cmap="cividis", vmin=0, vmax=1)
        ax.contour(mask, [0.5], colors="white", linewidths=1)
        ax.set_title(said)
        ax.axis("off")
    return figure
