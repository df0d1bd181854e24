"""The stage notebooks of a run, run from the page as the command line runs them."""

from __future__ import annotations

import json
import os
import re
import shlex
import subprocess
import sys
import time
from collections.abc import Sequence
from html import escape
from pathlib import Path
from urllib.parse import quote

import traitlets as t

from facexkit.app.form import DRAWN, LOOK
from facexkit.errors import FacexkitError
from facexkit.parameters import read_parameter_file
from facexkit.show.index import read_manifest
from facexkit.show.widgets.base import Widget, count, rows, script, text, whole
from facexkit.stages import run_stages
from facexkit.stages.notebooks import list_stages

OF_THEIR_OWN = ("fairface", "verification", "fineface", "repair", "trust")
"""Stages that want data or a model of their own, or take long: not chosen at first."""
SECONDS = {"regions": 97, "dissect": 100, "audit": 53, "hierarchy": 47, "record": 37, "repair": 56, "fineface": 66}
USUAL = 20
"""What stages take of the time of a run, measured on the drawn faces, and what the others take."""
DONE = r"^ +(\w+)(?:, \d+ s\.|: not run)"
"""How the log says that a stage is done, or does not apply."""


def _stages(runner: StageRunner, value: object) -> bool:
    return isinstance(value, list) and all(name in [stage for stage, _ in runner.stages] for name in value)


class StageRunner(Widget):
    """Runs the `chosen` stages with a folder's `params.yaml` when `start` counts up; `findings` says what came out.

    A run that stopped goes on where it did, and what is finished stays.

    Parameters
    ----------
    folder : the run's folder.
    trust : whether code in the model's own file may run.
    served : where the page's server shows the folder of all runs; "" where it does not.
    chosen : the stages that are ticked at first; None for those that any model and faces have.
    """

    _esm, _css = script("stages", DRAWN), LOOK
    stages, chosen, findings, link, written = rows(), rows(fits=_stages), rows(), text(), text()
    start = whole(fits=count)
    process: subprocess.Popen | None = None

    def __init__(
        self, folder: Path, trust: bool = False, served: str = "", chosen: Sequence[str] | None = None,
        title: str = "The whole report",
    ) -> None:  # fmt: skip
        self.folder, self.trust, self.served = folder, trust, served
        stages = [(stage.name, stage.title) for stage in list_stages()]
        chosen = [name for name, _ in stages if name not in OF_THEIR_OWN] if chosen is None else list(chosen)
        super().__init__(title=title, stages=stages, chosen=chosen)
        self.add_class("fx-wide")
        if (folder / "index.html").is_file():
            self._tell()

    @t.observe("start")
    def _begin(self, _change: object) -> None:
        if not self.busy:  # two runs would write into one folder
            self.findings, self.link, self.written = [], "", ""
            self.work("Starting …", self._run, alone=False)

    def _run(self) -> None:
        if not self.chosen:
            raise FacexkitError("no stage is chosen; tick one at least")
        asked = json.dumps({"stages": self.chosen, "folder": str(self.folder), "trust": self.trust})
        log = self.folder / "log.txt"
        with log.open("w") as out:
            how = {"stdout": out, "stderr": out, "env": {**os.environ, "PYTHONUNBUFFERED": "1"}, "text": True}
            self.process = subprocess.Popen([sys.executable, "-m", __name__], stdin=subprocess.PIPE, **how)
        self.process.stdin.write(asked)
        self.process.stdin.close()
        while self.process.poll() is None:
            if self.ended:
                self.process.terminate()
            said = log.read_text()
            done = re.findall(DONE, said, re.MULTILINE)
            whole = sum(SECONDS.get(name, USUAL) for name in self.chosen)
            self.busy = (re.findall(r"^\[\d+/\d+\].*", said, re.MULTILINE) or [self.busy])[-1]
            self.progress = sum(SECONDS.get(name, USUAL) for name in self.chosen if name in done) / whole
            time.sleep(0.3)
        told = log.read_text()
        if self.stop:
            raise FacexkitError(f"Stopped; the stages that were done are kept in {self.folder}.")
        if self.process.returncode:
            raise FacexkitError(told.rpartition("facexkit: ")[2].strip() or f"it ended with {self.process.returncode}")
        self._tell()

    def _tell(self) -> None:
        page = self.folder / "index.html"
        self.link = self.served + quote(f"{self.folder.name}/{page.name}") if self.served else ""
        self.written, self.findings = f"Written: {page.resolve()}", read_manifest(self.folder)["headline"]

    def still(self) -> str:
        return "".join(f"<p>{escape(finding)}</p>" for finding in self.findings)


def run_asked(stages: list[str], folder: str, trust: bool) -> None:
    """Run what a `StageRunner` asks of a Python of its own; nothing of it goes through a command line."""
    parameters = Path(folder, "params.yaml")
    command = shlex.join(["facexkit", "run", *stages, "-f", str(parameters), "--out", folder, "--resume"])
    try:
        run_stages(stages, read_parameter_file(parameters), folder, trust=trust, resume=True, command=command, say=print)
    except FacexkitError as error:
        sys.exit(f"facexkit: {error}")


if __name__ == "__main__":
    run_asked(**json.load(sys.stdin))
