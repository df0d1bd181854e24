"""The app's steps without a browser: what is refused, what is kept, and how a run is varied."""

import pytest
import yaml
from PIL import Image

import facexkit as fx
from facexkit.app.server import serve
from facexkit.app.stage_runner import StageRunner
from facexkit.app.steps import App
from facexkit.show.run import Run


@pytest.fixture
def app(tmp_path, demo_models):
    folder = tmp_path / "given"
    for row in range(8):
        (folder / "faces").mkdir(parents=True, exist_ok=True)
        Image.new("RGB", (32, 32), (30 * row, 90, 90)).save(folder / "faces" / f"{row}.png")
    (folder / "labels.csv").write_text("img,kind\n" + "".join(f"{row}.png,{row % 2}\n" for row in range(8)))
    (tmp_path / "secret.csv").write_text("img\n")
    (folder / "link").symlink_to(tmp_path)
    return App([folder], tmp_path / "runs", trust=False)


def test_a_folder_of_ones_own_is_read_and_the_next_step_appears(app, submit):
    assert submit(app, "data", data_root="faces") == ""
    assert app.children == (app.data, app.labels) and app.labels.arrived == 1
    assert submit(app, "labels", target="kind", masks="") == ""
    assert len(app.faces) == 8 and app.faces.target == "kind"
    assert app.children == (app.data, app.labels, app.model) and "Without masks" in app.labels.done
    assert (app.labels.arrived, app.model.arrived) == (0, 1), "the eye goes on"


OUTSIDE = ["..", "/etc", "link", "link/secret.csv", "faces/../../secret.csv", "nowhere"]


@pytest.mark.parametrize("path", OUTSIDE)
def test_paths_outside_the_given_folders_are_refused(app, path, submit):
    error = submit(app, "data", data="csv", data_root=path, annotations="labels.csv")
    assert "not in what the app may read" in error and app.children == (app.data,)
    assert app.data.at == "data_root"
    error = submit(app, "data", data="csv", data_root="faces", annotations=path)
    assert "not in what the app may read" in error and app.data.at == "annotations"


@pytest.mark.parametrize("word", ["landmarks", "imagenet", "DEFAULT"])
def test_a_word_that_stands_for_masks_or_weights_is_a_path_elsewhere(app, tmp_path, monkeypatch, word, submit):
    monkeypatch.chdir(tmp_path)
    (tmp_path / word).symlink_to(tmp_path / "given" / "faces")  # where it stands, not in what the app may read
    error = submit(app, "data", data="csv", data_root=word, annotations="labels.csv")
    assert "not in what the app may read" in error
    assert submit(app, "data", data="synthetic", data_root="", annotations="") + submit(app, "labels", limit="60") == ""
    assert "not in what the app may read" in submit(app, "model", model=f"onnx:{word}")


def test_masks_beside_the_root_that_the_app_may_not_read_are_refused(app, tmp_path, submit):
    (tmp_path / "given" / "link").unlink()
    asked = {"data": "csv", "data_root": str(tmp_path / "given"), "annotations": "all.csv"}
    (tmp_path / "given" / "all.csv").write_text("img\nfaces/0.png\n")
    assert submit(app, "data", **asked) == "" and app.found.masks is None
    (tmp_path / "given-mask-anno").mkdir()
    Image.new("L", (32, 32), 1).save(tmp_path / "given-mask-anno" / "0.png")
    app.found = None
    assert "not in what the app may read" in submit(app, "data", **asked)
    assert app.children == (app.data, app.labels) and app.faces is None


@pytest.mark.parametrize("name", ["masks", "weights"])
def test_links_inside_a_folder_that_lead_away_are_refused(app, tmp_path, name, submit):
    (tmp_path / "given" / "own").mkdir()
    (tmp_path / "given" / "own" / "0.png").symlink_to(tmp_path / "secret.csv")
    assert submit(app, "data", data_root="faces") == ""
    if name == "weights":
        assert submit(app, "labels", masks="") == ""
    asked = {"masks": "labels", "weights": "model"}[name], {"masks": {}, "weights": {"model": "fairface:7"}}[name]
    assert "leads out of what the app may read" in submit(app, asked[0], **asked[1], **{name: "own"})


def test_a_model_outside_or_in_a_python_file_is_refused(app, submit):
    submit(app, "data"), submit(app, "labels", limit="60")
    assert "onnx" not in submit(app, "model", model="demo:fair")
    assert "runs somebody's code" in submit(app, "model", model="net.py:Net")
    assert "not in what the app may read" in submit(app, "model", model="onnx:/etc/passwd")
    assert "not in what the app may read" in submit(app, "model", model="torchvision:resnet18", weights="/etc/passwd")
    app.trust = True
    outside = ("/etc/net.py:Net", "faces/../../net.py:Net", "labels.py:/../../net.py:Net", "hf:/etc", "timm:../x", "/etc")
    for model in outside:
        assert "not in what the app may read" in submit(app, "model", model=model), model


def test_choices_are_kept_as_parameters_and_can_be_varied(app, tmp_path, submit):
    assert submit(app, "data") + submit(app, "labels", limit="60") + submit(app, "model") == ""
    assert app.last.values["layer"] == "layer4"
    assert "cannot be called" in submit(app, "last", name="../x")
    assert submit(app, "last", layer="layer2", target_class="female", name="one") == ""
    kept = yaml.safe_load((tmp_path / "runs/one/params.yaml").read_text())
    assert (kept["limit"], kept["layer"], kept["target_class"], kept["model"]) == (
        60,
        "layer2",
        "female",
        "demo:biased",
    )
    assert app.explorer.classes.method == "share" and app.explorer.summary.arrived == 1
    assert app.explorer.layers.layer == "layer2" and app.explorer.classes.target_class == "female"
    for widget in (app.explorer.classes, app.explorer.units, app.explorer.patches):
        widget.wait()
        assert widget.error == ""
    shown, quick = app.explorer.classes.shown[0], app.explorer.classes.shown[0].attrs
    regions = [choice[0] for choice in app.mend.fields[0]["choices"]]
    assert quick["method"] == "share" and regions[: len(fx.accused(shown))] == fx.accused(shown) != []
    before = [app.runner, *app.explorer.children]
    assert submit(app, "last", name="other") == "" and not app.runner.stop
    assert all(widget.stop for widget in before), "what is no longer shown is still at work"
    app.explorer.wait()
    assert submit(app, "last", name="one") == ""
    app.explorer.wait()
    written = (tmp_path / "runs/one/params.yaml").read_text()
    assert "stays as it is; take another name" in submit(app, "last", name="one", layer="layer1")
    app.explorer.layers.layer = "layer1"
    app.explorer.wait()
    app.explorer.keep()
    assert (tmp_path / "runs/one/params.yaml").read_text() == written
    kept = [path.name for path in (tmp_path / "runs/one/kept").iterdir()]
    assert len(kept) == 1 and "share_female" in kept[0] and not (tmp_path / "runs/one/regions").exists()
    assert "report" in app.explorer.save_report().read_text()
    varied = App(app.roots, tmp_path / "runs", trust=False)
    assert varied.children == (varied.before, varied.data)
    assert submit(varied, "before", run="one") == ""
    varied.explorer.classes.wait()
    assert varied.children[-3:] == (varied.explorer, varied.mend, varied.runner) and varied.folder.name == "one"
    assert varied.explorer.summary.arrived == 1 and varied.explorer.layers.layer == "layer2"
    assert (tmp_path / "runs/one/params.yaml").read_text() == written
    assert submit(varied, "model", model="demo:fair") == ""
    assert varied.last.values == {"layer": "layer2", "target_class": "female", "name": "run1"}
    assert submit(varied, "last") == ""
    classes = varied.explorer.classes
    classes.wait()
    classes.compare = "run: one"
    classes.wait()
    assert classes.error == "" and len(classes.compared) >= 3
    again = fx.explore(run=tmp_path / "runs/one")
    assert again.layers.layer == "layer2" and len(again.faces) == len(app.faces)
    again.classes.wait()


def test_a_region_is_taken_from_the_model_in_a_run_of_its_own(app, tmp_path, submit, monkeypatch):
    started = []
    monkeypatch.setattr(StageRunner, "_run", lambda runner: started.append((runner.folder.name, runner.chosen)))
    assert submit(app, "data") + submit(app, "labels", limit="30") + submit(app, "model") == ""
    assert submit(app, "last", name="one") == "" and app.mend not in app.children
    app.explorer.classes.wait()
    assert submit(app, "mend", without="nose") == ""
    repair = app.children[-2]
    repair.wait()
    assert started == [("one-without-nose", ["repair"])] and app.children[-3:] == (app.mend, repair, app.runner)
    kept = yaml.safe_load((tmp_path / "runs/one-without-nose/params.yaml").read_text())
    own = yaml.safe_load((tmp_path / "runs/one/params.yaml").read_text())
    assert kept == {**own, "without": ["nose"]}
    assert submit(app, "mend", without="lips") == "" and started[-1][0] == "one-without-lips"
    app.explorer.wait()


def test_what_is_no_run_and_no_folder_is_told(tmp_path):
    with pytest.raises(fx.FacexkitError, match="is no run"):
        Run.of(tmp_path)
    (tmp_path / "params.yaml").write_text("limit: [60\n")
    with pytest.raises(fx.FacexkitError, match="params.yaml is not YAML"):
        Run.of(tmp_path)
    with pytest.raises(fx.FacexkitError, match="is no folder"):
        serve([tmp_path / "x"], tmp_path, 1, False, False)
    (tmp_path / "a:b").mkdir()
    with pytest.raises(fx.FacexkitError, match="':' in its path"):
        serve([tmp_path / "a:b"], tmp_path, 1, False, False)
    with pytest.raises(fx.FacexkitError, match="needs a model and faces"):
        fx.explore()


def test_an_explorer_shown_by_nobody_leaves_pictures(demo_models, drawn_faces):
    explorer = fx.explore(demo_models["biased"], drawn_faces, layer="layer1")
    for widget in (explorer.classes, explorer.units, explorer.patches):
        widget.wait()
        assert widget.error == ""
    still = explorer._repr_mimebundle_()["text/html"]
    assert "<svg" in still and "data:image/jpeg" in still and "layer1 (" in still
    explorer.layers.layer = "layer2"
    explorer.classes.wait()
    explorer.units.wait()
    assert (
        explorer.units.found.attrs["layer"] == explorer.classes.facex.attrs["layer"] == explorer.face.layer == "layer2"
    )
    explorer.classes.region = "nose"
    assert explorer.patches.shown["region"]["title"] == "nose"
