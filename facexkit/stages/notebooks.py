"""The stage notebooks: finding them, running one without a screen, and leaving it readable anywhere."""

from __future__ import annotations

import logging
import os
import re
import sys
import threading
from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

import nbformat
from jupyter_client import AsyncKernelManager
from jupyter_client.kernelspec import KernelSpec
from jupyter_client.utils import run_sync

from facexkit.errors import FacexkitError, StageDoesNotApply, unknown
from facexkit.faces.cache import write_whole
from facexkit.registry import Registry

STAGES: Registry[str | Path] = Registry("stage", "facexkit.stages")
"""Notebooks of other packages by the stage's name; the kit's own lie in its folder."""
_NAME = re.compile(r"(\d\d)_(\w+)\.ipynb")
_WIDGET = "application/vnd.jupyter.widget-view+json"
_SILENT = logging.NullHandler()
_IMPORTS = "all(getattr(__import__('facexkit'), name) for name in __import__('facexkit').__all__);"
"""What a kernel runs first, when its ports are its own: the imports of the kit."""
_NO_SCRIPTS_FROM_ELSEWHERE = """{%- extends 'lab/index.html.j2' -%}
{%- block html_head_js -%}{%- endblock -%}
{%- block html_head_js_mathjax -%}{%- endblock -%}
{%- block html_head_js_mermaidjs -%}{%- endblock -%}
"""


@dataclass(frozen=True)
class Stage:
    """A notebook of the kit: `03_regions.ipynb` is stage "regions"."""

    number: str
    name: str
    path: Path

    @property
    def title(self) -> str:
        """The notebook's first heading."""
        for cell in nbformat.read(self.path, as_version=4).cells:
            heading = re.search(r"^# *(.+)", cell.source, re.MULTILINE) if cell.cell_type == "markdown" else None
            if heading:
                return heading[1].strip()
        return self.name

    @property
    def after(self) -> list[str]:
        """The stages whose files it takes up, where they run too: `facexkit.after` in the notebook's metadata."""
        return nbformat.read(self.path, as_version=4).metadata.get("facexkit", {}).get("after", [])


def notebook_folder() -> Path:
    """Return where the notebooks lie: beside the package in a checkout, else where pip put them."""
    checkout = Path(__file__).parents[2] / "notebooks"
    return checkout if checkout.is_dir() else Path(sys.prefix, "share", "facexkit", "notebooks")


def list_stages(folder: Path | None = None) -> list[Stage]:
    """Return the stages in the order in which they run."""
    own = folder or notebook_folder()
    found = {match[2]: path for path in sorted(own.glob("*")) if (match := _NAME.fullmatch(path.name))}
    if not found:
        raise FacexkitError(f"there are no stage notebooks in {own}; install facexkit again")
    if folder is None:
        found = {name: Path(path) for name, path in STAGES.items()} | found
    numbers = {name: match[1] if (match := _NAME.fullmatch(path.name)) else "" for name, path in found.items()}
    return [Stage(numbers[name], name, path) for name, path in sorted(found.items(), key=lambda item: item[1].name)]


def choose_stages(names: Sequence[str], folder: Path | None = None) -> list[Stage]:
    """Return the named stages, "regions" or "03_regions", in running order; all of them for no name."""
    stages = list_stages(folder)
    known = {name: stage for stage in stages for name in (stage.name, f"{stage.number}_{stage.name}")}
    for name in names:
        if name not in known:
            raise unknown("stage", name, [stage.name for stage in stages])
    chosen = {known[name].path for name in names}
    return [stage for stage in stages if stage.path in chosen or not names]


class ThisPython(AsyncKernelManager):
    """Starts the Python that runs this process, whatever kernels the machine has under whatever names."""

    @property
    def kernel_spec(self) -> KernelSpec:
        argv = [sys.executable, "-m", "ipykernel_launcher", "-f", "{connection_file}", "--log-level=CRITICAL"]
        argv.append(f"--IPKernelApp.exec_lines={_IMPORTS}")
        return KernelSpec(argv=argv, display_name="Python 3 (facexkit)", language="python")


class Kernels:
    """The Pythons of a run, which none outlives: the next stage's starts, and imports the kit, while others work.

    Parameters
    ----------
    count : how many there will be at most.
    environment : the variables of each.
    """

    def __init__(self, count: int, environment: Mapping[str, str]) -> None:
        self._left, self._environment = count, environment
        self._started, self._spare, self._one = [], [], threading.Lock()

    def __enter__(self) -> Kernels:
        return self

    def take(self) -> ThisPython:
        """Return a started kernel, and start the one after it."""
        with self._one:
            while self._left and len(self._spare) < 2:
                kernel = ThisPython(kernel_name="python3")
                run_sync(kernel.start_kernel)(env=dict(self._environment))
                self._started.append(kernel)
                self._spare.append(kernel)
                self._left -= 1
            return self._spare.pop(0)

    def end(self, kernel: ThisPython) -> None:
        """End a kernel now."""
        with self._one:
            if kernel in self._started:
                self._started.remove(kernel)
                run_sync(kernel.shutdown_kernel)(now=True)

    def __exit__(self, *_error: object) -> None:
        for kernel in [*self._started]:
            self.end(kernel)


def run_notebook(stage: Stage, parameters: Mapping[str, object], folder: Path, kernel: ThisPython | None = None) -> None:
    """Run a stage's notebook with papermill; leave it and its HTML in `folder`, or what was run of it on failure."""
    from papermill import PapermillExecutionError, execute_notebook

    logging.getLogger("papermill").addHandler(_SILENT)  # what it logs is told by the errors below
    stem = stage.path.stem
    running, failed = folder / f"{stem}.running.ipynb", folder / f"{stem}.failed.ipynb"
    failed.unlink(missing_ok=True)
    try:
        notebook = execute_notebook(
            nbformat.read(stage.path, as_version=4),
            str(running).replace("{", "{{").replace("}", "}}"),
            dict(parameters),
            kernel_name="python3",
            km=kernel,
            kernel_manager_class=ThisPython,
            shutdown_kernel="immediate",
            progress_bar=sys.stderr.isatty(),
        )
    except PapermillExecutionError as error:
        if error.ename == StageDoesNotApply.__name__:
            running.unlink()
            raise StageDoesNotApply(error.evalue) from None
        os.replace(running, failed)
        raise FacexkitError(_what_failed(stage, error, failed)) from error
    except OSError as error:
        with suppress(OSError):
            running.unlink(missing_ok=True)
        reason = error.strerror or error
        raise FacexkitError(f"stage {stage.name!r} could not write to {folder}: {reason}; free space there") from error
    except RuntimeError as error:
        os.replace(running, failed)
        raise FacexkitError(f"stage {stage.name!r}: the notebook's Python stopped ({error}); see {failed}") from error
    keep_static(notebook)
    write_whole(folder / f"{stem}.html", to_html(notebook, stage.title).encode())
    write_whole(folder / f"{stem}.ipynb", nbformat.writes(notebook).encode())
    running.unlink()


def _what_failed(stage: Stage, error: Exception, half_run: Path) -> str:
    where = f"stage {stage.name!r}, cell [{error.exec_count}]"
    if error.ename == FacexkitError.__name__:
        return f"{error.evalue}\n  {where}; half-run notebook: {half_run}"
    first = next((line for line in error.source.splitlines() if line.strip()), "")
    return f"{error.ename}: {error.evalue}\n  {where}: {first}\n  half-run notebook: {half_run}"


def keep_static(notebook: nbformat.NotebookNode) -> None:
    """Leave of every widget the picture or text that it gave beside itself: nobody will be there to draw it."""
    notebook.metadata.pop("widgets", None)
    for cell in notebook.cells:
        outputs = cell.get("outputs", [])
        for output in outputs:
            if _WIDGET in output.get("data", {}):
                del output["data"][_WIDGET]
                if set(output["data"]) <= {"text/plain"}:
                    output["data"] = {}
        cell.update({"outputs": [o for o in outputs if o.get("data") != {}]} if outputs else {})


def to_html(notebook: nbformat.NotebookNode, title: str) -> str:
    """Return the notebook as one page that asks no other host for anything."""
    from nbconvert import HTMLExporter

    exporter = HTMLExporter(raw_template=_NO_SCRIPTS_FROM_ELSEWHERE)
    return exporter.from_notebook_node(notebook, resources={"metadata": {"name": title}})[0]
