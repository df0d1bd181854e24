"""The hierarchy of concepts against the definition in loops, and its counts."""

from __future__ import annotations

import numpy as np
import pytest
import xarray as xr

from facexkit.measure.hierarchy import AREAS, concept_types, count_units, rank_concepts

CONCEPTS = ("l_eye", "brows", "eye_g", "nose", "u_lip", "mouth", "spot")


def found_of(seed: int = 0, images: int = 40, units: int = 12) -> xr.Dataset:
    """A dissection with tied activations; unit 0 is dead, unit 1 meets no concept."""
    rng = np.random.default_rng(seed)
    maximum = np.round(rng.gamma(1.0, size=(images, units)), 1)
    maximum[:, 0] = 0
    minimum = np.where(np.arange(units) == 0, 0.0, -rng.random(units))
    has = rng.random((images, len(CONCEPTS))) < (0.8, 0.5, 0.2, 1, 0.9, 0.4, 0.3)
    iou = rng.random((units, len(CONCEPTS))) ** 3 * 0.3
    iou[0] = iou[1] = 0
    best = iou.argmax(1)
    return xr.Dataset(
        {
            "maximum": (("image", "unit"), maximum),
            "minimum": ("unit", minimum),
            "has_concept": (("image", "concept"), has),
            "images": ("concept", has.sum(0)),
            "iou": (("unit", "concept"), iou),
            "best_concept": ("unit", np.array(CONCEPTS, object)[best]),
            "best_iou": ("unit", iou.max(1)),
            "interpretable": ("unit", iou.max(1) > 0.04),
            "supported": ("unit", np.arange(units) % 3 > 0),
            "position_iou": (("unit", "concept"), iou / 2),
            "q_value": (("unit", "concept"), iou / 2),
        },
        {"unit": np.arange(units), "concept": list(CONCEPTS), "image": [f"{n}.png" for n in range(images)]},
        {"model": "drawn", "layer": "layer"},
    )


def slow_scores(found: xr.Dataset, unit: int, area: list[str]) -> dict[str, float]:
    low, high = float(found.minimum[unit]), float(found.maximum[:, unit].max())
    images = [n for n in range(found.sizes["image"]) if any(found.has_concept.sel(concept=c)[n] for c in area)]
    s = {n: (float(found.maximum[n, unit]) - low) / (high - low) for n in images}
    r = {}
    for n in images:
        below, equal = sum(s[m] < s[n] for m in images), sum(s[m] == s[n] for m in images)
        r[n] = (below + (equal + 1) / 2) / len(images)
    scores = {}
    for concept in area:
        own = [r[n] * s[n] for n in images if found.has_concept.sel(concept=concept)[n]]
        scores[concept] = sum(own) / len(own) * float(found.iou.sel(concept=concept)[unit])
    return scores


def test_probabilities_are_those_of_the_definition():
    found = found_of()
    ranked = rank_concepts(found)
    areas = {"eye": ["l_eye", "brows", "eye_g"], "nose": ["nose"], "mouth": ["u_lip", "mouth"], "other": ["spot"]}
    assert set(ranked.area.to_numpy()) == {*areas, ""}
    for unit in range(2, found.sizes["unit"]):
        area = ranked.area.item(unit)
        members = areas[area]
        assert found.best_concept.item(unit) in members
        scores = slow_scores(found, unit, members)
        for concept in CONCEPTS:
            expected = scores[concept] / sum(scores.values()) if concept in members else 0
            here = ranked.sel(unit=unit, concept=concept)
            assert here.probability.item() == pytest.approx(expected)
            assert here.is_concept.item() == (expected > (1.5 / len(members) if len(members) > 1 else 0))


def test_a_dead_unit_and_one_without_a_concept_have_no_area():
    ranked = rank_concepts(found_of())
    assert ranked.area.to_numpy()[:2].tolist() == ["", ""]
    assert not ranked.probability[:2].any() and not ranked.is_concept[:2].any()
    np.testing.assert_allclose(ranked.probability[2:].sum("concept"), 1)


def test_the_order_of_images_does_not_matter():
    found = found_of(3)
    shuffled = found.isel(image=np.random.default_rng(1).permutation(found.sizes["image"]))
    xr.testing.assert_allclose(rank_concepts(found), rank_concepts(shuffled))


def test_a_concept_without_an_image_does_not_count_in_its_area():
    found = found_of()
    found["has_concept"] = found.has_concept & (found.concept != "eye_g")
    found["iou"] = found.iou.where(found.concept != "eye_g", 0)
    ranked = rank_concepts(found)
    assert not ranked.probability.sel(concept="eye_g").any()
    np.testing.assert_array_equal(
        ranked.is_concept.sel(concept="l_eye"), ranked.probability.sel(concept="l_eye") > 1.5 / 2
    )


def test_areas_and_types_may_be_ones_own():
    found = found_of()
    ranked = rank_concepts(found, areas={"face": CONCEPTS}, types={"spot": "blemish"})
    assert set(ranked.area.to_numpy()[2:]) == {"face"}
    assert ranked.concept_type.sel(concept="spot") == "blemish"


def test_types_of_concepts():
    assert list(concept_types(["nose", "lips", "skin"])) == ["region"] * 3
    assert list(concept_types(["AU_12", "nose", "Big_Nose", "lips", "5_o_Clock_Shadow", "x"])) == [
        "action unit", "part", "attribute", "region", "attribute", "other",
    ]  # fmt: skip
    assert sum(map(len, AREAS.values())) == len({c for members in AREAS.values() for c in members})


@pytest.mark.parametrize("by", ["concept", "area", "type"])
def test_histograms_count_every_interpretable_unit_with_a_supported_label_once(by):
    results = {"one": rank_concepts(found_of()), "two": rank_concepts(found_of(5))}
    table = count_units(results, by)
    for name, result in results.items():
        assert table[name].sum() == (result.interpretable & result.supported).sum() < result.interpretable.sum()
    if by == "concept":
        best = results["one"].best_concept.to_numpy()[(results["one"].interpretable & results["one"].supported).to_numpy()]
        assert {c: n for c, n in table.one.items() if n} == {c: (best == c).sum() for c in set(best)}
