"""The region report: one HTML file that holds everything it shows."""

from __future__ import annotations

import os
from collections.abc import Iterable
from datetime import date
from functools import cache
from pathlib import Path

import jinja2
import numpy as np
import xarray as xr
from markupsafe import Markup

from facexkit.faces.faceset import FaceSet
from facexkit.faces.regions import REGIONS
from facexkit.show.face_map import Drawing, face_map, short_titles, small_maps
from facexkit.show.findings import grouped_findings
from facexkit.show.pictures import Album
from facexkit.show.readings import Subject, method_of, ranked, read_regions, subjects, title_of

HERE = Path(__file__).parent
LARGEST = 9_500_000
"""Bytes that a report may have; with more it shows fewer patches and examples."""


@cache
def templates() -> jinja2.Environment:
    """Return the pages' templates; all that they are given is escaped."""
    pages = jinja2.Environment(
        loader=jinja2.FileSystemLoader(HERE / "templates"), autoescape=True, trim_blocks=True, lstrip_blocks=True
    )
    pages.filters["unbroken"] = lambda sentence: sentence.replace(" %", "\N{NO-BREAK SPACE}%")
    for name in ("style.css", "face_map.js"):
        pages.globals[name.replace(".", "_")] = Markup((HERE / name).read_text(encoding="utf-8"))
    return pages


def write_page(path: str | Path, text: str) -> Path:
    """Write a file to the side and rename it, so that a killed run leaves no half page."""
    path = Path(path)
    path.parent.mkdir(parents=True, exist_ok=True)
    aside = path.with_name(f".{path.name}.{os.getpid()}")
    aside.write_text(text, encoding="utf-8")
    return aside.replace(path)


def write_report(results: xr.Dataset | Iterable[xr.Dataset], faces: FaceSet, path: str | Path) -> Path:
    """Write the interactive region report and return its path.

    Parameters
    ----------
    results : what `fx.score_regions` gave: one Dataset or several, of one or several methods, classes and models.
    faces : the face set of the results, for the pictures.
    path : the HTML file.
    """
    people, album = subjects(results), Album(faces)
    maps = [[face_map(scores, title="", interactive=True) for scores in subject.results] for subject in people]
    compared = [Markup(drawing) for drawing in _compared(people)]
    for patches, examples in ((20, 4), (10, 4), (6, 2), (3, 1), (0, 0)):
        album.clear()
        data = [_subject_data(subject, album, patches, examples) for subject in people]
        text = templates().get_template("report.html").render(
            people=people, subjects=[(str(k), name, "") for k, name in enumerate(short_titles([s.results[0] for s in people]))], maps=[[Markup(m) for m in row] for row in maps], compared=compared, method_of=method_of,
            methods=_methods(people), key=method_key, findings=grouped_findings(people), data={"subjects": data, "uris": album.uris}, title_of=title_of,
            tables=[_table(subject) for subject in people], records=_records(people), today=date.today().isoformat(),
            faces=faces,
        )  # fmt: skip
        if len(text.encode()) < LARGEST:
            break
    return write_page(path, text)


def gallery(scores: xr.Dataset, faces: FaceSet, region: str, patches: int = 20) -> Drawing:
    """Return a region's examples and high-impact patches as HTML, for a notebook.

    Parameters
    ----------
    scores : a one-class result of the method "facex".
    """
    album = Album(faces)
    shown = {"examples": album.examples(scores, region), "patches": album.patches(scores, region, patches)}
    reading = read_regions(scores)[region]
    page = templates().get_template("gallery.html")
    return Drawing(page.render(title=title_of(region), reading=reading, uris=album.uris, **shown))


def _compared(people: list[Subject]) -> list[Drawing]:
    """Return small maps of two or more subjects by the method that they share, the preferred one first."""
    for scores in people[0].results if len(people) > 1 else ():
        same = [s for subject in people if (s := subject.by(scores.attrs.get("method"))) is not None]
        if len(same) > 1:
            return small_maps(same)
    return []


def _subject_data(subject: Subject, album: Album, patches: int, examples: int) -> dict:
    """Return what the script needs of a class: numbers in words, patches and examples of every region."""
    readings = [read_regions(scores) for scores in subject.results]
    regions = {}
    for region in REGIONS:
        rows = [row[region] for row in readings]
        numbers = [
            {"method": r.method.title, "text": r.text, "behind": r.sentence.removeprefix(r.text).strip(" ()")} for r in rows
        ]
        regions[region] = {
            "title": title_of(region),
            "numbers": numbers,
            "patches": [p for scores in subject.results for p in album.patches(scores, region, patches)],
            "examples": [e for scores in subject.results for e in album.examples(scores, region, examples)],
            "nothing": "No attribution map was made or none marks this region, so there are no patches to show.",
        }
    best = ranked(subject.results[0])
    first = best[0].region if best else "skin"
    return {"methods": [method_key(scores) for scores in subject.results], "regions": regions, "first": first}


def method_key(scores: xr.Dataset) -> str:
    """Return what tells a subject's results apart: the method, and the layer where it has one."""
    return " ".join(str(scores.attrs[k]) for k in ("method", "layer") if scores.attrs.get(k))


def _methods(people: list[Subject]) -> list[tuple[str, str, str]]:
    """Return key, title with layer, and explanation of every method in the results."""
    told = {}
    for scores in (scores for subject in people for scores in subject.results):
        method, layer = method_of(scores), scores.attrs.get("layer")
        title = f"{method.title} · {layer}" if layer else method.title
        told[method_key(scores)] = (method_key(scores), title, method.explanation)
    return list(told.values())


def _table(subject: Subject) -> list[dict]:
    """Return a row a region with a cell a result, the largest first; a cell's places are % of its column's width."""
    readings = [read_regions(scores) for scores in subject.results]
    ends = [[v for r in row.values() for v in (r.value, r.low, r.high, 0.0) if np.isfinite(v)] for row in readings]
    order = [r.region for r in ranked(subject.results[0])]
    order += [region for region in REGIONS if region not in order]
    rows = []
    for region in order:
        cells = []
        for row, column in zip(readings, ends, strict=True):
            numbers, span = np.array([0.0, row[region].value, row[region].low, row[region].high]), max(column) - min(column)
            cells.append((row[region], (100 * (numbers - min(column)) / (span or 1.0)).round(2).tolist()))
        rows.append({"region": region, "cells": cells})
    return rows


def _records(people: list[Subject]) -> list[dict]:
    """Return what made each result, for the page's end."""
    hidden = {"skipped", "model", "class_name", "class_names"}
    return [
        {
            "title": f"{subject.label} · {method_of(scores).title}",
            "facts": {k.replace("_", " "): v for k, v in scores.attrs.items() if k not in hidden and v not in ("", None)},
            "images": scores.sizes.get("image"),
            "skipped": list(scores.attrs.get("skipped", ())),
        }
        for subject in people
        for scores in subject.results
    ]
