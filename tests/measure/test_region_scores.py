import warnings
from types import SimpleNamespace

import numpy as np
import pytest
import xarray as xr

from facexkit.errors import FacexkitError
from facexkit.faces.regions import REGIONS
from facexkit.measure.region_methods import METHODS
from facexkit.measure.region_scores import register_region_method, score_regions


def scores(model, faces, **options):
    return score_regions(model, faces, **{"layer": "conv2", "progress": False, **options})


def test_a_list_of_classes_equals_separate_calls(small_model, small_faces):
    both = scores(small_model, small_faces, target_class=[2, "class 0"])
    assert both.target_class.values.tolist() == [2, 0] and both.class_name.values.tolist() == ["class 2", "class 0"]
    for target in (2, 0):
        alone = scores(small_model, small_faces, target_class=target)
        assert set(alone.data_vars) == set(both.data_vars)
        for name in alone.data_vars:
            assert alone[name].dims[0] == "target_class"
            assert both[name].sel(target_class=[target]).identical(alone[name]), name


def test_several_classes_take_one_pass(small_model, small_faces):
    runs = []
    handle = small_model.network.register_forward_hook(lambda *_: runs.append(1))
    scores(small_model, small_faces, target_class=[0, 1, 2], batch_size=10)
    handle.remove()
    assert len(runs) == 2 + 1  # which asks whether the classes depend on the layer


@pytest.mark.parametrize("classes", [np.array([0, 2]), (0, 2), range(0, 3, 2)])
def test_classes_come_in_any_sequence(small_model, small_faces, classes):
    assert scores(small_model, small_faces, target_class=classes).target_class.values.tolist() == [0, 2]
    assert scores(small_model, small_faces, target_class=np.int64(2)).target_class.values.tolist() == [2]


@pytest.mark.parametrize("options", [{}, {"target_class": [0, 1]}, {"method": "share", "layer": None, "images": 4}])
def test_a_result_says_how_it_was_made_and_survives_a_store(small_model, small_faces, options, tmp_path):
    found = scores(small_model, small_faces, seed=4, **options)
    said = "method layer model model_fingerprint faces faces_fingerprint image_size seed version skipped".split()
    assert set(said) <= set(found.attrs)
    assert found.attrs["faces_fingerprint"] == small_faces.fingerprint() and found.attrs["seed"] == 4
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # strings in zarr 3
        found.to_zarr(tmp_path / "scores.zarr")
    xr.testing.assert_identical(xr.open_zarr(tmp_path / "scores.zarr").load(), found)


def test_a_result_says_which_regions_its_masks_cannot_tell(small_model, small_faces):
    assert scores(small_model, small_faces).attrs["untold"] == []
    bare, whole = small_faces[:], small_faces.masks
    few = ("background", "skin", "nose")
    read = lambda path: {name: mask for name, mask in whole.read(path).items() if name in few}  # noqa: E731
    bare.masks = SimpleNamespace(names=few, read=read, digest=whole.digest)
    assert scores(small_model, bare, workers=0).attrs["untold"] == [*REGIONS[3:]]


def test_skipped_images_are_listed_in_the_result(faces_of, small_model):
    images = list(np.random.default_rng(0).integers(0, 256, (6, 9, 9, 3), np.uint8))
    images[2] = None
    faces = faces_of(images, np.ones((6, 9, 9), int))
    found = scores(small_model, faces, max_skipped=0.5)
    assert found.attrs["skipped"] == ["2.png: this is no picture"]
    assert found.image.values.tolist() == [f"{k}.png" for k in (0, 1, 3, 4, 5)]
    with pytest.raises(FacexkitError, match="cannot be decoded"):
        scores(small_model, faces)


@pytest.mark.parametrize(
    ("options", "said"),
    [
        ({"method": "facx"}, "unknown method 'facx'; did you mean 'facex'"),
        ({"layer": None}, "needs a layer; list them"),
        ({"layer": "conv3"}, "unknown layer 'conv3'; did you mean 'conv2' or 'conv1'"),
        ({"target_class": 3}, "target_class 3 is out of range: model 'small net' has 3 outputs"),
        ({"target_class": "class 9"}, "unknown class 'class 9'; did you mean 'class"),
        ({"target_class": []}, "must name at least one class"),
        ({"target_class": [1, "class 1"]}, "each once"),
        ({"attribution": "lime"}, "unknown attribution 'lime'"),
    ],
)
def test_wrong_wishes_are_refused_with_what_to_do(small_model, small_faces, options, said):
    with pytest.raises(FacexkitError, match=said):
        scores(small_model, small_faces, **options)


def test_sets_that_cannot_be_scored_are_refused(small_model, small_faces, faces_of):
    images = np.zeros((3, 9, 9, 3), np.uint8)
    with pytest.raises(FacexkitError, match="is empty"):
        scores(small_model, small_faces[:0])
    with pytest.raises(FacexkitError, match="has no masks; load it with masks="):
        scores(small_model, faces_of(images))
    with pytest.raises(FacexkitError, match="no face of 'small' has a mask of any of the 19 regions"):
        scores(small_model, faces_of(images, [{}, {}, {}]))


def test_a_face_without_masks_counts_in_no_region(small_model, faces_of):
    images = np.random.default_rng(0).integers(0, 256, (3, 9, 9, 3), np.uint8)
    found = scores(small_model, faces_of(images, [{}, {"nose": np.eye(9, dtype=bool)}, {}]))
    assert found.images.sel(region="nose") == 1 and found.images.sum() == 1
    assert found.per_image.notnull().sum() == 1 and found.score.notnull().sum() == 1


def test_another_method_can_be_registered(small_model, small_faces, monkeypatch):
    monkeypatch.setattr(METHODS, "found", dict(METHODS))

    def mean_area(model, faces, layer, targets, *, seed, power=1):
        ones = np.full(len(REGIONS), float(power))
        result = xr.Dataset({k: ("region", ones) for k in ("score", "images")}, {"region": list(REGIONS)})
        return [result for _ in targets]

    register_region_method("mean_area", mean_area)
    found = score_regions(small_model, small_faces, method="mean_area", target_class=[0, 1], power=3)
    assert (found.score == 3).all() and found.attrs["method"] == "mean_area" and found.attrs["layer"] == ""


def test_another_attribution_is_named_in_the_result(small_model, small_faces):
    def top_left(model, layer, inputs, target):
        maps = inputs.new_zeros(len(inputs), 4, 4)
        maps[:, 0, 0] = 1
        return maps

    found = scores(small_model, small_faces, attribution=top_left)
    assert found.attrs["attribution"] == "top_left"
    assert set(found.patch_y.values.ravel()) | set(found.patch_x.values.ravel()) <= {0}


def test_a_class_may_be_explained_on_the_faces_that_are_labelled_so(small_model, small_faces):
    faces = small_faces[:]
    faces.table["label"], faces.target = np.arange(20) % 3, "label"
    both = scores(small_model, faces, target_class=[0, 1], explain_on="class")
    assert both.attrs["explain_on"] == "class" and both.attrs["unmasked"] == []
    for target in (0, 1):
        own = np.arange(target, 20, 3)
        alone = scores(small_model, small_faces[own], target_class=target).sel(target_class=target)
        found = both.sel(target_class=target)
        for name in ("score", "images", "patch_value", "patch_image", "example_image", "example_map"):
            np.testing.assert_array_equal(found[name].values, alone[name].values)
        assert np.array_equal(found.counts.values, np.isin(np.arange(20), own))
        np.testing.assert_array_equal(found.per_image.values[own], alone.per_image.values)
        assert np.isnan(found.per_image.values[~found.counts.values]).all()
    with pytest.raises(FacexkitError, match="no face of 'small' is labelled 'class 2'; take explain_on='all'"):
        scores(small_model, faces[faces.table.label < 2], target_class=2, explain_on="class")
    with pytest.raises(FacexkitError, match="explain_on"):
        scores(small_model, faces, explain_on="own")
