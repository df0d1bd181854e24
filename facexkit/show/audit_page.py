"""The page of an audit: what ISO/IEC 19795-10 asks a report on demographic groups to say, as far as face images can."""

from __future__ import annotations

import io
from itertools import product
from pathlib import Path

import numpy as np
import xarray as xr

from facexkit.faces.cache import write_whole
from facexkit.faces.faceset import FaceSet
from facexkit.measure.groups import CROSS
from facexkit.show.audit import audit_findings, plot_mistakes
from facexkit.show.pages import data_uri, templates
from facexkit.show.words import NotMeasured, label_of, model_name, words

NEVER = (
    "Failures to capture and to enrol, and transaction times: a set of images has none.",
    "How the groups were assigned (by the people themselves, or by others looking at them): the labels do not say it.",
)
COLUMNS = ("difference", "ratio", "deviation", "over_geomean")


def write_audit_page(found: xr.Dataset, path: str | Path, faces: FaceSet | None = None) -> Path:
    """Write an audit as one HTML file: thresholds, groups, sizes, uncertainty, what could not be estimated.

    Parameters
    ----------
    found : what `audit` gave.
    faces : the audited faces, for pictures of the most confident mistakes.
    """
    told = audit_findings(found)
    missing = [sentence for sentence in told if isinstance(sentence, NotMeasured)]
    said = [sentence for sentence in told if not isinstance(sentence, NotMeasured)]
    single = [name for name in map(str, found.attribute.values) if CROSS not in name] if faces is not None else []
    pictures = []
    for name in single if found.mistake_path.values.any() else ():
        plot_mistakes(found, faces, name).savefig(buffer := io.BytesIO(), format="png", dpi=110)
        pictures.append((f"The most confident mistakes by {words(name)}", data_uri(buffer.getvalue(), "image/png")))
    page = {
        "headline": (said or told or ["Nothing was compared."])[0], "findings": said[1:], "fields": _fields(found),
        "missing": [*missing, *NEVER], "tables": [each for each in (_of_groups(found), _of_gaps(found)) if each[2]], "pictures": pictures,
    }  # fmt: skip
    write_whole(Path(path), templates().get_template("audit.html").render(page).encode())
    return Path(path)


def _fields(found: xr.Dataset) -> dict[str, str]:
    made = found.attrs["made_by"]
    who = {name: own.get("model_fingerprint", "predictions only") for name, own in made.items()}
    return {
        "system under test": ", ".join(f"{model_name(name)} ({print_})" for name, print_ in who.items()),
        "images": f"{found.attrs['faces']}, {found.attrs['predictions']:,} with a known truth",
        "decision": "the class with the largest output",
        "selected class": found.attrs["positive"] or "none",
        "groups": f"{', '.join(map(words, found.attribute.values))}; as labelled in the data",
        "least size": f"{found.attrs['min_images']} images; smaller groups are listed and no part of a gap",
        "uncertainty": f"95 %: Wilson's for rates, else {found.attrs['replicates']:,} bootstraps over images; "
        "those of gaps allow for the width that noise adds",
        "several comparisons": "q values after Benjamini and Hochberg, all gaps, criteria and changes one family",
        "version": f"facexkit {found.attrs['version']}, seed {found.attrs['seed']}",
    }  # fmt: skip


def _between(one: xr.Dataset, name: str) -> str:
    value, low, high = (float(one[f"{name}{end}"]) for end in ("", "_low", "_high"))
    if not np.isfinite(value):
        return "not known"
    return f"{value:.3f}" + (f" ({low:.3f} to {high:.3f})" if np.isfinite(low) else " (no interval)")


def _of_groups(found: xr.Dataset) -> tuple[str, list[str], list[list[str]]]:
    metrics, rows = [str(metric) for metric in found.metric.values], []
    for model, place in product(found.model.values, range(found.sizes["group"])):
        one = found.sel(model=model).isel(group=place)
        attribute, size = one.attribute_of.item(), f"{int(one.images):,}" + ("" if one.ranked else ", too small")
        name = f"{words(attribute)}: {label_of(attribute, one.label.item())}"
        rows.append([name, model_name(model), size, *(_between(one.sel(metric=metric), "value") for metric in metrics)])
    return "Every group, with 95 % intervals", ["group", "model", "images", *map(words, metrics)], rows


def _of_gaps(found: xr.Dataset) -> tuple[str, list[str], list[list[str]]]:
    rows = []
    for model, attribute in product(found.model.values, found.attribute.values):
        one = found.sel(model=model, attribute=attribute)
        for metric in one.metric.values:
            gap = one.sel(metric=metric)
            sizes = [*(_between(gap.sel(gap=name), "gap_size") for name in COLUMNS), f"{gap.by_chance:.3f}"]
            rows.append((f"{words(attribute)}: {words(metric)}", model_name(model), *sizes, gap.q_value))
        for rule in one.rule.values:
            gap = one.sel(rule=rule)
            sizes = [_between(gap, "criterion"), *[""] * len(COLUMNS)]
            rows.append((f"{words(attribute)}: {words(rule)}", model_name(model), *sizes, gap.q_criterion))
    head = ["gap", "model", "max − min", "max / min", "degree of bias", "max / geometric mean", "of alike groups", "q"]
    return "Every gap, with 95 % intervals", head, [[*row, f"{q:.3f}"] for *row, q in rows if np.isfinite(q)]
