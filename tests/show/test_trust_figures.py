import numpy as np
import pandas as pd
import pytest
import xarray as xr

from facexkit.faces.regions import REGIONS, UNIONS
from facexkit.show.trust import beyond_random, plot_curves, plot_randomized, trust_findings

AGREEMENT = pd.DataFrame({"first": ["share"], "second": ["facex layer4"], "rho": [0.31], "regions": [18]})


@pytest.fixture
def random():
    names = [*REGIONS, *UNIONS]
    return xr.Dataset({"low": ("region", np.full(len(names), -0.1)), "high": ("region", np.full(len(names), 0.3))}, {"region": names})


@pytest.fixture
def curves():
    area = {"area": [0.7, 0.5, 0.4], "area_low": [0.6, 0.4, 0.35], "area_high": [0.8, 0.6, 0.45]}
    curve = np.stack([np.linspace(0, 1, 20) ** power for power in (0.5, 1, 1.5)])
    values = {"curve": (("order", "step"), curve)} | {name: ("order", own) for name, own in area.items()}
    return xr.Dataset(values, {"order": ["share", "facex layer4", "random"]})


def test_what_random_weights_show_too_is_said(make_scores, random, curves):
    assert beyond_random(make_scores(), random) == ["lips"]
    first, soonest, agreement = trust_findings(make_scores(), random, curves, AGREEMENT)
    assert first == "Of the way from one face's decision to another's, the lips carry 65 %, more than in any model with random weights."
    assert soonest.startswith("The order of the share moves the decision soonest: area under the curve share 0.70; facex layer4 0.50")
    assert "share and facex layer4 rank the regions: Spearman's ρ 0.31" in agreement
    random["high"] = random.high + 0.4
    assert trust_findings(make_scores(), random, curves, AGREEMENT)[0].endswith("which models with random weights show too.")


def test_the_figures_say_what_they_show(make_scores, random, curves):
    assert "lips" in plot_randomized(make_scores(), random).get_suptitle()
    figure = plot_curves(curves)
    assert figure.get_suptitle() == "The order of the share moves the decision soonest"
    curves["area_low"] = curves.area_low * 0.5
    assert plot_curves(curves).get_suptitle() == "No order beats a random one"
