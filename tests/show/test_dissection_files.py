"""Dissections on disk, read back with pandas, xarray and plain numpy, and as a PDF."""

from __future__ import annotations

import re
import shutil
import subprocess

import numpy as np
import pandas as pd
import pytest
import torch
import xarray as xr
from PIL import Image

from facexkit.errors import FacexkitError
from facexkit.faces.faceset import FaceSet
from facexkit.faces.formats import load_faces
from facexkit.measure.dissection import dissect
from facexkit.measure.global_bias import global_bias
from facexkit.measure.hierarchy import rank_concepts
from facexkit.measure.saved import read_result
from facexkit.models.face_model import FaceModel
from facexkit.models.small_network import SmallNetwork
from facexkit.show.dissection import (
    bias_findings,
    dissection_findings,
    plot_bias,
    plot_counts,
    plot_units,
    write_dissection,
)
from facexkit.show.dissection_report import write_dissection_report
from facexkit.show.pictures import lit_face

QUIET = {"progress": False, "workers": 0}


@pytest.fixture(scope="module")
def faces() -> FaceSet:
    return load_faces("synthetic", limit=24, size=64)


@pytest.fixture(scope="module")
def model() -> FaceModel:
    with torch.random.fork_rng():
        torch.manual_seed(0)
        network = SmallNetwork()
    return FaceModel(network, name="folder/untaught", image_size=64, normalize="half", device="cpu")


@pytest.fixture(scope="module")
def results(model, faces) -> dict[str, xr.Dataset]:
    found = dissect(model, faces, "layer2", quantile=0.02, mask_size=32, top_images=20, **QUIET)
    bias = global_bias(model, faces, "layer2", ["gender", "age", "lipstick"], permutations=50, found=found, **QUIET)
    known = found.interpretable  # of an untaught network on 24 faces none would be supported
    found["supported"] = known & (known.cumsum() % 2 == 1)
    return {"found": found, "ranked": rank_concepts(found), "bias": bias}


def test_tables_and_arrays_say_the_same(results, tmp_path):
    files = write_dissection(tmp_path, **results)
    assert all(path.exists() for path in files) and len(files) == 11
    found, ranked, bias = (read_result(tmp_path / f"{name}.zarr") for name in ("dissection", "hierarchy", "bias"))
    for kept, made in zip((found, ranked, bias), results.values(), strict=True):
        xr.testing.assert_identical(kept, made)
        assert {variable.dtype.kind for variable in kept.variables.values()} <= set("Oifb")
    xr.testing.assert_identical(rank_concepts(found), ranked)
    concepts = pd.read_csv(tmp_path / "concepts.csv").set_index(["unit", "concept"])
    assert concepts.iou[7, "nose"] == pytest.approx(float(found.iou.sel(unit=7, concept="nose")))
    parquet = pd.read_parquet(tmp_path / "concepts.parquet")
    pd.testing.assert_frame_equal(parquet, concepts.reset_index(), check_dtype=False)
    sums = pd.read_csv(tmp_path / "hierarchy.csv").groupby("unit").probability.sum()
    np.testing.assert_allclose(sums, 1)
    groups = pd.read_csv(tmp_path / "bias.csv").groupby(["attribute", "unit"]).probability.sum()
    assert len(groups) == 3 * found.sizes["unit"]
    np.testing.assert_allclose(groups, 1)
    units = pd.read_csv(tmp_path / "units.csv")
    assert units.supported.is_monotonic_decreasing and len(units) == found.sizes["unit"]
    assert all(part.best_iou.is_monotonic_decreasing for _, part in units.groupby("supported"))
    best = found.sel(unit=7, concept=found.best_concept[7].item())
    row = units.set_index("unit").loc[7]
    assert row.position_iou == pytest.approx(best.position_iou.item()) and best.concept.item() in row.could_be_best


def test_a_saved_dissection_is_read_again_but_not_for_other_parameters(model, faces, tmp_path):
    how = {"layer": "layer2", "mask_size": 16, "concepts": ["nose"], "saved": tmp_path / "d.zarr", **QUIET}
    first = dissect(model, faces, **how)
    stamp = (tmp_path / "d.zarr" / "zarr.json").stat().st_mtime_ns
    xr.testing.assert_identical(dissect(model, faces, **how), first)
    assert (tmp_path / "d.zarr" / "zarr.json").stat().st_mtime_ns == stamp
    other = dissect(model, faces, **how | {"quantile": 0.1})
    assert other.attrs["quantile"] == 0.1 and not other.threshold.equals(first.threshold)
    assert [path.name for path in tmp_path.iterdir()] == ["d.zarr"]


def test_face_dissects_files_need_twenty_images(model, faces, results, tmp_path):
    with pytest.raises(FacexkitError, match="top_images=20"):
        write_dissection(tmp_path, results["found"].isel(top=slice(4)), export="face_dissect", model=model, faces=faces)
    with pytest.raises(FacexkitError, match="unknown export"):
        write_dissection(tmp_path, export="facedissect")


def test_the_report_names_every_unit_that_meets_a_concept(results, faces, tmp_path):
    path = write_dissection_report(results["found"], faces, tmp_path / "report.pdf")
    met = int((results["found"].best_iou > 0).sum())
    assert path.read_bytes().count(b"/Type /Page\n") + path.read_bytes().count(b"/Type /Page ") == 1 + -(-met // 9)
    if shutil.which("pdftotext"):
        text = subprocess.run(["pdftotext", str(path), "-"], capture_output=True, text=True, check=True).stdout
        named = {int(unit) for unit in re.findall(r"^unit (\d+)$", text, re.MULTILINE)}
        assert named == set(np.flatnonzero(results["found"].best_iou > 0))
        assert "untaught" in text and "folder/" not in text
        said = dissection_findings({"untaught": results["found"]})
        assert " ".join(text.split()).startswith(" ".join(said))


def test_the_active_area_is_lit_and_the_rest_dimmed(faces):
    path, activation = faces.table.path[0], np.array([[1.0, 0.0], [1.0, 0.0]], np.float32)
    face = faces.images.read(path).resize((104, 104), Image.Resampling.BILINEAR)
    shown, whole = np.asarray(lit_face(face, activation, 0.5), float), np.asarray(face, float)
    assert abs(shown[:, :50] - whole[:, :50]).mean() < 12
    assert abs(shown[:, 54:] - 0.4 * whole[:, 54:]).mean() < 12


def test_figures_say_their_finding(results, faces):
    found, ranked, bias = results.values()
    assert "detects" in plot_units(found, faces, 3).get_suptitle()
    unmet = found.assign(best_iou=0 * found.best_iou, iou=0 * found.iou, interpretable=found.interpretable & False)
    assert "no unit meets any concept" in plot_units(unmet, faces, 3).get_suptitle()
    for name in ("interpretable", "supported"):
        few = plot_units(found.assign({name: unmet.interpretable}), faces, 3)
        assert "is no detector;" in few.get_suptitle().replace("\n", " ")
        few.canvas.draw()
        assert few.bbox.width > few._suptitle.get_window_extent().width, "the title is cut off"
    counted = plot_counts({"one": ranked, "two": ranked}).get_suptitle()
    assert f"{int(found.supported.sum())} of 32 (one)" in counted
    none = plot_counts({"one": ranked.assign(supported=unmet.interpretable)})
    assert [[text.get_text() for text in ax.texts] for ax in none.axes] == [["none"]] * 3
    assert plot_counts({"one": ranked}).get_suptitle().startswith("Units that detect one of 22 face regions: ")


def test_bias_is_drawn_for_the_attributes_that_have_leaning_units_and_all_on_request(results):
    bias = results["bias"]
    titles = lambda figure: [ax.get_title() for ax in figure.axes]  # noqa: E731
    lean = xr.where(bias.attribute == "age", "", xr.where(bias.unit == 3, bias.group[0], ""))
    figure = plot_bias({"one": bias.assign(leans_to=lean.transpose(*bias.leans_to.dims))})
    assert titles(figure) == ["gender: 1 of 32 units of one", "lipstick: 1 of 32 units of one"]
    assert figure.get_suptitle() == "Units that lean to a group of gender or lipstick"
    every = plot_bias({"one": bias, "two": bias}, ["gender", "age", "lipstick"])
    assert len(every.axes) == 6 and titles(every)[2].startswith("age: ")
    none = plot_bias({"one": bias.assign(leans_to=xr.full_like(bias.leans_to, ""))}, "age")
    assert none.get_suptitle() == "No unit leans to a group of age"


def test_findings_count_units_and_images(results):
    found, _, bias = results.values()
    detectors = ((found.best_concept == "nose") & found.supported).sum().item()
    said = dissection_findings({"one": found}, ["nose"])
    assert f"{int(found.supported.sum())} of 32 units of layer2 of one detect one of 22 face regions: " in said[0]
    unsure = int((found.interpretable & ~found.supported).sum())
    assert unsure and said[0].endswith(f"; {unsure} more may know a place only.")
    assert "q <" not in said[0] and said[-1].startswith("To detect a concept is to overlap its masks with an IoU above 0.04")
    assert said[1].startswith(f"Units of one that detect nose: {detectors}")
    said = bias_findings({"": bias})
    assert len(said) == 3
    counts = bias.images.sel(attribute="lipstick")
    assert f"Images: no lipstick ({counts.sel(group='0').item()}), lipstick ({counts.sel(group='1').item()})." in said[2]
