"""The template on the five points that MTCNN finds."""

import numpy as np
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image

from facexkit.faces.formats import load_faces
from facexkit.faces.landmarks import GUESSED, draw_face, fit_template
from facexkit.faces.regions import REGIONS
from facexkit.faces.template import POINTS

JUDGED = ("skin", "nose", "l_eye", "r_eye", "l_brow", "r_brow", "u_lip", "l_lip")
numbers = st.floats(-3, 3)


@given(st.tuples(numbers, numbers, numbers, numbers), numbers, numbers)
def test_an_affine_image_of_the_points_is_found_again(matrix, x, y):
    warp = np.column_stack([np.reshape(matrix, (2, 2)), [x, y]])
    assert np.allclose(fit_template(POINTS @ warp[:, :2].T + warp[:, 2]), warp, atol=1e-6)


def test_the_face_is_drawn_where_the_points_are():
    index = draw_face(POINTS * 200 + (50, 0), (300, 200))
    assert index.shape == (200, 300) and set(np.unique(index)) == {0, *map(REGIONS.index, GUESSED)}
    names = [REGIONS[index[round(y * 200), round(x * 200 + 50)]] for x, y in POINTS]
    assert names[:3] == ["r_eye", "l_eye", "nose"]
    moved = draw_face(POINTS * 200 + (70, 10), (300, 200))
    assert (moved[10:, 20:] == index[:-10, :-20]).mean() > 0.999


def test_nothing_is_guessed_that_points_do_not_show():
    assert not set(GUESSED) & {"hair", "hat", "cloth", "neck_l", "ear_r", "eye_g"}


def test_landmark_masks_lie_over_the_hand_drawn_ones(shared, shared_faces):
    root = shared / "data" / "celebamask"
    faces = load_faces("celebamask_hq", root=root, masks="landmarks", limit=40)
    both, either = np.zeros(len(JUDGED)), np.zeros(len(JUDGED))
    for path in faces.table.path:
        guessed, drawn = faces.masks.read(path), shared_faces.masks.read(path)
        none = np.zeros_like(drawn["skin"])
        for k, name in enumerate(JUDGED):
            both[k] += (guessed.get(name, none) & drawn.get(name, none)).sum()
            either[k] += (guessed.get(name, none) | drawn.get(name, none)).sum()
    iou = both / either
    assert not faces.notes and iou.mean() >= 0.40 and iou[JUDGED.index("nose")] > 0.6


def test_a_picture_without_a_face_has_no_mask(csv_set, tmp_path):
    places = csv_set("img\na.jpg\nb.jpg\n")
    Image.new("RGB", (200, 90), "white").save(places["root"] / "b.jpg")
    faces = load_faces("csv", **places, masks="landmarks")
    assert faces.notes == ["landmarks could not parse 2 of 2 faces: a.jpg, b.jpg"]
    assert faces.masks.read("b.jpg") == {}
