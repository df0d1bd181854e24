"""The face template: every region has its place on a face of average proportions."""

import re

import cv2
import numpy as np
import pytest

from facexkit.faces.regions import REGIONS, TOP_TO_BOTTOM, index_map
from facexkit.faces.template import POINTS, POLYGONS, curve, mirror, outline, svg_path, symmetric

SIDES = [name for name in REGIONS if name.startswith("l_") and "r" + name[1:] in REGIONS]


def filled(size: int = 200, without: tuple[str, ...] = ()) -> np.ndarray:
    """Return the masks of the template, bool (19, size, size)."""
    masks = np.zeros((len(REGIONS), size, size), np.uint8)
    for name in set(POLYGONS) - set(without):
        cv2.fillPoly(masks[REGIONS.index(name)], [np.rint(p * size).astype(np.int32) for p in POLYGONS[name]], 1)
    return masks.astype(bool)


def test_every_region_but_the_background_has_a_polygon_or_two():
    assert set(POLYGONS) == set(REGIONS) - {"background"}
    assert {len(polygons) for polygons in POLYGONS.values()} == {1, 2}
    for polygons in POLYGONS.values():
        for polygon in polygons:
            assert polygon.shape[1] == 2 and 0 <= polygon.min() and polygon.max() <= 1


def test_polygons_come_lowest_layer_first():
    heights = [TOP_TO_BOTTOM.index(name) for name in POLYGONS]
    assert heights == sorted(heights, reverse=True)


@pytest.mark.parametrize("name", SIDES)
def test_the_persons_left_is_on_the_images_right(name):
    left, right = POLYGONS[name][0], POLYGONS["r" + name[1:]][0]
    assert left[:, 0].min() > 0.5 > right[:, 0].max()
    assert np.allclose(mirror(right), left)


def test_no_region_is_hidden_by_the_others():
    index = index_map(filled(without=("eye_g", "hat")))
    assert set(np.unique(index)) == set(range(19)) - {REGIONS.index("eye_g"), REGIONS.index("hat")}


def test_a_face_reads_from_the_top_down():
    heights = {name: np.mean([p.mean(0)[1] for p in ps]) for name, ps in POLYGONS.items()}
    order = ("hat", "l_brow", "l_eye", "nose", "u_lip", "mouth", "l_lip", "neck", "cloth")
    assert sorted(order, key=heights.get) == list(order)


def test_points_lie_in_the_eyes_and_on_nose_and_lips():
    masks = filled(1000)
    places = [masks[:, int(y * 1000), int(x * 1000)] for x, y in POINTS]
    for place, name in zip(places[:3], ("r_eye", "l_eye", "nose"), strict=True):
        assert place[REGIONS.index(name)]
    for (x, y), end in zip(POINTS[3:], (min, max), strict=True):
        corner = end(POLYGONS["u_lip"][0][:, 0])
        assert abs(x - corner) < 0.01 and abs(y - 0.636) < 0.01


def test_polygons_do_not_cross_themselves():
    for name, polygons in POLYGONS.items():
        for p in polygons:
            (x, y), (after_x, after_y) = p.T, np.roll(p, -1, 0).T
            area = abs((x * after_y - y * after_x).sum()) / 2
            ink = np.zeros((1000, 1000), np.uint8)
            cv2.fillPoly(ink, [np.rint(p * 16000).astype(np.int32)], 1, cv2.LINE_8, 4)
            edge = np.hypot(x - after_x, y - after_y).sum() / 1000
            assert abs(ink.sum() / 1e6 - area) < edge, name


def test_a_curve_passes_through_its_points():
    points = [(0.1, 0.2), (0.3, 0.1), (0.5, 0.4), (0.9, 0.3)]
    assert np.allclose(curve(points)[::5], points)
    assert np.allclose(curve([(0, 0), (0.2, 0.1), (0.4, 0.2)])[:, 1] * 2, curve([(0, 0), (0.2, 0.1), (0.4, 0.2)])[:, 0])


def test_an_outline_joins_its_arcs_without_a_double_point():
    polygon = outline([(1, 0), (1, 1)], [(0, 1), (0, 0)])
    assert len(np.unique(polygon.round(9), axis=0)) == len(polygon)
    assert {(0, 0), (1, 1)} <= {tuple(p) for p in polygon.tolist()}


def test_a_symmetric_polygon_is_its_own_mirror_and_smooth_on_the_middle_line():
    polygon = symmetric([(0.5, 0.2), (0.3, 0.3), (0.3, 0.6), (0.5, 0.8)])
    mirrored = mirror(polygon)
    assert {tuple(p) for p in polygon.round(9).tolist()} == {tuple(p) for p in mirrored.round(9).tolist()}
    top = polygon[np.argsort(np.abs(polygon[:, 0] - 0.5) + polygon[:, 1])[:3]]
    assert np.ptp(top[:, 1]) < 0.01


def test_svg_path_gives_back_the_polygon_to_four_digits():
    polygon = POLYGONS["nose"][0]
    path = svg_path(polygon, scale=100)
    assert re.fullmatch(r"M[\d.,L]+Z", path)
    read = np.array([[float(v) for v in pair.split(",")] for pair in path[1:-1].split("L")])
    assert np.abs(read - polygon * 100).max() <= 0.5e-4
