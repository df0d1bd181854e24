"""A repair on faces with a known truth, before, control and after; what it writes; and what it refuses."""

import json

import numpy as np
import pytest
import torch
from safetensors import safe_open
from torch import nn

import facexkit as fx
from facexkit.errors import FacexkitError
from facexkit.mend import lessons, methods
from facexkit.mend.repair import SAMPLE
from facexkit.models.face_model import FaceModel
from facexkit.models.weights import load_weights
from tests.mend.conftest import CLASSES, SIDE, faces_of, network, taught

HOW = {"epochs": 5, "rate": 1e-2, "protected": ["agrees"], "progress": False}


@pytest.fixture(scope="module")
def better(tiny_model, tiny_faces):
    return fx.repair(tiny_model, tiny_faces, "lips", **HOW)


def test_an_exchanged_region_loses_its_share_and_who_contradicted_it_is_judged_rightly(better):
    one = better.result.sel(part="lips")
    assert one.share.sel(model="before") > 0.3 > 0.05 > one.share.sel(model="after")
    contradict = better.result.sel(group="agrees: contradict", metric="accuracy").value
    assert contradict.sel(model="after") > contradict.sel(model="before") + 0.3
    assert contradict.sel(model="control") < contradict.sel(model="before") + 0.1
    assert better.result.taken_over == ["hair"] and not better.result.nothing_else


def test_it_is_measured_on_the_held_out_faces_by_what_measures_all_else(better, tiny_faces):
    test = tiny_faces[tiny_faces.table.split == "test"]
    for state, model in (("control", better.control), ("after", better.model)):
        own, said = better.result.sel(model=state), fx.predict(model, test, progress=False)
        by = fx.accuracy_by(said, ["agrees"]).accuracy
        assert own.accuracy == pytest.approx(said.correct.astype(float).mean())
        assert own.worst == by.min() and own.worst_group == f"agrees: {by.idxmin()[1]}"
        share = fx.score_regions(model, test, method="share", **SAMPLE, progress=False)
        assert own.share.sel(part="lips") == pytest.approx(share.union_score.sel(union="lips").item(), abs=1e-6)
    assert better.result.held_out == 300 and better.result.trained_on == 300


def test_without_a_split_no_person_is_on_both_sides(tiny_model, tiny_faces, monkeypatch):
    faces, seen = tiny_faces[:], []
    faces.table = faces.table.drop(columns="split")
    keep = lambda side, *how: (seen.append({*side.table.identity}), lessons.decoded(side, *how))[1]  # noqa: E731
    monkeypatch.setattr("facexkit.mend.repair.decoded", keep)
    found = fx.repair(tiny_model, faces, "lips", held_out=0.25, **HOW | {"epochs": 1})
    assert not seen[0] & seen[1] and found.result.held_out == 150


def test_where_nothing_else_tells_the_class_the_result_says_so():
    faces = faces_of(hair_tells=0)
    found = fx.repair(taught(faces), faces, ["lips"], **HOW)
    assert found.result.nothing_else


def test_another_round_takes_away_what_took_the_place_too(tiny_model, tiny_faces):
    found = fx.repair(tiny_model, tiny_faces, "lips", rounds=2, **HOW)
    assert found.result.regions == ["lips", "hair"] and found.result.attrs["rounds"] == 2
    assert found.result.nothing_else  # lips and hair are all that tells the class


def test_the_accused_regions_are_taken_from_scores(tiny_model, tiny_faces):
    test = tiny_faces[tiny_faces.table.split == "test"]
    scores = fx.score_regions(tiny_model, test, method="share", progress=False, **SAMPLE)
    assert fx.repair(tiny_model, tiny_faces, scores, **HOW | {"epochs": 1}).result.regions[0] == "lips"


def test_only_the_named_layers_change_and_a_batch_norm_outside_keeps_its_statistics(tiny_model, tiny_faces):
    found = fx.repair(tiny_model, tiny_faces, "lips", layers=["1.0", "4"], **HOW | {"epochs": 1})
    before, after = tiny_model.network.state_dict(), found.model.network.state_dict()
    assert {key for key in before if not torch.equal(before[key], after[key])} == {"1.0.weight", "1.0.bias", "4.weight", "4.bias"}


def test_the_model_that_is_repaired_stays_as_it_was(tiny_model, better):
    assert better.result.model_fingerprint == tiny_model.fingerprint() != better.model.fingerprint()
    assert not any(weight.requires_grad for weight in better.model.network.parameters()) and not better.model.network.training


@pytest.mark.parametrize("stop", [1, 12, 55])
def test_a_killed_repair_goes_on_to_the_same_numbers(stop, tiny_model, tiny_faces, better, tmp_path, monkeypatch):
    steps, step = [], torch.optim.AdamW.step

    def killed(*given):
        if len(steps) == stop:
            raise KeyboardInterrupt
        steps.append(step(*given))

    with monkeypatch.context() as patch, pytest.raises(KeyboardInterrupt):
        patch.setattr(torch.optim.AdamW, "step", killed)
        fx.repair(tiny_model, tiny_faces, "lips", out=tmp_path, **HOW)
    monkeypatch.setattr(torch.optim.AdamW, "step", lambda *given: (steps.append(1), step(*given))[1])
    found = fx.repair(tiny_model, tiny_faces, "lips", out=tmp_path, **HOW)
    assert found.result.equals(better.result) and len(steps) <= 90 + 9
    shares = {f"share_{state}.zarr": scores for state, scores in better.shares.items()}
    assert sorted(path.name for path in tmp_path.iterdir()) == sorted(["card.md", "model.safetensors", "result.zarr", *shares])
    assert all(fx.read_result(tmp_path / name).score.equals(scores.score) for name, scores in shares.items())


METHODS = {
    "exchange": {}, "last_layer": {}, "erase": {"protected": "look"}, "erase at a layer": {"protected": "look", "layers": ["1"]},
    "ablate": {"layers": {"0": [1, 2], "1.2": [3]}},
}  # fmt: skip


@pytest.mark.parametrize("method", METHODS)
def test_what_a_method_made_is_saved_loaded_and_exported(method, tiny_model, tiny_faces, tmp_path):
    pytest.importorskip("onnx2torch", reason="the extra onnx")
    found = fx.repair(tiny_model, tiny_faces, "lips", method.split()[0], **HOW | {"epochs": 1} | METHODS[method])
    path, images = found.save(tmp_path), torch.randint(256, (5, 3, SIDE, SIDE), dtype=torch.uint8)
    expected = found.model(found.model.prepare(images))
    assert not torch.allclose(expected, tiny_model(tiny_model.prepare(images)), atol=1e-3)
    load_weights(fresh := network(), path)
    again = FaceModel(fresh, name="again", image_size=SIDE, normalize="half", class_names=CLASSES, device="cpu")
    assert torch.equal(again(again.prepare(images)), expected)
    assert again.fingerprint() == found.model.fingerprint()
    assert fx.list_layers(again).loc["1"].units == 12 and fx.predict(again, tiny_faces[:9], progress=False).output.notna().all()
    torch.onnx.export(found.model.network, torch.zeros(2, 3, SIDE, SIDE), str(tmp_path / "better.onnx"), dynamo=False,
                      dynamic_axes={"x": {0: "n"}}, input_names=["x"])  # fmt: skip
    other = fx.load_model(f"onnx:{tmp_path / 'better.onnx'}", normalize="half", device="cpu")
    torch.testing.assert_close(other(other.prepare(images)), expected, rtol=1e-3, atol=1e-4)


def test_the_card_says_what_was_done_on_which_faces_and_what_came_of_it(better, tiny_faces, tmp_path):
    with safe_open(better.save(tmp_path), "pt") as file:
        card = json.loads(file.metadata()["card"])
    assert card["model"] == "tiny" and card["method"] == "exchange" and card["faces_fingerprint"] == tiny_faces.fingerprint()
    for state in ("before", "control", "after"):
        own = better.result.sel(model=state)
        assert f"accuracy {float(own.accuracy):.1%}" in card[state] and f"lips {float(own.share.sel(part='lips')):.1%}" in card[state]
    assert f"after: {card['after']}" in (tmp_path / "card.md").read_text()
    assert fx.read_result(tmp_path / "result.zarr").accuracy.equals(better.result.accuracy)


def without(faces, **changed):
    other = faces[:]
    vars(other).update(changed)
    return other


REFUSED = {
    "unknown region 'lip'; did you mean 'lips'": {"regions": "lip"},
    "no face of 'tiny faces' has eye_g": {"regions": "eye_g"},
    "unknown repair method 'swap'": {"method": "swap"},
    "neither the classes of 'tiny'": {"target": "look"},
    "has no masks, by which 'exchange'": {"masks": None},
    "leaves 300 faces of 2 classes to train on and 10 to measure on; a repair takes 20": {"rows": np.arange(310)},
    "'last_layer' needs a column of groups": {"method": "last_layer", "protected": None},
    "unknown label column 'looks'; did you mean 'look'": {"method": "erase", "protected": "looks"},
    "unknown layer '9'": {"layers": ["9"]},
    "ablate needs layers=": {"method": "ablate"},
    "units \\[99\\]": {"method": "ablate", "layers": {"0": [99]}},
    "a rate above 0 and 1 to 3 rounds": {"rounds": 4},
    "held_out cannot be 1.5": {"held_out": 1.5},
}


@pytest.mark.parametrize("message", REFUSED)
def test_what_cannot_be_repaired_is_told_before_any_work(message, tiny_model, tiny_faces, monkeypatch):
    monkeypatch.setattr("facexkit.mend.repair.decoded", lambda *_: pytest.fail("it had begun"))
    given = HOW | REFUSED[message]
    faces = tiny_faces[given.pop("rows", np.arange(len(tiny_faces)))]
    faces = without(faces, **{name: given.pop(name) for name in ("target", "masks") if name in given})
    with pytest.raises(FacexkitError, match=message):
        fx.repair(tiny_model, faces, given.pop("regions", "lips"), **given)


class Constants(nn.Module):
    """A network whose numbers are no weights, as some that were read from a file."""

    def forward(self, x):
        with torch.no_grad():
            return x.mean((2, 3))[:, :2]


def test_a_model_that_cannot_be_trained_is_told_so(tiny_faces):
    model = FaceModel(Constants(), name="constants", image_size=SIDE, class_names=CLASSES, device="cpu")
    with pytest.raises(FacexkitError, match="'constants' cannot be trained.*nn.Module"):
        fx.repair(model, tiny_faces, "lips", **HOW)
    with pytest.raises(FacexkitError, match="'constants' does not end in a linear layer"):
        fx.repair(model, tiny_faces, "lips", "last_layer", **HOW)


def test_a_registered_method_is_called_by_its_name(tiny_model, tiny_faces):
    class Nothing(methods.RepairMethod):
        def __call__(self, task, control):
            return task.twin()

    methods.REPAIRS.register("nothing")(Nothing)
    try:
        found = fx.repair(tiny_model, tiny_faces, "lips", "nothing", **HOW)
    finally:
        del methods.REPAIRS.found["nothing"]
    assert found.result.accuracy.sel(model="after") == found.result.accuracy.sel(model="before") and not found.result.taken_over
