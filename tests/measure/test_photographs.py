"""Faces found in photographs: which are found, where their points come to lie, and what is said of the rest."""

import json
import re

import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image, ImageDraw

from facexkit.errors import FacexkitError
from facexkit.faces.cutting import TARGETS, cut_out
from facexkit.faces.formats import load_faces
from facexkit.measure.found_faces import find_faces, points_of
from facexkit.measure.photographs import align_faces
from facexkit.models import detector

EYES_OF_68 = {  # x and y of dlib's mean face, points 36 to 47
    "x": [0.121737, 0.187122, 0.265825, 0.334606, 0.260918, 0.182743, 0.645647, 0.714428, 0.793132, 0.858516, 0.79751, 0.719335],
    "y": [0.216423, 0.178758, 0.179852, 0.231733, 0.245099, 0.244077, 0.231733, 0.179852, 0.178758, 0.216423, 0.244077, 0.245099],
}
FRAME = (np.array(TARGETS["mtcnn"]) + 0.25) / 1.5 * 300


def test_mtcnns_eyes_belong_in_the_middle_of_dlibs_six_points():
    middles = np.column_stack([np.reshape(EYES_OF_68[axis], (2, 6)).mean(1) for axis in "xy"])
    np.testing.assert_allclose(np.array(TARGETS["mtcnn"])[:2], middles, atol=1e-4)


def test_dlibs_own_eye_corners_are_those_of_its_68_points():
    corners = np.array([[EYES_OF_68[axis][k] for axis in "xy"] for k in (9, 6, 0, 3)])
    np.testing.assert_allclose(np.array(TARGETS["dlib"])[:4], corners, atol=0.004)


def dotted(points, size=400, radius=3.0):
    """A white picture with a soft dark dot at each point."""
    y, x = np.mgrid[:size, :size]
    dots = sum(np.exp(-((x - px) ** 2 + (y - py) ** 2) / (2 * radius**2)) for px, py in points)
    return Image.fromarray((255 - 255 * np.clip(dots, 0, 1)).astype(np.uint8)).convert("RGB")


def centre_near(picture, point, reach=8):
    """Centre of darkness near a point."""
    dark = 255 - np.asarray(picture.convert("L")).astype(float)
    y, x = np.mgrid[: dark.shape[0], : dark.shape[1]]
    dark = np.where((abs(x - point[0]) < reach) & (abs(y - point[1]) < reach), dark, 0)
    return (x * dark).sum() / dark.sum(), (y * dark).sum() / dark.sum()


@settings(max_examples=15, deadline=None)
@given(st.floats(-1.2, 1.2), st.floats(0.45, 0.9), st.floats(-12, 12), st.floats(-12, 12))
def test_a_turned_scaled_and_moved_face_comes_back_to_its_place(angle, scale, right, down):
    turn = scale * np.array([[np.cos(angle), -np.sin(angle)], [np.sin(angle), np.cos(angle)]])
    points = (FRAME - 150) @ turn.T + 200 + np.array([right, down])
    cut = cut_out(dotted(points, radius=3), points, FRAME, 300)
    for point in FRAME:
        assert np.hypot(*np.subtract(centre_near(cut, point, 24), point)) < 0.6


@pytest.mark.parametrize("shrink", [2, 3, 5])
def test_a_larger_photograph_is_averaged_and_stays_in_its_place(shrink):
    points = FRAME * shrink + 40
    picture = dotted(points, 300 * shrink + 80, radius=4 * shrink)
    for point in FRAME:
        assert np.hypot(*np.subtract(centre_near(cut_out(picture, points, FRAME, 300), point, 15), point)) < 0.6
    stripes = np.zeros((700, 700, 3), np.uint8)
    stripes[:, ::2] = 255
    even = np.asarray(cut_out(Image.fromarray(stripes), FRAME * 2, FRAME, 300))
    assert abs(even[2:-2, 2:-2].astype(int) - 127).max() <= 1


def test_points_that_do_not_fit_are_met_as_near_as_a_similarity_can():
    noise = np.random.default_rng(0).normal(0, 9, (5, 2))
    places = np.column_stack([FRAME, np.ones(5)])
    design = np.block([[places[:, :1], -places[:, 1:2], np.ones((5, 1)), np.zeros((5, 1))],
                       [places[:, 1:2], places[:, :1], np.zeros((5, 1)), np.ones((5, 1))]])
    points = FRAME + noise
    a, b, right, down = np.linalg.lstsq(design, points.T.ravel(), rcond=None)[0]
    fitted = FRAME @ np.array([[a, b], [-b, a]]) + [right, down]
    picture = dotted(fitted)
    for point in FRAME:
        assert np.hypot(*np.subtract(centre_near(cut_out(picture, points, FRAME, 300), point, 14), point)) < 0.4


def test_outside_the_photograph_it_is_black():
    cut = np.asarray(cut_out(Image.new("RGB", (100, 300), "white"), FRAME, FRAME, 300))
    assert (cut[:, :99] == 255).all() and not cut[:, 101:].any()


@pytest.fixture(scope="module")
def album(tmp_path_factory):
    """Photographs composed of drawn faces: two side by side, one, none; with labels."""
    folder = tmp_path_factory.mktemp("album")
    drawn = load_faces("synthetic", limit=12)
    found = [drawn.images.read(path) for path in find_faces(drawn).query("face == 0").path]
    left, right, alone = found[0].resize((150, 150)), found[1].resize((110, 110)), found[2].resize((160, 160))
    both = Image.new("RGB", (360, 200), "grey")
    both.paste(left, (10, 20))
    both.paste(right, (220, 60))
    (folder / "town").mkdir()
    both.save(folder / "town" / "both.png")
    one = Image.new("RGB", (200, 300), "grey")
    one.paste(alone, (20, 100))
    one.save(folder / "one.jpg", quality=95)
    field = Image.new("RGB", (240, 160), "green")
    ImageDraw.Draw(field).line((0, 80, 240, 80), "blue", 9)
    field.save(folder / "field.jpg")
    (folder / "imgs.csv").write_text("img_path,place\nfield.jpg,field\none.jpg,home\ntown/both.png,town\n")
    return folder


@pytest.fixture(scope="module")
def aligned(album, tmp_path_factory):
    out = tmp_path_factory.mktemp("aligned")
    return align_faces(load_faces("csv", root=album, annotations=album / "imgs.csv"), out), out


def test_every_face_of_a_photograph_is_saved_the_largest_first_with_the_way_back(aligned):
    faces, out = aligned
    table = faces.table
    assert table.path.tolist() == ["one_face0.jpg", "town/both_face0.jpg", "town/both_face1.jpg"]
    assert table.photograph.tolist() == ["one.jpg", "town/both.png", "town/both.png"]
    assert table.photograph_row.tolist() == [1, 2, 2] and table.place.tolist() == ["home", "town", "town"]
    assert all(Image.open(out / path).size == (300, 300) for path in table.path)
    boxes = [[*map(int, re.fullmatch(r"\[\((\d+), (\d+)\) \((\d+), (\d+)\)\]", box).groups())] for box in table.bbox]
    pasted = [(20, 100, 180, 260), (10, 20, 160, 170), (220, 60, 330, 170)]
    for (left, top, right, bottom), (x0, y0, x1, y1) in zip(boxes, pasted, strict=True):
        assert x0 <= left < (x0 + x1) / 2 < right <= x1 and y0 <= top < (y0 + y1) / 2 < bottom <= y1
    assert [faces.images.read(path).size for path in table.path] == [(300, 300)] * 3


def test_the_eyes_of_drawn_faces_come_to_lie_where_the_mean_face_has_them():
    drawn = load_faces("synthetic", limit=12)
    found = find_faces(drawn).query("face == 0")
    distances = []
    for path, points in zip(found.path, points_of(found), strict=True):
        for side, goal in zip(("r_eye", "l_eye"), FRAME[:2], strict=True):
            mask = drawn.masks.read(path).get(side, np.zeros(1))
            if mask.any():
                cut = np.asarray(cut_out(Image.fromarray(mask).convert("RGB"), points, FRAME, 300))[:, :, 0].astype(float)
                y, x = np.mgrid[:300, :300]
                distances.append(np.hypot((x * cut).sum() / cut.sum() - goal[0], (y * cut).sum() / cut.sum() - goal[1]))
    assert len(distances) >= 16 and np.median(distances) < 10 and max(distances) < 30


def test_what_is_saved_is_the_photograph_cut_out_at_its_points(album, aligned):
    photograph = Image.open(album / "town" / "both.png")
    found = find_faces(load_faces("csv", root=album, annotations=album / "imgs.csv"), 0.08).query("row == 2")
    for number, points in enumerate(points_of(found)):
        expected = np.asarray(cut_out(photograph, points, FRAME, 300)).astype(int)
        assert abs(np.asarray(Image.open(aligned[1] / f"town/both_face{number}.jpg")) - expected).mean() < 3


def test_a_photograph_without_a_face_is_listed(aligned):
    assert aligned[0].notes[-1] == "3 faces aligned from 3 photographs; 1 without a face: field.jpg"


def test_the_aligned_faces_can_be_read_again_as_a_set(aligned):
    faces, out = aligned
    again = load_faces("csv", root=out, annotations="faces.csv")
    pd.testing.assert_frame_equal(again.table, faces.table)


def test_a_plain_folder_will_do_and_how_many_at_once_changes_nothing(album, aligned, tmp_path, monkeypatch):
    monkeypatch.setenv("FACEXKIT_CACHE", str(tmp_path / "cache"))
    faces = align_faces(album, tmp_path / "out", batch_size=1)
    assert faces.table.path.tolist() == aligned[0].table.path.tolist()
    for path in faces.table.path:
        one, many = (np.asarray(Image.open(folder / path)).astype(int) for folder in (tmp_path / "out", aligned[1]))
        assert abs(one - many).mean() < 1
    assert json.dumps(faces.source)


def test_size_and_padding_zoom(album, aligned, tmp_path):
    faces = align_faces(album, tmp_path, size=120, padding=0)
    close = faces.images.read("one_face0.jpg")
    middle = Image.open(aligned[1] / "one_face0.jpg").crop((50, 50, 250, 250)).resize((120, 120))
    assert close.size == (120, 120)
    assert abs(np.asarray(close).astype(int) - np.asarray(middle)).mean() < 6


def test_a_photograph_that_cannot_be_decoded_is_listed_or_stops_it(album, tmp_path):
    root = tmp_path / "photos"
    root.mkdir()
    (root / "broken.jpg").write_bytes(b"no picture")
    (root / "one.jpg").write_bytes((album / "one.jpg").read_bytes())
    with pytest.raises(FacexkitError, match=r"1 of 2 images cannot be decoded.*broken\.jpg"):
        align_faces(root, tmp_path / "a")
    faces = align_faces(root, tmp_path / "b", max_skipped=0.5)
    assert faces.table.photograph.tolist() == ["one.jpg"] and "broken.jpg" in faces.notes[-1]


@pytest.mark.parametrize(
    ("change", "message"),
    [({"detector": "mtcn"}, "did you mean 'mtcnn'"), ({"size": 0}, "at least 1"), ({"padding": -1}, "padding -1"),
     ({"smallest": 0}, "smallest 0"), ({"smallest": 2}, "smallest 2")],
)
def test_a_wrong_parameter_is_told(album, tmp_path, change, message):
    with pytest.raises(FacexkitError, match=message):
        align_faces(album, tmp_path, **change)


def test_dlib_that_is_not_there_is_told_with_what_to_install(album, tmp_path, monkeypatch):
    monkeypatch.setattr(detector, "find_spec", lambda name: None)
    with pytest.raises(FacexkitError, match="pip install dlib face-recognition-models"):
        align_faces(album, tmp_path, detector="dlib")


def test_the_faces_are_not_saved_among_the_photographs(album):
    with pytest.raises(FacexkitError, match="outside of"):
        align_faces(album, album / "faces")


def test_an_empty_folder_and_one_without_a_face_are_errors(album, tmp_path):
    with pytest.raises(FacexkitError, match="no image in"):
        align_faces(tmp_path, tmp_path.parent / "nothing")
    with pytest.raises(FacexkitError, match="no face found in 1 photographs"):
        align_faces(load_faces("csv", root=album, annotations=album / "imgs.csv")[:1], tmp_path / "out")


def test_two_photographs_of_one_name_are_an_error(album, tmp_path):
    for suffix in ("jpg", "png"):
        Image.open(album / "one.jpg").save(tmp_path / f"same.{suffix}")
    with pytest.raises(FacexkitError, match=r"one name: same\.jpg, same\.png"):
        align_faces(tmp_path, tmp_path.parent / "same_out")


def test_real_photographs_one_by_one_side_by_side_and_turned_give_the_same_faces(shared, tmp_path):
    root = shared / "data" / "celebamask" / "images"
    names = sorted(path.name for path in root.iterdir())[:4]
    photographs = [Image.open(root / name).convert("RGB") for name in names]
    album = tmp_path / "album"
    album.mkdir()
    for name, photograph in zip(names, photographs, strict=True):
        photograph.save(album / f"alone_{name}")
        photograph.rotate(20, Image.Resampling.BICUBIC, expand=True).save(album / f"turned_{name}")
    strip = Image.new("RGB", (1024, 1024))
    for place, photograph in enumerate(photographs):
        strip.paste(photograph, (512 * (place % 2), 512 * (place // 2)))
    strip.save(album / "strip.png")
    faces = align_faces(album, tmp_path / "out")
    assert faces.table.photograph.value_counts()["strip.png"] >= 4
    grey = {path: np.asarray(faces.images.read(path).convert("L")).astype(float)[60:240, 60:240] for path in faces.table.path}
    strips = [picture for path, picture in grey.items() if path.startswith("strip")]
    for name in names:
        alone = grey[f"alone_{name[:-4]}_face0.jpg"]
        assert np.corrcoef(alone.ravel(), grey[f"turned_{name[:-4]}_face0.jpg"].ravel())[0, 1] > 0.8
        assert max(np.corrcoef(alone.ravel(), each.ravel())[0, 1] for each in strips) > 0.8
