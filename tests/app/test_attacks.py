"""Attacks on the real server, over HTTP and websocket: each is refused, nothing comes of it, and the page lives on."""

import json
import re
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
import websocket
from jupyter_server.services.kernels.connection.base import serialize_msg_to_ws_v1

from facexkit.app.door import AWAY, MOST

FILES = ("/voila/files/good/params.yaml", "/voila/static/main.js", "/voila/templates/lab/static/voila.js", "/nothing")
ENTRIES = ("/", "/?token=wrong", "/?token=", "/login", "/app.ipynb", "/voila/api/themes/x/index.css", *FILES)
EVIL = "open({!r}, 'w').close()"


@pytest.fixture(autouse=True)
def nothing_ran(server):
    """Whatever is tried: no code ran, and nothing was written beside the runs."""
    here = lambda: {*server.place.glob("*"), *server.place.glob("data/**/*")}  # noqa: E731
    before = here()
    yield
    assert {path.name for path in here() - before} <= {"config", "jupyter"}


@pytest.mark.parametrize("path", ENTRIES)
def test_without_the_token_there_is_nothing(server, path):
    assert server.ask(path, token="")[0] == 403


@pytest.mark.parametrize("token", ["0" * 48, "wrong", "%00", "../"])
def test_a_wrong_token_or_a_cookie_that_was_made_up_is_none(server, kernel, token):
    assert server.ask("/", token=token)[0] == 403
    name = server.cookie.partition("=")[0]
    assert server.ask("/", token="", Cookie=f"{name}={token}")[0] == 403
    assert server.ask(f"/api/kernels/{kernel}", token=token)[0] == 403
    assert server.ask(f"/voila/api/shutdown/{kernel}", "POST", token=token, Content_Length="0")[0] == 403
    with pytest.raises(websocket.WebSocketBadStatusException, match="403"):
        server.connect(kernel, token=token)


HOSTS = ["evil.example", "localhost.evil.example", "127.0.0.1.evil.example:80", "192.168.1.7", "0.0.0.0", ""]


@pytest.mark.parametrize("host", HOSTS)
def test_a_foreign_host_is_refused_even_with_its_own_origin_and_the_token(server, kernel, host):
    for origin in ({}, {"Origin": f"http://{host}"}):
        assert server.ask("/", Host=host, **origin)[0] in (400, 403)
        assert server.ask(FILES[0], Host=host, **origin)[0] in (400, 403)
    with pytest.raises(websocket.WebSocketBadStatusException, match="40[03]"):
        server.connect(kernel, host=host or "none", origin=f"http://{host}")


@pytest.mark.parametrize("origin", ["http://evil.example", "null", "http://127.0.0.1:1", "file://"])
def test_a_foreign_page_is_refused(server, kernel, origin):
    assert server.ask("/", Origin=origin)[0] == 403
    with pytest.raises(websocket.WebSocketBadStatusException, match="403"):
        server.connect(kernel, origin=origin)
    with pytest.raises(websocket.WebSocketBadStatusException, match="403"):
        server.connect(kernel, token="", cookie=server.cookie, origin=origin)
    shutdown = server.ask(f"/voila/api/shutdown/{kernel}", "POST", token="", Cookie=server.cookie, Content_Length="0")
    assert shutdown[0] == 403, "a form of another page, which has no _xsrf"


TRICKS = """/voila/files/.hidden.json /voila/files/good/.hidden.yaml /voila/files/good/log.txt /voila/files/link.json
/voila/files/linked/params.yaml /voila/files/../secret.csv /voila/files/%2e%2e/secret.csv /voila/files/..%2fsecret.csv
/voila/files/good/../../secret.csv /voila/files//etc/passwd /voila/files/%2fetc%2fhosts.json /voila/files/..\\secret.csv
/voila/files/secret.csv%00.json /voila/files/~/x.json /voila/static/../../../../../../../../etc/passwd
/voila/static/%2e%2e/%2e%2e/%2e%2e/app.py /voila/static//etc/passwd
/voila/templates/lab/static/../../../../../etc/passwd
/voila/templates/lab/static/%2fetc%2fpasswd /voila/labextensions/../../../../etc/passwd
/voila/api/themes/../../../../etc/passwd /../data/evil.py /data/evil.py /voila/files/../data/evil.yaml""".split()


@pytest.mark.parametrize("path", TRICKS)
def test_files_that_are_hidden_or_elsewhere_are_not_served(server, path):
    status, headers, body = server.ask(path)
    assert 400 <= status < 500 or (status == 302 and headers["Location"].startswith("/voila/files/")), (status, body)
    assert not re.search("^secret|root:|import|limit", body), body


def test_the_page_is_its_own_whatever_template_is_asked_for(server, page):
    assert "Traceback" not in server.ask("/voila/files/good/params.yaml?template=../x")[2]
    assert server.ask("/voila/files/good/params.yaml")[0] == 200


RUN = "execute_request"
CODE = {"silent": True, "store_history": False, "user_expressions": {}, "allow_stdin": False, "stop_on_error": True}


@pytest.mark.parametrize(
    ("kind", "channel"),
    [(RUN, "shell"), (RUN, "control"), (RUN, "stdin"), (RUN, "iopub"), (RUN, "nothing"), ("inspect_request", "shell"),
     ("complete_request", "shell"), ("history_request", "shell"), ("input_reply", "stdin"), ("debug_request", "control"),
     ("shutdown_request", "control"), ("interrupt_request", "control"), ("create_subshell_request", "control")],
)  # fmt: skip
def test_a_page_cannot_run_code_in_its_kernel(server, page, kind, channel):
    code = EVIL.format(str(server.place / "ran"))
    command = {"command": "evaluate", "arguments": {"expression": code}, "type": "request", "seq": 1}
    page.send(kind, {"code": code, "cursor_pos": 1, "detail_level": 0, "value": code, **CODE, **command}, channel)
    assert page.state("1 ·")["done"].startswith("✓ ")


@pytest.mark.parametrize(
    ("target", "module", "model", "view"),
    [("jupyter.widget", "@jupyter-widgets/controls", "FileUploadModel", "FileUploadView"),
     ("jupyter.widget", "@jupyter-widgets/output", "OutputModel", "OutputView"),
     ("jupyter.widget", "anywidget", "AnyModel", "AnyView"), ("matplotlib", "", "", "")],
)  # fmt: skip
def test_a_page_cannot_make_widgets(page, target, module, model, view):
    before = set(page.look().values())
    version = {"_model_module_version": "2.0.0", "_view_module_version": "2.0.0"}
    state = {"_model_module": module, "_model_name": model, "_view_module": module, "_view_name": view, **version}
    page.send("comm_open", {"comm_id": "made-by-the-page", "target_name": target, "data": {"state": state}})
    assert set(page.look().values()) == before


DEEP = serialize_msg_to_ws_v1([b"[" * 100_000] * 4, "shell")


@pytest.mark.parametrize(
    "message",
    [b"", DEEP, b"\xff" * 7, b"\xff" * 64, (2**60).to_bytes(8, "little") + bytes(64), bytes(8), b"{}", "[]", "{}",
     json.dumps({"channel": "shell", "header": {"msg_type": RUN}, "content": {"code": "1"}})],
)  # fmt: skip
def test_messages_that_cannot_be_read_are_left_out(page, message):
    kinds = websocket.ABNF.OPCODE_BINARY, websocket.ABNF.OPCODE_TEXT
    page.socket.send(message, kinds[isinstance(message, str)])
    assert page.state("1 ·")["done"].startswith("✓ ")


def test_jupyterlab_keeps_its_own_token_and_checks():
    made = Path(__file__).parents[2].joinpath("Makefile").read_text()
    assert "jupyterlab notebooks" in made and not re.search("--.*(token|password|allow|check|ip)", made)


def test_the_older_protocol_runs_no_code_either(server, kernel, page):
    older = server.connect(kernel, protocols=())
    header = {"msg_id": "1", "msg_type": RUN, "session": "x", "username": "", "version": "5.3", "date": ""}
    message = {"channel": "shell", "header": header, "parent_header": {}, "metadata": {}, "buffers": []}
    older.send(json.dumps({**message, "content": {"code": EVIL.format(str(server.place / "ran")), **CODE}}))
    assert page.state("1 ·")["done"].startswith("✓ ")
    older.close()


def test_a_huge_message_is_cut_off_and_a_huge_request_refused(server, kernel, page):
    other = server.connect(kernel)
    with pytest.raises((websocket.WebSocketException, OSError)):
        other.send_binary(bytes(7_000_000))
        while other.recv():
            pass
    headers = {"Content-Length": "50000000"}
    assert server.ask(f"/voila/api/shutdown/{kernel}", "POST", **headers)[0] in (400, 413)
    assert page.state("1 ·")["done"].startswith("✓ ")


NAMES = ["1 ·", "2 ·", "3 ·", "4 ·", "5 ·", "6 ·"]
NAMES += ["Which regions", "What lies", "Units", "One face", "Layers", "demo:biased"]
TEXTS = """title error busy done submit at key link written svg told note _esm _css _view_module _view_name _model_module
_model_name _anywidget_id tooltip nobody""".split()
LISTS = """fields stages findings classes methods groups compares compared said cards sorts concepts areas layers
buttons _dom_classes""".split()
OTHERS = {"progress": 0.5, "arrived": 7, "measured": 7, "pages": 9, "largest": 10**9, "tabbable": True, "_view_count": 3}
OWN = {**dict.fromkeys(TEXTS, "javascript:alert(1)"), **dict.fromkeys(LISTS, [["<script>", "x"]]), **OTHERS}
OWN |= dict.fromkeys(["shown", "detail", "effect", "audit"], {"x": 1})


@pytest.mark.parametrize("title", NAMES)
def test_what_python_alone_sets_stays_as_it_was(page, title):
    before = page.settled(title)
    page.set(title, **OWN)
    assert page.settled(title) == before
    for name in OWN:
        page.set(title, **{name: [["--trust"]]})
    assert page.settled(title) == before


TRUSTED = ["model", "--trust", "-p", "model=evil.py:Net"]
LABELS = {"target": "", "protected": "[]", "masks": "", "find": "", "balance": "False", "limit": "60", "mask_classes": ""}
LAST = {"name": "x", "layer": "layer4", "target_class": "male"}
BAD = {
    ("6 ·", "chosen"): [TRUSTED, ["--trust"], ["-f", "evil.yaml"], ["../01_faces"], "faces", [["faces"]], [None], {}],
    ("4 ·", "values"): [{**LAST, "layer": layer} for layer in ("../..", "{0}", "layer9", "", 4)]
    + [{"name": "x"}, [], {**LAST, "name": "x\0"}, {**LAST, "more": "x"}],
    ("1 ·", "values"): [{"data": "pairs"}, {"data_root": "/etc"}, {"data": "x", "data_root": "", "annotations": ""}, "x", None],
    ("2 ·", "values"): [{**LABELS, "protected": ticked} for ticked in ("age", "[[]]", '["path"]', "[" * 1500, '{"age": 1}')]
    + [{**LABELS, "target": "path"}, {**LABELS, "find": "every"}, {**LABELS, "balance": ""}, {**LABELS, "limit": "6\n0"}],
    ("5 ·", "values"): [{"without": region} for region in ("../x", "", "landmarks", None)] + [{"run": "mine"}],
    ("1 ·", "submitted"): ["1", True, 2**70],
    ("Which regions", "target_class"): ["nobody", 10**9],
    ("Which regions", "method"): ["../facex", ["facex"]],
    ("Which regions", "group"): ["age: {0.__class__}", "path: x"],
    ("Which regions", "compare"): ["run: ../good", "model: evil.py:Net"],
    ("Which regions", "layer"): ["layer1", "../x"],
    ("Which regions", "region"): ["<b>", "../x"],
    ("What lies", "opened"): ["../../secret.csv", "/etc/passwd"],
    ("What lies", "opacity"): [7, "0;x"],
    ("What lies", "region"): ["hair", "<b>"],
    ("Units", "sort"): ["__class__"], ("Units", "concept"): ["x"], ("Units", "area"): ["x"], ("Units", "leans"): ["x: y"],
    ("Units", "unit"): [10**6, -7, True], ("Units", "page"): ["1", 2**70], ("Units", "ablated"): [1],
    ("Units", "least_iou"): [-1, "0"],
    ("One face", "path"): ["../secret.csv", "/etc/passwd", ["x"]],
    ("One face", "group"): ["path: x"], ("One face", "random"): [0.5],
    ("One face", "search"): [5, "x" * 10**5, "\ud800"],
    ("One face", "upload"): [10**12, "x", [1, 2]], ("One face", "upload_name"): ["a\nb"],
    ("Layers", "layer"): ["../x", "", 3], ("Layers", "search"): [{}, "\0"],
    ("demo:biased", "pressed"): ["__init__", ["report"]], ("demo:biased", "presses"): [-(2**40)],
}  # fmt: skip
PYTHONS = [("Which regions", "layer"), ("What lies", "region")]
"""Traits of those that Python sets, and of which nothing is said."""


@pytest.mark.parametrize(("title", "trait", "value"), [(*where, value) for where in BAD for value in BAD[where]])
def test_what_was_not_offered_is_not_taken(page, title, trait, value):
    before = page.settled(title).get(trait)  # bytes come beside the state
    page.set(title, **{trait: value})
    after = page.settled(title)
    assert after.get(trait) == before and (after["error"] or (title, trait) in PYTHONS)


def test_a_file_in_the_data_runs_nothing(server, page):
    evil = server.place / "data" / "evil.py"
    for chosen in (["model", "--trust", "-p", f"model={evil}:Net"], ["-f", "evil.yaml"]):
        page.set("6 ·", chosen=chosen, start=page.state("6 ·")["start"] + 1)
        page.set("6 ·", stop=True)
        page.settled("6 ·")
    for model in ("evil.py:Net", f"{evil}:Net", "x:evil.py:Net", "onnx:evil.py", "--trust"):
        assert page.submit("3 ·", model=model)["error"], model
    assert not (server.place / "ran").exists()


ROOTS = ["..", "/etc", "/", "linked", "linked/away", "faces/../../outside", "~root", "x" * 1500, "file:///etc", "-p"]
ROOTS += ["{0}", "faces\\..\\.."]


@pytest.mark.parametrize("path", ROOTS)
@pytest.mark.parametrize("name", ["data_root", "annotations", "masks"])
def test_paths_that_leave_the_folders_are_refused(page, name, path):
    step, given = "2 ·" if name == "masks" else "1 ·", {name: path}
    if step == "1 ·":
        given = {"data": "csv", "data_root": "faces", "annotations": "labels.csv"} | given
    assert "what the app may read" in page.submit(step, **given)["error"]


@pytest.mark.parametrize("path", [*ROOTS, "link.csv"])
@pytest.mark.parametrize(("step", "name"), [("1 ·", "data_root"), ("1 ·", "annotations"), ("2 ·", "masks"), ("3 ·", "weights")])
def test_the_picker_lists_the_folders_alone_wherever_it_is_sent(server, page, step, name, path):
    page.set(step, values={**page.state(step)["values"], name: path})
    shown = next(field["choices"] for field in page.state(step)["fields"] if field["name"] == name)
    data = str(server.place / "data")
    assert all(value in ("", "landmarks", "imagenet") or value.startswith(data) for value, _ in shown)
    assert not {"secret.csv", "link.csv", "▸ linked/away", "▸ away", "▸ outside"} & {text for _, text in shown}


def test_links_and_masks_beside_the_root_are_refused(server, page):
    root = {"data": "csv", "data_root": "faces"}
    assert "may read" in page.submit("1 ·", **root, annotations="./link.csv")["error"]
    assert "may read" in page.submit("3 ·", model="torchvision:resnet18", weights="./link.csv")["error"]
    assert page.submit("1 ·", **root, annotations="labels.csv")["error"] == ""
    assert page.submit("1 ·", data="synthetic", data_root="", annotations="")["error"] == ""


@pytest.mark.parametrize("run", ["../outside", "..", "/etc", "linked", "", "good/../away", ".", "cache", "good\0"])
def test_only_a_run_that_is_offered_is_opened(page, run):
    page.set("An earlier run", values={"run": run}, submitted=page.state("An earlier run")["submitted"] + 1)
    assert page.settled("An earlier run")["values"]["run"] in ("away", "good", "mine")


def test_the_choices_of_an_earlier_run_are_checked_like_typed_ones(server, page):
    assert "may read" in page.submit("An earlier run", run="away")["error"]
    assert page.submit("An earlier run", run="mine")["error"] == ""
    page.set("1 ·", values={}, submitted=page.state("1 ·")["submitted"] + 1)
    assert page.submit("1 ·")["error"] == ""


@pytest.mark.parametrize("name", ["x" * 300, "../x", "/tmp/x", "linked", "cache", ".x", "--trust", "a b", "ä" * 61, ""])
def test_a_name_that_is_no_name_is_told_in_words(server, page, name):
    page.look()
    before = sorted(server.place.glob("runs/*"))
    told = page.submit("4 ·", name=name)
    assert "cannot be called" in told["error"]
    assert sorted(server.place.glob("runs/*")) == before


def test_so_many_pages_and_no_more_and_they_end_when_they_have_gone(server, kernel, page):
    with ThreadPoolExecutor() as pool:
        replies = list(pool.map(lambda _: server.ask("/"), range(MOST)))
    refused = [body for status, _, body in replies if status == 503]
    assert len(refused) == 1 and "pages of the app are open" in refused[0]
    made = [re.search(r'"kernelId": *"([\w-]+)"', body)[1] for status, _, body in replies if status == 200]
    alive = lambda one: server.ask(f"/api/kernels/{one}")[0] == 200  # noqa: E731
    assert len(made) == MOST - 1 and all(map(alive, [kernel, *made]))
    end = time.monotonic() + 6 * AWAY
    while any(map(alive, made)):
        assert time.monotonic() < end, "a kernel outlives its page"
        time.sleep(1)
    assert alive(kernel)
