"""Whatever a browser sends to a widget: nothing escapes, Python's own traits stay, and no file elsewhere is opened."""

import os
import sys
from pathlib import Path

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn

from facexkit.app.stage_runner import StageRunner
from facexkit.app.steps import App
from facexkit.models.face_model import FaceModel
from facexkit.show.explore import Explorer
from facexkit.show.widgets.base import Widget

FUZZ = settings.get_profile("fuzz")
NASTY = ["../..", "/etc/passwd", "--trust", "-p", "{0.__class__}", "%s", "<script>", "evil.py:Net", "\0", "\ud800", "a\nb"]
PLAIN = st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=20) | st.sampled_from(NASTY)
NAMES = st.text(max_size=8) | st.sampled_from(NASTY)
anything = st.recursive(
    PLAIN | st.binary(max_size=20),
    lambda some: st.lists(some, max_size=4) | st.dictionaries(NAMES, some, max_size=4), max_leaves=12,
)  # fmt: skip
READS = ("open", "os.listdir", "os.scandir")
opened: list[str] = []
sys.addaudithook(lambda event, about: opened.append(str(about[0])) if event in READS else None)


@pytest.fixture(scope="module")
def widgets(tmp_path_factory, drawn_faces):
    """Every kind of widget of a page: the app with its forms, the explorer with its parts, and the stages."""
    torch.manual_seed(1)
    head = nn.Sequential(nn.AdaptiveAvgPool2d(4), nn.Flatten(), nn.Linear(128, 3))
    network = nn.Sequential(nn.Conv2d(3, 8, 5, 4), nn.ReLU(), nn.Conv2d(8, 8, 3, 2), nn.ReLU(), head)
    small = FaceModel(network, name="small", image_size=64, class_names=["a", "b", "c"], device="cpu")
    place = tmp_path_factory.mktemp("fuzzed")
    (place / "data").mkdir()
    explorer = Explorer([small], drawn_faces, "3", 1, place / "runs" / "one")
    explorer.wait()
    app = App([place / "data"], place / "runs", trust=False)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(Widget, "work", lambda *_, **__: None)  # the door is tried, not the models behind it
        forms = [app, app.layout, app.before, app.data, app.model]
        yield [*forms, explorer, *explorer.children, StageRunner(place / "runs" / "one")], place


def sent_to(widget):
    """Return a strategy of messages for a widget: mostly updates of its traits, sometimes to what it offers."""
    offered = [value for name in widget.keys for value in flat(getattr(widget, name))] or [""]
    values = anything | st.sampled_from(offered[:200]) | st.lists(st.sampled_from(offered[:200]), max_size=3)
    states = st.dictionaries(st.sampled_from([*widget.keys, "comm", "keys", "__class__", "work"]), values, max_size=5)
    update, methods = st.just("update"), st.sampled_from(["custom", "request_state", "update", "x"])
    paths = {"buffer_paths": st.just([]) | anything}
    data = st.fixed_dictionaries({"method": update, "state": states}, optional=paths)
    odd = st.fixed_dictionaries({"method": methods}, optional={"content": anything, "state": anything})
    content = st.fixed_dictionaries({"data": data | data | odd | anything}) | anything
    return st.fixed_dictionaries({"content": content, "buffers": st.lists(st.binary(max_size=30), max_size=2)}) | anything


def flat(value):
    """Return the leaves of lists, and the keys and leaves of mappings."""
    if isinstance(value, dict):
        value = [*value, *value.values()]
    if isinstance(value, (list, tuple)):
        return [leaf for one in value for leaf in flat(one)]
    return [value] if isinstance(value, (str, int, float)) else []


@pytest.mark.parametrize("number", range(13))
def test_no_message_does_what_a_page_cannot(widgets, number):
    every, place = widgets
    widget = every[number]
    fits = {name: widget.trait_metadata(name, "fits") for name in widget.keys}

    @FUZZ
    @given(message=sent_to(widget))
    def attack(message):
        before = {name: getattr(widget, name) for name in widget.keys}
        state = sent(message)
        opened.clear()
        widget._handle_msg(message)
        for name, was in before.items():
            now = getattr(widget, name)
            if now == was:
                continue
            assert fits[name] is None or fits[name](widget, now), (name, now)
            assert fits[name] is not None or name not in state or now != state[name], (name, now)
        assert opened_elsewhere(place) == []

    attack()


def opened_elsewhere(place):
    """Return the files and folders that were opened outside a folder, the cache, Python and the kit."""
    inside = (place, os.environ["FACEXKIT_CACHE"], sys.prefix, sys.base_prefix, Path(__file__).parents[2])
    return [path for path in opened if path.startswith("/") and not path.startswith(tuple(map(str, inside)))]


def sent(message):
    """Return the traits that a message would set, where it is made so that it could."""
    try:
        return dict(message["content"]["data"]["state"])
    except (KeyError, TypeError, ValueError, IndexError):
        return {}


def test_every_kind_of_widget_is_tried(widgets):
    assert len(widgets[0]) == 13
    of_the_kit = [kind for kind in Widget.__subclasses__() if kind.__module__.startswith("facexkit")]
    assert [kind for kind in of_the_kit if not any(isinstance(tried, kind) for tried in widgets[0])] == []


PARTS = ["..", ".", "/", "faces", "etc", "passwd", "~", "x" * 300, "\\", ":", "evil.py", "onnx", "{0}", " "]
PATHS, KINDS = st.lists(st.sampled_from(PARTS), max_size=8), ["csv", "celeba", "fairface", "image_folder"]


def test_no_text_in_a_form_opens_a_file_elsewhere(widgets):
    (app, *_), place = widgets
    names = [field["name"] for field in app.data.fields if field["kind"] not in ("choice", "ticks")]
    kept = {field["name"]: app.data.values[field["name"]] for field in app.data.fields if field["name"] not in names}
    texts = PATHS.map("".join) | PATHS.map("/".join) | st.text(max_size=30) | st.sampled_from(NASTY)

    @FUZZ
    @given(kind=st.sampled_from(KINDS), values=st.fixed_dictionaries(dict.fromkeys(names, texts)))
    def attack(kind, values):
        app.data._handle_msg({"content": {"data": {"method": "update", "state": {"values": {**kept, "data": kind, **values}}}}})
        opened.clear()
        with app.data.in_words():
            app.take_data()
        assert app.data.error or app.data.values["data"] == "synthetic"
        assert opened_elsewhere(place) == []

    attack()
