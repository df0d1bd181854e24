"""What the app asks: every choice comes from what was read, a folder tells its format, an error stands beside its question."""

import json
import re
from types import SimpleNamespace

import numpy as np
import pytest
import xarray as xr
from PIL import Image

from facexkit.app import choices
from facexkit.app.places import layout_of, listing
from facexkit.app.questions import FORMATS_TOLD, QUESTIONS, STEPS, in_its_words
from facexkit.app.steps import App
from facexkit.faces.formats import FORMATS
from facexkit.parameters import Parameters

NO_PARAMETERS = {"run", "name", "code", "code_name"}


def test_every_question_fills_a_parameter_and_its_choices_and_guesses_are_there():
    assert {*QUESTIONS} - NO_PARAMETERS <= {*Parameters.model_fields} and {*FORMATS_TOLD} <= {*FORMATS}
    for question in QUESTIONS.values():
        assert question.label.endswith("?") or question.kind == "code"
        assert question.kind in ("choice", "open", "ticks", "place", "text", "code")
        assert all(hasattr(choices, source) for source in (question.choices, question.guess) if isinstance(source, str) and source)
        assert {*question.follows} <= {*QUESTIONS}


FOLDERS = {
    "celebamask_hq": ["images/0.png", "masks/0.png", "labels.csv"], "celeba": ["img_align_celeba/0.png", "list_attr_celeba.txt"],
    "fairface": ["fairface_label_train.csv", "train/0.png"], "lfwa": ["lfw_att_40.mat"], "bfw": ["bfw-v0.1.5.csv", "a/0.png"],
    "face_dictionary": ["non_localizable/Age/old/0.png"], "rfw": ["txts/Asian/Asian_pairs.txt"], "parquet": ["train-0.parquet"],
    "utkface": ["25_0_1_20170109.jpg.chip.jpg"], "pairs": ["0.png", "pairs.csv"], "csv": ["0.png", "labels.csv"],
    "image_folder": ["old/0.png", "young/1.png"], "photos": ["0.png", "read me.pdf"],
}  # fmt: skip


@pytest.mark.parametrize("name", FOLDERS)
def test_the_format_is_guessed_from_the_folder(tmp_path, name):
    for path in FOLDERS[name]:
        (tmp_path / "given" / path).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / "given" / path).touch()
    assert layout_of(str(tmp_path / "given"), [tmp_path]) == name
    assert layout_of(str(tmp_path / "given"), [tmp_path / "other"]) == "synthetic", "where nothing may be read"


def test_a_table_beside_the_photographs_is_taken_for_theirs(tmp_path):
    (tmp_path / "faces").mkdir()
    Image.new("RGB", (8, 8)).save(tmp_path / "faces" / "0.png")
    (tmp_path / "labels.csv").write_text("img,kind\n0.png,1\n")
    app = App([tmp_path], tmp_path / "runs", trust=False)
    app.data.values = {**app.data.values, "data_root": str(tmp_path / "faces")}
    assert app.data.values == {
        "data_root": str(tmp_path / "faces"), "data": "csv", "annotations": str(tmp_path / "labels.csv"),
    }  # fmt: skip
    app.data.values = {**app.data.values, "data": "photos"}
    assert app.data.values["annotations"] == "" and app.data.values["data"] == "photos", "what a person says stays"


def test_the_picker_shows_what_may_be_read_and_nothing_else(tmp_path):
    given = tmp_path / "given"
    for path in ("faces/0.png", ".hidden/0.png", "labels.csv", "notes.pdf", "new\nline/0.png"):
        (given / path).parent.mkdir(parents=True, exist_ok=True)
        (given / path).touch()
    (tmp_path / "secret.csv").touch()
    for name, to in (("away", tmp_path), ("secret.csv", tmp_path / "secret.csv"), ("circle", given / "circle")):
        (given / name).symlink_to(to)
    (given / "own").symlink_to(given / "faces")
    inside = [(str(given), "this folder: given"), (str(given / "faces"), "▸ faces"), (str(given / "own"), "▸ own")]
    table = (str(given / "labels.csv"), "labels.csv")
    assert listing("", str(given), [given], [".csv"]) == [*inside, table]
    assert listing("", str(given), [given]) == inside
    assert listing(str(given / "labels.csv"), "", [given], [".csv"]) == [*inside, table]
    assert listing("faces", "", [given])[:2] == [
        (str(given / "faces"), "this folder: faces, 1 image"), (str(given), "↑ given"),
    ]  # fmt: skip
    for outside in ("..", "/etc", str(tmp_path), "away", "x\0", "circle", "~", ""):
        assert listing(outside, "", [given]) == [(str(given), "▸ given")]


def test_columns_layers_and_answers_are_offered_as_they_were_read(tmp_path, demo_models, submit):
    app = App([], tmp_path / "runs", trust=False)
    assert submit(app, "data") + submit(app, "labels", limit="60") == ""
    offered = {field["name"]: [choice[0] for choice in field["choices"]] for field in app.labels.fields}
    table = app.faces.table
    assert set(offered["protected"]) == {c for c in table if c not in ("path", "split") and 2 <= app.found.table[c].nunique() <= 12}
    assert offered["target"] == ["", *offered["protected"]] and app.labels.values["target"] == "gender"
    named = [choice[0] for choice in app.model.fields[0]["choices"]]
    assert {"demo:biased", "fairface:7", "torchvision:resnet18"} <= set(named)
    assert not {"torchvision:maskrcnn_resnet50_fpn", "torchvision:mc3_18", "torchvision:fcn_resnet50"} & set(named), "these give no classes of an image"
    assert submit(app, "model") == ""
    layers = app.models[0].layers
    assert [c[0] for f in app.last.fields if f["name"] == "layer" for c in f["choices"]] == layers.index[layers.problem == ""].tolist()
    assert [c[0] for f in app.last.fields if f["name"] == "target_class" for c in f["choices"]] == ["female", "male"]


@pytest.mark.parametrize(
    ("said", "at", "told"),
    [("parameter 'limit' cannot be 'x': it must be a number. It holds: only the first (default None)", "limit",
      "“How many faces?” cannot be 'x': it must be a number."),
     ("there is no annotation file x.csv; check annotations=", "annotations",
      "there is no annotation file x.csv; check “Which file says what is known of them?”"),
     ("fairface:7 needs weights=: the file", "weights", "fairface:7 needs “Which file holds what it learned?”: the file"),
     ("root /x is no folder; give it as root=…", "data_root", "root /x is no folder; give it as “Where are the photographs?”"),
     ("loading it runs code; if you trust it give trust=True", "model", "loading it runs code; if you trust it give make app TRUST=1")],
)  # fmt: skip
def test_an_error_stands_beside_its_question_in_its_words(said, at, told):
    names = next([*step["questions"]] for step in STEPS.values() if at in step["questions"])
    assert in_its_words(said, names) == (at, told)


def test_no_error_of_the_steps_names_an_argument(tmp_path, demo_models, submit):
    (tmp_path / "0.png").touch()
    (tmp_path / "labels.csv").write_text("img,kind\n1.png,1\n")
    app = App([tmp_path], tmp_path / "runs", trust=False)
    errors = [submit(app, "data", data_root=str(tmp_path), data=data) for data in ("csv", "image_folder", "fairface", "bfw")]
    assert submit(app, "data", data_root="", data="synthetic", annotations="") + submit(app, "labels", limit="60") == ""
    for model in ("fairface:7", "facenet", "face_dissect:age", "net.py:Net", "torchvision:resnet", "nobody", "hf:x", "onnx:x"):
        errors.append(submit(app, "model", model=model))
    errors += [submit(app, "model", model="demo:biased", **{name: "7"}) for name in ("num_classes", "class_names")]
    errors.append(submit(app, "model", image_size="0"))
    short, long = ("|".join(name for name in QUESTIONS if ("_" in name) == has) for has in (False, True))
    for error in errors:
        assert error and not re.search(rf"\b({short}|root|trust)=|\b({long})\b", error), error


def test_ticks_are_a_list_of_what_is_offered(tmp_path, demo_models, submit):
    app = App([], tmp_path / "runs", trust=False)
    assert submit(app, "data") == ""
    assert submit(app, "labels", limit="60", protected=json.dumps(["age", "gender"])) == ""
    assert app.faces.protected == ("age", "gender")


def test_regions_are_offered_by_the_names_of_the_result_and_none_that_its_masks_cannot_tell(monkeypatch):
    of = ["background", "skin", "hair"]
    columns = {name: (("target_class", "region"), [[0.5, 0.4, np.nan]]) for name in ("score", "score_low", "score_high")}
    scores = xr.Dataset(columns | {"images": (("target_class", "region"), [[9, 9, 0]])}, {"region": of, "target_class": [1]})
    scores.attrs |= {"method": "share", "untold": ["hair", "hat"]}
    monkeypatch.setattr(choices, "accused", lambda scores: ["background"])
    app = SimpleNamespace(explorer=SimpleNamespace(classes=SimpleNamespace(shown=[scores])))
    offered = {name: (title, kind) for name, title, kind in choices.regions(app, {})}
    assert offered["background"] == ("everything else (background, hair, hat): 50 % of the decision", "The decision rests on")
    assert offered["skin"] == ("skin: 40 % of the decision", "Others") and "hair" not in offered
    app.explorer.classes.shown = []
    assert {"hair", "lips", "background"} <= {name for name, _, _ in choices.regions(app, {})}
