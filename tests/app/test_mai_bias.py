"""What MAI-BIAS asks of a page: pairs and dictionaries without code, masks made after asking, code of one's own."""

import shutil

import numpy as np
import pytest
from PIL import Image

from facexkit.app.places import models_in
from facexkit.app.steps import App
from facexkit.faces.formats import load_faces

CODE = """from torch import nn


class Net(nn.Module):
    def __init__(self):
        super().__init__()
        self.conv, self.fc = nn.Conv2d(3, 4, 3, padding=1), nn.Linear(4 * 32 * 32, 2)

    def forward(self, x):
        return self.fc(self.conv(x).relu().view(x.size(0), -1))
"""


@pytest.fixture
def given(tmp_path):
    """Drawn faces as files, labels, pairs, and beside them masks by region in a folder named after theirs."""
    folder, drawn = tmp_path / "given", load_faces("synthetic", limit=8)
    (folder / "faces").mkdir(parents=True)
    for row, path in enumerate(drawn.table.path):
        drawn.images.read(path).resize((96, 96)).save(folder / "faces" / f"{row}.png")
    (folder / "labels.csv").write_text("img,kind\n" + "".join(f"{row}.png,{row % 2}\n" for row in range(8)))
    rows = "".join(f"{k}.png,{k + 4}.png,{k % 2},{k // 2}\n" for k in range(4))
    (folder / "pairs.csv").write_text(f"a,b,same,group\n{rows}")
    return folder


def masks_beside(given):
    for row in range(8):
        for region, top in (("skin", 0), ("nose", 40)):
            mask = np.zeros((96, 96), np.uint8)
            mask[top : top + 40] = 255
            (given / "faces-mask-anno").mkdir(exist_ok=True)
            Image.fromarray(mask).save(given / "faces-mask-anno" / f"{row}_{region}.png")


def test_masks_are_made_when_there_are_none_and_the_user_says_so(given, tmp_path, monkeypatch, submit):
    monkeypatch.setenv("FACEXKIT_CACHE", str(tmp_path / "cache"))
    app = App([given], tmp_path / "runs", trust=False)
    assert submit(app, "data", data="csv", data_root="faces") == "" and app.found.masks is None
    assert app.labels.values["masks"] == "landmarks", "which stands there to be changed, before any are made"
    assert submit(app, "labels", masks="") == "" and app.faces.masks is None
    assert submit(app, "labels", masks="landmarks") == ""
    assert {"nose", "l_eye"} <= set(app.faces.masks.read("0.png"))


def test_pairs_find_the_masks_beside_them_and_go_to_the_stage_that_explains_pairs(given, tmp_path, submit):
    masks_beside(given)
    app = App([given], tmp_path / "runs", trust=False)
    formats = next(field["choices"] for field in app.data.fields if field["name"] == "data")
    assert {"pairs", "face_dictionary"} <= {value for value, _ in formats}
    assert submit(app, "data", data="pairs", data_root="faces", annotations="pairs.csv") == ""
    assert submit(app, "labels", protected='["group"]', balance="True") == ""
    assert set(app.faces.masks.read("4.png")) == {"background", "nose", "skin"} and app.faces.table.same.sum() == 2
    assert submit(app, "model", model="torchvision:resnet18", image_size="64") == ""
    assert app.last.values["target_class"] == "difference"
    assert submit(app, "last", target_class="similarity", layer="layer3", name="one") == ""
    assert app.children[-2:] == (app.last, app.runner) and app.runner.chosen == ["verification"]


def test_a_models_code_is_pasted_where_code_may_run(given, tmp_path, submit):
    masks_beside(given)
    app = App([given], tmp_path / "runs", trust=True)
    assert submit(app, "data", data="csv", data_root="faces") + submit(app, "labels", target="kind") == ""
    assert submit(app, "model", code=CODE, code_name="Net", image_size="32") == ""
    assert app.model.values["model"] == f"{tmp_path / 'runs' / 'models' / 'Net.py'}:Net"
    assert app.models[0].class_names == ["class 0", "class 1"] and "conv" in app.models[0].layers.index
    assert "Which class or function" in submit(app, "model", code=CODE, code_name="../Net") and app.model.at == "code_name"
    assert "cannot be called 'models'" in submit(app, "last", name="models")
    app = App([given], tmp_path / "runs", trust=False)
    assert submit(app, "data", data="csv", data_root="faces") + submit(app, "labels", target="kind") == ""
    assert not {"code", "code_name"} & {field["name"] for field in app.model.fields}
    assert "runs somebody's code" in submit(app, "model", model=f"{tmp_path / 'runs' / 'models' / 'Net.py'}:Net")


def test_models_in_what_the_app_may_read_are_offered(given, tmp_path, submit):
    (given / "net.onnx").touch()
    (given / "net.py").write_text(CODE)
    (given / "own").mkdir()
    (given / "own" / "config.json").write_text("{}")
    found = [f"onnx:{given / 'net.onnx'}", f"hf:{given / 'own'}"]
    assert models_in([given], trust=False) == found and models_in([given], trust=True) == [*found, f"{given / 'net.py'}:Net"]
    (tmp_path / "secret.onnx").touch()
    (given / "away.onnx").symlink_to(tmp_path / "secret.onnx")
    assert models_in([given], trust=False) == found


def test_a_face_dictionary_is_known_by_its_folders(given, tmp_path, submit):
    for row in range(8):
        folder = given / "dictionary" / "non_localizable" / "Age" / ("old", "young")[row % 2]
        folder.mkdir(parents=True, exist_ok=True)
        shutil.copy(given / "faces" / f"{row}.png", folder)
    app = App([given], tmp_path / "runs", trust=False)
    assert submit(app, "data", data_root="dictionary") == "" and app.data.values["data"] == "face_dictionary"
    asked = {field["name"]: field["choices"] for field in app.labels.fields}
    assert asked["protected"] == [["age", "age: old (4), young (4)"]]
    assert submit(app, "labels", target="age") == "" and app.faces.target == "age"
