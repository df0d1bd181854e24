"""The page's server: Voilà on 127.0.0.1, with nothing from another host."""

from __future__ import annotations

import os
import tempfile
from collections.abc import Sequence
from pathlib import Path

from facexkit.errors import FacexkitError
from facexkit.faces.cache import write_whole
from facexkit.stages.notebooks import notebook_folder

TEMPLATE = """{% extends 'voila/templates/lab/index.html.j2' %}
{% block notebook_css %}<link rel="icon" href="data:,">
{{ super() | replace('https://cdn.jsdelivr.net/npm/', 'data:text/css,') }}{% endblock %}"""

SERVED = r".*\.(html|ipynb|png|svg|jpg|pdf|csv|parquet|json|yaml)"
"""What a browser may be given of the folder of all runs."""


def serve(data: Sequence[Path], runs: Path, port: int, trust: bool, browser: bool) -> None:
    """Serve the app by Voilà on 127.0.0.1 until it is stopped."""
    from voila.app import Voila

    if missing := [folder for folder in data if not folder.is_dir()]:
        raise FacexkitError(f"{missing[0]} is no folder; name folders that the app may read with --data")
    page = runs.resolve() / "app.ipynb"  # Voilà serves files from where its notebook lies
    write_whole(page, (notebook_folder() / page.name).read_bytes())
    with tempfile.TemporaryDirectory() as place:
        for name, content in (("index.html.j2", TEMPLATE), ("conf.json", '{"base_template": "lab"}')):
            write_whole(Path(place, "voila", "templates", "facexkit", name), content.encode())
        readable = os.pathsep.join(str(folder.resolve()) for folder in data)
        told = {"DATA": readable, "RUNS": str(runs.resolve()), "TRUST": str(int(trust)), "SERVED": "voila/files/"}
        os.environ.setdefault("FACEXKIT_CACHE", str(runs.resolve() / "cache"))
        os.environ.update({f"FACEXKIT_APP_{name}": value for name, value in told.items()})
        os.environ.update({"JUPYTER_PREFER_ENV_PATH": "1", "JUPYTER_PATH": place})
        options = ["--Voila.ip=127.0.0.1", f"--port={port}", "--template=facexkit"]
        options += [f"--VoilaConfiguration.file_allowlist={SERVED}", "--VoilaConfiguration.file_denylist=[]"]
        options += ["--preheat_kernel=True", "--pool_size=1", *([] if browser else ["--no-browser"])]
        Voila.launch_instance([str(page), *options])
