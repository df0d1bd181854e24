from itertools import combinations

import numpy as np
import pytest
import torch

import facexkit as fx
from facexkit.errors import FacexkitError
from facexkit.faces.regions import REGIONS
from facexkit.measure.decision_share import draw_pairs
from facexkit.measure.region_scores import score_regions

SIZE, N = 8, 16
PLACES = {"u_lip": (slice(5, 6), slice(2, 6)), "nose": (slice(3, 5), slice(3, 5))}


@pytest.fixture(scope="module")
def images():
    return np.random.default_rng(0).integers(0, 256, (N, SIZE, SIZE, 3), np.uint8)


@pytest.fixture(scope="module")
def faces(faces_of, images):
    index = np.full((N, SIZE, SIZE), REGIONS.index("skin"), np.uint8)
    for name, place in PLACES.items():
        index[(slice(None), *place)] = REGIONS.index(name)
    return faces_of(images, index)


def together(x):
    """A product of lips and nose, and the lips for themselves."""
    lips, nose = (x[(slice(None), 0, *PLACES[name])].mean((1, 2)) for name in ("u_lip", "nose"))
    return 8 * lips * nose + 2 * lips + x[:, 1].mean((1, 2))


def f(image):
    return together(torch.from_numpy(image).permute(2, 0, 1)[None].double() / 255).item()


def chance(image):
    return 1 / (1 + np.exp(-f(image)))


def put(image, other, names):
    """The image with the pixels of some regions of another one."""
    image = image.copy()
    skin = np.ones((SIZE, SIZE), bool)
    for name, place in PLACES.items():
        skin[place] = False
        if name.replace("u_lip", "lips") in names:
            image[place] = other[place]
    if "skin" in names:
        image[skin] = other[skin]
    return image


def test_interactions_are_those_of_loops_over_pairs_and_of_two_that_do_nothing_together_nothing(faces, images, model_of):
    found = score_regions(model_of(together, SIZE), faces, method="share", interactions=3, progress=False)
    walked = {tuple(sorted(pair)): pair for pair in draw_pairs(N, 4, 0)[0][::-1].tolist()}
    way = sum((f(images[j]) - f(images[i])) ** 2 for i, j in walked.values())
    assert found.sizes["together"] == 3
    for two in combinations(("lips", "nose", "skin"), 2):
        excess = 0.0
        for i, j in walked.values():
            alone = sum(f(put(images[i], images[j], [name])) for name in two)
            excess += (f(put(images[i], images[j], two)) - alone + f(images[i])) ** 2
        (name,) = [name for name in found.together.values if set(str(name).split(" × ")) == set(two)]
        here = found.sel(together=name, target_class=1)
        assert here.interaction == pytest.approx((excess / way) ** 0.5, abs=1e-3)
        assert ("skin" in two) == bool(here.interaction < 1e-3)
        assert "skin" in two or here.interaction_low < here.interaction < here.interaction_high


def test_the_exchanges_shown_are_those_that_turn_the_decision_most(faces, images, model_of):
    model = model_of(together, SIZE)
    found = score_regions(model, faces, method="share", progress=False).isel(target_class=0)
    firsts, others = ([int(name[:-4]) for name in found[f"turned_{which}"].values] for which in ("image", "other"))
    assert len(set(firsts)) == 4 and set(found.turned_region.values) == {"lips"}
    turns = []
    for k, (i, j) in enumerate(zip(firsts, others, strict=True)):
        expected = [chance(images[i]), chance(images[j]), chance(put(images[i], images[j], ["lips"]))]
        np.testing.assert_allclose(found.turned_output[k], expected, atol=1e-5)
        turns.append(abs(expected[2] - expected[0]))
    every = [abs(chance(put(images[i], images[j], ["lips"])) - chance(images[i])) for i, j in draw_pairs(N, 4, 0)[0]]
    assert turns == sorted(turns, reverse=True) and turns[0] == pytest.approx(max(every))


def test_a_seam_is_blended_and_the_shares_still_add_up_to_one(faces, model_of):
    model = model_of(together, SIZE)
    hard, soft = (score_regions(model, faces, method="share", seam=seam, progress=False) for seam in (0, 2))
    assert soft.score.sum() == pytest.approx(1, abs=1e-6)
    assert abs(soft.score - hard.score).max() > 0.02
    with pytest.raises(FacexkitError, match="interactions cannot be -1"):
        fx.score_regions(model, faces, method="share", interactions=-1)
