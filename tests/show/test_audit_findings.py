"""An audit in words, pictures and files, from predictions with known numbers."""

import numpy as np
import pandas as pd
import pytest
import xarray as xr

import facexkit as fx
from facexkit.show.audit import label_of


def predictions(right):
    """200 images: `right` of the 100 women and 90 of the 100 men are called right; three have a hat."""
    truth = np.tile(["no", "yes"], 100)
    wrong = np.where(truth == "no", "yes", "no")
    count = np.tile(np.arange(100), 2)
    hit = count < np.repeat([right, 90], 100)
    hat = np.where(np.arange(200) < 3, "1", "0")
    return pd.DataFrame(
        {"truth": truth, "prediction": np.where(hit, truth, wrong), "gender": np.repeat(["female", "male"], 100), "hat": hat}
    )


@pytest.fixture(scope="module")
def found():
    return fx.audit({"old": predictions(70), "<new>": predictions(88)}, replicates=200)


def test_the_widest_gap_comes_first_with_its_groups_and_images(found):
    said = fx.audit_findings(found)
    assert said[0].startswith(
        "Gender: accuracy of old is lowest for female (70 %, 100 images) and highest for male (90 %, 100 images), a gap of "
        "20 points (95 % interval "
    )
    assert said[1].startswith("Gender: accuracy of <new> is lowest for female (88 %")
    assert said[2].startswith("Gender: the gap of <new> is 18 points narrower than that of old (difference: 95 % interval −2")
    assert "may be chance" not in said[2]


def test_groups_that_are_too_small_are_told_and_not_compared(found):
    assert "Hat: fewer than two groups have 30 images, so old is not compared there." in fx.audit_findings(found)


def test_a_difference_that_may_be_chance_is_called_so():
    same = fx.audit({"old": predictions(85), "new": predictions(86)}, protected=["gender"], replicates=200)
    assert fx.audit_findings(same)[-1].endswith("which may be chance.")


def test_groups_that_are_too_small_are_named_with_their_size(found):
    small = [sentence for sentence in fx.audit_findings(found) if "too small" in sentence]
    assert small[0] == "Hat: too small to say anything, with fewer than 30 images: hat (3)."
    assert small[1].startswith("Gender × hat: too small") and small[1].endswith(": female × hat (3).")


def test_of_many_small_groups_that_are_alike_no_gap_is_called_more_than_chance():
    rng = np.random.default_rng(1)
    truth, group = rng.choice(["no", "yes"], 600), rng.choice([*"abcdefghijklmno"], 600)
    table = pd.DataFrame({"truth": truth, "prediction": np.where(rng.random(600) < 0.8, truth, "no"), "group": group})
    found = fx.audit(table, replicates=200, min_images=20)
    gap = found.isel(model=0, attribute=0).sel(metric="accuracy", gap="difference")
    assert gap.gap_size > 0.15 and gap.gap_size_low == 0 and gap.q_value > 0.05
    assert "which may be chance: of alike groups of these sizes best and worst lie" in fx.audit_findings(found)[0]


@pytest.fixture
def with_faces(drawn_faces):
    faces = drawn_faces[:]
    wrong = np.arange(len(faces)) % 3 == 0
    truth = faces.table.gender.to_numpy()
    other = np.where(truth == "male", "female", "male")
    said = {"path": faces.table.path, "truth": truth, "prediction": np.where(wrong, other, truth), "skin_tone": faces.table.skin_tone}
    return faces, pd.DataFrame(said | {"confidence": np.linspace(0.5, 0.99, len(faces))})


def test_the_most_confident_mistakes_of_each_group_are_shown(with_faces, tmp_path):
    faces, table = with_faces
    found = fx.audit(table, protected=["skin_tone"], replicates=20, min_images=2)
    wrong = table[table.truth != table.prediction].sort_values("confidence", ascending=False)
    figure = fx.plot_mistakes(found, faces, "skin_tone")
    for place, tone in enumerate(found.label.values):
        own = wrong[wrong.skin_tone == tone][:4]
        assert found.mistake_path.values[0, place, : len(own)].tolist() == own.path.tolist()
        titles = [ax.get_title() for ax in figure.axes[4 * place : 4 * place + len(own)]]
        assert titles == [f"{row.truth} → {row.prediction}, {row.confidence:.0%}" for row in own.itertuples()]
    mistakes = pd.read_csv(fx.write_audit(tmp_path, found)[2])
    assert len(mistakes) == found.mistake_path.values.astype(bool).sum()
    page = fx.write_audit_page(found, tmp_path / "audit.html", faces).read_text()
    assert page.count('<img src="data:image/png') == 1 and "Wilson" in page and "What could not be estimated" in page
    for attribute, label in zip(found.attribute_of.values, found.label.values, strict=True):
        assert f"{attribute.replace('_', ' ')}: {label}" in page
    assert "Every gap" in page


def test_a_page_without_a_gap_has_no_empty_table(found, tmp_path):
    none = found.assign(q_value=found.q_value * np.nan, q_criterion=found.q_criterion * np.nan)
    page = fx.write_audit_page(none, tmp_path / "audit.html").read_text()
    assert "Every group" in page and "Every gap" not in page


def test_labels_read_as_people_say_them():
    assert label_of("gender × hat", "female × 0") == "female × no hat"
    assert label_of("age", "twenty_to_forty") == "twenty to forty"


def test_pictures_name_every_group_and_mark_small_ones(found):
    figure = fx.plot_audit(found)
    texts = [label.get_text() for ax in figure.axes for label in ax.get_yticklabels()]
    assert "female (100)" in texts and "hat (3, not ranked)" in texts
    assert "a gap of 20 points" in figure.get_suptitle()
    cells = [text.get_text() for ax in fx.plot_confusion(found, "gender", "old").axes for text in ax.texts]
    assert cells[:4] == ["70%\n35", "30%\n15", "30%\n15", "70%\n35"]


@pytest.fixture
def effects():
    change = np.array([-0.2, 0.01])
    values = {
        "accuracy": [0.8, 0.7], "gap": [0.1, 0.31], "accuracy_change": [0.1, 0.0], "gap_change": change,
        "gap_change_low": change - 0.05, "gap_change_high": change + 0.05,
    }  # fmt: skip
    return xr.Dataset(
        {name: ("unit", value) for name, value in values.items()}
        | {
            "gap_before": 0.3, "accuracy_before": 0.7, "group_accuracy_before": ("group", [0.55, 0.85]),
            "group_accuracy": (("unit", "group"), [[0.75, 0.85], [0.54, 0.85]]), "images": ("group", [50, 50]),
        },
        {"unit": ["lip detectors", "random 1"], "group": ["a", "b"]},
        {"layer": "layer1", "by": "lips", "model": "m", "sets": {"lip detectors": [1, 5], "random 1": [2, 3]}},
    )  # fmt: skip


def test_effects_are_told_beside_random_units(effects):
    assert " ".join(fx.effects_findings(effects, "lip detectors", "random")) == (
        "Switching off 2 units of layer1 (lip detectors) moves the gap between lips from 30 points to 10 points (change: "
        "95 % interval −25 to −15 points); accuracy: a 55 % → 75 %, b 85 % → 85 %. 1 random sets of as many units: to 31 "
        "points on average."
    )
    names = [text.get_text() for text in fx.plot_effects(effects, ["lip detectors"]).axes[0].texts]
    assert names == ["lip detectors"]


def test_tables_hold_every_group_gap_and_unit(found, effects, tmp_path):
    groups, gaps, units = map(pd.read_csv, fx.write_audit(tmp_path, found, effects))
    assert gaps.q_value.between(0, 1).sum() == 2 * 2 * 5 * 4
    female = groups[(groups.group == "gender: female") & (groups.model == "old") & (groups.metric == "accuracy")]
    assert female.value.item() == pytest.approx(0.7) and female.images.item() == 100 and bool(female.ranked.item())
    row = gaps[(gaps.attribute == "gender") & (gaps.gap == "difference") & (gaps.model == "<new>") & (gaps.metric == "accuracy")]
    assert row.gap_size.item() == pytest.approx(0.02) and row.gap_size_change.item() == pytest.approx(-0.18)
    assert units.gap_change.tolist() == [-0.2, 0.01] and (tmp_path / "gaps.parquet").exists()
