"""The planted truth: by decision share, lips carry the biased demo model and next to nothing of the fair one."""

from facexkit.measure.region_scores import score_regions
from facexkit.models.demo import demo_faces


def test_the_lips_carry_the_largest_part_of_the_biased_model_and_little_of_the_fair_one(demo_models):
    faces = demo_faces("biased", split="test")
    for name, model in demo_models.items():
        found = score_regions(model, faces, target_class="male", method="share", images=128, progress=False)
        share = found.score.to_pandas()
        lips = share.u_lip + share.l_lip
        others = share.drop(["u_lip", "l_lip"]).max()
        assert lips > others if name == "biased" else lips < 0.1 < others
        assert 0.8 < found.total < 1.25
