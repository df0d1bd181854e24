"""The region report: one HTML file that holds everything it shows."""

from __future__ import annotations

from collections.abc import Iterable
from datetime import date
from pathlib import Path

import numpy as np
import xarray as xr
from markupsafe import Markup

from facexkit.faces.cache import write_whole
from facexkit.faces.faceset import FaceSet
from facexkit.faces.regions import REGIONS, UNIONS
from facexkit.show.exchanges import show_exchanges
from facexkit.show.face_map import Drawing, face_map, scale_limit, short_titles, small_maps
from facexkit.show.pages import templates
from facexkit.show.pictures import Album
from facexkit.show.readings import Subject, method_of, mirrored, one_class, ranked, read_regions, subjects
from facexkit.show.regions import grouped_findings
from facexkit.show.words import NotMeasured, words

LARGEST = 9_500_000
"""Bytes that a report may have; where it would have more it shows fewer patches and examples."""


def write_region_report(results: xr.Dataset | Iterable[xr.Dataset], faces: FaceSet, path: str | Path) -> Path:
    """Write the interactive region report and return its path.

    Parameters
    ----------
    results : what `fx.score_regions` gave: one Dataset or several, of one or several methods, classes and models.
    faces : the face set of the results, for the pictures.
    path : the HTML file.

    Raises
    ------
    FacexkitError if there is no result, or the face set lacks an image of the results.
    """
    people, album = subjects(results), Album(faces)
    every = [scores for subject in people for scores in subject.results]
    told = grouped_findings(people)
    first = told[0][0] if told else NotMeasured()
    limits = {method_key(s): scale_limit(*(other for other in every if method_of(other) == method_of(s))) for s in every}
    live = lambda s: Markup(face_map(s, title="", interactive=True, limit=limits[method_key(s)]))  # noqa: E731
    page = {
        "people": people,
        "names": dict(enumerate(short_titles([subject.results[0] for subject in people]))),
        "maps": [[live(scores) for scores in subject.results] for subject in people],
        "compared": {key: _compared(people, key, limit) for key, limit in limits.items()},
        "methods": {method_key(s): result_title(s) for s in every},
        "explanations": {method_key(s): method_of(s).explanation for s in every},
        "findings": told,
        "headline": "" if isinstance(first, NotMeasured) else first,
        "exchanges": _exchanges(people, faces),
        "tables": [_table(subject) for subject in people],
        "records": [_record(subject, scores) for subject in people for scores in subject.results],
        "today": date.today().isoformat(),
        "key": method_key,
        "title": result_title,
    }
    for patches, examples in ((20, 4), (10, 4), (6, 2), (3, 1), (0, 0)):
        album.clear()
        told = [_behind_all(subject.results, album, patches, examples) for subject in people]
        data = {"subjects": told, "uris": album.uris}
        text = templates().get_template("report.html").render(page, data=data).encode()
        if len(text) < LARGEST:
            break
    write_whole(Path(path), text)
    return Path(path)


def show_examples(scores: xr.Dataset, faces: FaceSet, region: str, patches: int = 20) -> Drawing:
    """Return a region's examples and high-impact patches as HTML, for a notebook.

    Parameters
    ----------
    scores : a one-class result of the method "facex".
    """
    scores = one_class(scores)
    album, page = Album(faces), templates().get_template("gallery.html")
    shown = behind([scores], region, album, patches)
    return Drawing(page.render(shown, reading=read_regions(scores)[region], uris=album.uris))


def method_key(scores: xr.Dataset) -> str:
    """Return what tells the results on a class apart: the method, and the layer where it has one."""
    return " ".join(str(scores.attrs[k]) for k in ("method", "layer") if scores.attrs.get(k))


def result_title(scores: xr.Dataset) -> str:
    """Return what tells the results on a class apart in words: the method, its layer, and the faces where it matters."""
    layer = scores.attrs.get("layer")
    on = {"all": " · all faces", "class": " · faces of the class"}.get(scores.attrs.get("explain_on"), "")
    return f"{method_of(scores).title}{f' · {layer}' if layer else ''}{on}"


def _exchanges(people: list[Subject], faces: FaceSet) -> dict[int, Markup]:
    """Return by the subject's number the exchanges that turned a decision most, of those that have a decision share."""
    shares = {number: subject.by("share") for number, subject in enumerate(people) if faces.masks is not None}
    return {k: Markup(show_exchanges(s, faces)) for k, s in shares.items() if s is not None and "turned_output" in s}


def _compared(people: list[Subject], key: str, limit: float) -> list[Markup]:
    """Return small maps of several classes or models by one method; none where they would all be the same."""
    same = [scores for subject in people for scores in subject.results if method_key(scores) == key]
    alike = all(mirrored(same[0], other) for other in same[1:])
    return [] if alike else [Markup(drawing) for drawing in small_maps(same, limit=limit)]


def behind(results: list[xr.Dataset], region: str, album: Album, patches: int = 20, examples: int = 4) -> dict:
    """Return what the script shows of a region: its numbers in words, patches and examples."""
    readings = [own for scores in results if (own := read_regions(scores).get(region))]
    return {
        "title": readings[0].title,
        "numbers": [{"method": r.method.title, "text": r.text, "behind": r.behind} for r in readings],
        "patches": [p for scores in results for p in album.patches(scores, region, patches)],
        "examples": [e for scores in results for e in album.examples(scores, region, examples)],
    }


def _behind_all(results: list[xr.Dataset], album: Album, patches: int, examples: int) -> dict:
    named = {name for scores in results for name in read_regions(scores)}
    regions = {name: behind(results, name, album, patches, examples) for name in (*REGIONS, *UNIONS) if name in named}
    first = ranked(results[0], missing=True)[0].region
    return {"methods": [method_key(scores) for scores in results], "regions": regions, "first": first}


def _table(subject: Subject) -> dict:
    """Return `rows`, the largest first and below a union its regions: the readings by each method, and whether the row is
    below another; and the least and the greatest number of each column, `ends`."""
    every = [read_regions(scores) for scores in subject.results]
    parts = ranked(subject.results[0], missing=True)
    order = [(name, name != part.region) for part in parts for name in (part.region, *UNIONS.get(part.region, ()))]
    numbers = [[0.0, *(n for own in column.values() for n in (own.value, own.low, own.high))] for column in every]
    ends = [(np.nanmin(own), np.nanmax(own)) for own in numbers]
    return {"rows": [([column.get(name) for column in every], within) for name, within in order], "ends": ends}


def _record(subject: Subject, scores: xr.Dataset) -> dict:
    """Return what made a result, for the page's end."""
    hidden = {"skipped", "model", "unmasked", "unmasked_groups", "untold"}
    facts = {words(k): v for k, v in scores.attrs.items() if k not in hidden and v not in ("", None)}
    facts["target class"] = scores.target_class.item()
    return {
        "title": f"{subject.class_name} · {subject.model} · {method_of(scores).title}",
        "facts": {"images": scores.sizes.get("image", "unknown"), **facts},
        "skipped": list(scores.attrs.get("skipped", ())),
    }
