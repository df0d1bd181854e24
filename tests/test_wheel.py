"""The built wheel, installed where nothing of the checkout is: notebooks, weights, scripts and styles are all in it."""

import os
import shutil
import subprocess
import sys
import sysconfig
import venv
import zipfile
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]


def pip(*arguments):
    command = [sys.executable, "-m", "pip", *map(str, arguments), "--quiet", "--no-deps", "--disable-pip-version-check"]
    ran = subprocess.run(command, capture_output=True, text=True)
    assert ran.returncode == 0, ran.stderr


@pytest.fixture(scope="module")
def wheel(tmp_path_factory):
    """The wheel, built of a copy of what is in the repository."""
    source, made = (tmp_path_factory.mktemp(name) for name in ("source", "made"))
    for name in ("facexkit", "notebooks"):
        shutil.copytree(ROOT / name, source / name, ignore=shutil.ignore_patterns("__pycache__", ".ipynb_checkpoints"))
    for name in ("pyproject.toml", "README.md", "LICENSE"):
        shutil.copy(ROOT / name, source)
    pip("wheel", "--no-build-isolation", "--no-index", "--wheel-dir", made, source)
    (found,) = made.glob("*.whl")
    return found


@pytest.fixture(scope="module")
def facexkit(wheel, tmp_path_factory):
    """Run the command line of an environment with the wheel and what is installed here, but for the checkout, in an empty folder."""
    place, empty = tmp_path_factory.mktemp("environment"), tmp_path_factory.mktemp("empty")
    venv.create(place, symlinks=True)
    pip("--python", place / "bin" / "python", "install", "--no-index", wheel)
    (own,) = place.glob("lib/python*/site-packages")
    (own / "here.pth").write_text(sysconfig.get_path("purelib"))
    outside = {name: value for name, value in os.environ.items() if name not in ("PYTHONPATH", "FACEXKIT_CACHE")}
    outside["JUPYTER_PATH"] = str(Path(sys.prefix, "share", "jupyter"))  # where nbconvert's templates lie

    def run(*arguments):
        return subprocess.run([place / "bin" / "facexkit", *arguments], cwd=empty, env=outside, capture_output=True, text=True)

    run.folder, run.python = empty, place / "bin" / "python"
    return run


def test_what_is_no_python_is_in_the_wheel(wheel):
    names = zipfile.ZipFile(wheel).namelist()
    own = [path for path in (ROOT / "facexkit").rglob("*.*") if path.is_file() and path.suffix not in (".py", ".pyc")]
    assert {path.suffix for path in own} >= {".js", ".css", ".html", ".safetensors"}
    assert sorted({path.relative_to(ROOT).as_posix() for path in own} - {*names}) == []
    assert sum(name.endswith(".ipynb") for name in names) == len([*(ROOT / "notebooks").glob("*.ipynb")])


def test_the_installed_package_is_the_one_that_runs(facexkit):
    told = subprocess.check_output(
        [facexkit.python, "-c", "import facexkit, importlib.metadata as m; print(facexkit.__file__, m.version('facexkit'))"],
        cwd=facexkit.folder, text=True,
    )  # fmt: skip
    assert "site-packages" in told and str(ROOT) not in told


def test_stages_layers_and_a_run_work_from_an_empty_folder(facexkit):
    assert "01_faces" in facexkit("stages").stdout
    told = facexkit("layers", "torchvision:resnet18", "--image-size", "64")
    assert told.returncode == 0 and "layer4" in told.stdout, told.stderr
    ran = facexkit("run", "faces", "-p", "limit", "40", "--out", "mine")
    assert ran.returncode == 0, ran.stderr
    page = (facexkit.folder / "mine" / "index.html").read_text(encoding="utf-8")
    assert "40 drawn faces" in page and "<style>" in page
