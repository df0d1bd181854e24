"""Units switched off one after the other, beside loops that run the whole network for each."""

import numpy as np
import pytest
import torch

import facexkit as fx
from facexkit.errors import FacexkitError
from facexkit.measure.unit_effects import _effects


@pytest.fixture(scope="module")
def labelled(small_faces):
    """The small faces with a class each (one unknown) and two groups of unequal size (one face without)."""
    faces = small_faces[:]
    rng = np.random.default_rng(1)
    faces.table = faces.table.assign(
        kind=[f"class {k}" for k in rng.integers(0, 3, len(faces))], side=np.where(rng.random(len(faces)) < 0.35, "left", "right")
    )
    faces.table.loc[4, "kind"] = None
    faces.table.loc[9, "side"] = None
    faces.target = "kind"
    return faces


def slow_accuracies(model, faces, ablated):
    """Accuracy in all and by group, one image at a time through the whole network."""
    right = {"": [], "left": [], "right": []}
    for path, kind, side in zip(faces.table.path, faces.table.kind, faces.table.side, strict=True):
        if isinstance(kind, str) and isinstance(side, str):
            image = faces.images.read(path).resize((32, 32), 2)
            inputs = model.prepare(torch.from_numpy(np.array(image)).permute(2, 0, 1)[None])
            with torch.no_grad(), fx.ablate(model, "conv2", ablated) if ablated else torch.no_grad():
                hit = model.class_names[int(model(inputs).argmax())] == kind
            right[""].append(hit)
            right[side].append(hit)
    return {name: np.mean(hits) for name, hits in right.items()}


def test_effects_are_those_of_a_loop_through_the_whole_network(small_model, labelled):
    sets = {"one": [0], "two": [3, 5], "most": [0, 1, 2, 3, 4, 5, 6]}
    found = fx.unit_effects(small_model, labelled, "conv2", protected="side", units=sets, batch_size=7, progress=False)
    before = slow_accuracies(small_model, labelled, [])
    assert found.accuracy_before == pytest.approx(before[""])
    gap = {}
    for name, units in sets.items():
        expected, here = slow_accuracies(small_model, labelled, units), found.sel(unit=name)
        gap[name] = abs(expected["left"] - expected["right"]) - abs(before["left"] - before["right"])
        assert here.accuracy == pytest.approx(expected[""])
        assert here.accuracy_change == pytest.approx(expected[""] - before[""])
        assert here.gap_change == pytest.approx(gap[name])
        for group in ("left", "right"):
            assert here.group_accuracy.sel(group=group) == pytest.approx(expected[group])
        for change in ("gap_change", "accuracy_change"):
            low, high = here[f"{change}_low"], here[f"{change}_high"]
            assert low < high or np.isnan(low) and np.isnan(high) and here[change] == 0
    assert [gap[name] for name in found.unit.to_numpy()] == sorted(gap.values())
    assert found.images.sum() == len(labelled) - 2


def test_without_a_choice_every_unit_is_switched_off_alone(small_model, labelled):
    found = fx.unit_effects(small_model, labelled, "conv2", protected="side", progress=False)
    alone = fx.unit_effects(small_model, labelled, "conv2", protected="side", units=[6], progress=False)
    assert sorted(found.unit.to_numpy()) == list(range(8))
    for name in ("accuracy_change", "gap_change"):
        assert found.sel(unit=6)[name] == alone.sel(unit=6)[name]


def test_the_intervals_are_those_of_a_bootstrap_over_images():
    rng = np.random.default_rng(0)
    group, before, after = rng.random(300) < 0.4, rng.random(300) < 0.7, rng.random(300) < 0.6
    counts = np.zeros((1, 2, 2, 2), int)
    np.add.at(counts[0], (group.astype(int), before.astype(int), after.astype(int)), 1)
    found = _effects(counts, seed=1)
    drawn = []
    for _ in range(4000):
        own = rng.integers(0, 300, 300)
        rates = [[hit[own][group[own] == g].mean() for g in (False, True)] for hit in (before, after)]
        drawn.append((after[own].mean() - before[own].mean(), np.ptp(rates[1]) - np.ptp(rates[0])))
    for name, values in zip(("accuracy", "gap"), np.transpose(drawn), strict=True):
        low, high = np.quantile(values, [0.025, 0.975])
        assert found[f"{name}_change_low"][0] == pytest.approx(low, abs=0.015)
        assert found[f"{name}_change_high"][0] == pytest.approx(high, abs=0.015)


def test_what_cannot_be_compared_is_refused(small_model, labelled):
    with pytest.raises(FacexkitError, match="units \\[8\\]"):
        fx.unit_effects(small_model, labelled, "conv2", protected="side", units=[8])
    with pytest.raises(FacexkitError, match="unknown label column 'sides'; did you mean 'side'"):
        fx.unit_effects(small_model, labelled, "conv2", protected="sides")
    with pytest.raises(FacexkitError, match="unknown layer 'conv9'"):
        fx.unit_effects(small_model, labelled, "conv9", protected="side")
    other = labelled[:]
    other.target = "side"
    with pytest.raises(FacexkitError, match="neither the classes of 'small net'"):
        fx.unit_effects(small_model, other, "conv2", protected="side")
    other.target = None
    with pytest.raises(FacexkitError, match="has no target"):
        fx.unit_effects(small_model, other, "conv2", protected="side")
