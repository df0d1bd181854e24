"""The three stages of Face Dissect on real faces and a public gender model, beside a slow loop."""

from __future__ import annotations

import cv2
import numpy as np
import pytest
import torch
import xarray as xr
from PIL import Image

from facexkit.faces.faceset import FaceSet
from facexkit.measure.dissection import dissect
from facexkit.measure.global_bias import global_bias
from facexkit.measure.hierarchy import rank_concepts
from facexkit.models.face_model import FaceModel
from facexkit.models.loading import load_model
from facexkit.probe.hooks import capture

LAYER, SIZE, Q = "layer_7_relu", 32, 0.005


@pytest.fixture(scope="module")
def model(gender_file) -> FaceModel:
    normalize = {"mean": [122.782, 117.001, 104.298], "scale": 256}
    return load_model(f"onnx:{gender_file}", image_size=32, normalize=normalize, device="cpu")


@pytest.fixture(scope="module")
def found(model, shared_faces) -> xr.Dataset:
    return dissect(model, shared_faces, LAYER, Q, SIZE, progress=False)


@pytest.fixture(scope="module")
def maps(model, shared_faces) -> np.ndarray:
    recorded = []
    for batch in shared_faces.batches(32, 60):
        with torch.no_grad(), capture(model, [LAYER], stop=True) as captured:
            model(model.prepare(batch.images))
        recorded.append(captured[LAYER].numpy())
    return np.concatenate(recorded)


def test_thresholds_are_the_exact_quantiles(found, maps):
    assert maps.shape == (240, 64, 16, 16)
    values = np.sort(maps.transpose(1, 0, 2, 3).reshape(64, -1), axis=1)[:, ::-1]
    np.testing.assert_allclose(found.threshold, values[:, int(Q * values.shape[1])], rtol=1e-4, atol=1e-5)


def test_counts_equal_a_loop_with_opencv(found, maps, shared_faces: FaceSet):
    units, concepts = [3, 22, 51], ["l_eye", "u_lip", "hair", "neck_l"]
    intersection, union, unsure = (np.zeros((len(units), len(concepts)), int) for _ in range(3))
    for n, path in enumerate(shared_faces.table.path):
        masks = shared_faces.masks.read(path)
        for row, unit in enumerate(units):
            threshold = float(found.threshold[unit])
            up = cv2.resize(maps[n, unit], (SIZE, SIZE), interpolation=cv2.INTER_LINEAR)
            active = up > threshold
            for column, concept in enumerate(concepts):
                if concept in masks and masks[concept].any():
                    whole = Image.fromarray(masks[concept])
                    mask = np.asarray(whole.resize((SIZE, SIZE), Image.Resampling.NEAREST))
                    intersection[row, column] += (active & mask).sum()
                    union[row, column] += (active | mask).sum()
                    unsure[row, column] += (np.abs(up - threshold) < 1e-4 * abs(threshold)).sum()
    chosen = found.sel(unit=units, concept=concepts)
    assert (np.abs(chosen.intersection - intersection) <= unsure).all()
    assert (np.abs(chosen.union - union) <= unsure).all()
    assert intersection.sum() > 100 and unsure.sum() < 20


def test_hierarchy_and_bias_are_sane(found, model, shared_faces):
    ranked = rank_concepts(found)
    assert ranked.area.sel(unit=22) == "eye" and (ranked.area != "").all()
    np.testing.assert_allclose(ranked.probability.sum("concept"), 1)
    assert (ranked.is_concept.sum("concept") >= 1).mean() > 0.9
    bias = global_bias(model, shared_faces, LAYER, ["gender", "earrings"], found=found, progress=False)
    leaning = (bias.leans_to != "").sum("unit")
    assert 10 < leaning.sel(attribute="gender") < 64  # a gender model
    assert leaning.sel(attribute="earrings") < leaning.sel(attribute="gender")
    labelled = shared_faces.table.gender.value_counts()
    assert bias.images.sel(attribute="gender", group="female") == labelled["female"]


def test_faces_may_be_cropped_first(model, shared_faces):
    found = dissect(model, shared_faces[:12], LAYER, mask_size=SIZE, crop="mtcnn", margin=0.1, progress=False)
    assert found.attrs["crop"] == "mtcnn" and found.attrs["uncropped"] <= 2
    assert found.images.sel(concept="nose") == 12
