"""The system's Chromium, for pages and servers of this machine."""

import os
import shutil
import socket
import subprocess
import sys
import time
from pathlib import Path

import pytest
from playwright.sync_api import sync_playwright

CHROMIUM = shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")


@pytest.fixture(scope="module")
def browser():
    """A Chromium; where it is missing tests are skipped, but in CI they fail."""
    if CHROMIUM is None and not os.environ.get("CI"):
        pytest.skip("Chromium is not installed")
    with sync_playwright() as play:
        chromium = play.chromium.launch(executable_path=CHROMIUM, args=["--no-sandbox", "--disable-gpu"])
        yield chromium
        chromium.close()


@pytest.fixture(params=[1440, 390])
def alone(request, browser):
    """Open a file at either width; in the end nothing went wrong and nothing was asked of another host."""
    page = browser.new_page(viewport={"width": request.param, "height": 900})
    trouble, asked = [], []
    page.on("console", lambda message: trouble.append(message.text) if message.type in ("error", "warning") else None)
    page.on("pageerror", lambda error: trouble.append(str(error)))
    page.on("dialog", lambda dialog: (trouble.append("a dialog"), dialog.dismiss()))
    page.on("request", lambda request: asked.append(request.url))

    def opened(file: Path):
        page.goto(file.as_uri())
        return page

    yield opened
    assert trouble == []
    assert [url for url in asked if not url.startswith(("data:", "file:"))] == []
    page.close()


@pytest.fixture(scope="module")
def served(place):
    """Start a server on a free port and return its address; stop it in the end."""
    started = []

    def serve(command):
        with socket.socket() as free:
            free.bind(("127.0.0.1", 0))
            port = free.getsockname()[1]
        own = {
            "JUPYTER_PREFER_ENV_PATH": "1",
            "JUPYTER_CONFIG_DIR": str(place / "config"),
            "JUPYTER_DATA_DIR": str(place / "data"),
        }
        log = (place / f"{port}.log").open("w")
        started.append(
            subprocess.Popen(
                [sys.executable, "-m", *command, f"--port={port}"],
                env={**os.environ, **own},
                cwd=place,
                stdout=log,
                stderr=log,
            )
        )
        for _ in range(120):
            try:
                socket.create_connection(("127.0.0.1", port), 5).close()
                return f"http://127.0.0.1:{port}", place / f"{port}.log"
            except OSError:
                assert started[-1].poll() is None, (place / f"{port}.log").read_text()
                time.sleep(0.5)
        pytest.fail((place / f"{port}.log").read_text())

    yield serve
    for server in started:
        server.terminate()
        server.wait(20)


@pytest.fixture(autouse=True)
def picture(request):
    """Keep what the browser showed when a test failed, in runs/test-screens."""
    shown = [request.getfixturevalue(name) for name in {"lab", "page"} & set(request.fixturenames)]
    failed = request.session.testsfailed
    yield
    if request.session.testsfailed > failed:
        folder = Path("runs", "test-screens")
        folder.mkdir(parents=True, exist_ok=True)
        for page in shown:
            page.screenshot(path=folder / f"{request.node.name}.png")
