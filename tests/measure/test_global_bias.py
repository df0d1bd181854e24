"""Units that lean to a group: the definition in loops, chance under shuffled labels, and a planted shortcut."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest
import torch
import xarray as xr
from scipy.stats import f_oneway, rankdata

from facexkit.drawn.demo import teach
from facexkit.errors import FacexkitError
from facexkit.faces.faceset import FaceSet
from facexkit.faces.formats import load_faces
from facexkit.measure.dissection import dissect
from facexkit.measure.global_bias import global_bias
from facexkit.models.face_model import FaceModel
from facexkit.models.preprocess import Preprocess
from facexkit.models.small_network import SmallNetwork


class Named:
    """A stand-in for a model or an image source whose content does not matter."""

    name, image_size, masks, preprocess = "numbers", 8, None, Preprocess(8)

    def fingerprint(self) -> str:
        return "0" * 16

    def digest(self, path: str) -> bytes:
        return path.encode()


def activations(count: int = 200, units: int = 60, seed: int = 0) -> tuple[FaceSet, xr.Dataset]:
    """Faces whose units know nothing of their labels, but for unit 1 (men) and unit 2 (old); unit 0 is dead."""
    rng = np.random.default_rng(seed)
    table = pd.DataFrame(
        {
            "path": [f"{n}.png" for n in range(count)],
            "gender": rng.choice(["female", "male"], count, p=(0.7, 0.3)),
            "age": rng.choice(["child", "grown", "old"], count, p=(0.2, 0.5, 0.3)),
            "smiling": np.where(rng.random(count) < 0.2, np.nan, rng.integers(0, 2, count)),
        }
    )
    common = rng.normal(size=(count, 1))
    maximum = 0.5 * common + rng.normal(size=(count, units))  # units of a layer go together
    maximum[:, 0] = 0.3
    maximum[:, 1] += 1.5 * (table.gender == "male")
    maximum[:, 2] += 1.5 * (table.age == "old")
    minimum = np.where(np.arange(units) == 0, 0.3, maximum.min(0) - rng.random(units))
    found = xr.Dataset(
        {"maximum": (("image", "unit"), maximum), "minimum": ("unit", minimum)},
        {"image": table.path.to_numpy(object), "unit": np.arange(units)},
        {"layer": "layer"},
    )
    return FaceSet(table, Named(), name="numbers"), found


def bias_of(faces: FaceSet, found: xr.Dataset, attributes, **how) -> xr.Dataset:
    return global_bias(Named(), faces, "layer", attributes, found=found, progress=False, **how)


def test_probabilities_and_effects_are_those_of_the_definition():
    faces, found = activations()
    bias = bias_of(faces, found, ["gender", "age", "smiling"], permutations=50)
    for attribute in ("gender", "age", "smiling"):
        labelled = faces.table[attribute].notna().to_numpy()
        labels = faces.table[attribute][labelled]
        labels = labels.astype(int).astype(str) if attribute == "smiling" else labels
        part = bias.sel(attribute=attribute)
        for unit in (1, 2, 17):
            values, low = found.maximum.to_numpy()[:, unit], float(found.minimum[unit])
            s = ((values - low) / (values.max() - low))[labelled]
            rs = pd.Series(s * rankdata(s) / len(s), index=labels)
            means = rs.groupby(level=0).mean()
            here = part.sel(unit=unit)
            counts = here.images.to_series()
            assert counts[counts > 0].to_dict() == labels.value_counts().to_dict()
            np.testing.assert_allclose(here.probability.dropna("group"), means / means.sum())
            assert list(here.probability.dropna("group").group.to_numpy()) == list(means.index)
            within = sum(((group - group.mean()) ** 2).sum() for _, group in rs.groupby(level=0))
            eta2 = 1 - within / ((rs - rs.mean()) ** 2).sum()
            assert here.effect.item() == pytest.approx(eta2)


def test_planted_units_are_found_with_their_group_and_a_dead_unit_leans_nowhere():
    bias = bias_of(*activations(), ["gender", "age"])
    assert bias.leans_to.sel(attribute="gender", unit=1) == "male"
    assert bias.leans_to.sel(attribute="age", unit=2) == "old"
    dead = bias.sel(unit=0)
    assert (dead.p_value == 1).all() and (dead.effect == 0).all() and (dead.leans_to == "").all()
    np.testing.assert_allclose(dead.probability.sel(attribute="age").dropna("group"), 1 / 3)
    assert bias.probability.sel(attribute="gender", group="old").isnull().all()


def test_p_values_agree_with_analysis_of_variance():
    faces, found = activations()
    bias = bias_of(faces, found, "age", permutations=2000).sel(attribute="age")
    for unit in range(1, 30):
        values = found.maximum.to_numpy()[:, unit]
        s = (values - values.min()) / np.ptp(values)
        low = float(found.minimum[unit])
        s = (values - low) / (values.max() - low)
        rs = s * rankdata(s) / len(s)
        p = f_oneway(*(rs[faces.table.age == g] for g in ("child", "grown", "old"))).pvalue
        assert bias.p_value.item(unit) == pytest.approx(p, abs=0.045)


def test_shuffled_labels_are_significant_no_more_often_than_chance():
    before, after = [], []
    for seed in range(20):
        faces, found = activations(seed=seed)
        faces.table["shuffled"] = np.random.default_rng(seed).permutation(faces.table.age)
        bias = bias_of(faces, found, "shuffled", permutations=200, seed=seed)
        before.append((bias.p_value < 0.05).mean().item())
        after.append((bias.leans_to != "").sum().item())
    assert np.mean(before) <= 0.05
    assert np.mean(after) <= 0.2


def test_the_same_seed_gives_the_same_p_values():
    faces, found = activations()
    one, same, other = (bias_of(faces, found, "gender", permutations=99, seed=s).p_value for s in (0, 0, 1))
    assert one.equals(same) and not one.equals(other)
    assert one.min() >= 1 / 100


@pytest.mark.parametrize(
    ("attributes", "message"),
    [
        (["gendre"], "did you mean 'gender'"),
        (["number"], "200 different values"),
        (["same"], "1 different values"),
        ([], "needs attributes"),
    ],
)
def test_a_column_that_makes_no_groups_is_refused(attributes, message):
    faces, found = activations()
    faces.table = faces.table.assign(number=np.arange(200), same="x")
    with pytest.raises(FacexkitError, match=message):
        bias_of(faces, found, attributes)


@pytest.mark.parametrize(("layer", "model"), [("other", "0" * 16), ("layer", "1" * 16)])
def test_a_dissection_of_another_layer_or_model_is_refused(layer, model):
    faces, found = activations()
    with pytest.raises(FacexkitError, match="dissect these"):
        global_bias(Named(), faces, layer, ["gender"], found=found.assign_attrs(model_fingerprint=model))


SIDE = 64


def taught(images: torch.Tensor, labels: torch.Tensor) -> FaceModel:
    with torch.random.fork_rng():
        torch.manual_seed(0)
        network = SmallNetwork()
        teach(network, images, labels, title="teaching")
    return FaceModel(network, name="taught", image_size=SIDE, normalize="half", device="cpu")


@pytest.fixture(scope="module")
def planted() -> tuple[FaceSet, FaceModel, FaceModel]:
    """Test faces, a model taught gender on faces where skin tone tells it, and one taught where it does not."""
    faces = load_faces("synthetic", limit=800, size=SIDE)
    train = faces[faces.table.split == "train"]
    images = torch.cat([batch.images for batch in train.batches(SIDE, 60, workers=0)])
    labels = torch.from_numpy((train.table.gender == "male").to_numpy().astype(int))
    tells = np.flatnonzero((train.table.gender == "male") == (train.table.skin_tone == "dark"))
    biased, fair = (taught(images[chosen], labels[chosen]) for chosen in (tells, np.arange(len(tells))))
    return faces[faces.table.split == "test"][:140], biased, fair


def test_units_lean_to_a_planted_skin_tone_and_fewer_in_a_fair_model(planted):
    faces, biased, fair = planted
    found = [global_bias(m, faces, "layer4", ["skin_tone"], permutations=500, progress=False) for m in (biased, fair)]
    lean = [(b.leans_to != "").sum().item() for b in found]
    strong = [((b.leans_to != "") & (b.effect > 0.14)).sum().item() for b in found]
    assert lean[0] > lean[1] and strong[0] > 10 > strong[1] / 2, (lean, strong)


def test_the_pass_of_its_own_gives_what_a_dissection_gives(planted):
    faces, biased, _ = planted
    faces = faces[:60]
    own = global_bias(biased, faces, "layer3", ["gender"], permutations=20, progress=False, batch_size=7)
    found = dissect(biased, faces, "layer3", concepts=["nose"], mask_size=16, progress=False)
    xr.testing.assert_allclose(own, global_bias(biased, faces, "layer3", ["gender"], 20, found=found, progress=False))
