"""The widgets' state: what traits hold is what the kit measures, and what goes wrong is told in words."""

import io
import json
from concurrent.futures import Future

import numpy as np
import pytest
import torch
import traitlets as t
import xarray as xr
from PIL import Image
from torch import nn

import facexkit as fx
from facexkit.models.face_model import FaceModel
from facexkit.show.widgets.base import SESSION, Widget
from facexkit.show.widgets.class_explorer import ClassExplorer
from facexkit.show.widgets.face_picker import LARGEST
from facexkit.show.widgets.scores import Scores


@pytest.fixture(scope="module")
def small():
    """An untrained model of two layers and three classes."""
    torch.manual_seed(1)
    head = nn.Sequential(nn.AdaptiveAvgPool2d(4), nn.Flatten(), nn.Linear(128, 3))
    network = nn.Sequential(nn.Conv2d(3, 8, 5, 4), nn.ReLU(), nn.Conv2d(8, 8, 3, 2), nn.ReLU(), head)
    return FaceModel(network, name="small", image_size=64, class_names=["a", "b", "c"], device="cpu")


@pytest.fixture(scope="module")
def found(small, drawn_faces):
    return fx.dissect(small, drawn_faces, "3", quantile=0.02, mask_size=32, progress=False)


@pytest.fixture(scope="module")
def bias(small, drawn_faces, found):
    return fx.global_bias(small, drawn_faces, "3", ["gender", "lipstick"], found=found, alpha=0.5, progress=False)


def test_every_layer_is_listed_with_its_shape_and_an_unusable_one_says_why(small):
    class Both(nn.Module):
        def forward(self, x):
            return {"a": x}

    picker = fx.LayerPicker(small)
    assert [row["name"] for row in picker.layers] == list(fx.list_layers(small).index)
    assert picker.layer == "4.0" and "8 units of 4×4" in picker.told
    assert {row["name"]: row["parent"] for row in picker.layers}["4.2"] == "4"
    network = nn.Sequential(nn.Conv2d(3, 4, 3), nn.Sequential(Both()), nn.Flatten())
    network[1].register_forward_hook(lambda m, i, o: o["a"])
    picker = fx.LayerPicker(FaceModel(network, name="odd", image_size=8))
    (row,) = (row for row in picker.layers if row["name"] == "1.0")
    assert "dict" in row["problem"]
    with pytest.raises(fx.FacexkitError, match="cannot be used"):
        picker.layer = "1.0"
    assert picker.layer == "1"


def test_the_face_map_is_the_reports_drawing(small, drawn_faces):
    scores = fx.score_regions(small, drawn_faces, "3", 1, progress=False)
    live = fx.FaceMap(scores)
    assert live.svg == fx.face_map(scores, title="", interactive=True)
    assert live.region == scores.score.idxmax("region").item()
    assert live.svg in live._repr_mimebundle_()[0]["text/html"]


def test_class_group_and_comparison_are_measured_as_asked(small, drawn_faces, tmp_path):
    explorer = fx.ClassExplorer(small, drawn_faces, "3", "b", scores=Scores(drawn_faces, tmp_path))
    explorer.target_class, explorer.group, explorer.compare = "c", "gender: female", "class: a"
    explorer.wait()
    assert explorer.error == ""
    women = drawn_faces[(drawn_faces.table.gender == "female").to_numpy()]
    for shown, name in zip(explorer.shown, ("c", "a"), strict=True):
        expected = fx.score_regions(small, women, "3", name, progress=False)
        np.testing.assert_array_equal(shown.score, expected.score)
    assert len(explorer.compared) == 3
    again = fx.ClassExplorer(small, drawn_faces, "3", "c", scores=Scores(drawn_faces, tmp_path))
    again.group = "gender: female"
    again.wait()
    np.testing.assert_array_equal(again.facex.score, explorer.facex.score)


def test_what_was_measured_is_read_again_and_not_measured(small, drawn_faces, tmp_path):
    Scores(drawn_faces, tmp_path)(small, "facex", "3", 1)
    kept = Scores(drawn_faces, tmp_path)(small, "facex", "3", 1, progress=lambda **_: pytest.fail("measured again"))
    np.testing.assert_array_equal(kept.score, fx.score_regions(small, drawn_faces, "3", 1, progress=False).score)


def test_the_scores_of_a_run_are_taken_as_they_are(small, drawn_faces, tmp_path):
    share = fx.score_regions(small, drawn_faces, target_class=1, method="share", images=12, partners=2, progress=False)
    fx.write_scores(share, tmp_path / "regions")
    read = Scores(drawn_faces, tmp_path, tmp_path)(
        small, "share", "3", 1, progress=lambda **_: pytest.fail("measured")
    )
    xr.testing.assert_identical(read, share)


class Stopping(Widget):
    """Presses Stop once the bar has moved."""

    @t.observe("progress")
    def _enough(self, _change):
        self.stop = self.progress > 0


@pytest.mark.parametrize(
    ("method", "how"), [("facex", {"batch_size": 4}), ("share", {"batch_size": 4, "images": 6, "partners": 2})]
)
def test_stop_ends_the_work_and_says_so(small, drawn_faces, method, how):
    widget = Stopping()
    widget.work("scoring", lambda: fx.score_regions(small, drawn_faces, "3", 1, method, progress=widget.bar, **how))
    widget.wait()
    assert widget.error.startswith("Stopped") and widget.busy == ""
    assert 0 < widget.progress < 1


def test_a_new_choice_ends_the_work_under_way_without_a_word():
    widget, seen = Widget(), []

    def first():
        with widget.bar(total=3) as bar:
            for _ in range(3):
                seen.append("first")
                widget.work("second", lambda: seen.append("second"))
                bar.update(1)

    widget.work("first", first)
    for _ in range(3):
        widget.wait()
    assert seen == ["first", "second"] and widget.error == "" and widget.busy == ""


def test_what_is_shown_at_once_goes_ahead_of_what_is_measured():
    first, second, order = Widget(), Widget(), []

    def measure():
        second.work("waits", lambda: order.append("second"))
        with first.bar(total=2) as bar:
            for batch in (1, 2):
                order.append(batch)
                if batch == 1:
                    SESSION.put(Future(), lambda: order.append("shown"), ahead=True)
                bar.update(1)

    first.work("measures", measure)
    first.wait()
    second.wait()
    assert order == [1, "shown", 2, "second"]


def test_what_goes_wrong_in_the_session_is_raised_where_it_was_asked_for():
    assert SESSION.now(divmod, 7, 2) == (3, 1)
    with pytest.raises(ZeroDivisionError):
        SESSION.now(divmod, 1, 0)


def test_an_error_is_told_in_words(small, drawn_faces, tmp_path):
    bare = drawn_faces[:]
    bare.masks = None
    explorer = fx.ClassExplorer(small, bare, "3", scores=Scores(bare, tmp_path))
    explorer.wait()
    assert "has no masks" in explorer.error and explorer.busy == ""


def test_the_gallery_shows_a_regions_best_patches_and_opens_a_face(small, drawn_faces):
    scores = fx.score_regions(small, drawn_faces, "3", 1, progress=False)
    gallery = fx.PatchGallery(scores, drawn_faces, small, "hair")
    gallery.region = "nose"
    names = [name for name in scores.patch_image.sel(region="nose", target_class=1).values if name]
    assert [one["name"] for one in gallery.shown["region"]["patches"]] == names
    gallery.opened = str(scores.example_image.sel(region="nose").values[0, 0])
    assert gallery.error == ""
    assert gallery.detail["name"] == gallery.opened and gallery.detail["outlines"].startswith("data:image/png")
    gallery.opened = "nobody.png"
    assert "nobody.png" in gallery.error
    gallery.wait()
    json.dumps([gallery.shown, gallery.detail])


def test_units_are_filtered_and_sorted_as_a_plain_loop_does(small, drawn_faces, found, bias):
    browser = fx.UnitBrowser(found, drawn_faces, small, bias)
    keys = [card["key"] for card in browser.cards]
    assert keys == sorted(range(8), key=lambda u: (not found.supported.values[u], -found.best_iou.values[u], u))
    best = str(found.best_concept.values[keys[0]])
    browser.concept, browser.least_iou = best, 0.01
    loop = [u for u in keys if found.best_concept.values[u] == best and found.best_iou.values[u] >= 0.01]
    assert [card["key"] for card in browser.cards] == loop
    browser.concept, browser.least_iou, browser.sort = "", 0, "lean"
    attribute, group = "gender", str(bias.leans_to.sel(attribute="gender").values.max())
    assert group, "one unit leans at so generous an alpha"
    browser.leans = f"{attribute}: {group}"
    own = bias.sel(attribute=attribute)
    loop = [u for u in range(8) if own.leans_to.values[u] == group]
    assert [card["key"] for card in browser.cards] == sorted(loop, key=lambda u: -own.effect.values[u])
    json.dumps([browser.cards, browser.detail])


def test_a_units_absence_changes_what_a_masked_forward_pass_changes(small, drawn_faces, found, bias):
    faces = drawn_faces[:]
    faces.table["answer"] = np.array(["a", "b", "c"])[np.arange(len(faces)) % 3]
    faces.target = "answer"
    browser = fx.UnitBrowser(found, faces, small, bias, target_class="b")
    browser.unit = browser.cards[0]["key"]
    browser.ablated = True
    browser.wait()
    assert browser.error == ""
    top = browser.detail["tops"][0]
    (batch,) = faces[faces.table.path == top["name"]].batches(64)
    before = small(small.prepare(batch.images)).softmax(1)[0, 1]
    with fx.ablate(small, "3", units=[browser.unit]):
        after = small(small.prepare(batch.images)).softmax(1)[0, 1]
        told = fx.predict(small, faces)
    assert top["after"] == f"b {before:.0%} → {after:.0%}"
    women = told[told.gender == "female"].correct.mean()
    assert browser.effect["rows"][0][:2] == ["female", pytest.approx(women)]
    browser.ablated = False
    assert browser.effect == {} and browser.detail["tops"][0]["after"] == ""


def test_an_uploaded_picture_is_seen_as_the_model_sees_it(small, drawn_faces, found):
    picker = fx.FacePicker(small, drawn_faces, "3", "b", found)
    picture = drawn_faces.images.read(drawn_faces.table.path[0])
    picture.save(buffer := io.BytesIO(), "PNG")
    picker.upload_name, picker.upload = "me.png", buffer.getvalue()
    assert picker.error == ""
    inputs = next(drawn_faces[:1].batches(64)).images
    chance = small(small.prepare(inputs)).softmax(1)[0].max()
    assert picker.detail["name"] == "me.png"
    assert picker.detail["tables"][0][1][0][1] == pytest.approx(float(chance), abs=1e-6)


def no_palette():
    """Return a PNG whose pixels are numbers in a palette that it does not have."""
    Image.new("P", (8, 8)).save(whole := io.BytesIO(), "PNG")
    head, _, rest = whole.getvalue().partition(b"PLTE")
    return head[:-4] + rest[int.from_bytes(head[-4:]) + 4 :]


@pytest.mark.parametrize(
    "content, word",
    [(b"no picture", "no picture"), (no_palette(), "no picture"), (bytes(LARGEST + 1), "at most 5 MB")],
    ids=["no picture", "no palette", "too large"],
)
def test_what_is_no_picture_or_too_large_is_refused(small, drawn_faces, content, word):
    picker = fx.FacePicker(small, drawn_faces, "3")
    picker.upload_name, picker.upload = "x.png", content
    assert word in picker.error and picker.detail == {}


def test_a_picture_of_too_many_pixels_is_refused_before_it_is_decoded(small, drawn_faces):
    Image.new("1", (9000, 9000)).save(buffer := io.BytesIO(), "PNG")
    picker = fx.FacePicker(small, drawn_faces, "3")
    picker.upload_name, picker.upload = "vast.png", buffer.getvalue()
    assert "9000×9000" in picker.error


def test_faces_are_found_by_name_by_label_and_at_random(small, drawn_faces):
    picker = fx.FacePicker(small, drawn_faces, "3")
    picker.wait()
    assert [card["key"] for card in picker.cards] == drawn_faces.table.path.tolist()
    some = drawn_faces.table.path[3]
    picker.search = some[:8].upper()
    assert some in [card["key"] for card in picker.cards]
    picker.search, picker.group = "", "gender: male"
    men = drawn_faces.table.path[drawn_faces.table.gender == "male"].tolist()
    assert [card["key"] for card in picker.cards] == men
    picker.random += 1
    assert picker.path in men and picker.detail["name"] == picker.path
    assert 0 <= picker.detail["tables"][-1][1][0][1]


def test_names_from_data_are_escaped_in_still_pictures(small, drawn_faces, tmp_path):
    odd = FaceModel(small.network, name="<i>", image_size=64, class_names=["<a>", "<b>", "c"], device="cpu")
    still = ClassExplorer(odd, drawn_faces, "3", "<b>", scores=Scores(drawn_faces, tmp_path))
    still.wait()
    page = still._repr_mimebundle_()[0]["text/html"]
    assert "&lt;b&gt;" in page and "<b>" not in page and "<i>" not in page


def test_explores_passes_go_as_they_are_asked_to_and_leave_nothing_to_go_on_from(small, drawn_faces, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    seen = []
    small.network.register_forward_pre_hook(lambda _, given: seen.append(len(given[0])))
    explorer = fx.explore(small, drawn_faces, "3", batch_size=5, workers=0)
    explorer.wait()
    assert not any(child.error for child in explorer.children) and max(seen) == 5
    assert list((tmp_path / "runs" / "explore" / "explore").rglob("*.zarr"))
    assert not list(tmp_path.rglob("*.npz"))
    with pytest.raises(fx.FacexkitError, match="workers cannot be -1"):
        fx.explore(small, drawn_faces, "3", workers=-1)
