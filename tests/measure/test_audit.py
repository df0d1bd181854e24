"""Metrics by group beside fairlearn's, intervals beside a loop over drawn images."""

import numpy as np
import pandas as pd
import pytest
from fairlearn import metrics as peer
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.stats import binomtest, gmean
from sklearn.metrics import accuracy_score, balanced_accuracy_score

import facexkit as fx
from facexkit.errors import FacexkitError
from facexkit.measure.audit import METRICS
from facexkit.measure.predictions import predictions_of


def predictions(count=240, seed=0, classes=("no", "yes"), wrong=0.25):
    """Predictions that are wrong more often in group "b", with a confidence and two attributes."""
    rng = np.random.default_rng(seed)
    truth = rng.choice(classes, count)
    group = rng.choice(["a", "b", "c"], count, p=[0.5, 0.35, 0.15])
    miss = rng.random(count) < np.where(group == "b", 2 * wrong, wrong)
    prediction = np.where(miss, rng.choice(classes, count), truth)
    shade = rng.choice(["bright", "dark"], count)
    return pd.DataFrame(
        {"truth": truth, "prediction": prediction, "confidence": rng.random(count), "group": group, "shade": shade}
    )


def audit(*tables, **how):
    return fx.audit(list(tables), **{"replicates": 50, "min_images": 1, **how})


def slow_calibration_error(truth, prediction, confidence):
    error = 0
    for low in np.arange(10) / 10:
        inside = (confidence >= low) & ((confidence < low + 0.1) | (low == 0.9))
        if inside.any():
            error += inside.mean() * abs((truth == prediction)[inside].mean() - confidence[inside].mean())
    return error


def test_metrics_by_group_are_fairlearns():
    table = predictions()
    frame = peer.MetricFrame(
        metrics={
            "accuracy": accuracy_score, "balanced_accuracy": balanced_accuracy_score,
            "selection_rate": lambda y, p: peer.selection_rate(y, p, pos_label="yes"),
            "true_positive_rate": lambda y, p: peer.true_positive_rate(y, p, pos_label="yes"),
            "false_positive_rate": lambda y, p: peer.false_positive_rate(y, p, pos_label="yes"),
            "calibration_error": slow_calibration_error,
        },
        y_true=table.truth, y_pred=table.prediction, sensitive_features=table.group,
        sample_params={"calibration_error": {"confidence": table.confidence.to_numpy()}},
    )  # fmt: skip
    found = audit(table).isel(model=0)
    for group, row in frame.by_group.iterrows():
        for metric in METRICS:
            assert found.value.sel(group=f"group: {group}", metric=metric) == pytest.approx(row[metric]), metric
        assert found.images.sel(group=f"group: {group}") == (table.group == group).sum()
    gaps = found.gap_size.sel(attribute="group")
    for metric in METRICS:
        assert gaps.sel(metric=metric, gap="difference") == pytest.approx(frame.difference()[metric])
        assert gaps.sel(metric=metric, gap="ratio") == pytest.approx(1 / frame.ratio()[metric])
        assert gaps.sel(metric=metric, gap="deviation") == pytest.approx(frame.by_group[metric].std(ddof=0))
    yes = {name: (table[name] == "yes").astype(int) for name in ("truth", "prediction")}
    for rule in ("demographic_parity_difference", "equalized_odds_difference"):
        expected = getattr(peer, rule)(yes["truth"], yes["prediction"], sensitive_features=table.group)
        assert found.criterion.sel(attribute="group", rule=rule) == pytest.approx(expected)


def test_intersections_are_groups_and_small_ones_are_not_ranked():
    table = predictions(90)
    found = audit(table, min_images=12).isel(model=0)
    both = table.group + " × " + table.shade
    own = found.sel(group=found.attribute_of == "group × shade")
    assert dict(zip(own.label.to_numpy(), own.images.to_numpy(), strict=True)) == both.value_counts().to_dict()
    small = both.value_counts()[lambda n: n < 12].index
    assert len(small) and set(own.label.to_numpy()[~own.ranked.to_numpy()]) == set(small)
    accuracy = (table.truth == table.prediction).groupby(both).mean().drop(small)
    gap = found.gap_size.sel(attribute="group × shade", metric="accuracy")
    assert gap.sel(gap="difference") == pytest.approx(accuracy.max() - accuracy.min())
    assert own.value.sel(metric="accuracy").notnull().all()
    alone = audit(table, min_images=(table.group == "a").sum(), protected=["group"]).isel(model=0)
    assert alone.ranked.sum() == 1 and alone.gap_size.isnull().all()


def test_intervals_are_those_of_a_loop_over_drawn_images_and_models_share_the_draw():
    tables = [predictions(90), predictions(90).assign(prediction=predictions(90, wrong=0.1).prediction)]
    found = audit(*tables, protected=["group"], seed=4, replicates=60)
    rng, drawn = np.random.default_rng(4), []
    for _ in range(60):
        rows = rng.integers(0, 90, 90)
        right = [(table.truth == table.prediction).iloc[rows].groupby(table.group.iloc[rows].to_numpy()).mean() for table in tables]
        drawn.append([right[1]["b"] - right[0]["b"], np.ptp(right[1]) - np.ptp(right[0])])
    low, high = np.quantile(drawn, [0.025, 0.975], axis=0)
    b = found.sel(group="group: b", metric="accuracy")
    changed, gap = b.isel(model=1), found.isel(model=1).sel(attribute="group", metric="accuracy", gap="difference")
    for place, numbers, name in ((0, changed, "value_change"), (1, gap, "gap_size_change")):
        ends = [low[place], high[place]] if low[place] < high[place] else [np.nan, np.nan]
        assert [numbers[f"{name}_low"], numbers[f"{name}_high"]] == pytest.approx(ends, nan_ok=True)
    hits = (tables[0].truth == tables[0].prediction)[tables[0].group == "b"]
    ends = binomtest(int(hits.sum()), len(hits)).proportion_ci(method="wilson")
    assert [b.isel(model=0).value_low, b.isel(model=0).value_high] == pytest.approx([*ends])
    assert (found.isel(model=0).value_change.fillna(0) == 0).all()


def test_max_over_geometric_mean_is_that_of_the_groups():
    table = predictions()
    found = audit(table, protected=["group"]).isel(model=0, attribute=0)
    rates = (table.truth == table.prediction).groupby(table.group).mean()
    assert found.gap_size.sel(metric="accuracy", gap="over_geomean") == pytest.approx(rates.max() / gmean(rates))


def test_a_gap_has_the_q_value_of_shuffled_groups_and_one_family_for_all():
    """Group b is wrong twice as often; shade tells nothing. A plain loop shuffles the groups of one attribute."""
    table = predictions(600, seed=2, wrong=0.4)
    found = audit(table, replicates=400).isel(model=0)
    accuracy = found.sel(metric="accuracy")
    assert accuracy.q_value.sel(attribute="group") < 0.05 < accuracy.q_value.sel(attribute="shade")
    right, rng, apart = (table.truth == table.prediction).to_numpy(), np.random.default_rng(0), []
    for _ in range(400):
        apart.append(np.ptp([right[own].mean() for own in map(rng.permutation(table.group).__eq__, "abc")]))
    assert accuracy.by_chance.sel(attribute="group") == pytest.approx(np.mean(apart), rel=0.1)
    every = np.concatenate([found[name].values.ravel() for name in ("q_value", "q_criterion")])
    assert (np.nan_to_num(every) <= 1).all() and np.isfinite(every).sum() == 3 * (6 + 2)


def test_base_rates_alone_make_no_gap_in_the_rates_of_a_class():
    """Twice as many of one group are truly "yes": selected more often, and hit and falsely alarmed as often."""
    rng = np.random.default_rng(5)
    group = np.repeat(["a", "b"], 400)
    truth = rng.random(800) < np.where(group == "a", 0.6, 0.3)
    said = np.where(rng.random(800) < 0.85, truth, ~truth)
    found = audit(pd.DataFrame({"truth": truth, "prediction": said, "group": group}), replicates=200).isel(model=0, attribute=0)
    q = found.q_value.to_series()
    assert q.selection_rate < 0.05 < min(q.true_positive_rate, q.false_positive_rate)
    assert found.q_criterion.to_series().tolist() == pytest.approx([q.selection_rate, found.q_criterion.values[1]])


def test_results_carry_what_made_them(small_model, small_faces):
    faces = small_faces[:]
    faces.table = faces.table.assign(kind=[f"class {k % 3}" for k in range(20)], side=["left", "right"] * 10)
    made = fx.audit(small_model, faces, target="kind", protected=["side"], replicates=5, min_images=1).attrs["made_by"]
    assert made["small net"]["model_fingerprint"] == small_model.fingerprint()
    assert fx.predict(small_model, faces, progress=False).attrs["made_by"]["faces_fingerprint"] == faces.fingerprint()


@settings(max_examples=15, deadline=None)
@given(st.permutations(range(60)), st.sampled_from([("no", "yes"), ("old", "young", "younger")]))
def test_the_order_of_the_images_does_not_matter(order, classes):
    table = predictions(60, classes=classes)
    one, other = audit(table, replicates=1), audit(table.iloc[list(order)], replicates=1)
    for name in ("value", "gap_size", "criterion", "confusion", "images"):
        np.testing.assert_allclose(one[name], other[name])
    assert one.attrs["positive"] == ("yes" if len(classes) == 2 else "")
    assert one.value.sel(metric="true_positive_rate").isnull().all() == (len(classes) > 2)


def test_confusion_counts_images_by_truth_and_prediction():
    table = predictions(80)
    found = audit(table).isel(model=0)
    own = table[table.group == "b"]
    expected = pd.crosstab(own.truth, own.prediction)
    np.testing.assert_array_equal(found.confusion.sel(group="group: b"), expected)
    assert list(found.truth.to_numpy()) == list(expected.index)


def test_a_rate_without_images_to_count_is_no_number():
    table = predictions(60).assign(truth="no", confidence=0.5)
    table.loc[0, ["truth", "prediction"]] = "yes"
    table["group"] = np.where(np.arange(60) < 30, "a", "b")
    found = audit(table, protected=["group"]).isel(model=0).value.sel(metric="true_positive_rate")
    assert found.sel(group="group: a") == 1 and found.sel(group="group: b").isnull()
    assert audit(table.drop(columns="confidence")).value.sel(metric="calibration_error").isnull().all()


def test_a_file_of_predictions_is_audited_like_the_table(tmp_path):
    table = predictions(60)
    table.to_csv(tmp_path / "mine.csv", index=False)
    found = fx.audit(tmp_path / "mine.csv", replicates=20, min_images=1)
    assert list(found.model.to_numpy()) == ["mine"]
    np.testing.assert_allclose(found.value, audit(table, replicates=20).value)


def test_a_model_is_audited_on_the_faces_that_have_a_label(small_model, small_faces):
    faces = small_faces[:]
    faces.table = faces.table.assign(kind=[f"class {k % 3}" for k in range(20)], side=["left", "right"] * 10)
    faces.table.loc[3, "kind"] = None
    found = fx.audit(small_model, faces, target="kind", protected=["side"], replicates=10, min_images=1)
    table = predictions_of(small_model, faces, "kind")
    assert len(table) == 19 and found.images.sum() == 19
    right = (table.truth == table.prediction).groupby(table.side).mean()
    for side in ("left", "right"):
        assert found.value.sel(group=f"side: {side}", metric="accuracy").item() == pytest.approx(right[side])
    assert table.confidence.between(1 / 3, 1).all()


@pytest.mark.parametrize(
    ("change", "how", "said"),
    [
        (lambda t: t.drop(columns="truth"), {}, "no column 'truth'"),
        (lambda t: t.assign(confidence=1.5), {}, "row 1: confidence 1.5"),
        (lambda t: t.assign(prediction=[None, *t.prediction[1:]]), {}, "row 1: no prediction"),
        (lambda t: t, {"protected": ["groop"]}, "did you mean 'group'"),
        (lambda t: t, {"positive": "yess"}, "did you mean 'yes'"),
        (lambda t: t[["truth", "prediction"]], {}, "needs groups"),
        (lambda t: t[:0], {}, "nothing to audit"),
    ],
)
def test_predictions_that_cannot_be_audited_are_told(change, how, said):
    with pytest.raises(FacexkitError, match=said):
        audit(change(predictions(40)), **how)


def test_models_must_have_seen_the_same_images():
    with pytest.raises(FacexkitError, match="'model 2' are not for the images of the first"):
        audit(predictions(40), predictions(40, seed=1))
