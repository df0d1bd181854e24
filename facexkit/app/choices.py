"""Where the choices of the app's questions come from, and the answers that stand there at first.

Each function takes the app and the form's answers so far. It gives (value, text) pairs, with the heading that they
stand below where there is one; or an answer.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from importlib.util import find_spec
from typing import TYPE_CHECKING

from facexkit.app.places import FORMATS_TOLD, TABLES, WEIGHTS, layout_of, listing, models_in, tables_near
from facexkit.faces.formats import FORMATS
from facexkit.faces.notes import MOST_VALUES
from facexkit.faces.regions import TITLES
from facexkit.measure.groups import as_labels
from facexkit.measure.share_interval import PARTS, accused
from facexkit.show.readings import read_parts
from facexkit.systems.face_dissect_networks import FILES
from facexkit.systems.fineface import BACKBONES

if TYPE_CHECKING:
    from facexkit.app.steps import App

Values = Mapping[str, str]
Choices = Sequence[tuple[str, ...]]
LONGEST = 70
"""Letters of a column's values that are told."""


def kept_runs(app: App, _: Values) -> Choices:
    kept = [path for name in ("params.yaml", "manifest.json") for path in app.runs.glob(f"*/{name}")]
    away = {path.parent.name for path in kept if path.resolve().parent.parent != app.runs.resolve()}
    return [(name, name) for name in sorted({path.parent.name for path in kept} - away)]


def free_name(app: App, _: Values) -> str:
    return next(name for k in range(1, 10_000) if not (app.runs / (name := f"run{k}")).exists())


def folders(app: App, values: Values) -> Choices:
    return [("", "no folder: faces that the kit draws itself"), *listing(values["data_root"], "", app.roots)]


def formats(_app: App, _values: Values) -> Choices:
    return [(name, FORMATS_TOLD.get(name, [name])[0]) for name in (*FORMATS_TOLD, *(set(FORMATS) - set(FORMATS_TOLD)))]


def format_of_folder(app: App, values: Values) -> str:
    return layout_of(values["data_root"], app.roots)


def tables(app: App, values: Values) -> Choices:
    inside = listing(values["annotations"], values["data_root"], app.roots, TABLES) if values["data_root"] else ()
    return [("", "none, or the one that belongs to the data set"), *inside]


def nearest_table(app: App, values: Values) -> str:
    near = tables_near(values["data_root"], app.roots) if values["data"] in ("csv", "pairs") else []
    fits = [path for path in near if ("pairs" in path.name) == (values["data"] == "pairs")]
    return str(next(iter([*fits, *near]), ""))


def columns(app: App, _: Values) -> Choices:
    """Give the columns that make classes or groups, each with how often its values are there."""
    table = app.found.table.drop(columns=["path", "split", "reference"], errors="ignore")
    found = []
    for name in (name for name in table if 2 <= table[name].nunique() <= MOST_VALUES):
        counts = table[name].value_counts().sort_index()
        told = ", ".join(f"{value} ({n:,})" for value, n in counts.items())
        found.append((str(name), f"{name}: {told if len(told) <= LONGEST else f'{len(counts)} values'}"))
    return found


def answers_known(app: App, values: Values) -> Choices:
    return [("", "none of them"), *columns(app, values)]


def own_target(app: App, _: Values) -> str:
    return app.found.target or ""


def masks(app: App, values: Values) -> Choices:
    own = "those that came with the photographs" if app.found.masks else "none: regions cannot be told apart"
    made = ("landmarks", "approximate ones, drawn over eyes, nose and mouth that are found")
    return [("", own), made, *listing(values["masks"], app.choices["data_root"] or "", app.roots)]


def masks_if_none(app: App, _: Values) -> str:
    return "" if app.found.masks else "landmarks"


def find_in_photographs(app: App, _: Values) -> str:
    return "largest" if app.choices["data"] == "photos" and not app.found.masks else ""


def numbers_of_faces(app: App, _: Values) -> Choices:
    count = len(app.found)
    return [("", f"all {count:,}"), *((str(few), f"the first {few:,}") for few in (60, 200, 1000) if few < count)]


def models(app: App, _: Values) -> Choices:
    """Give the models that lie in the app's folders, and by name those of the kit and of the libraries."""
    from torchvision import models as library  # here, as it takes seconds

    published = ["fairface:7", "fairface:4", *(f"face_dissect:{task}" for task in FILES), "facenet"]
    kinds = {
        "In what the app may read": models_in(app.roots, app.trust),
        "The kit's own, to try it": ["demo:biased", "demo:fair", "demo:embedder"],
        "Published, with their weights": [*published, *(f"fineface:{name}" for name in BACKBONES)],
        "Kinds of networks, with your weights": [f"torchvision:{name}" for name in library.list_models(module=library)],
    }
    if find_spec("timm"):
        from timm import list_models as names_of_timm

        kinds["Kinds of networks of timm"] = [f"timm:{name}" for name in names_of_timm()]
    return [(name, re.sub(r"(?<=:)/.*/|^/.*/", "", name), kind) for kind, names in kinds.items() for name in names]


def first_model(app: App, _: Values) -> str:
    return next(iter(models_in(app.roots, app.trust)), "demo:biased")


def weights(app: App, values: Values) -> Choices:
    known = [("", "the model's own, or none"), ("imagenet", "published ones, which are downloaded")]
    return [*known, *listing(values["weights"], "", app.roots, WEIGHTS)]


def orders(app: App, _: Values) -> Choices:
    """Give the values of the column that the model should answer in both orders."""
    names = _labels(app)
    both = [", ".join(names), ", ".join(names[::-1])] if 2 <= len(names) <= MOST_VALUES else []
    return [("", "the model's own names"), *((order, order) for order in both)]


def number_of_answers(app: App, values: Values) -> str:
    return str(len(_labels(app)) or "") if values["model"].startswith(("torchvision:", "timm:")) else ""


def answers(app: App, _: Values) -> Choices:
    return [(name, name) for name in (("similarity", "difference") if app.pairs else app.models[0].class_names)]


def last_answer(app: App, values: Values) -> str:
    return answers(app, values)[-1][0]


def layers(app: App, _: Values) -> Choices:
    table = app.models[0].layers
    rows = table[table.problem == ""].itertuples()
    return [(row.Index, f"{row.Index}: {row.type}, {row.units} units of {row.height}×{row.width}") for row in rows]


def last_layer(app: App, _: Values) -> str:
    table = app.models[0].layers
    with_places = table.index[(table.problem == "") & (table.height * table.width > 1)]
    return next(iter(with_places[::-1]), "")


def regions(app: App, _: Values) -> Choices:
    """Give the regions, those first that the decision was found to rest on."""
    shares = [scores for scores in app.explorer.classes.shown[:1] if scores.attrs["method"] == "share"]
    first = [name for scores in shares for name in accused(scores)]
    parts = {name: part for scores in shares for name, part in read_parts(scores).items()}
    told = {name: part.title + (f": {part.text} of the decision" if part.known else "") for name, part in parts.items()}
    told = told or {name: TITLES[name] for name in PARTS}
    kinds = {"The decision rests on": first, "Others": [name for name in told if name not in first]}
    return [(name, told[name], kind) for kind, names in kinds.items() for name in names]


def _labels(app: App) -> list[str]:
    target = app.faces.target
    return sorted({*as_labels(app.faces.table[target])} - {""}) if target in app.faces.table else []
