"""What another package brings, as the documentation tells it: each of its parts is used from the command line."""

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
    """Run the command line where the package is installed."""
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
