"""No number is given as measured where nothing was measured, and what is left out of one is counted and named."""

import json
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import torch
from PIL import Image
from scipy.stats import binomtest
from torch import nn

import facexkit as fx
from facexkit.errors import FacexkitError
from facexkit.faces.faceset import FaceSet
from facexkit.faces.mask_view import MaskView
from facexkit.faces.regions import REGIONS
from facexkit.measure.bootstrap import percentile_interval, ratio_interval, wilson_interval
from facexkit.measure.groups import group_labels
from facexkit.measure.saved import write_scores
from facexkit.models.face_model import FaceModel
from facexkit.show.readings import METHODS, Reading, points_between

NOTEBOOKS = Path(__file__).parents[2] / "notebooks"


@pytest.mark.parametrize(("right", "faces"), [(0, 2), (2, 2), (0, 30), (30, 30), (29, 30), (15, 30), (1, 1000)])
def test_the_interval_of_an_accuracy_is_wilsons_and_never_without_width(right, faces):
    table = pd.DataFrame({"group": ["a"] * faces, "correct": np.arange(faces) < right})
    row = fx.accuracy_by(table, ["group"]).loc[("group", "a")]
    expected = binomtest(right, faces).proportion_ci(method="wilson")
    assert row[["low", "high"]].tolist() == pytest.approx([expected.low, expected.high]) and row.high > row.low


@pytest.mark.parametrize("faces", [0, 1])
def test_one_face_has_no_interval(faces):
    assert np.isnan(wilson_interval(np.array([faces]), np.array([faces]))).all()
    table = pd.DataFrame({"group": ["a"], "correct": [np.nan if not faces else 1.0]})
    assert fx.accuracy_by(table, ["group"])[["low", "high"]].isna().all(axis=None)


HALF = np.repeat([0.0, 1.0], 10)[:, None]


@pytest.mark.parametrize(
    ("numerator", "denominator", "known"),
    [
        (HALF, np.ones((20, 1)), True),
        (np.full((20, 1), 0.3), np.ones((20, 1)), False),
        (np.zeros((20, 1)), np.ones((20, 1)), False),
        (np.array([[0.7]]), np.array([[1.0]]), False),
        (0.7 * (np.arange(20) == 3)[:, None], 1.0 * (np.arange(20) == 3)[:, None], False),
        (0.1 * (np.arange(20) < 2)[:, None] * np.arange(20)[:, None], 1.0 * (np.arange(20) < 2)[:, None], True),
        (np.zeros((20, 1)), np.zeros((20, 1)), False),
    ],
    ids=["halves", "all alike", "all 0", "one image", "one of twenty", "two of twenty", "none"],
)
def test_an_interval_is_there_where_images_differ(numerator, denominator, known):
    low, high = ratio_interval(numerator, denominator, replicates=200)
    assert (low[0] < high[0]) if known else (np.isnan(low[0]) and np.isnan(high[0]))


def test_replicates_that_are_all_one_number_give_no_interval():
    replicates = np.stack([np.full(50, 0.1), np.linspace(0, 1, 50), np.full(50, np.nan)], 1)
    low, high = percentile_interval(replicates)
    assert np.isnan(low[[0, 2]]).all() and np.isnan(high[[0, 2]]).all() and low[1] == pytest.approx(0.025)


@pytest.mark.parametrize(
    ("reading", "words"),
    [
        (Reading("nose", "nose", ("nose",), 0.5, np.nan, np.nan, 1, METHODS["facex"]), "0.50 (no interval, 1 image)"),
        (Reading("nose", "nose", ("nose",), 0.0, np.nan, np.nan, 30, METHODS["share"]), "0 % (no interval, 30 images)"),
        (Reading("nose", "nose", ("nose",), 0.5, 0.4, 0.6, 30, METHODS["facex"]), "0.50 (95 % interval 0.40–0.60, 30 images)"),
        (Reading("nose", "nose", ("nose",), np.nan, np.nan, np.nan, 0, METHODS["facex"]), "no data: no image has this region"),
    ],
)
def test_a_number_says_that_it_has_no_interval(reading, words):
    assert reading.sentence == words


@pytest.mark.parametrize(
    ("ends", "words"),
    [((np.nan, np.nan), "no interval"), ((-0.1, 0.2), "95 % interval −10 to 20 points"), ((0.0, 0.0), "95 % interval 0 to 0 points")],
)
def test_a_difference_says_that_it_has_no_interval(ends, words):
    assert points_between(*ends) == words


def predictions(rights, labels=("a", "b"), faces=40):
    """`faces` images a group, of which `rights` are called right."""
    truth = np.tile(["no", "yes"], len(labels) * faces // 2)
    hit = np.tile(np.arange(faces), len(labels)) < np.repeat(rights, faces)
    said = np.where(hit, truth, np.where(truth == "no", "yes", "no"))
    return pd.DataFrame({"truth": truth, "prediction": said, "skin_tone": np.repeat(labels, faces)})


@pytest.mark.parametrize(
    ("rights", "said"),
    [
        ([40, 40], "Skin tone: no difference was measured; accuracy of model 1 is 100 % in each of 2 groups (80 images)."),
        ([0, 0], "Skin tone: no difference was measured; accuracy of model 1 is 0 % in each of 2 groups (80 images)."),
        ([30, 30], "Skin tone: no difference was measured; accuracy of model 1 is 75 % in each of 2 groups (80 images)."),
        ([40, 36], "Skin tone: accuracy of model 1 is lowest for b (90 %, 40 images) and highest for a (100 %, 40 images), a gap of 10 points"),
    ],
)
def test_equal_groups_have_no_lowest_and_no_highest(rights, said):
    found = fx.audit(predictions(rights), replicates=50)
    assert fx.audit_findings(found)[0].startswith(said)


def test_groups_that_are_all_right_have_an_interval_that_ends_there():
    found = fx.audit(predictions([40, 20]), replicates=50).sel(metric="accuracy").isel(model=0)
    low, high = found.value_low.to_numpy(), found.value_high.to_numpy()
    assert 0.9 < low[0] < high[0] == 1 and low[1] < 0.5 < high[1]


def test_one_group_left_is_told_as_one_group():
    table = predictions([30, 30])
    table.loc[table.skin_tone == "b", "truth"] = None
    with pytest.raises(FacexkitError, match="column 'skin_tone' has 1 different values on 40 images"):
        fx.audit(table, replicates=5)


@pytest.mark.parametrize("as_file", [False, True])
def test_rows_without_a_truth_or_a_group_are_counted_and_told(as_file, tmp_path):
    table = predictions([30, 20])
    table.loc[[0, 1, 2], "truth"] = None
    table.loc[[5], "skin_tone"] = None
    table.to_csv(tmp_path / "mine.csv", index=False)
    found = fx.audit(tmp_path / "mine.csv" if as_file else table, replicates=20)
    assert found.attrs["without_truth"] == 3 and found.attrs["without_group"] == {"skin_tone": 1}
    assert found.images.to_numpy().tolist() == [36, 40]
    assert fx.audit_findings(found)[-2:] == [
        "Left out: 3 images without a true class.", "Left out: 1 image without a label for skin tone.",
    ]  # fmt: skip


GROUPS = {
    "leading zeros": (["1", "01", "001"] * 4, ["001", "01", "1"]),
    "whole numbers with one missing": ([1.0, 0.0, np.nan] * 4, ["0", "1"]),
    "numbers": ([1.5, 2.0] * 4, ["1.5", "2.0"]),
    "case": (["a", "A"] * 4, ["A", "a"]),
    "answers": ([True, False] * 4, ["False", "True"]),
    "words for nothing": (["None", "none"] * 4, ["None", "none"]),
}


@pytest.mark.parametrize(("column", "groups"), GROUPS.values(), ids=GROUPS)
def test_groups_are_labels_as_they_are_written(column, groups):
    labels = group_labels(pd.DataFrame({"path": "x", "g": column}), "g")
    assert sorted({*labels} - {""}) == groups


def test_groups_of_a_file_are_not_joined_by_their_numbers(tmp_path):
    predictions([30, 20, 10], ["1", "01", "001"]).to_csv(tmp_path / "mine.csv", index=False)
    found = fx.audit(tmp_path / "mine.csv", replicates=20)
    assert found.label.to_numpy().tolist() == ["001", "01", "1"] and found.images.to_numpy().tolist() == [40] * 3


def test_a_truth_with_a_gap_is_still_the_class_that_it_was(tmp_path):
    table = predictions([30, 20]).replace({"no": 0, "yes": 1}).astype({"truth": float})
    table.loc[0, "truth"] = np.nan
    found = fx.audit(table, replicates=20)
    assert found.truth.to_numpy().tolist() == ["0", "1"] and found.attrs["without_truth"] == 1


def test_truth_and_predictions_without_a_common_class_are_no_audit():
    table = predictions([30, 20]).assign(prediction="male")
    with pytest.raises(FacexkitError, match="share no class with the truth: it says no, yes, they say male"):
        fx.audit(table, replicates=5)


class Grey(nn.Module):
    """Two logits from the mean of an image."""

    def forward(self, x):
        mean = x.mean((1, 2, 3))
        return torch.stack([-mean, mean], 1)


class Layered(Grey):
    """The same, with a layer to explain."""

    def __init__(self):
        super().__init__()
        self.conv = nn.Conv2d(3, 4, 3, padding=1)

    def forward(self, x):
        return super().forward(self.conv(x).relu())


class Made:
    """Noise by path, and one mask a face: the nose in the middle, or background alone for the first `bare`."""

    names = REGIONS

    def __init__(self, bare=0):
        self.bare = bare

    def digest(self, path):
        return path.encode()


class Noise(Made):
    def read(self, path):
        pixels = np.random.default_rng(int(path.split(".")[0])).integers(0, 256, (32, 32, 3), np.uint8)
        return Image.fromarray(pixels)


class Noses(Made):
    def read(self, path):
        nose = np.zeros((32, 32), bool)
        nose[8:24, 8:24] = int(path.split(".")[0]) >= self.bare
        return {"background": ~nose, **({"nose": nose} if nose.any() else {})}


def noses(bare, protected=("gender",), faces=12):
    table = pd.DataFrame({"path": [f"{k}.png" for k in range(faces)], "gender": ["female"] * 6 + ["male"] * (faces - 6)})
    return FaceSet(table.assign(y=np.arange(faces) % 2), Noise(), Noses(bare), name="noses", target="y", protected=protected)


def net(network=Grey, **named):
    torch.manual_seed(0)
    return FaceModel(network(), name="net", image_size=32, device="cpu", **named)


@pytest.mark.parametrize("names", [["face", "face"], ["a", "b", "a"]])
def test_two_classes_of_one_name_are_told_before_anything_is_predicted(names):
    model = net(class_names=names)
    for work in (lambda: fx.predict(model, noses(0)), lambda: fx.audit(model, noses(0), min_images=1, replicates=5)):
        with pytest.raises(FacexkitError, match=f"several classes called '{names[0]}'; give class_names="):
            work()


def test_classes_that_differ_by_case_are_two():
    table = noses(0)
    table.table["y"] = np.where(np.arange(12) % 2, "A", "a")
    assert fx.predict(net(class_names=["a", "A"]), table).correct.notna().all()


@pytest.mark.parametrize("bare", [0, 3])
def test_a_face_whose_mask_is_all_background_has_no_region(bare):
    view = MaskView(REGIONS, 16)
    (batch,) = noses(bare).batches(32, 20, [view], workers=0)
    assert batch.masks[view].any((1, 2, 3)).tolist() == [k >= bare for k in range(12)]


def scored(bare, method="facex", **options):
    return fx.score_regions(net(Layered), noses(bare, **options), "conv", 1, method, progress=False)


def test_a_target_of_predictions_that_have_their_truth_is_told():
    table = pd.DataFrame({"truth": list("ab") * 10, "prediction": list("ab") * 10, "sex": list("mmff") * 5})
    with pytest.raises(FacexkitError, match="target='truth2' is what a model predicts"):
        fx.audit(table, target="truth2", min_images=1, replicates=5)


@pytest.mark.parametrize("method", ["facex", "share"])
def test_faces_without_a_mask_are_counted_by_group_and_told(method, tmp_path):
    found = scored(3, method)
    assert found.images.sel(region=["nose", "background"]).values.tolist() == [[9, 9]]
    assert found.attrs["unmasked"] == ["0.png", "1.png", "2.png"]
    assert found.attrs["unmasked_groups"] == {"gender": {"female": 3}}
    said = "Left out of all regions: 3 images without a face mask (gender: 3 female)."
    assert fx.region_findings(found)[-1] == said
    kept = fx.read_result(*write_scores(found, tmp_path))
    assert fx.region_findings([kept, found])[-1] == said
    page = fx.write_region_report(found, noses(3), tmp_path / "report.html").read_text(encoding="utf-8")
    assert said in page.replace("\N{NO-BREAK SPACE}", " ")


def test_no_word_of_masks_where_every_face_has_one():
    assert scored(0).attrs["unmasked"] == [] and not any("mask" in sentence for sentence in fx.region_findings(scored(0)))


def test_faces_without_a_mask_are_counted_where_nobody_named_groups():
    assert fx.region_findings(scored(1, protected=()))[-1] == "Left out of all regions: 1 image without a face mask."


def test_a_region_of_one_face_has_a_score_and_no_interval():
    found = scored(11).sel(region="nose")
    assert found.images == 1 and np.isfinite(found.score) and np.isnan(found.score_low) and np.isnan(found.score_high)


def test_units_are_switched_off_on_the_faces_with_a_class_and_a_group_and_the_others_are_counted():
    faces = noses(0)
    faces.table["y"] = faces.table.y.astype(float).where(faces.table.index > 1)
    faces.table.loc[5, "gender"] = None
    effects = fx.unit_effects(net(Layered), faces, "conv", "gender", {"some": [0, 1]}, progress=False)
    assert effects.attrs["left_out"] == 3 and effects.images.sum() == 9
    assert fx.effects_findings(effects, "some")[-1] == "Images without a class or group, which are left out: 3."


def test_pairs_that_are_never_matched_wrongly_have_an_interval_that_begins_at_0():
    rates = fx.error_rates([0.1] * 9 + [0.9] * 9, [0] * 9 + [1] * 9, threshold=0.5).loc[("all", "all")]
    assert (rates[["fmr", "fnmr", "fmr_low", "fnmr_low"]] == 0).all() and (rates[["fmr_high", "fnmr_high"]] > 0.25).all()


def test_each_table_of_a_layer_is_written_by_one_notebook():
    written = []
    for path in sorted(NOTEBOOKS.glob("[01]*.ipynb")):
        cells = json.loads(path.read_text(encoding="utf-8"))["cells"]
        source = "".join("".join(cell["source"]) for cell in cells if cell["cell_type"] == "code")
        for call in source.split("fx.write_dissection(")[1:]:
            given = call.split(")")[0]
            written += ["hierarchy"] * ("ranked" in given) + ["bias"] * ("bias=" in given) + ["units"] * ("dissected" in given)
    assert sorted(written) == ["bias", "hierarchy", "units"]


def test_two_models_of_one_name_are_not_taken_for_one(tmp_path):
    for folder in ("a", "b"):
        (tmp_path / folder).mkdir()
        (tmp_path / folder / "p.csv").write_text("truth,prediction,g\n" + "1,1,x\n0,1,y\n" * 2)
    files = [tmp_path / folder / "p.csv" for folder in ("a", "b")]
    with pytest.raises(FacexkitError, match="two models have one name .p."):
        fx.audit(files, protected=["g"])
    found = fx.audit(dict(zip("ab", files, strict=True)), protected=["g"], min_images=1)
    assert found.model.values.tolist() == ["a", "b"]
    with pytest.raises(FacexkitError, match="min_images cannot be -1"):
        fx.audit(files[0], protected=["g"], min_images=-1)
