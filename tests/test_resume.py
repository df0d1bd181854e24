"""Runs that are stopped or killed: whose folder it is, what is left in it, and how the same command goes on."""

import json
import os
import signal
import socket
import subprocess
import sys
import time

import psutil
import pytest

from facexkit.errors import FacexkitError
from facexkit.faces.cache import remove_strays, side_file
from facexkit.measure.region_scores import score_regions
from facexkit.parameters import PASSES
from facexkit.show.regions import write_score_tables
from facexkit.show.run import Run
from facexkit.stages.hold import LOCK, held

SMALL = {"model": "torchvision:resnet18", "num_classes": 2, "image_size": 64, "limit": 60, "device": "cpu"}


@pytest.fixture
def gone():
    """The number of a process that has ended."""
    ended = subprocess.Popen([sys.executable, "-c", ""])
    ended.wait()
    return ended.pid


def lock(folder, **holder):
    given = {"pid": 1, "host": socket.gethostname(), "since": "2026-01-02 03:04:05"} | holder
    (folder / LOCK).write_text(json.dumps(given))


def test_the_second_run_into_a_folder_is_told_who_holds_it_and_how_to_take_over(tmp_path):
    with held(tmp_path, print):
        with pytest.raises(FacexkitError, match=rf"held by process {os.getpid()} on .*, since .*kill {os.getpid()}"):
            with held(tmp_path, print):
                raise AssertionError("two hold it")
    with held(tmp_path, print):
        pass
    assert not list(tmp_path.iterdir())


def test_the_lock_of_a_process_that_is_gone_is_taken_over_with_a_line_that_says_so(tmp_path, gone):
    lock(tmp_path, pid=gone)
    said = []
    with held(tmp_path, said.append):
        assert json.loads((tmp_path / LOCK).read_text())["pid"] == os.getpid()
    assert len(said) == 1 and f"process {gone} on" in said[0] and "taken over" in said[0]


def test_a_lock_of_another_machine_is_left_to_the_user(tmp_path):
    lock(tmp_path, host="elsewhere")
    with pytest.raises(FacexkitError, match=rf"process 1 on elsewhere.*remove {tmp_path / LOCK}"):
        with held(tmp_path, print):
            raise AssertionError("taken over")
    assert (tmp_path / LOCK).exists()


KILLED = """import os, sys, pathlib
place = pathlib.Path(sys.argv[1], 'deep')
place.mkdir()
os.replace = os.rename = lambda *_: os._exit(9)
"""
WRITERS = {
    "file": "from facexkit.faces.cache import write_whole; write_whole(place / 'a.csv', b'x')",
    "result": """import xarray as xr
from facexkit.measure.saved import save_result
save_result(xr.Dataset(), place / 'a.zarr')""",
    "store": """from facexkit.measure.activation_store import activation_store
with activation_store(place / 'b.zarr'): pass""",
}


@pytest.mark.parametrize("writer", WRITERS)
def test_what_a_killed_writer_leaves_is_known_and_removed(tmp_path, writer):
    assert subprocess.run([sys.executable, "-c", KILLED + WRITERS[writer], tmp_path]).returncode == 9
    assert len(list((tmp_path / "deep").iterdir())) == 1
    remove_strays(tmp_path)
    assert not list((tmp_path / "deep").iterdir())


def test_what_others_write_and_files_of_like_names_stay(tmp_path):
    kept = [side_file(tmp_path / "a.csv"), tmp_path / ".hidden.part", tmp_path / "a.12.part"]
    for path in kept:
        path.write_text("")
    remove_strays(tmp_path)
    assert all(path.exists() for path in kept)


def started(*arguments):
    command = [sys.executable, "-m", "facexkit.cli", "run", *arguments]
    hears = {"preexec_fn": lambda: signal.signal(signal.SIGINT, signal.SIG_DFL)}  # a test run in the background does not
    return subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, **hears)


def awaited(process, folder, pattern):
    """Wait until a file of a run is there."""
    while not list(folder.glob(pattern)):
        assert process.poll() is None, process.communicate()
        time.sleep(0.02)


@pytest.mark.parametrize("stop", [signal.SIGINT, signal.SIGTERM])
def test_a_run_that_is_stopped_says_so_and_leaves_no_process_and_nothing_half_done(tmp_path, stop):
    process = started("faces", "-p", "limit", "20", "--out", str(tmp_path))
    awaited(process, tmp_path, "*.running.ipynb")
    kernels = psutil.Process(process.pid).children(recursive=True)
    process.send_signal(stop)
    _, told = process.communicate()
    assert process.returncode == 130
    assert told.count("\n") == 1 and "stopped" in told and "--resume" in told
    assert not psutil.wait_procs(kernels, timeout=20)[1]
    assert [path.name for path in tmp_path.iterdir()] in ([], ["cache"])


def test_a_killed_run_goes_on_and_ends_in_the_numbers_of_an_undisturbed_one(tmp_path):
    out = tmp_path / "run"
    given = [word for name, value in SMALL.items() for word in ("-p", name, str(value))]
    process = started("regions", *given, "--out", str(out))
    awaited(process, out, f"{PASSES}/*/*.npz")
    kernels = psutil.Process(process.pid).children(recursive=True)
    process.kill()
    process.communicate()
    assert not psutil.wait_procs(kernels, timeout=60)[1]
    assert (out / LOCK).exists() and not (out / "03_regions.html").exists()
    again = started("regions", *given, "--out", str(out), "--resume")
    said, told = again.communicate()
    assert again.returncode == 0 and "taken over" in said and told == ""
    names = [path.name for path in out.rglob("*")]
    assert PASSES not in names and not [name for name in names if name.startswith(".") or "running" in name]
    run = Run(SMALL)
    ways = [score_regions(run.models[0], run.faces, "layer4", method=way, progress=False) for way in ("share", "facex")]
    for path in write_score_tables(ways, tmp_path / "whole"):
        assert path.read_bytes() == (out / "regions" / path.name).read_bytes()
