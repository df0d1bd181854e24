"""The page's server: Voilà on 127.0.0.1, with nothing from another host."""

from __future__ import annotations

import os
import subprocess
import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path

from facexkit.errors import FacexkitError
from facexkit.faces.cache import write_whole
from facexkit.stages.notebooks import notebook_folder

TEMPLATE = """{% extends 'voila/templates/lab/index.html.j2' %}
{% block notebook_css %}{{ super() | replace('https://cdn.jsdelivr.net/npm/', 'data:text/css,') }}{% endblock %}"""

SERVED = r".*\.(html|ipynb|png|svg|jpg|pdf|csv|parquet|json|yaml)"
"""What a browser may be given of the folder of all runs."""


def serve(data: Sequence[Path], runs: Path, port: int, trust: bool, browser: bool) -> int:
    """Serve the app by Voilà on 127.0.0.1 until it is stopped, and return the exit status."""
    if missing := [folder for folder in data if not folder.is_dir()]:
        raise FacexkitError(f"{missing[0]} is no folder; name folders that the app may read with --data")
    runs.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory() as place:
        for name, content in (("index.html.j2", TEMPLATE), ("conf.json", '{"base_template": "lab"}')):
            write_whole(Path(place, "voila", "templates", "facexkit", name), content.encode())
        root = Path(place, "root")  # Voilà serves files from where its notebook lies
        write_whole(root / "app.ipynb", (notebook_folder() / "app.ipynb").read_bytes())
        (root / "runs").symlink_to(runs.resolve(), target_is_directory=True)
        readable = os.pathsep.join(str(folder.resolve()) for folder in data)
        told = {"DATA": readable, "RUNS": str(runs.resolve()), "TRUST": str(int(trust)), "SERVED": "voila/files/runs/"}
        own = {"JUPYTER_PREFER_ENV_PATH": "1", "FACEXKIT_CACHE": str(runs.resolve() / "cache"), **os.environ}
        own |= {f"FACEXKIT_APP_{name}": value for name, value in told.items()} | {"JUPYTER_PATH": place}
        options = ["--Voila.ip=127.0.0.1", f"--port={port}", "--template=facexkit"]
        options += [f"--VoilaConfiguration.file_allowlist={SERVED}", "--VoilaConfiguration.file_denylist=[]"]
        options += ["--preheat_kernel=True", "--pool_size=1", *([] if browser else ["--no-browser"])]
        command = [sys.executable, "-m", "voila", str(root / "app.ipynb"), *options]
        return subprocess.run(command, env=own).returncode
