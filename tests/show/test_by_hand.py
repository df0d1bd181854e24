"""A FaceX score by hand is the score."""

import re

import pytest

import facexkit as fx
from facexkit.faces.regions import REGIONS


@pytest.mark.parametrize("region", ["cloth", "background"])
def test_what_is_counted_on_one_face_is_its_score(demo_models, region):
    faces, model, how = fx.load_faces("synthetic", limit=6), demo_models["biased"], {"progress": False, "workers": 0}
    scores = fx.score_regions(model, faces, "layer4", 1, **how).isel(target_class=0)
    maps = fx.attribution_maps(model, faces[3:], "layer4", 1, **how)
    figure = fx.plot_one_face(maps, faces[3:], region, image=2)
    counted = re.fullmatch(r"of (\d+) pixels of the \w+\n(\d+) are lit: score ([\d.]+)", figure.axes[3].get_title())
    score = float(scores.per_image.sel(region=region)[5])
    assert int(counted[2]) / int(counted[1]) == pytest.approx(score) and 0 < score < 1
    assert float(counted[3]) == pytest.approx(score, abs=0.005)


def test_a_face_without_the_region_is_told(demo_models):
    faces, how = fx.load_faces("synthetic", limit=6), {"progress": False, "workers": 0}
    bare = int(faces.table.index[faces.table.hat == 0][0])
    maps = fx.attribution_maps(demo_models["biased"], faces, "layer4", 1, **how)
    with pytest.raises(fx.FacexkitError, match="shows nothing of hat"):
        fx.plot_one_face(maps, faces, "hat", bare)


def test_without_a_choice_it_is_the_region_of_which_most_is_lit(demo_models):
    faces, model, how = fx.load_faces("synthetic", limit=3), demo_models["biased"], {"progress": False, "workers": 0}
    scores = fx.score_regions(model, faces, "layer4", 1, **how).isel(target_class=0, image=0)
    figure = fx.plot_one_face(fx.attribution_maps(model, faces, "layer4", 1, **how), faces)
    best = scores.per_image.sel(region=list(REGIONS[1:])).max()
    assert figure.axes[3].get_title().endswith(f"score {float(best):.2f}")
