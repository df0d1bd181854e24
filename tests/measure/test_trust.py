import numpy as np
import pytest
import torch

from facexkit.faces.regions import REGIONS
from facexkit.measure.region_scores import score_regions
from facexkit.measure.trust import DEPTHS, exchange_curves, randomized_scores, rank_agreement, shuffled

QUIET = {"progress": False}


def test_shuffling_reaches_from_the_top_down_and_keeps_the_values(small_model):
    before = [own.clone() for own in small_model.network.parameters()]
    half = shuffled(small_model, 0.5, seed=1)
    assert all(torch.equal(*two) for two in zip(before, small_model.network.parameters(), strict=True))
    moved = [not torch.equal(*two) for two in zip(before, half.network.parameters(), strict=True)]
    assert moved == sorted(moved) and 0 < sum(moved) < len(moved) and moved[-2]
    for one, two in zip(before, half.network.parameters(), strict=True):
        assert torch.equal(one.flatten().sort().values, two.flatten().sort().values)
    assert half.fingerprint() != small_model.fingerprint()


def test_the_band_holds_the_scores_of_models_with_random_weights(small_model, small_faces):
    found = randomized_scores(small_model, small_faces, target_class=2, draws=3, **QUIET)
    assert found.depth.values.tolist() == list(DEPTHS) and found.sizes["region"] == len(REGIONS) + 4
    for draw in range(3):
        other = shuffled(small_model, 1.0, draw)
        alone = score_regions(other, small_faces, target_class=2, method="share", quick=True, **QUIET).score[0]
        inside = (alone >= found.low[: len(REGIONS)].values - 1e-9) & (alone <= found.high[: len(REGIONS)].values + 1e-9)
        assert (inside | alone.isnull()).all()
        assert draw or np.allclose(alone, found.score[-1, : len(REGIONS)], equal_nan=True)


@pytest.fixture(scope="module")
def additive(faces_of, model_of):
    """A model whose decision is the lips' and three times the nose's, and faces of one layout."""
    index = np.full((24, 8, 8), REGIONS.index("skin"), np.uint8)
    index[:, 1:3, 1:7], index[:, 5:7, 1:7] = REGIONS.index("nose"), REGIONS.index("u_lip")
    images = np.random.default_rng(1).integers(0, 256, (24, 8, 8, 3), np.uint8)
    return model_of(lambda x: 3 * x[:, 0, 1:3, 1:7].mean((1, 2)) + x[:, 0, 5:7, 1:7].mean((1, 2)), 8), faces_of(images, index)


def test_curves_are_the_sums_of_the_shares_in_each_order(additive):
    orders = {"true": ["nose", "u_lip", "skin"], "false": ["skin", "u_lip", "nose"]}
    curves = exchange_curves(*additive, orders, walks=40, **QUIET)
    nose, lips = (curves.curve.sel(order="true")[k] for k in (1, 2))
    assert nose > 0.7 and lips == pytest.approx(1, abs=1e-6)
    false = curves.curve.sel(order="false")
    assert false[1] == pytest.approx(0, abs=1e-6) and false[2] == pytest.approx(1 - nose.item(), abs=1e-6)
    assert (curves.curve[:, 0] == 0).all() and np.allclose(curves.curve[:, -1], 1)
    np.testing.assert_allclose(curves.area, curves.curve[:, 1:].mean("step"), atol=1e-9)
    true, wrong, chance = (curves.sel(order=name) for name in ("true", "false", "random"))
    assert wrong.area < chance.area < true.area and true.area_low > wrong.area_high


def test_agreement_is_spearmans_over_the_regions_that_both_have(small_model, small_faces):
    facex = score_regions(small_model, small_faces, "conv2", [0, 1], "facex", **QUIET)
    share = score_regions(small_model, small_faces, None, [0, 1], "share", quick=True, **QUIET)
    table = rank_agreement([each.isel(target_class=k) for each in (facex, share) for k in (0, 1)])
    assert table[["first", "second"]].values.tolist() == [["facex conv2", "share"]] * 2
    ranks = [each.score[0].to_series().dropna().rank() for each in (facex, share)]
    both = ranks[0].index.intersection(ranks[1].index)
    assert table.rho[0] == pytest.approx(np.corrcoef(ranks[0][both].rank(), ranks[1][both].rank())[0, 1])
