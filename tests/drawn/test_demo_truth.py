"""The planted truth: by decision share, lips carry the biased demo model and next to nothing of the fair one."""

import numpy as np
import pytest

from facexkit.drawn.demo import demo_faces
from facexkit.measure.dissection import dissect
from facexkit.measure.region_scores import score_regions
from facexkit.measure.unit_effects import unit_effects


def test_the_lips_carry_the_largest_part_of_the_biased_model_and_little_of_the_fair_one(demo_models):
    faces = demo_faces("biased", split="test")
    for name, model in demo_models.items():
        found = score_regions(model, faces, target_class="male", method="share", images=128, progress=False)
        share = found.score[0].to_pandas()
        lips = share.u_lip + share.l_lip
        others = share.drop(["u_lip", "l_lip"]).max()
        assert lips > others if name == "biased" else lips < 0.1 < others
        assert found.score.sum() == pytest.approx(1, abs=1e-6)


def test_without_its_lip_detectors_the_biased_model_is_less_biased_than_without_random_units(demo_models):
    model, faces = demo_models["biased"], demo_faces("biased", split="test")[:400]
    found = dissect(model, faces[::3], "layer1", progress=False)
    lips = found.interpretable & found.best_concept.isin(["u_lip", "l_lip", "lips", "mouth"])
    detectors = np.flatnonzero(lips).tolist()
    assert detectors
    random = np.random.default_rng(0)
    sets = {k: random.choice(found.sizes["unit"], len(detectors), replace=False).tolist() for k in "abcdefgh"}
    effects = unit_effects(model, faces, "layer1", "agrees", {"lips": detectors, **sets}, progress=False)
    change = effects.gap_change.to_pandas()
    assert effects.gap_before > 0.4
    assert change["lips"] < 1.5 * change.drop("lips").mean() and change["lips"] < -0.1
