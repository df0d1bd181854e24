"""What stands between a browser and the app: who may ask, what a kernel is told, how many pages there are."""

from __future__ import annotations

import asyncio
import json
import os
import re
import time
from urllib.parse import unquote, urlsplit

from jupyter_server.base.handlers import JupyterHandler
from jupyter_server.services.kernels.connection.base import deserialize_msg_from_ws_v1
from jupyter_server.services.kernels.connection.channels import ZMQChannelsWebsocketConnection
from jupyter_server.services.kernels.kernelmanager import AsyncMappingKernelManager
from tornado.ioloop import PeriodicCallback
from tornado.web import HTTPError
from voila.static_file_handler import AllowListFileHandler
from voila.tornado.handler import TornadoVoilaHandler

MOST, AWAY = 3, 20
"""Pages that may be open at a time, and after how many seconds a kernel ends whose page has gone."""
FULL = f"{MOST} pages of the app are open, and each takes much memory: close one, and load this in {AWAY} seconds."
HIDDEN = re.compile(r"(^|/)\.|[\\\x00-\x1f]")
"""What no path has that is asked for: a hidden part, `..`, and what another system takes for a slash."""
PASSED = ("comm_msg", "comm_close", "comm_info_request", "kernel_info_request")
"""The messages that a page may send to its kernel, beside the opening of the widgets' own control channel."""


class Door(JupyterHandler):
    """In front of every handler: a request needs the token, a name of this machine, and no foreign page behind it."""

    async def prepare(self) -> None:
        origin = self.request.headers.get("Origin")
        if origin is not None and urlsplit(origin).netloc != self.request.host:
            raise HTTPError(403)
        if HIDDEN.search(unquote(self.request.path)):
            raise HTTPError(404)
        await JupyterHandler.prepare(self, _redirect_to_login=False)
        if self.current_user is None:
            raise HTTPError(403)

    def write_error(self, status_code: int, **kwargs: object) -> None:
        error = kwargs.get("exc_info", (None, None))[1]
        self.set_header("Content-Type", "text/plain; charset=utf-8")
        told = "Open the address that was printed when the app was started." if status_code == 403 else self._reason
        self.finish(f"{status_code}: {getattr(error, 'log_message', None) or told}\n")


class Page(Door, TornadoVoilaHandler):
    """The page itself, so many times and no more."""

    async def get(self, path: str | None = None) -> None:
        async with self.kernel_manager.one_at_a_time:
            if not path and await self.kernel_manager.pages() >= MOST:
                raise HTTPError(503, FULL)
            await super().get(path)


class Files(Door, AllowListFileHandler):
    """Files of the runs, of the kinds that are served, and not what a link leads to elsewhere."""

    def validate_absolute_path(self, root: str, absolute_path: str) -> str | None:
        real = os.path.realpath(absolute_path)
        if not real.startswith(os.path.realpath(root) + os.sep):
            raise HTTPError(403)
        return super().validate_absolute_path(root, absolute_path)


class Kernels(AsyncMappingKernelManager):
    """Counts the kernels of pages, and ends those whose page has gone; one kernel waits for the next page."""

    def __init__(self, **given: object) -> None:
        super().__init__(**given)
        self.one_at_a_time, self.seen = asyncio.Lock(), {}
        PeriodicCallback(self.end_left, 2000).start()

    @property
    def waiting(self) -> list[asyncio.Task]:
        """The kernels that were started for pages to come."""
        return [task for pool in self._pools.values() for task in pool]

    async def pages(self) -> int:
        """Return how many kernels belong to pages."""
        if self.waiting:
            await asyncio.wait(self.waiting)
        return len(self) - len(self.waiting)

    async def end_left(self) -> None:
        """End the kernels that have had no page for too long."""
        done = [task for task in self.waiting if task.done() and not task.exception()]
        ready, now = {task.result()["kernel_id"] for task in done}, time.monotonic()
        for kernel_id in (one for one in self.list_kernel_ids() if one in self):
            kernel = self.kernel_model(kernel_id)
            if kernel_id in ready or kernel["connections"] or kernel["execution_state"] != "idle":
                self.seen[kernel_id] = now
            elif now - self.seen.setdefault(kernel_id, now) > AWAY:
                await self.shutdown_kernel(kernel_id)


class Channels(ZMQChannelsWebsocketConnection):
    """Hands a kernel the messages that widgets live by; code, new widgets and what cannot be read are left out."""

    def handle_incoming_message(self, incoming_msg: bytes) -> None:
        try:
            passed = self.is_passed(incoming_msg)
        except (ValueError, LookupError, TypeError, RecursionError):
            passed = False
        if passed:
            super().handle_incoming_message(incoming_msg)
        else:
            self.log.warning("A message from a page was refused.")

    def is_passed(self, message: bytes) -> bool:
        """Whether a message may go to the kernel."""
        if self.subprotocol != "v1.kernel.websocket.jupyter.org" or int.from_bytes(message[:8], "little") > 100:
            return False
        channel, parts = deserialize_msg_from_ws_v1(message)
        kind, content = json.loads(parts[0])["msg_type"], json.loads(parts[3])
        control = kind == "comm_open" and content["target_name"] == "jupyter.widget.control"
        return channel == "shell" and (kind in PASSED or control)
