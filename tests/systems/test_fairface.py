"""FairFace's models: what loads, and how the 18 outputs are read."""

import math
import subprocess
import sys

import numpy as np
import pytest
import torch
import torchvision
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from facexkit.errors import FacexkitError
from facexkit.models.loading import load_model
from facexkit.systems.fairface_networks import BLOCKS, FILES, decode

LOGITS = arrays(np.float32, (3, 18), elements=st.floats(-80, 80, width=32))


@pytest.fixture(scope="module")
def public_folder(tmp_path_factory):
    """A folder as FairFace's users have it, with random weights."""
    folder = tmp_path_factory.mktemp("fair_face_models")
    for seed, file in enumerate(FILES.values()):
        torch.manual_seed(seed)
        torch.save(torchvision.models.resnet34(num_classes=18).state_dict(), folder / file)
    return folder


def test_the_outputs_are_the_ones_of_fairface():
    assert [len(names) for names in BLOCKS["7"].values()] == [7, 2, 9]
    assert BLOCKS["7"]["race"][2:5] == ("Latino_Hispanic", "East Asian", "Southeast Asian")
    assert BLOCKS["7"]["gender"] == ("Male", "Female")
    assert BLOCKS["7"]["age"][0] == "0-2" and BLOCKS["7"]["age"][-1] == "70+"
    assert BLOCKS["4"] == {"race4": ("White", "Black", "Asian", "Indian")}


@pytest.mark.parametrize("races", ["7", "4"])
def test_a_folder_with_both_files_gives_each_model_its_own(public_folder, races):
    by_folder = load_model(f"fairface:{races}", weights=public_folder, device="cpu")
    by_file = load_model(f"fairface:{races}", weights=public_folder / FILES[races], device="cpu")
    assert by_folder.fingerprint() == by_file.fingerprint()
    stored = torch.load(public_folder / FILES[races])
    assert all(torch.equal(value, stored[key]) for key, value in by_folder.network.state_dict().items())


def test_the_input_is_224_pixels_by_imagenets_mean_and_the_classes_have_names(public_folder):
    model = load_model("fairface:4", weights=public_folder, device="cpu")
    assert model.image_size == 224
    assert model.preprocess.mean_and_std[0] == [0.485, 0.456, 0.406]
    assert model.class_names[:5] == ["White", "Black", "Asian", "Indian", "unread 4"] and len(model.class_names) == 18
    assert load_model("fairface:7", weights=public_folder, device="cpu").class_index("70+") == 17


@pytest.mark.parametrize("races", ["7", "4"])
def test_without_weights_the_error_names_the_public_file(races):
    with pytest.raises(FacexkitError, match=FILES[races]):
        load_model(f"fairface:{races}")


def test_another_number_of_races_is_an_error_that_lists_the_two():
    with pytest.raises(FacexkitError, match="'5'; known: 7, 4"):
        load_model("fairface:5", weights="x.pt")


def test_a_misspelt_source_is_told_fairface_before_it_was_ever_used():
    code = "import facexkit as fx\ntry: fx.load_model('fareface:7')\nexcept fx.FacexkitError as error: print(error)"
    assert "fairface:…" in subprocess.run([sys.executable, "-c", code], capture_output=True, text=True).stdout


@given(LOGITS)
def test_each_block_is_the_softmax_of_its_outputs(outputs):
    for races, blocks in (("7", ((0, 7), (7, 9), (9, 18))), ("4", ((0, 4),))):
        found = decode(outputs, races)
        for (start, stop), probabilities in zip(blocks, found.values(), strict=True):
            for row, logits in enumerate(outputs[:, start:stop].astype(float).tolist()):
                total = sum(math.exp(value) for value in logits)
                assert probabilities[row].tolist() == pytest.approx([math.exp(v) / total for v in logits], abs=1e-6)


@given(LOGITS, st.floats(-1e4, 1e4))
def test_what_is_added_to_a_block_changes_nothing_and_nothing_overflows(outputs, added):
    outputs = outputs.astype(np.float64)
    shifted = outputs.copy()
    shifted[:, 7:9] += added
    before, after = decode(outputs, "7"), decode(shifted, "7")
    for block in before:
        np.testing.assert_allclose(after[block], before[block], atol=1e-9)
    assert np.isfinite(decode(outputs * 1e4, "4")["race4"]).all()
