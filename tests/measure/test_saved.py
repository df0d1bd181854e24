"""Results on disk: found again by what made them, and told where a folder holds none."""

import numpy as np
import pytest
import xarray as xr

from facexkit.errors import FacexkitError
from facexkit.measure.saved import find_result, read_result, save_result, write_scores


def scores(**made_by):
    return xr.Dataset({"score": ("region", [0.25, np.nan])}, {"region": ["nose", "hat"]}, made_by)


def test_a_result_is_read_back_as_it_was_and_replaces_an_earlier_one(tmp_path):
    for value in (1, 2):
        save_result(scores(seed=value), tmp_path / "found.zarr")
    xr.testing.assert_identical(read_result(tmp_path / "found.zarr"), scores(seed=2))
    assert find_result([tmp_path], {"seed": 1}, "found.zarr") is None and list(tmp_path.iterdir()) == [tmp_path / "found.zarr"]


def test_scores_are_found_by_what_made_them_in_the_first_folder_that_has_them(tmp_path):
    one, other = (
        scores(model="a/b", method=method).expand_dims(target_class=[1, 3]).assign_coords(class_name=("target_class", ["male?", "none"]))
        for method in ("share", "facex")
    )
    paths = [path for each in (one, other) for path in write_scores(each, tmp_path / "run")]
    assert [path.name for path in paths[:2]] == ["a_b_share_male_.zarr", "a_b_share_none.zarr"]
    folders = [tmp_path / "kept", tmp_path / "run", tmp_path / "none"]
    write_scores(one.assign_attrs(seed=3), tmp_path / "kept")
    assert find_result(folders, {"method": "share"}, target_class=1).attrs["seed"] == 3
    xr.testing.assert_equal(find_result(folders, {"method": "facex"}, target_class=3), other.sel(target_class=[3]))
    assert find_result(folders, {"method": "facex"}, target_class=0) is None


def test_a_folder_without_a_result_is_told_with_its_path(tmp_path):
    (tmp_path / "broken.zarr").mkdir()
    for read in (read_result, lambda path: find_result([path.parent], {})):
        with pytest.raises(FacexkitError, match="broken.zarr holds no result"):
            read(tmp_path / "broken.zarr")
