"""What lies in a run's folder: what each stage found, the manifest of the run, and its index page."""

from __future__ import annotations

import json
import os
import platform
import subprocess
import sys
from collections.abc import Callable, Mapping, Sequence
from importlib.metadata import version
from pathlib import Path

from facexkit.errors import FacexkitError
from facexkit.faces.cache import write_whole

_PACKAGES = ("facexkit", "torch", "torchvision", "captum", "numpy", "pandas", "xarray", "papermill")


class Conclusion(list):
    """The findings of a stage, one sentence each; a notebook shows them as a list."""

    def _repr_html_(self) -> str:
        from facexkit.show.words import in_markup

        return f'<ul class="mathjax_ignore">{"".join(f"<li>{in_markup(finding)}</li>" for finding in self)}</ul>'


def save_findings(
    stage: str,
    out: str | Path,
    findings: Sequence[str] = (),
    pictures: Sequence[tuple[str | Path, str]] = (),
    files: Sequence[tuple[str | Path, str]] = (),
    faces: object = None,
    model: object = None,
    headline: int | bool | None = 0,
) -> Conclusion:
    """Hand a stage's findings to the run: its index page and manifest tell them.

    Parameters
    ----------
    stage : the notebook's name without number, as in "regions".
    out : the run's folder.
    findings : sentences with their numbers, the most important first; those that are `NotMeasured` follow the others.
    pictures : (path, alternative text) of picture files inside `out`; one alone is shown in the page's width.
    files : (path, what it is) of other files inside `out`.
    faces, model : the face set and the model, whose names and fingerprints are recorded.
    headline : how high the first finding ranks at the head of the run's page; 0 among those of other stages, None never.
    """
    from facexkit.show.words import NotMeasured, legible

    folder, findings = Path(out).resolve(), sorted(findings, key=lambda finding: isinstance(finding, NotMeasured))
    inside = lambda path: os.path.relpath(Path(path).resolve(), folder).replace(os.sep, "/")  # noqa: E731
    found: dict[str, object] = {
        "headline": headline,
        "findings": [legible(finding) for finding in findings],
        "measured": sum(not isinstance(finding, NotMeasured) for finding in findings),
        "pictures": [{"path": inside(path), "alt": alt, "wide": len(pictures) == 1} for path, alt in pictures],
        "files": [{"path": inside(path), "what": what} for path, what in files],
    }
    if faces is not None:
        found["faces"] = f"{faces.name}, {len(faces):,} images (fingerprint {faces.fingerprint()})"
    if model is not None:
        found["model"] = f"{model.name}, input {model.preprocess} (fingerprint {model.fingerprint()})"
    _write_json(_conclusion_file(folder, stage), found)
    return Conclusion(found["findings"])


def take_conclusion(folder: Path, stage: str) -> dict:
    """Return what the stage handed in with `save_findings`, and remove it; empty if it handed in nothing."""
    path = _conclusion_file(folder, stage)
    try:
        found = json.loads(path.read_text(encoding="utf-8"))
        path.unlink()
    except FileNotFoundError:
        return {}
    except (ValueError, RecursionError) as error:
        raise FacexkitError(f"{path} is no conclusion of a stage ({error}); run it again") from error
    return found


def write_manifest(folder: Path, manifest: dict) -> None:
    """Write `manifest.json`, its headline renewed, and the index page that tells it."""
    from facexkit.show.index import write_index

    manifest["headline"] = headlines(manifest)
    _write_json(folder / "manifest.json", manifest)
    write_index(folder, manifest)


def headlines(manifest: Mapping, most: int = 3) -> list[str]:
    """Return the first finding of the stages that head a page, by their rank, then of others, those with pictures first.

    Stages that ran earlier with other parameters come after all others; one that could measure nothing heads no page.
    """
    from facexkit.show.index import other_parameters

    def place(stage: Mapping) -> tuple[bool, int, bool]:
        return bool(other_parameters(stage, manifest)), -stage.get("headline", 0), not stage.get("pictures")

    measured = [stage for stage in manifest["stages"] if stage.get("findings") and stage.get("measured", 1)]
    heads = [stage for stage in measured if stage.get("headline", 0) is not None]
    return [stage["findings"][0] for stage in sorted(heads, key=place)[:most]]


def write_explorer(folder: Path, manifest: dict, environment: Mapping[str, str], say: Callable[[str], object]) -> None:
    """Write `explore.html` of a run that measured something to explore, and its index page, which leads there.

    Parameters
    ----------
    environment : that of the notebooks' kernels, with the run's cache; the page is written by a Python of its own.
    """
    from facexkit.show.index import write_index

    if not any(any(folder.glob(place)) for place in ("regions/*.zarr", "*/dissection.zarr", "audit/groups.parquet")):
        return
    command = [sys.executable, "-m", "facexkit.show.standalone", str(folder.resolve())]
    done = subprocess.run(command, env=dict(environment), capture_output=True, encoding="utf-8", errors="replace")
    if done.returncode:
        say(f"      explore.html was not written: {done.stderr.strip().rpartition(chr(10))[2]}")
    write_index(folder, manifest)


def versions() -> dict[str, str]:
    """Return the versions that a result may depend on."""
    found = {"python": platform.python_version(), "platform": f"{platform.system()} {platform.machine()}"}
    return found | {package: version(package) for package in _PACKAGES}


def _conclusion_file(folder: Path, stage: str) -> Path:
    return folder / f".{stage}.json"


def _write_json(path: Path, content: dict) -> None:
    write_whole(path, json.dumps(content, indent=2, ensure_ascii=False, allow_nan=False).encode(errors="backslashreplace"))
