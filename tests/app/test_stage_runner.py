"""The stages run from the page: as the command line runs them, stopped in the middle, and told when they fail."""

import json
import time

import pytest
import yaml

from facexkit.app.stage_runner import StageRunner


@pytest.fixture
def run(tmp_path, demo_models):
    """The folder of a run whose choices were kept in the page."""
    folder = tmp_path / "mine"
    folder.mkdir()
    (folder / "params.yaml").write_text(yaml.safe_dump({"data": "synthetic", "limit": 60, "layer": "layer2"}))
    return folder


def test_chosen_stages_are_run_with_the_choices_that_were_kept(run):
    runner = StageRunner(run, served="voila/files/")
    runner.chosen = ["faces"]
    runner.start += 1
    runner.wait()
    assert runner.error == "" and runner.link == "voila/files/mine/index.html"
    manifest = json.loads((run / "manifest.json").read_text())
    assert (manifest["parameters"]["limit"], manifest["parameters"]["layer"]) == (60, "layer2")
    assert [stage["name"] for stage in manifest["stages"]] == ["faces"] and (run / "01_faces.html").is_file()
    assert runner.findings == manifest["headline"] != []
    runner.chosen = ["faces", "model"]
    runner.start += 1
    runner.wait()
    assert runner.error == "" and "[1/2]" in (log := (run / "log.txt").read_text()) and "finished earlier, kept" in log


def test_stop_ends_the_run_and_keeps_what_was_done(run):
    runner = StageRunner(run)
    runner.start += 1
    while not runner.busy.startswith("["):
        time.sleep(0.1)
    first = runner.process
    runner.start += 1
    assert runner.process is first and runner.busy.startswith("["), "a second run beside the first"
    runner.stop = True
    runner.wait()
    assert runner.error.startswith("Stopped") and runner.findings == [] and runner.process.poll() is not None


def test_what_goes_wrong_is_told_in_the_words_of_the_command_line(run):
    runner = StageRunner(run)
    runner.chosen = []
    runner.start += 1
    runner.wait()
    assert "no stage is chosen" in runner.error
    (run / "params.yaml").write_text("layr: layer2\n")
    runner.chosen = ["faces"]
    runner.start += 1
    runner.wait()
    assert runner.error.startswith("unknown parameter 'layr'") and "Traceback" not in runner.error
