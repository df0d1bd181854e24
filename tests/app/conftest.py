"""The real server as a person starts it, and a page of it that is driven by hand, message by message."""

import http.client
import json
import os
import re
import socket
import subprocess
import sys
import time
import uuid
from dataclasses import dataclass, field
from pathlib import Path

import pytest
import websocket
import yaml
from jupyter_server.services.kernels.connection.base import deserialize_msg_from_ws_v1, serialize_msg_to_ws_v1
from PIL import Image

from facexkit.parameters import Parameters

V1 = "v1.kernel.websocket.jupyter.org"


@dataclass
class Served:
    """A running app: `place` holds its `data` and `runs`, and beside them what nobody should see."""

    place: Path
    port: int
    token: str
    cookie: str = ""

    def ask(self, path, method="GET", token=None, **headers):
        """Return status, headers and body of a request whose path goes out as it is written."""
        token = self.token if token is None else token
        connection = http.client.HTTPConnection("127.0.0.1", self.port, timeout=120)
        address = f"{path}{'&' if '?' in path else '?'}token={token}" if token else path
        sent = {"Host": f"127.0.0.1:{self.port}"} | {name.replace("_", "-"): value for name, value in headers.items()}
        connection.putrequest(method, address, skip_host=True)
        for name, value in sent.items():
            connection.putheader(name, value)
        connection.endheaders()
        reply = connection.getresponse()
        body = reply.read().decode("utf-8", "replace")
        connection.close()
        return reply.status, reply.headers, body

    def connect(self, kernel, token=None, protocols=(V1,), **headers):
        """Open a page's websocket to its kernel."""
        address = f"ws://127.0.0.1:{self.port}/api/kernels/{kernel}/channels?session_id={uuid.uuid4().hex}"
        address += f"&token={self.token if token is None else token}"
        return websocket.create_connection(address, timeout=120, subprotocols=list(protocols), **headers)


@dataclass
class Driven:
    """A page's websocket, its widgets found by title."""

    socket: websocket.WebSocket
    models: dict[str, str] = field(default_factory=dict)

    def send(self, kind, content, channel="shell"):
        """Send a message to the kernel and return its number."""
        header = {"msg_id": uuid.uuid4().hex, "msg_type": kind, "session": "x", "username": "", "version": "5.3"}
        header["date"] = "2026-01-01T00:00:00Z"
        metadata = {"version": "1.0.0" if content.get("target_name", "").endswith("control") else "2.1.0"}
        parts = [json.dumps(part).encode() for part in (header, {}, metadata, content)]
        self.socket.send_binary(serialize_msg_to_ws_v1(parts, channel))
        return header["msg_id"]

    def hear(self, wanted):
        """Return the first message's content for which `wanted(kind, parent's number, content)` holds."""
        while True:
            heard = self.socket.recv()
            _, parts = deserialize_msg_from_ws_v1(heard)
            kind, parent, content = (json.loads(bytes(parts[k])) for k in (0, 1, 3))
            if wanted(kind["msg_type"], parent.get("msg_id"), content):
                return content

    def look(self):
        """Learn which widgets there are, as a page does that is opened again."""
        comm = uuid.uuid4().hex
        target = {"comm_id": comm, "target_name": "jupyter.widget.control", "data": {}}
        self.send("comm_open", target)
        self.send("comm_msg", {"comm_id": comm, "data": {"method": "request_states"}})
        told = self.hear(lambda kind, _, content: kind == "comm_msg" and content["comm_id"] == comm)
        self.models = {
            one["state"].get("title") or one["model_name"]: key for key, one in told["data"]["states"].items()
        }
        return self.models

    def model(self, title):
        """Return the number of the widget whose title begins so."""
        return next((key for name, key in self.models.items() if name.startswith(title)), None)

    def set(self, title, /, **state):
        """Set traits of a widget, as its script would."""
        data = {"method": "update", "state": state, "buffer_paths": []}
        return self.send("comm_msg", {"comm_id": self.model(title), "data": data})

    def state(self, title):
        """Return all traits of a widget, once it has dealt with what was sent before."""
        asked = self.send("comm_msg", {"comm_id": self.model(title), "data": {"method": "request_state"}})
        whole = lambda told: "_model_module_version" in told["data"].get("state", ())  # noqa: E731
        told = self.hear(lambda kind, parent, content: kind == "comm_msg" and parent == asked and whole(content))
        return told["data"]["state"]

    def settled(self, title):
        """Return all traits of a widget when it is no more at work."""
        while (state := self.state(title))["busy"]:
            time.sleep(0.2)
        return state

    def submit(self, title, /, **values):
        """Fill in a form and send it; return the form's traits in the end."""
        state = self.state(title)
        self.set(title, values={**state["values"], **values}, submitted=state["submitted"] + 1)
        return self.settled(title)


@pytest.fixture(scope="session")
def submit():
    """Fill in a step's form, send it off, and return what it says is wrong."""

    def submit(app, step, **values):
        form = getattr(app, step)
        form.values = {**form.values, **values}
        form.submitted += 1
        form.wait()
        return form.error

    return submit


@pytest.fixture(scope="module")
def server(tmp_path_factory, demo_models):
    """The app on a free port, with a folder of data in which bad things lie, and runs of which one points outside."""
    place = tmp_path_factory.mktemp("attacked")
    data, runs = place / "data", place / "runs"
    (data / "faces").mkdir(parents=True)
    for row in range(8):
        Image.new("RGB", (32, 32), (30 * row, 90, 90)).save(data / "faces" / f"{row}.png")
    (data / "labels.csv").write_text("img,kind\n" + "".join(f"{row}.png,{row % 2}\n" for row in range(8)))
    mark = f"open({str(place / 'ran')!r}, 'w').close()"
    (data / "evil.py").write_text(f"{mark}\nfrom torch import nn\nNet = nn.Identity\n")
    (data / "evil.yaml").write_text(yaml.safe_dump({"model": f"{data / 'evil.py'}:Net", "limit": 60}))
    (place / "secret.csv").write_text("secret\n")
    (data / "link.csv").symlink_to(place / "secret.csv")
    (data / "linked").mkdir()
    (data / "linked" / "away").symlink_to(place)
    away = Parameters(data="csv", data_root=str(place), limit=60).model_dump(exclude={"out"})
    good = Parameters(limit=60).model_dump(exclude={"out"})
    for name, choices in (("good", good), ("away", away)):
        (runs / name).mkdir(parents=True)
        (runs / name / "params.yaml").write_text(yaml.safe_dump(choices))
    (place / "outside").mkdir()
    (place / "outside" / "params.yaml").write_text(yaml.safe_dump(good))
    (runs / "linked").symlink_to(place / "outside")
    (runs / "link.json").symlink_to(place / "secret.csv")
    for hidden in (runs / ".hidden.json", runs / "good" / ".hidden.yaml", runs / "good" / "log.txt"):
        hidden.write_text("secret\n")
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    own = {"JUPYTER_CONFIG_DIR": str(place / "config"), "JUPYTER_DATA_DIR": str(place / "jupyter")}
    command = ["--no-browser", f"--port={port}", f"--data={data}", f"--runs={runs}"]
    with (place / "log").open("w") as log:
        app = subprocess.Popen(
            [sys.executable, "-m", "facexkit.cli", "app", *command], env={**os.environ, **own}, stdout=log, stderr=log
        )
    while not (token := re.search(r"token=(\w+)", (place / "log").read_text())):
        assert app.poll() is None, (place / "log").read_text()
        time.sleep(0.2)
    yield Served(place, port, token[1])
    app.terminate()
    app.wait(30)


@pytest.fixture(scope="module")
def kernel(server):
    """The number of the kernel of a page that is open."""
    status, headers, page = server.ask("/")
    assert status == 200, page
    server.cookie = headers["Set-Cookie"].partition(";")[0]
    return re.search(r'"kernelId": *"([\w-]+)"', page)[1]


@pytest.fixture(scope="module")
def page(server, kernel):
    """The open page, driven to its end: photographs, labels, model, what to explain, result, repair, report."""
    driven = Driven(server.connect(kernel))
    driven.look()
    assert driven.submit("1 ·", data="synthetic")["error"] == ""
    assert driven.submit("2 ·", limit="60")["error"] == ""
    assert driven.submit("3 ·", model="demo:biased")["error"] == ""
    assert driven.submit("4 ·", name="mine")["error"] == ""
    driven.look()
    for title in ("Which regions", "Units", "What lies", "One face"):
        driven.settled(title)
    yield driven
    driven.socket.close()
