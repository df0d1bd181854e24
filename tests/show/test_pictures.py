"""Pictures are of the right place, and the page refuses a face set that is not the results'."""

import base64
import io

import numpy as np
import pytest
import torch
from PIL import Image

from facexkit.errors import FacexkitError
from facexkit.show.pictures import Album, face_as_seen, patch, picture_uri, veil
from facexkit.show.report import show_examples


def test_a_patch_is_the_tile_of_the_input():
    pixels = np.random.default_rng(0).integers(0, 255, (64, 64, 3), np.uint8)
    cut = patch(Image.fromarray(pixels), y=16, x=32, tile=16, image_size=64, side=16)
    np.testing.assert_array_equal(np.asarray(cut), pixels[16:32, 32:48])


def test_a_patch_of_a_larger_image_is_the_same_place():
    face = Image.new("RGB", (300, 200))
    face.paste((255, 0, 0), (150, 50, 225, 100))
    red = np.asarray(patch(face, y=16, x=32, tile=16, image_size=64))
    assert red[..., 0].mean() > 245


def test_a_tile_over_the_border_ends_at_it():
    face = Image.new("RGB", (40, 40), (9, 9, 9))
    assert np.asarray(patch(face, y=32, x=32, tile=16, image_size=40)).min() == 9


def test_the_veil_is_the_map_upsampled_with_half_pixel_centres():
    attribution = np.random.default_rng(1).random((7, 7)).astype(np.float32)
    grown = torch.nn.functional.interpolate(torch.from_numpy(attribution)[None, None], (70, 70), mode="bilinear")[0, 0]
    alpha = np.asarray(veil(attribution, 70))[..., 3]
    assert np.abs(alpha / 255 - (1 - grown.numpy())).max() < 0.01


def test_data_uris_hold_the_picture(drawn_faces):
    face = face_as_seen(drawn_faces, drawn_faces.table.path[0])
    kind, coded = picture_uri(face).split(",")
    again = Image.open(io.BytesIO(base64.b64decode(coded)))
    assert kind == "data:image/jpeg;base64" and again.size == face.size
    assert np.abs(np.asarray(again, float) - np.asarray(face, float)).mean() < 6


def test_the_album_lists_what_the_result_says(make_scores, odd_faces):
    scores, album = make_scores("facex"), Album(odd_faces)
    patches, examples = album.patches(scores, "skin"), album.examples(scores, "skin")
    assert [p["name"] for p in patches] == scores.patch_image.sel(region="skin").values.tolist()
    assert [float(p["value"]) for p in patches] == pytest.approx(scores.patch_value.sel(region="skin").values, rel=0.06)
    assert [e["name"] for e in examples] == scores.example_image.sel(region="skin").values.tolist()
    scores.patch_value.loc[{"region": "skin"}] = 1.3e-6
    assert {p["value"] for p in album.patches(scores, "skin")} == {"< 0.001"}
    assert album.patches(scores, "hat") == album.examples(scores, "hat") == []
    assert len(album.uris) == len(set(album.uris))


def test_a_face_set_without_the_results_images_is_an_error(make_scores, drawn_faces):
    with pytest.raises(FacexkitError, match="pass the face set that was scored"):
        Album(drawn_faces).patches(make_scores("facex"), "skin")


def test_a_notebook_gallery_shows_patches_and_examples_escaped(make_scores, odd_faces):
    html = show_examples(make_scores("facex"), odd_faces, "l_lip", patches=5)._repr_html_()
    assert html.count('src="data:image/jpeg') == 9 and html.count('src="data:image/png') == 4
    assert "<b onmouseover" not in html and "lower lip" in html
