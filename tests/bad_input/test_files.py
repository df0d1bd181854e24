"""Damaged files and full disks: what is read back is what was written, or an error that names the file."""

import errno
import json
import os
import resource
import shutil
from contextlib import contextmanager

import nbformat
import numpy as np
import pytest
import torch
import xarray as xr
from nbformat.v4 import new_code_cell, new_markdown_cell, new_notebook
from safetensors.torch import save_file
from torch import nn

from facexkit.errors import FacexkitError
from facexkit.faces.cache import write_whole
from facexkit.measure.saved import read_result, save_result
from facexkit.models.loading import load_model
from facexkit.models.training import Checkpoint
from facexkit.models.weights import load_weights
from facexkit.stages import notebooks, run_stages


@pytest.fixture
def result(tmp_path):
    """A saved result with numbers, texts and a value that is what zarr leaves out of a chunk by default."""
    iou = np.linspace(0, 1, 60).reshape(20, 3)
    values = {"iou": (("unit", "concept"), iou), "zero": ("unit", np.zeros(20)), "q": ((), 0.005)}
    found = xr.Dataset(values, {"unit": np.arange(20), "concept": ["nose", "é", "hat"]}, {"layer": "layer4"})
    return found, save_result(found, tmp_path / "found.zarr")


CHUNKS = ["iou/c/0/0", "zero/c/0", "q/c", "unit/c/0", "concept/c/0"]


@pytest.mark.parametrize("chunk", CHUNKS)
def test_any_changed_byte_of_a_chunk_is_told(result, chunk):
    found, path = result
    whole = (path / chunk).read_bytes()
    for place in range(0, len(whole), 7):
        (path / chunk).write_bytes(whole[:place] + bytes([whole[place] ^ 0x41]) + whole[place + 1 :])
        with pytest.raises(FacexkitError, match="found.zarr holds no result, or a damaged one"):
            read_result(path)
    (path / chunk).write_bytes(whole)
    xr.testing.assert_identical(read_result(path), found)


@pytest.mark.parametrize("chunk", CHUNKS)
@pytest.mark.parametrize("damage", ["cut", "emptied", "gone"])
def test_a_chunk_that_is_cut_off_or_gone_is_told(result, chunk, damage):
    _, path = result
    if damage == "gone":
        (path / chunk).unlink()
    else:
        (path / chunk).write_bytes((path / chunk).read_bytes()[: 9 if damage == "cut" else 0])
    with pytest.raises(FacexkitError, match="found.zarr holds no result, or a damaged one"):
        read_result(path)


@pytest.mark.parametrize("content", ["", "{", "[]", "null", "[" * 100_000, '{"zarr_format": 3, "node_type": "group", "a": 5}'])
def test_a_result_whose_description_is_damaged_is_told(result, content):
    _, path = result
    (path / "zarr.json").write_text(content)
    with pytest.raises(FacexkitError, match="found.zarr holds no result, or a damaged one"):
        read_result(path)


def weights():
    torch.manual_seed(0)
    return nn.Linear(3, 2).state_dict()


def wrong(**changed):
    return {**weights(), **changed}


@pytest.mark.parametrize(
    ("state", "told"),
    [
        (wrong(weight=torch.full((2, 3), torch.nan)), "1 weights hold NaN or infinity, weight first"),
        (wrong(bias=torch.tensor([1.0, -torch.inf])), "1 weights hold NaN or infinity, bias first"),
        (wrong(weight=torch.ones(2, 3, dtype=torch.int64)), "weight int64 in the file, float32 in the network"),
        (wrong(weight=torch.ones(2, 3, dtype=torch.complex64)), "of another type: weight complex64"),
        (wrong(weight=torch.ones(2, 3).to_sparse()), "weight float32 .sparse, quantized or without values."),
        (wrong(weight=torch.ones(3, 2)), "of another shape: weight 3×2 in the file, 2×3 in the network"),
        ({"weight": torch.ones(2, 3)}, "1 missing: bias"),
        (wrong(more=torch.ones(1)), "1 unexpected: more"),
        ({}, "holds no tensors"),
        ([1, 2], "holds a list, not a state dict"),
        ({"weight": [1.0]}, "holds no tensors; its keys are weight"),
        (None, "holds a NoneType"),
    ],
)
def test_weights_with_wrong_content_are_refused_with_what_is_wrong(tmp_path, state, told):
    torch.save(state, tmp_path / "w.pt")
    network = nn.Linear(3, 2)
    before = {name: value.clone() for name, value in network.state_dict().items()}
    with pytest.raises(FacexkitError, match=f"w.pt.*{told}"):
        load_weights(network, tmp_path / "w.pt")
    assert all(torch.equal(value, before[name]) for name, value in network.state_dict().items())


def test_half_precision_weights_are_loaded_as_the_numbers_they_are(tmp_path):
    half = {name: value.half() for name, value in weights().items()}
    torch.save(half, tmp_path / "w.pt")
    load_weights(network := nn.Linear(3, 2), tmp_path / "w.pt")
    assert torch.equal(network.weight, half["weight"].float())


@pytest.mark.parametrize("name", ["w.safetensors", "w.pt"])
def test_weights_cut_off_anywhere_are_refused_with_their_file(tmp_path, name):
    path = tmp_path / name
    (save_file if name.endswith("safetensors") else torch.save)(weights(), path)
    whole = path.read_bytes()
    for size in {0, 1, 8, 9, 40, len(whole) // 2, len(whole) - 1}:
        path.write_bytes(whole[:size])
        with pytest.raises(FacexkitError, match=f"{name} cannot be read; it is damaged or no file of weights"):
            load_weights(nn.Linear(3, 2), path)


@pytest.mark.parametrize(
    "content",
    [
        b"", b"PK\x03\x04 no checkpoint", [], {"history": []}, {"fingerprint": "own", "history": [], "network": {}},
        {"fingerprint": "own", "history": [], "network": "own", "optimizer": {}},
    ],
)  # fmt: skip
def test_a_checkpoint_that_is_damaged_is_told_with_what_to_do(tmp_path, content):
    file, network = tmp_path / "checkpoint.pt", nn.Linear(3, 2)
    checkpoint = Checkpoint(file, network, "recipe")
    if isinstance(content, bytes):
        file.write_bytes(content)
    else:
        own = {"fingerprint": checkpoint.fingerprint, "network": network.state_dict()}
        torch.save({k: own[k] if v == "own" else v for k, v in content.items()} if content else content, file)
    with pytest.raises(FacexkitError, match="checkpoint.pt is damaged or no checkpoint: .*; remove it to start afresh"):
        next(checkpoint.epochs(2, network=network, optimizer=torch.optim.SGD(network.parameters(), 0.1)))


def onnx_file(path, size, batch, reshape=(1, -1), outputs=256):
    """Write conv, relu, pool, reshape, matmul for images of one size, with the batch in the reshape."""
    onnx = pytest.importorskip("onnx")
    helper, make, rng = onnx.helper, onnx.helper.make_node, np.random.default_rng(0)
    arrays = {
        "w": rng.normal(size=(4, 3, 3, 3)).astype("f4"),
        "fc": rng.normal(size=(outputs, 2)).astype("f4"),
        "shape": np.array(reshape),
    }
    nodes = [
        make("Conv", ["in", "w"], ["c"], pads=[1] * 4), make("Relu", ["c"], ["r"]),
        make("MaxPool", ["r"], ["p"], kernel_shape=[4, 4], strides=[4, 4]),
        make("Reshape", ["p", "shape"], ["f"]), make("MatMul", ["f", "fc"], ["out"]),
    ]  # fmt: skip
    info = lambda name, dims: helper.make_tensor_value_info(name, onnx.TensorProto.FLOAT, dims)  # noqa: E731
    kept = [onnx.numpy_helper.from_array(array, name) for name, array in arrays.items()]
    graph = helper.make_graph(nodes, "g", [info("in", size)], [info("out", [batch, 2])], kept)
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 13)])
    model.ir_version = 8
    onnx.save(model, str(path))
    return f"onnx:{path}"


@pytest.mark.parametrize(("size", "batch", "reshape", "outputs"), [
    ([1, 3, 32, 32], 1, (1, -1), 256), ([1, 3, 32, 48], 1, (1, -1), 384), (["n", 3, 48, 32], "n", (0, -1), 384),
    ([1, 3, 32, 32], 1, (1, 256), 256),
])  # fmt: skip
def test_a_network_answers_batches_as_it_answers_each_image(tmp_path, size, batch, reshape, outputs):
    runtime = pytest.importorskip("onnxruntime")
    model = load_model(onnx_file(tmp_path / "one.onnx", size, batch, reshape, outputs), device="cpu")
    images = torch.randint(0, 256, (5, *size[1:]), dtype=torch.uint8)
    session = runtime.InferenceSession(str(tmp_path / "one.onnx"), providers=["CPUExecutionProvider"])
    each = [session.run(None, {"in": image[None].float().numpy() / 255})[0] for image in images]
    np.testing.assert_allclose(model(model.prepare(images)), np.concatenate(each), rtol=1e-3, atol=1e-3)
    assert model.layers.units.iloc[0] == 4


@pytest.mark.parametrize(
    ("size", "batch", "reshape", "outputs", "told"),
    [
        ([3, 32, 32], 1, (1, -1), 256, "one.onnx cannot be read as ONNX"),
    ],
)
def test_a_network_for_other_images_is_refused_with_its_file(tmp_path, size, batch, reshape, outputs, told):
    with pytest.raises(FacexkitError, match=told):
        load_model(onnx_file(tmp_path / "one.onnx", size, batch, reshape, outputs), device="cpu")


@pytest.fixture
def stage(tmp_path):
    """A folder with one stage, `alpha`, that runs a cell."""

    def write(code="1 + 1"):
        parameters = new_code_cell('out: str = "x"', metadata={"tags": ["parameters"]})
        cells = [new_markdown_cell("# Alpha"), parameters, new_code_cell(code)]
        kernel = {"name": "python3", "display_name": "Python 3", "language": "python"}
        (tmp_path / "nb").mkdir(exist_ok=True)
        nbformat.write(new_notebook(cells=cells, metadata={"kernelspec": kernel}), tmp_path / "nb/01_alpha.ipynb")
        return tmp_path / "nb"

    return write


def go(folder, out):
    return run_stages(["alpha"], {}, out, notebooks=folder, say=lambda line: None)


@contextmanager
def small_disk():
    """Let no file of this process grow beyond 1,000 bytes, as on a disk that is full; not while pytest itself writes."""
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (1000, before[1]))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)


def test_a_file_that_finds_no_room_is_told_and_leaves_nothing(tmp_path):
    write_whole(tmp_path / "a.csv", b"earlier")
    with small_disk(), pytest.raises(FacexkitError, match="a.csv cannot be made or written: File too large; free"):
        write_whole(tmp_path / "a.csv", b"x" * 5000)
    noise = xr.Dataset({"noise": ("x", np.random.default_rng(0).random(500))})
    with small_disk(), pytest.raises(FacexkitError, match="found.zarr cannot be made or written: File too large"):
        save_result(noise, tmp_path / "found.zarr")
    assert [path.name for path in tmp_path.iterdir()] == ["a.csv"] and (tmp_path / "a.csv").read_bytes() == b"earlier"


def test_a_disk_that_fills_up_while_a_stage_runs_is_told_and_the_manifest_is_whole(stage, tmp_path, monkeypatch):
    out = tmp_path / "run"
    monkeypatch.setattr(notebooks, "run_notebook", lambda *given: None)
    before = go(stage(), out)

    def full(*given, **named):
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.undo()
    monkeypatch.setattr("papermill.execute_notebook", full)
    with pytest.raises(FacexkitError, match="stage 'alpha' could not write to .*run: No space left on device"):
        go(stage(), out)
    assert json.loads((out / "manifest.json").read_text())["parameters"] == before["parameters"]
    assert not [path.name for path in out.iterdir() if "running" in path.name or path.name.startswith(".")]


def test_a_run_folder_that_vanishes_is_told_with_its_name(stage, tmp_path, monkeypatch):
    vanish = lambda stage, parameters, folder, kernel: shutil.rmtree(folder) or folder.write_text("")  # noqa: E731
    monkeypatch.setattr(notebooks, "run_notebook", vanish)
    with pytest.raises(FacexkitError, match="run.* cannot be made or written: Not a directory"):
        go(stage(), tmp_path / "run")


@pytest.mark.skipif(os.geteuid() == 0, reason="root may write everywhere")
def test_a_read_only_folder_is_told(stage, tmp_path):
    (tmp_path / "run").mkdir(mode=0o500)
    with pytest.raises(FacexkitError, match="run.* cannot be made or written: Permission denied"):
        go(stage(), tmp_path / "run")


def test_a_conclusion_of_another_shape_is_told(stage, tmp_path, monkeypatch):
    conclude = lambda stage, parameters, folder, kernel: (folder / ".alpha.json").write_text("[1")  # noqa: E731
    monkeypatch.setattr(notebooks, "run_notebook", conclude)
    with pytest.raises(FacexkitError, match=".alpha.json is no conclusion of a stage"):
        go(stage(), tmp_path / "run")


def test_an_error_that_was_told_leaves_no_other_lines(stage, tmp_path, capfd):
    with pytest.raises(FacexkitError, match="^no faces\n"):
        go(stage("import facexkit as fx\nraise fx.FacexkitError('no faces')"), tmp_path / "run")
    said = capfd.readouterr()
    assert "IPKernelApp" not in said.err and "Traceback" not in said.err
