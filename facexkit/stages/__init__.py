"""Run notebooks: papermill, checked parameters, and the run folder with its manifest and index page."""

from __future__ import annotations

import os
import shutil
import time
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import FIRST_COMPLETED, Future, ThreadPoolExecutor, wait
from pathlib import Path
from typing import TYPE_CHECKING

from facexkit.errors import FacexkitError, StageDoesNotApply, Stopped
from facexkit.faces.cache import writing
from facexkit.faces.cores import cores
from facexkit.parameters import PASSES, WITHOUT, Parameters, applies, check
from facexkit.stages.run_folder import headlines, save_findings, take_conclusion, versions, write_explorer, write_manifest

if TYPE_CHECKING:
    from facexkit.stages.notebooks import Kernels, Stage

__all__ = ["headlines", "run_stages", "save_findings"]


def run_stages(
    names: Sequence[str] = (),
    parameters: Mapping[str, object] | None = None,
    out: str | Path = "runs/run",
    *,
    trust: bool = False,
    resume: bool = False,
    jobs: int | None = None,
    command: str = "",
    notebooks: Path | None = None,
    say: Callable[[str], object] = print,
) -> dict:
    """Run stage notebooks without a screen and gather what they found.

    Parameters
    ----------
    names : stages, as "regions" or "03_regions"; none runs them all. One that does not apply to the parameters, as an audit
        without groups, is left out; the manifest's `not_run` says why.
    parameters : the notebooks' flat parameters by name; checked before anything runs.
    out : the run's folder; stages that ran there earlier stay in its index.
    trust : whether code in a model's file may run.
    resume : whether to keep the stages that are finished with these parameters, and to go on in the middle of the one
        that is not; else all begin afresh.
    jobs : stages that run side by side; None: two on the built-in faces and models where there are two cores, else one.
    command : what the user typed, for the records.
    notebooks : folder of the notebooks, if not the kit's own.
    say : told in a line what goes on.

    Returns
    -------
    the manifest, as written to `out/manifest.json`.

    Raises
    ------
    FacexkitError for an unknown stage, an unknown or ill-typed parameter, a folder that another run holds, or a
    notebook that failed: the message names the cell, the error and the half-run notebook. `Stopped` after Ctrl-C or SIGTERM.
    """
    from facexkit.stages.hold import held, stoppable
    from facexkit.stages.notebooks import choose_stages

    stages, folder = choose_stages(names, notebooks), Path(out)
    given = dict(parameters or {})
    if "out" in given:
        raise FacexkitError("the folder of a run is named with --out, not as a parameter")
    wanted = check({**given, "out": str(folder)})
    if wanted.data != "synthetic" and "model" not in given and any(stage.name != "faces" for stage in stages):
        raise FacexkitError(f"data {wanted.data!r} needs a model of its own: name it with -p model")
    builtin = wanted.data == "synthetic" and wanted.model.startswith("demo:")
    jobs = jobs or min(2 if builtin else 1, cores())
    with writing(folder), stoppable():
        folder.mkdir(parents=True, exist_ok=True)
        with held(folder, say):
            manifest = _begin(folder, stages, wanted, command, resume)
            for left_out in manifest["not_run"]:
                say("{title}: not run. {why}".format(**left_out))
            stages = [stage for stage in stages if applies(stage.name, wanted)]
            chosen, environment = wanted.model_dump(include={*given, "out"}), _environment(folder, trust, jobs)
            try:
                _run_all(stages, chosen, folder, manifest, say, jobs, environment)
                write_explorer(folder, manifest, environment, say)
            except KeyboardInterrupt:
                raise Stopped(f"stopped; the same command with --resume goes on from here, see {folder}") from None
    return manifest


def _begin(folder: Path, stages: Sequence[Stage], asked: Parameters, command: str, resume: bool) -> dict:
    """Return the manifest to go on with: it has of the chosen stages those alone that are kept, and why others do not apply."""
    from facexkit.show.index import other_parameters, read_manifest

    earlier, parameters = read_manifest(folder), asked.model_dump()
    without = [stage for stage in stages if not applies(stage.name, asked)]
    about = ("faces", "model") if earlier.get("parameters") == parameters else ()
    manifest = {
        **{key: earlier[key] for key in about if key in earlier},
        "title": folder.name,
        "created": time.strftime("%Y-%m-%d %H:%M"),
        "command": command,
        "parameters": parameters,
        "versions": versions(),
        "not_run": [_not_run(stage, WITHOUT[stage.name]) for stage in without],
    }
    done = lambda entry: (folder / entry["html"]).is_file() and not other_parameters(entry, manifest)  # noqa: E731
    again = {stage.name for stage in stages}
    manifest["stages"] = [e for e in earlier.get("stages", []) if e["name"] not in again or (resume and done(e))]
    if not resume:
        shutil.rmtree(folder / PASSES, ignore_errors=True)
    if without or len(manifest["stages"]) < len(earlier.get("stages", [])):
        write_manifest(folder, manifest)
    return manifest


def _run_all(
    stages: Sequence[Stage], chosen: Mapping[str, object], folder: Path, manifest: dict, say: Callable, jobs: int,
    environment: Mapping[str, str],
) -> None:  # fmt: skip
    """Run the stages that the manifest does not have, `jobs` side by side, each into it as it is finished."""
    from facexkit.stages.notebooks import Kernels

    finished = {entry["name"] for entry in manifest["stages"]}
    titles = {stage.name: f"[{place}/{len(stages)}] {stage.title}" for place, stage in enumerate(stages, 1)}
    for name in finished & titles.keys():
        say(f"{titles[name]}: finished earlier, kept")
    waiting, running = [stage for stage in stages if stage.name not in finished], {}
    try:
        with ThreadPoolExecutor(jobs) as pool, Kernels(len(waiting), environment) as kernels:
            while waiting or running:
                unfinished = {stage.name for stage in [*waiting, *running.values()]}
                ready = [stage for stage in waiting if not unfinished & set(stage.after)]
                for stage in ready[: jobs - len(running)]:
                    say(f"{titles[stage.name]} …")
                    running[pool.submit(_run_timed, stage, chosen, folder, kernels)] = stage
                    waiting.remove(stage)
                for future in wait(running, return_when=FIRST_COMPLETED).done:
                    stages_before = len(manifest["stages"])
                    say(_concluded(running.pop(future), future, folder, manifest))
                    if stages_before == 0 < len(manifest["stages"]):
                        say(f"      The page of this run, which grows with each stage: {(folder / 'index.html').resolve()}")
                    if not running:
                        shutil.rmtree(folder / PASSES, ignore_errors=True)
    finally:
        for stage in running.values():  # stopped, not failed
            (folder / f"{stage.path.stem}.failed.ipynb").unlink(missing_ok=True)


def _run_timed(stage: Stage, chosen: Mapping[str, object], folder: Path, kernels: Kernels) -> float:
    """Run a stage's notebook and return the seconds that it took."""
    from facexkit.stages.notebooks import run_notebook

    start, kernel = time.perf_counter(), kernels.take()
    try:
        run_notebook(stage, chosen, folder, kernel)
    finally:
        kernels.end(kernel)
    return round(time.perf_counter() - start, 1)


def _concluded(stage: Stage, ended: Future, folder: Path, manifest: dict) -> str:
    """Write a stage that has ended into the manifest and the page, and return a line that says its first finding."""
    try:
        seconds = ended.result()
    except StageDoesNotApply as why:
        manifest["not_run"].append(_not_run(stage, str(why)))
        write_manifest(folder, manifest)
        return f"      {stage.name}: not run. {why}"
    found, stem = take_conclusion(folder, stage.name), stage.path.stem
    manifest.update({key: found[key] for key in ("faces", "model") if key in found})
    entry = {"name": stage.name, "title": stage.title, "notebook": f"{stem}.ipynb", "html": f"{stem}.html"}
    entry |= {"seconds": seconds, "parameters": manifest["parameters"], "findings": [], "pictures": [], "files": []}
    manifest["stages"] = sorted([*manifest["stages"], entry | found], key=lambda e: e["notebook"])
    write_manifest(folder, manifest)
    return f"      {stage.name}, {seconds:.0f} s. {next(iter(found.get('findings', [])), '')}".rstrip()


def _not_run(stage: Stage, why: str) -> dict[str, str]:
    return {"name": stage.name, "title": stage.title, "why": why}


def _environment(folder: Path, trust: bool, jobs: int) -> dict[str, str]:
    """Return the environment of the notebooks' kernels."""
    own = os.environ
    return {
        **own,
        "FACEXKIT_CACHE": own.get("FACEXKIT_CACHE") or str(folder.resolve() / "cache"),
        "FACEXKIT_TRUST": str(int(trust)),
        "TQDM_DISABLE": "1",
        "MPLBACKEND": "module://matplotlib_inline.backend_inline",  # not that of an editor, which a kernel does not have
        "OMP_NUM_THREADS": own.get("OMP_NUM_THREADS") or str(max(1, cores() // jobs)),
        "OMP_WAIT_POLICY": own.get("OMP_WAIT_POLICY", "PASSIVE"),  # threads that spin starve a busy machine
    }
