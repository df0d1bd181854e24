"""The kit's own notebooks: the same parameters everywhere, no outputs, and a whole run on the built-in faces."""

import ast
import re
import subprocess
import sys

import nbformat
import pandas as pd
import pytest
from papermill import inspect_notebook
from PIL import Image

from facexkit.errors import FacexkitError
from facexkit.faces.regions import REGIONS, UNIONS
from facexkit.parameters import Parameters
from facexkit.stages import run_stages
from facexkit.stages.notebooks import Stage, list_stages, notebook_folder, run_notebook

STAGES = list_stages()
NOTEBOOKS = pytest.mark.parametrize("path", [stage.path for stage in STAGES], ids=lambda path: path.stem)


def parameter_cell(path):
    cells = nbformat.read(path, 4).cells
    (cell,) = [c for c in cells if "parameters" in c.metadata.get("tags", [])]
    return cell.source


@NOTEBOOKS
def test_the_parameters_are_the_ones_that_are_checked_with_their_defaults_and_words(path):
    told = inspect_notebook(path)
    assert list(told) == list(Parameters.model_fields)
    for name, field in Parameters.model_fields.items():
        assert ast.literal_eval(told[name]["default"]) == field.default
        assert told[name]["help"] == field.description
        assert told[name]["inferred_type_name"] != "None"


def test_the_parameter_cell_is_the_same_everywhere():
    assert len({parameter_cell(stage.path) for stage in STAGES}) == 1


def test_papermills_own_help_lists_the_parameters():
    command = [sys.executable, "-m", "papermill", "--help-notebook", str(STAGES[0].path)]
    shown = subprocess.run(command, capture_output=True, text=True).stdout
    assert all(f"  {name}: " in shown for name in Parameters.model_fields)
    assert Parameters.model_fields["quantile"].description in shown


@NOTEBOOKS
def test_a_notebook_is_committed_without_outputs_in_short_cells_with_prose(path):
    notebook = nbformat.read(path, 4)
    nbformat.validate(notebook)
    assert notebook.metadata.kernelspec.name == "python3"
    for cell in notebook.cells:
        if cell.cell_type == "code":
            assert not cell.outputs and cell.execution_count is None
            assert len(cell.source.splitlines()) <= 20 or "parameters" in cell.metadata.get("tags", [])
    prose = [cell for cell in notebook.cells if cell.cell_type == "markdown"]
    assert prose[0].source.startswith("# ") and "What to try next" in prose[-1].source


def test_the_stages_stand_in_order_with_titles():
    assert [stage.name for stage in STAGES][:3] == ["faces", "model", "regions"]
    assert all(stage.title != stage.name for stage in STAGES)


FEW = 200
"""Faces, of which 120 are for learning and 80 for being asked."""
UNTRAINED = "torchvision:resnet18"


@pytest.fixture(scope="module")
def drawn_run(tmp_path_factory):
    """The three notebooks on few built-in faces with an untrained torchvision model, for both classes."""
    out = tmp_path_factory.mktemp("runs") / "drawn"
    given = {"model": UNTRAINED, "num_classes": 2, "image_size": 64, "limit": 20, "target_class": [0, 1]}
    return out, run_stages(["faces", "model", "regions"], given, out, say=lambda line: None)


def test_a_run_writes_a_row_a_region_method_and_class(drawn_run):
    out, _ = drawn_run
    scores = pd.read_csv(out / "regions/scores.csv")
    assert len(scores) == 2 * 2 * (len(REGIONS) + len(UNIONS))
    assert set(scores.method) == {"facex", "share"} and set(scores.target_class) == {0, 1}
    lips = scores[(scores.method == "share") & (scores.target_class == 1)].set_index("region").score[["lips", "u_lip", "l_lip"]]
    assert lips["lips"] == pytest.approx(lips[["u_lip", "l_lip"]].sum())
    images = pd.read_csv(out / "regions/per_image.csv")
    assert set(REGIONS) <= set(images.columns) and set(images.target_class) == {0, 1}
    both = scores[(scores.method == "facex") & scores.region.isin(REGIONS)].set_index(["target_class", "region"]).score
    mean = images[images.method == "facex"].groupby("target_class")[list(REGIONS)].mean().stack(future_stack=True)
    mean.index.names = ["target_class", "region"]
    pd.testing.assert_series_equal(both.sort_index(), mean.sort_index(), check_names=False)


def test_a_runs_index_links_every_file_of_it(drawn_run):
    out, manifest = drawn_run
    page = (out / "index.html").read_text()
    assert [stage["name"] for stage in manifest["stages"]] == ["faces", "model", "regions"]
    for stage in manifest["stages"]:
        for path in (stage["notebook"], stage["html"], *(file["path"] for file in stage["files"])):
            assert (out / path).is_file() and path in page
        assert stage["findings"]
    assert "http://" not in page.replace("http://www.w3.org", "") and "https://" not in page


def test_the_executed_notebooks_hold_no_error_and_every_code_cell_ran(drawn_run):
    out, _ = drawn_run
    for stage in STAGES[:3]:
        notebook = nbformat.read(out / stage.path.name, 4)
        cells = [cell for cell in notebook.cells if cell.cell_type == "code"]
        assert all(cell.execution_count for cell in cells)
        assert not [o for cell in cells for o in cell.outputs if o.output_type == "error"]
        assert not any("application/vnd.jupyter.widget-view+json" in o.get("data", {}) for cell in cells for o in cell.outputs)
    assert any("image/png" in o.get("data", {}) for cell in cells for o in cell.outputs)


def test_every_stage_runs_on_few_built_in_faces(tmp_path):
    manifest = run_stages([], {"limit": FEW}, tmp_path / "run", say=lambda line: None)
    assert [stage["name"] for stage in manifest["stages"]] == [stage.name for stage in STAGES]
    assert all(stage["findings"] for stage in manifest["stages"])
    for stage in STAGES:
        cells = nbformat.read(tmp_path / "run" / stage.path.name, 4).cells
        assert all(cell.execution_count for cell in cells if cell.cell_type == "code")
        assert not [out for cell in cells for out in cell.get("outputs", ()) if out.output_type == "stream"]


def test_a_set_without_masks_is_told_so_and_the_first_two_stages_go_on(tmp_path):
    for row, colour in enumerate(("red", "green", "blue", "white")):
        folder = tmp_path / "mine" / "test" / f"class{row % 2}"
        folder.mkdir(parents=True, exist_ok=True)
        Image.new("RGB", (40, 40), colour).save(folder / f"{row}.jpg")
    given = {"data": "image_folder", "data_root": str(tmp_path / "mine"), "model": UNTRAINED}
    given |= {"num_classes": 2, "image_size": 64}
    manifest = run_stages(["faces", "model"], given, tmp_path / "run", say=lambda line: None)
    assert any("no region masks" in finding for finding in manifest["stages"][0]["findings"])
    with pytest.raises(FacexkitError, match="has no masks"):
        run_stages(["regions"], given, tmp_path / "run", say=lambda line: None)
    assert (tmp_path / "run/index.html").is_file() and (tmp_path / "run/03_regions.failed.ipynb").is_file()


def test_an_executed_explorer_keeps_its_picture_though_nothing_was_measured_before(tmp_path, demo_models):
    run = tmp_path / "run"
    run.mkdir()
    (run / "params.yaml").write_text("limit: 60\nlayer: layer2\n")
    run_notebook(Stage("", "explore", notebook_folder() / "explore.ipynb"), {"run": str(run)}, tmp_path)
    page = (tmp_path / "explore.html").read_text()
    assert 'class="face-map"' in page and "Units of layer2" in page and "“male” of demo:biased" in page
    pictures = re.findall(r'<img [^>]*src="data:image/jpeg;base64,[^"]{200,}"', page)
    assert len(pictures) >= 12 + 12 + 4  # units, faces, examples
    assert "widget-view" not in (tmp_path / "explore.ipynb").read_text()
