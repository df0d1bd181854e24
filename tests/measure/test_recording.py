"""Recorded activations against a plain loop of one image at a time; the store against what was recorded."""

from __future__ import annotations

import fsspec
import numpy as np
import pandas as pd
import pytest
import torch
import xarray as xr
import zarr
from torch import nn
from torchvision.models import VisionTransformer

from facexkit.errors import FacexkitError
from facexkit.measure.recording import UnitSummary, record, write_activations
from facexkit.models.face_model import FaceModel
from facexkit.probe.accumulator import ProbedBatch

SIDE = 32
pytestmark = pytest.mark.skipif(int(zarr.__version__.split(".")[0]) < 3, reason="the store needs zarr 3, so Python 3.11")


class AllRanks(nn.Module):
    """Maps that are not square, tokens after a class token, and a linear layer whose output is changed in place."""

    def __init__(self):
        super().__init__()
        self.wide = nn.Conv2d(3, 5, 3, stride=(4, 2))
        self.pool = nn.AdaptiveAvgPool2d(3)
        self.tokens = nn.Linear(5, 7)
        self.vector = nn.Linear(7, 6)
        self.head = nn.Linear(6, 2)

    def forward(self, x):
        patches = self.pool(self.wide(x)).flatten(2).transpose(1, 2)
        tokens = self.tokens(torch.cat([patches.mean(1, keepdim=True), patches], 1))
        vector = self.vector(tokens[:, 0])
        vector *= -3
        return self.head(vector)


LAYERS = {"wide": (5, 8, 15), "tokens": (7, 3, 3), "vector": (6, 1, 1), "head": (2, 1, 1)}


@pytest.fixture(scope="module")
def model():
    torch.manual_seed(1)
    return FaceModel(AllRanks(), name="all ranks", image_size=SIDE, device="cpu")


@pytest.fixture(scope="module")
def faces(small_faces):
    labelled = small_faces[:]
    labelled.table["gender"] = np.where(np.arange(20) % 3 == 0, "female", "male")
    labelled.table["smile"] = np.arange(20) % 2
    return labelled


@pytest.fixture(scope="module")
def recorded(model, faces, tmp_path_factory):
    path = tmp_path_factory.mktemp("store") / "maps.zarr"
    return record(model, faces, list(LAYERS), store=path, chunk=3, batch_size=7, progress=False), path


def plain_maps(model: FaceModel, faces, layer: str) -> np.ndarray:
    """A hook, one image at a time."""
    maps = []
    read = model.layers.attrs["forms"][layer].maps
    hook = model.network.get_submodule(layer).register_forward_hook(lambda *a: maps.append(read(a[2]).clone()))
    with torch.no_grad():
        for batch in faces.batches(model.image_size, 1, workers=0):
            model(model.prepare(batch.images))
    hook.remove()
    return torch.cat(maps).numpy()


def scale(maps: np.ndarray, value: float) -> torch.Tensor:
    return torch.from_numpy(maps.astype(np.float32) * value)


@pytest.mark.parametrize("layer", LAYERS)
def test_maxima_and_means_equal_a_plain_loop(model, faces, recorded, layer):
    found, maps = recorded[0][layer], plain_maps(model, faces, layer)
    assert maps.shape[1:] == LAYERS[layer]
    np.testing.assert_allclose(found.maximum, maps.max((2, 3)), rtol=1e-5, atol=1e-6)
    np.testing.assert_allclose(found["mean"], maps.mean((2, 3), dtype=float), rtol=1e-5, atol=1e-6)
    assert found.image.values.tolist() == faces.table.path.tolist()
    assert found.gender.values.tolist() == faces.table.gender.tolist() and found.smile.dtype.kind == "i"
    assert found.attrs["layer"] == layer and found.attrs["model_fingerprint"] == model.fingerprint()


def test_a_vision_transformer_is_recorded_without_its_class_token(small_faces):
    torch.manual_seed(2)
    network = VisionTransformer(SIDE, 8, num_layers=2, num_heads=2, hidden_dim=12, mlp_dim=16, num_classes=2)
    model, layer = FaceModel(network, name="ViT", image_size=SIDE, device="cpu"), "encoder.layers.encoder_layer_1"
    found = record(model, small_faces, layer, batch_size=6, progress=False)[layer]
    tokens = []
    network.get_submodule(layer).register_forward_hook(lambda *a: tokens.append(a[2][:, 1:]))
    with torch.no_grad():
        for batch in small_faces.batches(SIDE, 1, workers=0):
            model(model.prepare(batch.images))
    np.testing.assert_allclose(found.maximum, torch.cat(tokens).amax(1), rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize(("batch_size", "workers"), [(1, 0), (20, 0), (6, 2)])
def test_the_result_is_the_same_for_any_batch_size(model, faces, recorded, batch_size, workers, tmp_path):
    again = record(
        model, faces, list(LAYERS), store=tmp_path / "s", batch_size=batch_size, workers=workers, progress=False
    )
    for layer in LAYERS:
        xr.testing.assert_allclose(again[layer], recorded[0][layer], rtol=1e-5, atol=1e-6)
        maps = xr.open_zarr(tmp_path / "s", group=layer).activation
        np.testing.assert_allclose(maps, xr.open_zarr(recorded[1], group=layer).activation, rtol=2e-3, atol=1e-3)


@pytest.mark.parametrize("layer", LAYERS)
def test_the_store_opens_lazily_with_labels_and_rounds_to_float16(model, faces, recorded, layer):
    opened = xr.open_zarr(recorded[1], group=layer)
    maps = plain_maps(model, faces, layer)
    assert opened.activation.dims == ("image", "unit", "y", "x") and opened.activation.dtype == np.float16
    assert opened.activation.encoding["chunks"] == (3, *LAYERS[layer]) and not opened.activation.variable._in_memory
    error = np.abs(opened.activation.values.astype(float) - maps)
    assert (error <= 2.0**-11 * np.abs(maps) + 1e-6).all()
    np.testing.assert_array_equal(opened.maximum, recorded[0][layer].maximum)
    assert opened.image.values.tolist() == faces.table.path.tolist()
    assert opened.gender.values.tolist() == faces.table.gender.tolist()
    assert opened.activation.sel(image="7.png").shape == LAYERS[layer]


def test_float32_and_bfloat16_stores_hold_what_they_say(model, faces, tmp_path):
    stored = {}
    for dtype in ("float32", "bfloat16"):
        record(model, faces, "wide", store=tmp_path / dtype, dtype=dtype, progress=False)
        stored[dtype] = xr.open_zarr(tmp_path / dtype, group="wide").activation.values
    exact = torch.from_numpy(stored["float32"])
    np.testing.assert_allclose(exact, plain_maps(model, faces, "wide"), rtol=1e-5, atol=1e-6)
    np.testing.assert_array_equal(stored["bfloat16"], exact.bfloat16().float())


def test_an_image_that_cannot_be_decoded_is_listed_and_has_no_row(model, faces_of, tmp_path):
    images = [np.full((40, 40, 3), 10 * n, np.uint8) for n in range(6)]
    images[2] = None
    found = record(model, faces_of(images), "wide", store=tmp_path / "s", batch_size=2, max_skipped=0.5, progress=False)
    opened = xr.open_zarr(tmp_path / "s", group="wide")
    assert found["wide"].attrs["skipped"] == opened.attrs["skipped"] == ["2.png: this is no picture"]
    for result in (found["wide"], opened):
        assert result.image.values.tolist() == ["0.png", "1.png", "3.png", "4.png", "5.png"]
    np.testing.assert_allclose(opened.activation.max(("y", "x")), found["wide"].maximum, rtol=1e-3, atol=1e-4)


def test_a_store_lies_at_any_address_and_is_written_alike(model, faces, recorded, tmp_path):
    for place in ("memory://kept/maps.zarr", f"file://{tmp_path}/maps.zarr"):
        for _ in range(2):  # the second in the place of the first
            record(model, faces, ["wide"], store=place, chunk=3, batch_size=7, progress=False, workers=0)
        stored = xr.open_zarr(place, group="wide")
        np.testing.assert_array_equal(stored.activation, xr.open_zarr(recorded[1], group="wide").activation)
        assert stored.image.values.tolist() == faces.table.path.tolist()
        files, folder = fsspec.core.url_to_fs(place.rpartition("/")[0])
        assert [path.rpartition("/")[2] for path in files.ls(folder, detail=False)] == ["maps.zarr"]
    with pytest.raises(FacexkitError, match="store='nowhere://x' cannot be reached"):
        record(model, faces, "wide", store="nowhere://x")


def test_a_store_goes_on_where_its_run_was_stopped(model, faces, tmp_path, monkeypatch):
    how = {"store": tmp_path / "maps.zarr", "batch_size": 2, "workers": 0, "progress": False, "folder": tmp_path / "passes"}
    monkeypatch.setattr("facexkit.measure.recording.SHARD", 4)
    stopped = faces[:]
    stopped.images = Watched(faces.images, tmp_path, KeyboardInterrupt())
    with pytest.raises(KeyboardInterrupt):
        record(model, stopped, ["wide", "vector"], **how)
    watched = faces[:]
    watched.images = Watched(faces.images, tmp_path, None)
    found = record(model, watched, ["wide", "vector"], **how)
    assert watched.images.read_paths[0] == "8.png" and sorted(f.name for f in tmp_path.iterdir()) == ["maps.zarr", "passes"]
    whole = record(model, faces, ["wide", "vector"], **how | {"store": tmp_path / "whole", "folder": None})
    for layer in whole:
        xr.testing.assert_identical(found[layer], whole[layer])
        stored, expected = (xr.open_zarr(tmp_path / name, group=layer) for name in ("maps.zarr", "whole"))
        xr.testing.assert_identical(stored.load(), expected.load())


class Watched:
    """Pixels that look at a folder while they are read, and stop the run at the tenth image."""

    def __init__(self, images, folder, stop):
        self.images, self.folder, self.stop, self.seen, self.read_paths = images, folder, stop, [], []

    def read(self, path):
        self.read_paths.append(path)
        if path == "10.png":
            self.seen = sorted(file.name for file in self.folder.iterdir())
            if self.stop:
                raise self.stop
        return self.images.read(path)

    def digest(self, path):
        return self.images.digest(path)


@pytest.mark.parametrize("stop", [KeyboardInterrupt(), RuntimeError("the machine is tired")])
def test_an_interrupted_run_leaves_what_was_there(model, faces, tmp_path, stop):
    watched = faces[:]
    watched.images = Watched(faces.images, tmp_path, stop)
    how = {"store": tmp_path / "maps.zarr", "batch_size": 2, "workers": 0, "progress": False, "chunk": 1}
    with pytest.raises(type(stop)):
        record(model, watched, "wide", **how)
    assert list(tmp_path.iterdir()) == []
    assert "maps.zarr" not in watched.images.seen and len(watched.images.seen) == 1
    record(model, faces, "wide", **how)
    with pytest.raises(type(stop)):
        record(model, watched, "vector", **how)
    assert [file.name for file in tmp_path.iterdir()] == ["maps.zarr"]
    assert xr.open_zarr(tmp_path / "maps.zarr", group="wide").sizes["image"] == 20


def test_only_an_activation_store_is_replaced(model, faces, tmp_path):
    store = tmp_path / "maps.zarr"
    record(model, faces, "wide", store=store, progress=False)
    record(model, faces, "vector", store=store, progress=False)
    assert sorted(name for name, _ in zarr.open_group(str(store), mode="r").groups()) == ["vector"]
    others = [tmp_path / "file", tmp_path / "folder", tmp_path / "other.zarr"]
    others[0].write_text("a thesis")
    others[1].mkdir()
    zarr.open_group(str(others[2]), mode="w")
    for other in others:
        with pytest.raises(FacexkitError, match="is no activation store"):
            record(model, faces, "wide", store=other, progress=False)
    assert others[0].read_text() == "a thesis"


@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf])
def test_an_activation_that_is_no_number_is_named(value):
    maps = np.zeros((4, 3, 2, 2))
    maps[2, 1, 0, 1] = value
    summary = UnitSummary("conv", pd.DataFrame({"path": [f"{n}.png" for n in range(9)]}))
    summary.update(ProbedBatch(np.arange(3, 7), torch.empty(4, 3, 0, 0), activations={"conv": scale(maps, 1)}))
    with pytest.raises(FacexkitError, match=r"layer 'conv', unit 1, image '5\.png': an activation is NaN or infinite"):
        summary.finish()


@pytest.mark.parametrize("factor", [1e6, -1e6])
def test_a_value_too_large_for_float16_is_named_and_fits_bfloat16(faces_of, tmp_path, factor):
    network = nn.Sequential(nn.AvgPool2d(16), nn.Conv2d(3, 2, 1), nn.Flatten(), nn.Linear(8, 2))
    nn.init.zeros_(network[1].weight)
    network[1].weight.data[1, 0], network[1].bias.data[:] = factor, 0
    model = FaceModel(network, name="loud", image_size=SIDE, device="cpu")
    dark, half_bright = np.zeros((2, SIDE, SIDE, 3), np.uint8)
    half_bright[:, : SIDE // 2] = 200
    loud = faces_of([dark, half_bright])
    with pytest.raises(FacexkitError, match=r"layer '1', unit 1, image '1\.png': an activation is too large for .*16"):
        record(model, loud, "1", store=tmp_path / "s", progress=False)
    assert list(tmp_path.iterdir()) == []
    record(model, loud, "1", store=tmp_path / "s", dtype="bfloat16", progress=False)
    stored = xr.open_zarr(tmp_path / "s", group="1").activation.values
    assert stored[1, 1, 0, 0] == pytest.approx(factor * 200 / 255, rel=2.0**-8) and np.isfinite(stored).all()


def test_labels_without_a_value_or_with_a_taken_name_are_kept(model, faces, tmp_path):
    odd = faces[:3]
    odd.table["mouth"] = ["open", None, 3]
    odd.table["age"] = pd.array([4, None, 6], dtype="Int64")
    odd.table["unit"] = ["a", "b", "c"]
    odd.table["wears hat/cap"] = [True, False, True]
    record(model, odd, "vector", store=tmp_path / "s", progress=False)
    opened = xr.open_zarr(tmp_path / "s", group="vector")
    assert opened.mouth.values.tolist() == ["open", "", "3"]
    assert opened["unit_label"].values.tolist() == ["a", "b", "c"] and opened.unit.values.tolist() == list(range(6))
    np.testing.assert_array_equal(opened.age, [4, np.nan, 6])
    assert opened.coords["wears_hat_cap"].dtype == bool


def test_tables_hold_an_image_a_row(faces, recorded, tmp_path):
    files = write_activations(recorded[0], tmp_path)
    assert [file.relative_to(tmp_path).as_posix() for file in files[:2]] == [
        "wide/activations.csv",
        "wide/activations.parquet",
    ]
    found = recorded[0]["wide"]
    for table in (pd.read_csv(files[0]), pd.read_parquet(files[1])):
        assert table.columns[:3].tolist() == ["image", "gender", "smile"] and len(table) == 20
        assert table.image.tolist() == faces.table.path.tolist()
        np.testing.assert_allclose(table["maximum_4"], found.maximum[:, 4], rtol=1e-6)
        np.testing.assert_allclose(table["mean_0"], found["mean"][:, 0], rtol=1e-6)


@pytest.mark.parametrize(
    ("how", "complaint"),
    [
        ({"layers": []}, "at least one layer"),
        ({"layers": "wild"}, "did you mean 'wide'"),
        ({"dtype": "float61"}, "did you mean 'float16'"),
        ({"chunk": 0}, "chunk is 0"),
    ],
)
def test_wrong_arguments_are_refused(model, faces, tmp_path, how, complaint):
    with pytest.raises(FacexkitError, match=complaint):
        record(model, faces, **({"layers": "wide", "store": tmp_path / "s", "progress": False} | how))
    assert list(tmp_path.iterdir()) == []


def test_an_old_zarr_is_told_at_the_door(model, faces, tmp_path, monkeypatch):
    monkeypatch.setattr(zarr, "__version__", "2.18.3")
    with pytest.raises(FacexkitError, match=r"zarr 3, not 2\.18\.3; take Python 3\.11"):
        record(model, faces, "wide", store=tmp_path / "s", progress=False)
