"""The page's server: Voilà on 127.0.0.1 behind the app's door, with nothing from another host."""

from __future__ import annotations

import os
import tempfile
import webbrowser
from collections.abc import Sequence
from functools import partial
from pathlib import Path

from tornado.web import RequestHandler
from traitlets.config import Config
from voila.app import Voila
from voila.static_file_handler import AllowListFileHandler
from voila.tornado.handler import TornadoVoilaHandler

from facexkit.app.door import Channels, Door, Files, Kernels, Page
from facexkit.errors import FacexkitError
from facexkit.faces.cache import write_whole
from facexkit.show.widgets.base import LARGEST
from facexkit.stages.notebooks import notebook_folder

TEMPLATE = """{% extends 'voila/templates/lab/index.html.j2' %}
{% block notebook_css %}<link rel="icon" href="data:,">
{{ super() | replace('https://cdn.jsdelivr.net/npm/', 'data:text/css,') }}{% endblock %}"""

SERVED = r".*\.(html|ipynb|png|svg|jpg|pdf|csv|parquet|json|yaml)"
"""What a browser may be given of the folder of all runs."""
OPENS = '<meta http-equiv="refresh" content="0;url={}">'
# Kernels have sockets in a folder of their user's where paths are short enough: others here can listen to TCP.
OPTIONS = {
    "Voila": {
        "ip": "127.0.0.1", "auto_token": True, "config_file_paths": [],
        "identity_provider_class": "jupyter_server.auth.identity.IdentityProvider",
        "kernel_websocket_connection_class": Channels,
    },
    "IdentityProvider": {"cookie_options": {"samesite": "Strict"}},
    "KernelManager": {"transport": "ipc" if os.name == "posix" and len(tempfile.gettempdir()) < 36 else "tcp"},
    "VoilaConfiguration": {
        "file_allowlist": [SERVED], "file_denylist": [], "multi_kernel_manager_class": Kernels,
        "preheat_kernel": True, "default_pool_size": 1,
        "template": "facexkit", "allow_template_override": "NO", "allow_theme_override": "NO",
    },
}  # fmt: skip


class Server(Voila):
    """Voilà with the door in front of each of its handlers."""

    def init_settings(self) -> dict:
        limits = {"allow_remote_access": False, "websocket_max_message_size": LARGEST + 1_000_000}
        return {**super().init_settings(), **limits}

    def init_handlers(self) -> list:
        self.app.listen = partial(self.app.listen, max_body_size=100_000)
        return [(pattern, behind_door(handler), *how) for pattern, handler, *how in super().init_handlers()]

    def launch_browser(self) -> None:
        page = Path(self.connection_dir, "open.html")  # on a command line others on this machine could read the token
        write_whole(page, OPENS.format(self.display_url).encode())
        webbrowser.open(page.as_uri())


def behind_door(handler: type[RequestHandler]) -> type[Door]:
    """Return a handler of Voilà's with the door in front of it."""
    own = {TornadoVoilaHandler: Page, AllowListFileHandler: Files}
    return own.get(handler) or type(handler.__name__, (Door, handler), {})


def serve(data: Sequence[Path], runs: Path, port: int, trust: bool, browser: bool) -> None:
    """Serve the app on 127.0.0.1, to who has the address that is printed, until it is stopped."""
    if missing := [folder for folder in data if not folder.is_dir()]:
        raise FacexkitError(f"{missing[0]} is no folder; name folders that the app may read with --data")
    if mixed := [folder for folder in data if os.pathsep in str(folder.resolve())]:
        raise FacexkitError(f"{mixed[0]} has {os.pathsep!r} in its path, which stands between folders; rename it")
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
        command = [str(page), f"--port={port}", *([] if browser else ["--no-browser"])]
        Server.launch_instance(command, config=Config(OPTIONS))
