"""The PDF report of a dissection."""

from __future__ import annotations

import io
from collections.abc import Callable
from pathlib import Path

import numpy as np
import xarray as xr
from matplotlib.backends.backend_pdf import PdfPages
from matplotlib.figure import Figure
from PIL import Image

from facexkit.faces.cache import write_whole
from facexkit.faces.faceset import FaceSet
from facexkit.measure.hierarchy import rank_concepts
from facexkit.show.dissection import WIDTH, by_iou, dissection_findings, draw_counts, draw_units, page_axes
from facexkit.show.face_map import INK, SOFT
from facexkit.show.figures import Picture, drawn
from facexkit.show.pictures import seen_faces
from facexkit.show.words import model_of

HEIGHT, UNITS_A_PAGE = 11.69, 9


def write_dissection_report(
    found: xr.Dataset, faces: FaceSet, path: str | Path, ranked: xr.Dataset | None = None
) -> Path:
    """Write a PDF: what was found, counts, then the units, supported ones first, with their best images and concepts.

    Parameters
    ----------
    found : what `dissect` gave.
    faces : the face set that was dissected.
    ranked : what `rank_concepts` gave; made from `found` if None.
    """
    ranked = rank_concepts(found) if ranked is None else ranked
    order = by_iou(found)
    seen = seen_faces(found, faces, order)
    pages = [order[start : start + UNITS_A_PAGE] for start in range(0, len(order), UNITS_A_PAGE)]
    with PdfPages(buffer := io.BytesIO()) as pdf:
        pdf.savefig(_first_page(found, ranked), dpi=150)
        for number, units in enumerate(pages, 2):
            pdf.savefig(_page_of_units(found, ranked, seen, units, f"page {number} of {len(pages) + 1}"), dpi=150)
    write_whole(Path(path), buffer.getvalue())
    return Path(path)


@drawn
def _page_of_units(
    found: xr.Dataset, ranked: xr.Dataset, seen: Callable[[str], Image.Image], units: np.ndarray, place: str
) -> Figure:
    figure = Picture(figsize=(WIDTH, HEIGHT))
    ax = page_axes(figure)
    heading = f"{model_of(found)}, {found.attrs['layer']}: units by IoU, those with a supported label first, {place}"
    ax.text(0.3, HEIGHT - 0.45, heading, color=SOFT, fontsize=9)
    draw_units(ax, found, ranked, seen, units, top=HEIGHT - 0.6)
    return figure


@drawn
def _first_page(found: xr.Dataset, ranked: xr.Dataset) -> Figure:
    told = found.attrs
    figure = Picture(figsize=(WIDTH, HEIGHT))
    page = page_axes(figure)
    first, *more = dissection_findings({told["model"]: found})
    page.text(0.5, HEIGHT - 0.6, first, fontsize=14, fontweight="bold", color=INK, wrap=True, va="top")
    page.text(0.5, HEIGHT - 1.55, " ".join(more), fontsize=10.5, color=INK, wrap=True, va="top")
    rows = {
        "model": f"{model_of(found)} ({told['model_fingerprint']})",
        "faces": f"{told['faces']}, {found.sizes['image']:,} images ({told['faces_fingerprint']})",
        "thresholds": f"upper {100 * told['quantile']:g} % of each unit's values; masks of {told['mask_size']} pixels a side",
        "skipped": f"{len(told['skipped'])} images could not be decoded",
    }
    for row, (name, text) in enumerate(rows.items()):
        page.text(0.5, HEIGHT - 2.35 - 0.24 * row, name, color=SOFT, fontsize=9)
        page.text(1.4, HEIGHT - 2.35 - 0.24 * row, text, color=INK, fontsize=9)
    places = ((0.26, 0.34, 0.66, 0.36), (0.26, 0.07, 0.26, 0.17), (0.66, 0.07, 0.26, 0.17))
    draw_counts([figure.add_axes(place) for place in places], {"units": ranked}, most=20)
    return figure
