"""The two commands, the lock, and the house: who may import whom."""

import ast
import os
import re
import shutil
import subprocess
import sys
from importlib.metadata import version
from pathlib import Path

import pytest
import yaml
from packaging.requirements import Requirement

import facexkit

if sys.version_info >= (3, 11):
    import tomllib
else:
    import tomli as tomllib

ROOT = Path(__file__).parents[1]
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
LOCK = [Requirement(line) for line in (ROOT / "requirements.lock").read_text().splitlines()]
ROOMS = ["faces", "models", "probe", "measure", "mend", "show", "stages", "cli"]


def canonical(name):
    return re.sub(r"[-_.]+", "-", name).lower()


def wanted():
    extras = {name: own for name, own in PROJECT["optional-dependencies"].items() if name != "dlib"}  # needs a compiler
    return [Requirement(text) for text in PROJECT["dependencies"] + sum(extras.values(), [])]


@pytest.mark.parametrize("python", ["3.10", "3.11", "3.12", "3.13"])
@pytest.mark.parametrize("platform", [("linux", "x86_64"), ("linux", "aarch64"), ("darwin", "arm64")])
def test_the_lock_holds_one_admitted_version_of_every_requirement(python, platform):
    there = {"python_version": python, "python_full_version": f"{python}.9", "sys_platform": platform[0],
             "platform_machine": platform[1], "os_name": "posix", "implementation_name": "cpython"}  # fmt: skip
    locked = [r for r in LOCK if r.marker is None or r.marker.evaluate(there)]
    names = [canonical(r.name) for r in locked]
    assert len(names) == len(set(names))
    pins = {canonical(r.name): str(r.specifier).removeprefix("==") for r in locked}
    for requirement in wanted():
        if requirement.marker is None or requirement.marker.evaluate(there):
            assert requirement.specifier.contains(pins[canonical(requirement.name)]), requirement


def test_the_lock_pins_exact_versions_and_leaves_torchs_platform_packages_to_torch():
    assert all([s.operator for s in r.specifier] == ["=="] and r.url is None for r in LOCK)
    assert not [r.name for r in LOCK if re.match("nvidia|cuda|triton", r.name)]
    pins = {r.name: str(r.specifier) for r in LOCK}
    assert (pins["torch"], pins["torchvision"], pins["facenet-pytorch"]) == ("==2.14.1", "==0.29.1", "==2.5.3")


def test_no_file_names_a_package_host():
    for name in ("requirements.lock", "pyproject.toml", "environment.yml", "Makefile", "setup/install.sh", ".ci/run"):
        assert not re.search(r"index-url|find-links|pythonhosted|pypi\.", (ROOT / name).read_text()), name


def test_conda_takes_python_and_leaves_the_rest_to_the_same_lock():
    environment = yaml.safe_load((ROOT / "environment.yml").read_text())
    assert [d for d in environment["dependencies"] if isinstance(d, str)] == ["python=3.11", "pip"]
    assert environment["dependencies"][-1] == {"pip": ["-r requirements.lock", "-e ."]}


def test_what_is_installed_here_is_what_the_lock_says():
    for requirement in LOCK:
        if requirement.marker is None or requirement.marker.evaluate():
            assert requirement.specifier.contains(version(requirement.name)), requirement


def test_the_citation_names_the_version_and_the_five_systems():
    citation = yaml.safe_load((ROOT / "CITATION.cff").read_text())
    assert citation["version"] == PROJECT["version"] == version("facexkit")
    cited = " ".join(f"{r['title']} {r.get('notes', '')}" for r in citation["references"])
    for system in ("FaceX", "Face Dissect", "MAI-BIAS", "Fairface-Activations", "FineFACE"):
        assert system in cited


def imported_by(path):
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{path}: a relative import"
            yield node.module
        elif isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)


def test_a_room_imports_only_from_the_rooms_above_it():
    for path in sorted((ROOT / "facexkit").rglob("*.py")):
        room = path.relative_to(ROOT / "facexkit").parts[0].removesuffix(".py")
        if room not in ROOMS:
            continue
        below = ROOMS[ROOMS.index(room) + 1 :]
        for module in imported_by(path):
            parts = module.split(".")
            assert parts[0] != "facexkit" or parts[1:2] == [] or parts[1] not in below, f"{path} imports {module}"


def test_the_import_of_the_kit_loads_nothing_heavy():
    heavy = ("torch", "pandas", "ipywidgets", "anywidget", "papermill", "dask", "captum", "matplotlib", "xarray")
    code = f"import sys, facexkit; print([m for m in {heavy} if m in sys.modules])"
    assert subprocess.check_output([sys.executable, "-c", code], text=True) == "[]\n"


def test_every_public_name_is_there_and_an_unknown_one_is_an_attribute_error():
    assert all(getattr(facexkit, name) is not None for name in facexkit.__all__)
    assert set(facexkit.__all__) <= set(dir(facexkit))
    with pytest.raises(AttributeError, match="no attribute 'load_face'"):
        facexkit.load_face  # noqa: B018


@pytest.mark.parametrize(("old", "new"), facexkit._RENAMED.items())
def test_a_name_of_before_still_works_and_says_what_it_is_called_now(old, new):
    with pytest.warns(DeprecationWarning, match=f"fx.{old} is (called fx.{new} now|not needed)"):
        function = getattr(facexkit, old)
    assert old not in facexkit.__all__ and function.__name__ in (old, new)


def test_an_argument_that_was_renamed_works_once_more_and_says_so():
    said = {"similarity": [0.2, 0.9], "same": [0, 1]}
    with pytest.warns(DeprecationWarning, match="groups= is called protected= now"):
        found = facexkit.error_rates(**said, groups={"group": ["a", "b"]})
    assert found.equals(facexkit.error_rates(**said, protected={"group": ["a", "b"]}))
    with pytest.raises(facexkit.FacexkitError, match="groups"):
        facexkit.error_rates(**said, protected=None, groups=None)


@pytest.fixture
def checkout(tmp_path):
    """A folder with what the set-up needs, and a PATH on which fake programs can stand in front."""
    folder = tmp_path / "a folder"
    (folder / "setup").mkdir(parents=True)
    for name in ("Makefile", "requirements.lock", "pyproject.toml", "setup/install.sh"):
        shutil.copy(ROOT / name, folder / name)
    (tmp_path / "bin").mkdir()
    return folder


def fake(checkout, name, script):
    path = checkout.parent / "bin" / name
    path.write_text(f"#!/bin/sh\n{script}\n")
    path.chmod(0o755)


def make(checkout, target="install", **variables):
    environment = {**os.environ, "PATH": f"{checkout.parent / 'bin'}:{os.environ['PATH']}", **variables}
    environment.pop("MAKEFLAGS", None)
    return subprocess.run(["make", target], cwd=checkout, env=environment, capture_output=True, text=True)


PASSES_CHECKS = 'case "$*" in *"-m venv"*) {venv} ;; *print*) echo {version} ;; *3,*10*) {new} ;; *ensurepip*) {pip} ;; esac'


def fake_python(checkout, version="3.11", new="exit 0", pip="exit 0", venv="exit 1"):
    for name in ("python3.10", "python3.11", "python3.12", "python3.13", "python3"):
        fake(checkout, name, PASSES_CHECKS.format(version=version, new=new, pip=pip, venv=venv))


def test_an_old_python_is_told_with_what_to_do(checkout):
    fake_python(checkout, version="3.9", new="exit 1")
    answer = make(checkout)
    assert answer.returncode and "Python 3.10 or newer is needed" in answer.stderr
    assert "python3 is Python 3.9" in answer.stderr and "PYTHON=/path/to/python3.11" in answer.stderr


def test_a_python_that_is_not_there_is_told(checkout):
    answer = make(checkout, PYTHON="/no/such/python")
    assert answer.returncode and "/no/such/python" in answer.stderr and "Traceback" not in answer.stderr


def test_a_missing_venv_module_is_told_with_the_package_to_install(checkout):
    fake_python(checkout, pip="exit 1")
    answer = make(checkout)
    assert answer.returncode and "apt-get install python3.11-venv" in answer.stderr


def test_a_full_disk_is_told_before_anything_is_made(checkout):
    fake(checkout, "df", "echo h; echo 'disk 9 9 2097152 9% /'")
    answer = make(checkout, PYTHON=sys.executable)
    assert answer.returncode and "has 2 GB free" in answer.stderr and not (checkout / ".venv").exists()


def let_installs_succeed(checkout):
    """Give the fake Python a venv whose pip only counts its calls, and the disk room enough."""
    fake(checkout, "inner", 'case "$*" in *pip*) echo x >> pip.log; exit $(cat pip.fails) ;; esac')
    fake_python(checkout, venv=f"mkdir -p .venv/bin; cp '{checkout.parent}/bin/inner' .venv/bin/python")
    fake(checkout, "df", "echo h; echo 'disk 9 9 99999999 9% /'")
    (checkout / "pip.fails").write_text("0")


def pip_calls(checkout):
    log = checkout / "pip.log"
    return len(log.read_text().split()) if log.exists() else 0


def test_a_second_make_installs_nothing_and_a_changed_lock_does(checkout):
    let_installs_succeed(checkout)
    assert make(checkout).returncode == 0 and pip_calls(checkout) == 2
    assert make(checkout).returncode == 0 and pip_calls(checkout) == 2
    with (checkout / "requirements.lock").open("a") as lock:
        lock.write("one-more==1\n")
    assert make(checkout).returncode == 0 and pip_calls(checkout) == 4


def test_a_failed_pip_is_told_and_the_next_make_goes_on(checkout):
    let_installs_succeed(checkout)
    (checkout / "pip.fails").write_text("1")
    answer = make(checkout)
    assert answer.returncode and "pip could not install everything" in answer.stderr
    (checkout / ".venv/kept").touch()
    (checkout / "pip.fails").write_text("0")
    assert make(checkout).returncode == 0 and (checkout / ".venv/kept").exists()


@pytest.mark.parametrize("broken", ["unfinished", "bin/python", "facexkit-ready"])
def test_a_half_made_or_moved_environment_is_made_anew(checkout, broken):
    let_installs_succeed(checkout)
    make(checkout)
    (checkout / ".venv/left over").touch()
    if broken == "bin/python":
        (checkout / ".venv/bin/python").unlink()
    elif broken == "unfinished":
        (checkout / ".venv/facexkit-ready").replace(checkout / ".venv/unfinished")
    else:
        (checkout / ".venv/facexkit-ready").write_text("1 2 /elsewhere\n")
    assert make(checkout).returncode == 0 and not (checkout / ".venv/left over").exists()


def test_help_is_the_default_and_names_the_commands(checkout):
    answer = subprocess.run(["make"], cwd=checkout, capture_output=True, text=True)
    assert all(f"make {target}" in answer.stdout for target in ("demo", "test", "lab", "bench", "clean"))
