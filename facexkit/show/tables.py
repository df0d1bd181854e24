"""Region scores and audits as files that other programs read."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path

import pandas as pd
import xarray as xr

from facexkit.faces.spreadsheet import write_csv
from facexkit.measure.saved import write_table
from facexkit.show.readings import one_class_each

_MADE_BY = ("model", "method", "layer", "target_class", "class_name")


def write_tables(results: xr.Dataset | Iterable[xr.Dataset], folder: str | Path) -> list[Path]:
    """Write `scores.csv` and `per_image.csv` into a folder and return their paths.

    Parameters
    ----------
    results : what `fx.score_regions` gave. `scores.csv` has a row a model, method, class and region: score, its 95 %
        interval, number of images; `per_image.csv` a row a model, method, class and image: the model's output at the
        class, and a column a region, empty where the image lacks it.
    """
    results = one_class_each(results)
    scores = [_labelled(s, s[["score", "score_low", "score_high", "images"]].to_dataframe()) for s in results]
    images = [_labelled(s, s.per_image.to_pandas().assign(output=s.output.to_pandas())) for s in results]
    tables = {"scores.csv": scores, "per_image.csv": images}
    return [write_csv(pd.concat(parts), Path(folder, name)) for name, parts in tables.items()]


def write_audit(folder: str | Path, found: xr.Dataset, effects: xr.Dataset | None = None) -> list[Path]:
    """Write an audit into a folder, each table as CSV and Parquet, and return the paths of the CSV files.

    Parameters
    ----------
    found : what `audit` gave: `groups`, a row a model, group and metric; `gaps`, a row a model, attribute, metric and gap.
    effects : what `unit_effects` gave: `units`, a row a unit.
    """
    tables = {name: found[[v for v in found if str(v).startswith(stem)]] for name, stem in (("groups", "value"), ("gaps", "gap_size"))}
    tables["groups"] = tables["groups"].assign(images=found.images, ranked=found.ranked)
    if effects is not None:
        tables["units"] = effects[[v for v in effects if effects[v].dims == ("unit",)]]
    return [write_table(table.to_dataframe().reset_index(), Path(folder, name))[0] for name, table in tables.items()]


def _labelled(scores: xr.Dataset, table: pd.DataFrame) -> pd.DataFrame:
    table = table.reset_index()
    for place, name in enumerate(_MADE_BY):
        table.insert(place, name, scores.attrs.get(name, ""))
    return table
