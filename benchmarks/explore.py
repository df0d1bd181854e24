"""How long a person waits: `fx.explore` on a finished run, in a real browser, served by Voilà."""

from __future__ import annotations

import os
import shutil
import socket
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import nbformat
from playwright.sync_api import Page, sync_playwright

SECONDS = 180_000
READY = "() => ['.view svg', '.card', '.patches img'].every((part) => document.querySelector(`.fx ${part}`))"


def waits(run: Path, clicks: int = 10) -> str:
    """Return a line a wait: from opening the page to the first complete view, and from a click to its picture."""
    with tempfile.TemporaryDirectory() as folder, socket.socket() as free, sync_playwright() as play:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
        free.close()
        stands = Path(folder, "stands")  # written when Python and its libraries have started
        sources = [
            f"import facexkit.show.explore, pathlib\npathlib.Path({str(stands)!r}).touch()",
            f"import facexkit as fx\nfx.explore(run={str(run.resolve())!r})",
        ]
        notebook = nbformat.v4.new_notebook(cells=[nbformat.v4.new_code_cell(source) for source in sources])
        nbformat.write(notebook, Path(folder, "explore.ipynb"))
        command = [
            sys.executable,
            "-m",
            "voila",
            str(Path(folder, "explore.ipynb")),
            f"--port={port}",
            "--Voila.ip=127.0.0.1",
            "--no-browser",
        ]
        quiet = {"stdout": subprocess.DEVNULL, "stderr": subprocess.DEVNULL}
        server = subprocess.Popen(command, env={**os.environ, "JUPYTER_PREFER_ENV_PATH": "1"}, **quiet)
        try:
            return _in_a_browser(play, port, stands, clicks)
        finally:
            server.terminate()
            server.wait()


def _in_a_browser(play: object, port: int, stands: Path, clicks: int) -> str:
    while socket.socket().connect_ex(("127.0.0.1", port)):
        time.sleep(0.2)
    chromium = shutil.which("chromium") or shutil.which("google-chrome")
    browser = play.chromium.launch(executable_path=chromium, args=["--no-sandbox"])
    page = browser.new_page(viewport={"width": 1440, "height": 900})
    start = time.time()
    page.goto(f"http://127.0.0.1:{port}", timeout=SECONDS)
    page.wait_for_function(READY, timeout=SECONDS)
    first, python = time.time() - start, stands.stat().st_mtime - start
    page.wait_for_function("() => !document.querySelector('.work:not(.idle)')", timeout=SECONDS)
    regions = [_click(page, ".fx .region", k, ".behind h2") for k in range(clicks)]
    units = [_click(page, ".fx:has(.bars, .detail) .card", k, ".detail h3") for k in range(clicks)]
    browser.close()
    middle = [1000 * statistics.median(times) for times in (regions, units)]
    return (
        f"explore: {first:.1f} s from opening the page to the first complete view, {python:.1f} s of them before Python "
        f"and its libraries stood;\n"
        f"from a click to its picture {middle[0]:.0f} ms for a region, {middle[1]:.0f} ms for a unit (medians of {clicks})"
    )


def _click(page: Page, what: str, place: int, head: str) -> float:
    """Return the seconds from a click, dispatched in the page, to the next change of the heading beside it."""
    measured = """([what, place, head]) => new Promise((done) => {
        const before = document.querySelector(head)?.textContent, start = performance.now();
        const look = () => document.querySelector(head)?.textContent !== before
            ? requestAnimationFrame(() => done((performance.now() - start) / 1000)) : requestAnimationFrame(look);
        document.querySelectorAll(what)[place].dispatchEvent(new MouseEvent("click", { bubbles: true }));
        look();
    })"""
    return page.evaluate(measured, [what, place, head])
