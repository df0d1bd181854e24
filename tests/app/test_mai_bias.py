"""What MAI-BIAS asks of a page: pairs and dictionaries without code, masks made after asking, code of one's own."""

import numpy as np
import pytest
from PIL import Image

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
    assert submit(app, "data", data="csv", data_root="faces", annotations="labels.csv") == ""
    assert app.children == (app.data, app.mask, app.model) and app.faces.masks is None
    assert submit(app, "mask") == ""
    assert app.data.values["masks"] == "landmarks" and app.children == (app.data, app.model)
    assert {"nose", "l_eye"} <= set(app.faces.masks.read("0.png"))


def test_pairs_find_the_masks_beside_them_and_go_to_the_stage_that_explains_pairs(given, tmp_path, submit):
    masks_beside(given)
    app = App([given], tmp_path / "runs", trust=False)
    names = {field["name"]: field["options"] for field in app.data.fields}
    assert {("pairs", "pairs"), ("face_dictionary", "face_dictionary")} <= set(map(tuple, names["data"]))
    asked = {"data": "pairs", "data_root": "faces", "annotations": "pairs.csv", "protected": "group", "balance": "True"}
    assert submit(app, "data", **asked) == ""
    assert set(app.faces.masks.read("4.png")) == {"background", "nose", "skin"} and app.faces.table.same.sum() == 2
    assert submit(app, "model", model="torchvision:resnet18", image_size="64") == ""
    assert [field["name"] for field in app.last.fields] == ["layer", "target_class", "name"]
    assert app.last.values["target_class"] == "difference"
    assert submit(app, "last", target_class="similarity", layer="layer3", name="one") == ""
    assert app.children[-2:] == (app.last, app.runner) and app.runner.chosen == ["verification"]


def test_a_models_code_is_pasted_where_code_may_run(given, tmp_path, submit):
    masks_beside(given)
    asked = {"data": "csv", "data_root": "faces", "annotations": "labels.csv", "target": "kind"}
    app = App([given], tmp_path / "runs", trust=True)
    assert submit(app, "data", **asked) == "" and app.children == (app.data, app.code, app.model)
    assert submit(app, "code", code=CODE, model="Net") == ""
    assert app.model.values["model"] == f"{tmp_path / 'runs' / 'models' / 'Net.py'}:Net"
    assert submit(app, "model", image_size="32") == ""
    assert app.models[0].class_names == ["class 0", "class 1"] and "conv" in app.models[0].layers.index
    assert "the name of the class" in submit(app, "code", code=CODE, model="../Net")
    assert "cannot be called 'models'" in submit(app, "last", name="models")
    app = App([given], tmp_path / "runs", trust=False)
    assert submit(app, "data", **asked) == "" and app.code not in app.children
    (tmp_path / "runs" / "models" / "Net.py").unlink()
    assert submit(app, "code", code=CODE, model="Net") != "" and not (tmp_path / "runs" / "models" / "Net.py").exists()
    assert "runs somebody's code" in submit(app, "model", model=f"{tmp_path / 'runs' / 'models' / 'Net.py'}:Net")
