"""What another package brings, as the documentation tells it: each of its parts is used from the command line."""

import json
import os
import re
import subprocess
import sys
from pathlib import Path

import nbformat
import pandas as pd
import pytest
from nbformat.v4 import new_code_cell, new_markdown_cell, new_notebook

DOC = (Path(__file__).parents[1] / "docs" / "adding.md").read_text()
CODE, STAGE, POINTS = (
    "\n".join(re.findall(rf"```{kind}\n(.*?)```", DOC, re.DOTALL)) for kind in ("python", "python notebook", "toml")
)


@pytest.fixture
def brought(tmp_path):
    """Run Python where the package is installed."""
    info = tmp_path / "site" / "brought-1.0.dist-info"
    info.mkdir(parents=True)
    (info / "METADATA").write_text("Metadata-Version: 2.1\nName: brought\nVersion: 1.0\n")
    points = re.sub(r'project\.entry-points\."(.*)"', r"\1", POINTS).replace('"', "")
    (info / "entry_points.txt").write_text(points)
    (tmp_path / "site" / "brought.py").write_text(CODE)
    parameters = new_code_cell('layer = "0"\ntarget_class = 1\nout = "x"', metadata={"tags": ["parameters"]})
    cells = [new_markdown_cell("# Places"), new_code_cell("import facexkit as fx"), parameters, new_code_cell(STAGE)]
    kernel = {"name": "python3", "display_name": "Python 3", "language": "python"}
    nbformat.write(new_notebook(cells=cells, metadata={"kernelspec": kernel}), tmp_path / "site" / "20_places.ipynb")

    def python(*arguments):
        environment = {**os.environ, "PYTHONPATH": str(tmp_path / "site")}
        return subprocess.run([sys.executable, *arguments], capture_output=True, text=True, env=environment, cwd=tmp_path)

    return python


@pytest.fixture
def facexkit(brought):
    """Run the command line where the package is installed."""
    return lambda *arguments: brought("-m", "facexkit.cli", *arguments)


def test_a_package_adds_a_format_a_source_a_method_an_attribution_and_a_stage_to_the_command_line(facexkit, tmp_path):
    assert "20_places         Places" in facexkit("stages").stdout
    given = ["-p", "data", "drawn_twice", "-p", "model", "tiny:16", "-p", "layer", "0", "-p", "device", "cpu"]
    done = facexkit("run", "places", "regions", *given, "--out", str(tmp_path / "run"))
    assert done.returncode == 0, done.stderr
    scores = pd.read_csv(tmp_path / "run" / "places" / "scores.csv")
    assert scores.method.unique().tolist() == ["order"] and scores.images.unique().tolist() == [6]
    of_regions = pd.read_csv(tmp_path / "run" / "regions" / "scores.csv")
    assert {*of_regions.method} == {"share", "facex", "order", "facex_loud"}
    assert scores.score.is_monotonic_increasing and "Place in the list: clothes has 95 % (95 %" in done.stdout
    assert facexkit("layers", "tiny:16").stdout.splitlines()[1].split()[:3] == ["0", "Conv2d", "4"]


def test_a_package_that_cannot_be_loaded_is_told_with_its_name(facexkit, tmp_path):
    (tmp_path / "site" / "brought.py").write_text("1 / 0")
    told = facexkit("run", "faces", "-p", "data", "drawn_twice", "--out", str(tmp_path / "run")).stderr
    assert "Traceback" not in told and "brought" in told


USED = """
import json
import numpy as np
import facexkit as fx
from facexkit.app.steps import App

OWN = ("order", "facex_loud")
faces, model = fx.load_faces("drawn_twice"), fx.load_model("tiny:16", device="cpu")
scores = {name: fx.score_regions(model, faces, "0", method=name, progress=False) for name in OWN}
by_name = fx.score_regions(model, faces, "0", attribution="loud", progress=False)
assert by_name.score.equals(scores["facex_loud"].score) and by_name.attrs["attribution"] == "loud"


def pictures(explorer):
    found = {}
    for name in OWN:
        assert name in dict(explorer.classes.methods)
        explorer.classes.method = name
        explorer.classes.wait()
        assert explorer.classes.error == "", explorer.classes.error
        assert explorer.classes.shown[0].score.equals(scores[name].score)
        found[name] = explorer.classes.still()
    return found


def submitted(form, **values):
    form.values = {**form.values, **values}
    form.submitted += 1
    form.wait()
    assert form.error == "", form.error


app = App([], "runs", trust=False)
offered = next(field["choices"] for field in app.data.fields if field["name"] == "data")
submitted(app.data, data="drawn_twice")
submitted(app.labels)
submitted(app.model, model="tiny:16")
submitted(app.last, layer="0", target_class="male")
stages = [name for name, _ in app.runner.stages]
found = {"explore": pictures(fx.explore(model, faces, "0")), "app": pictures(app.explorer)}
print(json.dumps({"formats": [name for name, *_ in offered], "stages": stages, "pictures": found}))
"""


def test_what_a_package_adds_is_used_from_python_and_offered_in_explore_and_in_the_app(brought, tmp_path):
    done = brought("-c", USED)
    assert done.returncode == 0, done.stderr
    found = json.loads(done.stdout.splitlines()[-1])
    assert "drawn_twice" in found["formats"] and "places" in found["stages"]
    for order, loud in (pictures.values() for pictures in found["pictures"].values()):
        assert order != loud and all('class="face-map"' in page and 'data-region="nose"' in page for page in (order, loud))
