"""The face map shows the numbers of its result, and its colours can be told apart."""

import xml.etree.ElementTree as ElementTree

import cv2
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from facexkit.faces.regions import REGIONS, TITLES, TOP_TO_BOTTOM, UNIONS
from facexkit.measure.share_interval import PARTS
from facexkit.show.face_map import CARD, DOWN, HEIGHT, PLACES, UP, colour, face_map, face_maps, placed, scale_limit
from facexkit.show.readings import difference
from tests.show.conftest import SHARES

SVG = "{http://www.w3.org/2000/svg}"


def parts(drawing, kind):
    return {
        group.get("data-region"): group
        for group in ElementTree.fromstring(str(drawing)).iter(f"{SVG}g")
        if group.get("class") == kind
    }


def lab(colours):
    """CIE L*a*b* of #rrggbb colours."""
    rgb = np.array([[[int(c[k : k + 2], 16) for k in (1, 3, 5)] for c in colours]], np.float32) / 255
    return cv2.cvtColor(rgb, cv2.COLOR_RGB2LAB)[0]


def as_deuteranope(colours):
    """Colours as seen without green cones (Machado, Oliveira and Fernandes 2009, severity 1)."""
    matrix = [[0.367322, 0.860646, -0.227968], [0.280085, 0.672501, 0.047413], [-0.01182, 0.04294, 0.968881]]
    rgb = np.array([[int(c[k : k + 2], 16) for k in (1, 3, 5)] for c in colours]) / 255
    linear = np.where(rgb > 0.04045, ((rgb + 0.055) / 1.055) ** 2.4, rgb / 12.92) @ np.array(matrix).T
    seen = np.where(linear > 0.0031308, 1.055 * linear.clip(0) ** (1 / 2.4) - 0.055, 12.92 * linear).clip(0, 1)
    return ["#" + "".join(f"{round(255 * v):02x}" for v in row) for row in seen]


@pytest.mark.parametrize("method", ["share", "facex"])
def test_every_number_in_the_map_is_the_results(make_scores, method):
    scores = make_scores(method)
    regions, labels = (parts(face_map(scores), kind) for kind in ("region", "label"))
    assert set(regions) == set(labels) == set(PARTS)
    for region in set(PARTS) - {"hat"}:
        score = float(scores.union_score.sel(union=region) if region in UNIONS else scores.score.sel(region=region))
        assert float(regions[region].get("data-value")) == pytest.approx(score, rel=1e-5)
        name, number = (text.text for text in labels[region].iter(f"{SVG}text"))
        assert name == TITLES[region]
        said = number.replace("−", "-").split()
        assert float(said[0]) / (100 if said[-1] == "%" else 1) == pytest.approx(score, abs=0.0051)
        assert "95 % interval" in regions[region].find(f"{SVG}title").text


def test_a_region_without_data_is_hatched_and_says_so(make_scores):
    drawing = face_map(make_scores(missing=("hat", "eye_g")))
    regions = parts(drawing, "region")
    hatched = {r for r, group in regions.items() if group.find(f"{SVG}path").get("fill").startswith("url(#hatch")}
    assert hatched == {"hat", "eye_g"}
    assert regions["hat"].find(f"{SVG}title").text == "hat: no data: no image has this region"
    assert parts(drawing, "label")["hat"].findall(f"{SVG}text")[1].text == "no data"
    pattern = regions["hat"].find(f"{SVG}path").get("fill")[5:-1]
    assert f'<pattern id="{pattern}"' in drawing


def test_a_larger_value_is_darker_in_even_steps():
    for ramp in (UP, DOWN):
        steps = -np.diff(lab(ramp)[:, 0])
        assert steps.min() > 9 and steps.max() < 1.1 * steps.min()


def test_opposite_values_differ_also_for_a_colour_blind_reader():
    up, down = ([colour(sign * value, 1) for value in (0.25, 0.5, 0.75)] for sign in (1, -1))
    distance = np.linalg.norm(lab(as_deuteranope(up)) - lab(as_deuteranope(down)), axis=1)
    assert (distance > 20).all()


@given(st.floats(-1, 1), st.integers(-9, 9))
def test_a_colour_depends_only_on_the_value_over_the_limit(value, power):
    assert colour(value * 2.0**power, 2.0**power) == colour(value, 1.0)


@given(st.floats(1, 1e6))
def test_beyond_the_limit_is_the_last_colour(value):
    assert colour(value, 1.0) == UP[-1] and colour(-value, 1.0) == DOWN[-1]


def test_labels_point_into_the_visible_part_of_their_region():
    painted = np.zeros((HEIGHT, CARD), np.uint8)
    for region in reversed(TOP_TO_BOTTOM[:-1]):
        for polygon in placed(region):
            cv2.fillPoly(painted, [np.round(polygon).astype(np.int32)], REGIONS.index(region))
    assert {region: REGIONS[painted[y, x]] for region, (_, _, x, y) in PLACES.items()} == {r: r for r in REGIONS}


def test_hat_and_glasses_cover_nothing_of_the_face():
    others = np.concatenate([polygon for r in REGIONS[1:] if r not in ("hat", "eye_g") for polygon in placed(r)])
    for region in ("hat", "eye_g"):
        low, high = (end(np.concatenate(placed(region)), axis=0) for end in (np.min, np.max))
        assert not ((others > low) & (others < high)).all(1).any()


def test_names_from_data_are_escaped(make_scores):
    drawing = face_map(make_scores(class_name="<script>alert(1)</script>", model='"&<b>'))
    assert "<script" not in drawing and "<b>" not in drawing
    assert "<script>alert(1)</script>" in "".join(ElementTree.fromstring(str(drawing)).itertext())


def test_regions_are_buttons_only_where_a_script_answers(make_scores):
    still, live = face_map(make_scores()), face_map(make_scores(), interactive=True)
    assert "tabindex" not in still and 'role="img"' in still
    buttons = [g for g in ElementTree.fromstring(str(live)).iter(f"{SVG}g") if g.get("role") == "button"]
    assert {g.get("data-region"): g.get("data-members").split() for g in buttons} == {k: [*own] for k, own in PARTS.items()}
    assert len(buttons) == len(PARTS)
    for group in buttons:
        assert group.get("tabindex") == "0" and group.get("aria-label").startswith(f"{TITLES[group.get('data-region')]}: ")


def shapes(drawing, region):
    return [g for g in ElementTree.fromstring(str(drawing)).iter(f"{SVG}g") if g.get("data-region") == region and g.get("class") == "region"]


def test_both_lips_are_painted_as_the_sentence_counts_them(make_scores):
    fills = [g.find(f"{SVG}path").get("fill") for g in shapes(face_map(make_scores()), "lips")]
    assert fills == [colour(0.65, scale_limit(make_scores()))] * 2


def test_what_the_masks_cannot_tell_is_painted_as_everything_else(make_scores):
    untold = ["eye_g", "hair", "hat", "ear_r", "neck_l", "cloth"]
    drawing = face_map(make_scores(values=SHARES | {"background": 0.6}, missing=untold).assign_attrs(untold=untold))
    fills = {g.find(f"{SVG}path").get("fill") for g in shapes(drawing, "background")}
    assert len(shapes(drawing, "background")) == 7 and fills == {colour(0.6, 0.8)} and "no data" not in drawing
    assert parts(drawing, "label")["background"].find(f"{SVG}text").text == "everything else"
    assert "everything else (background, hair, clothes …): 60 %" in drawing


def test_the_difference_is_the_first_minus_the_second_and_equal_numbers_are_grey(make_scores):
    one, two = make_scores(), make_scores(values=dict.fromkeys(REGIONS, 0.01), model="demo:fair")
    gap = difference(one, two)
    assert float(gap.score.sel(region="l_lip")) == pytest.approx(0.40)
    assert float(gap.union_score.sel(union="lips")) == pytest.approx(0.63)
    drawing = face_maps([one, two])
    assert "+63 points" in drawing and "−3.0 points" in drawing
    assert "more in demo:fair · more in demo:biased" in drawing
    third = list(ElementTree.fromstring(str(drawing)))[2]
    ears = [g for g in third.iter(f"{SVG}g") if g.get("data-region") == "ears"]
    assert ears[0].find(f"{SVG}path").get("fill") == UP[0] == DOWN[0]


def test_maps_side_by_side_share_one_scale(make_scores):
    one, two = make_scores(), make_scores(values=dict.fromkeys(REGIONS, 0.02))
    assert scale_limit(one, two) == scale_limit(one) == 0.8
    second = list(ElementTree.fromstring(str(face_maps([one, two]))))[1]
    skin = next(g for g in second.iter(f"{SVG}g") if g.get("data-region") == "skin")
    assert skin.find(f"{SVG}path").get("fill") == colour(0.02, 0.8)


def test_two_methods_stand_side_by_side_without_a_difference(make_scores):
    maps = list(ElementTree.fromstring(str(face_maps([make_scores(), make_scores("facex")]))))
    assert [one.get("aria-label").split(".")[0] for one in maps] == ["Decision share", "FaceX score"]


def test_ids_differ_between_maps_on_one_page(make_scores):
    drawings = face_map(make_scores()) + face_map(make_scores("facex"))
    ids = [piece.split('"')[0] for piece in drawings.split(' id="')[1:]]
    assert len(ids) == len(set(ids)) == 4


def test_a_notebook_shows_the_drawing_and_a_file_keeps_it(make_scores, tmp_path):
    drawing = face_map(make_scores())
    assert drawing in drawing._repr_html_()
    assert drawing.save(tmp_path / "map.svg").read_text(encoding="utf-8") == drawing
