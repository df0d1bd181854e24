import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import nn
from torchvision.transforms.v2.functional import normalize as torchvision_normalize

from facexkit.errors import FacexkitError
from facexkit.models.face_model import FaceModel
from facexkit.models.normalization import NORMALIZATIONS, mean_and_std

BYTES = torch.arange(256, dtype=torch.uint8).repeat(3, 3, 1)[None, :, :, :]


def prepared(normalize, images=BYTES):
    return FaceModel(nn.Flatten(), name="n", normalize=normalize, device="cpu").prepare(images)


def test_imagenet_is_what_torchvision_does():
    theirs = torchvision_normalize(BYTES / 255, [0.485, 0.456, 0.406], [0.229, 0.224, 0.225])
    torch.testing.assert_close(prepared("imagenet"), theirs, rtol=0, atol=2e-6)


@pytest.mark.parametrize(("name", "black", "white"), [("half", -1, 1), ("unit", 0, 1), ("none", 0, 255)])
def test_a_name_maps_black_and_white_to(name, black, white):
    x = prepared(name)
    assert x[..., 0].eq(black).all()
    torch.testing.assert_close(x[..., 255], torch.full((1, 3, 3), float(white)))


@given(st.tuples(*[st.floats(0, 255)] * 3), st.floats(1, 300))
def test_mean_and_scale_are_on_bytes(mean, scale):
    slow = (np.arange(256) - np.array(mean)[:, None]) / scale
    ours = prepared({"mean": list(mean), "scale": scale})[0, :, 0]
    np.testing.assert_allclose(ours, slow, atol=1e-4)


def test_one_number_stands_for_all_channels():
    assert mean_and_std({"mean": 0.5, "std": 0.25}) == ([0.5] * 3, [0.25] * 3)


def test_the_answer_is_the_callers_own():
    mean_and_std("imagenet")[0][0] = 7
    assert NORMALIZATIONS["imagenet"][0][0] == 0.485


def test_preparing_leaves_the_images_as_they_are():
    images = torch.full((1, 3, 2, 2), 100.0).to(memory_format=torch.channels_last)
    prepared("half", images)
    assert images.eq(100).all()


@pytest.mark.parametrize(
    ("normalize", "says"),
    [
        ("imagnet", "did you mean 'imagenet'"),
        (None, "not a NoneType"),
        (0.5, "not a float"),
        ({}, "has the keys none"),
        ({"mean": [0, 0, 0]}, "has the keys mean"),
        ({"mean": 0, "std": 1, "scale": 1}, "has the keys mean, scale, std"),
        ({"mean": [0.5, 0.5], "std": 0.5}, "mean is one number or three"),
        ({"mean": 0.5, "std": 0}, "above 0"),
        ({"mean": 0.5, "scale": -1}, "above 0"),
        ({"mean": 0.5, "std": float("nan")}, "std is one number or three"),
        ({"mean": "0.5", "std": 1}, "mean is one number or three"),
        ({"mean": 0.5, "std": True}, "std is one number or three"),
        ({"mean": [123, 117, 104], "std": [58, 57, 57]}, "give {'mean': …, 'scale': …}"),
    ],
)
def test_what_is_no_normalization_is_refused(normalize, says):
    with pytest.raises(FacexkitError) as error:
        mean_and_std(normalize)
    assert says in str(error.value)
