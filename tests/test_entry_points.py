"""What another package brings: a format, a model source, a region method and a stage, used from the command line."""

import os
import subprocess
import sys

import nbformat
import pandas as pd
import pytest
from nbformat.v4 import new_code_cell, new_markdown_cell, new_notebook

CODE = '''
from pathlib import Path

import numpy as np
import pandas as pd
import torch
import xarray as xr

import facexkit as fx
from facexkit.faces.formats import Reading, load_faces
from facexkit.faces.regions import REGIONS
from facexkit.models.loading import Made


def drawn_twice(count: int = 6):
    """A format: a few of the drawn faces, which have masks."""
    faces = load_faces("synthetic", limit=count)
    return Reading(faces.table[["path", "gender"]], faces.images, faces.masks, target="gender")


def tiny(side, wish):
    """A source: a network of one convolution."""
    torch.manual_seed(wish.seed)
    flat = [torch.nn.AdaptiveAvgPool2d(1), torch.nn.Flatten(), torch.nn.Linear(4, 2)]
    return Made(torch.nn.Sequential(torch.nn.Conv2d(3, 4, 3), *flat), int(side), "unit", ["female", "male"])


def place(model, faces, layer, targets, *, seed, **how):
    rank = np.arange(len(REGIONS)) / len(REGIONS)
    said = fx.predict(model, faces, **how)
    paths = said.path.to_numpy()
    found = {"score": rank, "score_low": rank, "score_high": rank, "images": np.full(len(rank), len(paths))}
    found = {name: ("region", values) for name, values in found.items()}
    found["per_image"] = (("image", "region"), np.tile(rank, (len(paths), 1)))
    found |= {"output": ("image", said.output), "row": ("image", np.arange(len(paths)))}
    return [xr.Dataset(found, {"region": list(REGIONS), "image": paths}) for _ in targets]


order = fx.RegionMethod("Place in the list", "of 1", "Where the region stands in the list.", place, percent=True)
notebook = Path(__file__).with_name("20_places.ipynb")
'''
POINTS = """
[facexkit.formats]
drawn_twice = brought:drawn_twice
[facexkit.sources]
tiny = brought:tiny
[facexkit.methods]
order = brought:order
[facexkit.stages]
places = brought:notebook
"""
STAGE = """from facexkit.show.readings import ranked
run = fx.Run(globals())
scores = fx.score_regions(run.models[0], run.faces, layer, target_class, method="order", **run.how)
fx.write_score_tables([scores], f"{out}/places")
last = ranked(scores)[0]
fx.save_findings("places", out, [f"{last.method.title}: {last.title} has {last.sentence}"], faces=run.faces)"""


@pytest.fixture
def brought(tmp_path):
    """Run the command line where the package is installed."""
    info = tmp_path / "site" / "brought-1.0.dist-info"
    info.mkdir(parents=True)
    (info / "METADATA").write_text("Metadata-Version: 2.1\nName: brought\nVersion: 1.0\n")
    (info / "entry_points.txt").write_text(POINTS)
    (tmp_path / "site" / "brought.py").write_text(CODE)
    parameters = new_code_cell('layer = "0"\ntarget_class = 1\nout = "x"', metadata={"tags": ["parameters"]})
    cells = [new_markdown_cell("# Places"), new_code_cell("import facexkit as fx"), parameters, new_code_cell(STAGE)]
    kernel = {"name": "python3", "display_name": "Python 3", "language": "python"}
    nbformat.write(new_notebook(cells=cells, metadata={"kernelspec": kernel}), tmp_path / "site" / "20_places.ipynb")

    def facexkit(*arguments):
        environment = {**os.environ, "PYTHONPATH": str(tmp_path / "site")}
        return subprocess.run(
            [sys.executable, "-m", "facexkit.cli", *arguments], capture_output=True, text=True, env=environment
        )

    return facexkit


def test_a_package_adds_a_format_a_source_a_method_and_a_stage_to_the_command_line(brought, tmp_path):
    assert "20_places         Places" in brought("stages").stdout
    given = ["-p", "data", "drawn_twice", "-p", "model", "tiny:16", "-p", "layer", "0", "-p", "device", "cpu"]
    done = brought("run", "places", *given, "--out", str(tmp_path / "run"))
    assert done.returncode == 0, done.stderr
    scores = pd.read_csv(tmp_path / "run" / "places" / "scores.csv")
    assert scores.method.unique().tolist() == ["order"] and scores.images.unique().tolist() == [6]
    assert scores.score.is_monotonic_increasing and "Place in the list: clothes has 95 % (95 %" in done.stdout
    assert brought("layers", "tiny:16").stdout.splitlines()[1].split()[:3] == ["0", "Conv2d", "4"]


def test_a_package_that_cannot_be_loaded_is_told_with_its_name(brought, tmp_path):
    (tmp_path / "site" / "brought.py").write_text("1 / 0")
    told = brought("run", "faces", "-p", "data", "drawn_twice", "--out", str(tmp_path / "run")).stderr
    assert "Traceback" not in told and "brought" in told
