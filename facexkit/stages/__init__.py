"""Run notebooks: papermill, checked parameters, and the run folder with its manifest and index page."""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path

from facexkit.errors import FacexkitError
from facexkit.faces.cache import writing
from facexkit.stages.run_folder import save_findings, take_conclusion, run_is_trusted, versions, write_manifest

__all__ = ["save_findings", "run_stages", "run_is_trusted"]


def run_stages(
    names: Sequence[str] = (),
    parameters: Mapping[str, object] | None = None,
    out: str | Path = "runs/run",
    *,
    trust: bool = False,
    command: str = "",
    notebooks: Path | None = None,
    say: Callable[[str], object] = print,
) -> dict:
    """Run stage notebooks without a screen and gather what they found.

    Parameters
    ----------
    names : stages, as "regions" or "03_regions"; none runs them all.
    parameters : the notebooks' flat parameters by name; checked before anything runs.
    out : the run's folder; stages that ran there earlier stay in its index.
    trust : whether code in a model's file may run.
    command : what the user typed, for the records.
    notebooks : folder of the notebooks, if not the kit's own.
    say : told in a line what goes on.

    Returns
    -------
    the manifest, as written to `out/manifest.json`.

    Raises
    ------
    FacexkitError for an unknown stage, an unknown or ill-typed parameter, or a notebook that failed: the message names
    the cell, the error and the half-run notebook.
    """
    from facexkit.show.index import read_manifest
    from facexkit.stages.notebooks import choose_stages, run_notebook
    from facexkit.stages.parameters import check

    stages = choose_stages(names, notebooks)
    given = dict(parameters or {})
    if "out" in given:
        raise FacexkitError("the folder of a run is named with --out, not as a parameter")
    wanted = check({**given, "out": str(out)})
    if wanted.data != "synthetic" and "model" not in given and any(stage.name != "faces" for stage in stages):
        raise FacexkitError(f"data {wanted.data!r} needs a model of its own: name it with -p model")
    folder = Path(out)
    with writing(folder):
        folder.mkdir(parents=True, exist_ok=True)
    earlier = read_manifest(folder)
    about = ("faces", "model") if earlier.get("parameters") == wanted.model_dump() else ()
    manifest = {
        **{key: earlier[key] for key in about if key in earlier},
        "title": folder.name,
        "created": time.strftime("%Y-%m-%d %H:%M"),
        "command": command,
        "parameters": wanted.model_dump(),
        "versions": versions(),
        "stages": earlier.get("stages", []),
    }
    chosen = {name: value for name, value in wanted.model_dump().items() if name in given} | {"out": str(folder)}
    with writing(folder), _environment(
        FACEXKIT_CACHE=os.environ.get("FACEXKIT_CACHE") or str(folder.resolve() / "cache"), FACEXKIT_TRUST=str(int(trust)), TQDM_DISABLE="1",
        MPLBACKEND="module://matplotlib_inline.backend_inline",  # not that of an editor, which a kernel does not have
        OMP_WAIT_POLICY=os.environ.get("OMP_WAIT_POLICY", "PASSIVE"),  # threads that spin starve a busy machine
    ):  # fmt: skip
        for place, stage in enumerate(stages, 1):
            say(f"[{place}/{len(stages)}] {stage.title} …")
            start = time.perf_counter()
            take_conclusion(folder, stage.name)
            run_notebook(stage, chosen, folder)
            seconds = round(time.perf_counter() - start, 1)
            found = take_conclusion(folder, stage.name)
            manifest.update({key: found[key] for key in ("faces", "model") if key in found})
            _add_stage(manifest, stage, seconds, wanted.model_dump(), found)
            manifest["headline"] = headlines(manifest)
            write_manifest(folder, manifest)
            say(f"      {seconds:.0f} s")
    return manifest


def headlines(manifest: Mapping, most: int = 3) -> list[str]:
    """Return the first finding of the stages that head a page, then of those that drew something, the last ones first.

    Stages that ran earlier with other parameters come after all others; one that could measure nothing heads no page.
    """
    from facexkit.show.index import other_parameters

    def place(stage: Mapping) -> tuple[bool, bool, bool]:
        return bool(other_parameters(stage, manifest)), not stage.get("headline"), not stage.get("pictures")

    measured = [stage for stage in reversed(manifest["stages"]) if stage.get("findings") and stage.get("measured", 1)]
    found = sorted(measured, key=place)
    return [stage["findings"][0] for stage in found[:most]]


def _add_stage(manifest: dict, stage: object, seconds: float, parameters: dict, found: dict) -> None:
    stem = stage.path.stem
    entry = {"name": stage.name, "title": stage.title, "notebook": f"{stem}.ipynb", "html": f"{stem}.html"}
    entry |= {"seconds": seconds, "parameters": parameters, "findings": [], "pictures": [], "files": [], **found}
    others = [other for other in manifest["stages"] if other["name"] != stage.name]
    manifest["stages"] = sorted([*others, entry], key=lambda e: e["notebook"])


@contextmanager
def _environment(**values: str) -> Iterator[None]:
    """Set environment variables, which the notebooks' kernels inherit, for the time of a run."""
    before = {name: os.environ.get(name) for name in values}
    os.environ.update(values)
    try:
        yield
    finally:
        for name, value in before.items():
            if value is None:
                os.environ.pop(name, None)
            else:
                os.environ[name] = value
