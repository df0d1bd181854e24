import os
import pickle
import random
import sys
import textwrap
from urllib.error import URLError

import numpy as np
import pytest
import torch
import torchvision
from safetensors.torch import save_file
from torch import nn

from facexkit.errors import FacexkitError
from facexkit.models import loading
from facexkit.models.layers import list_layers
from facexkit.models.loading import load_model, replace_head


def raises_saying(*parts):
    """Expect an error with every part in its message."""
    return pytest.raises(FacexkitError, match="(?s)" + ".*".join(parts))


@pytest.fixture
def user_file(tmp_path):
    def write(text, name="net.py"):
        path = tmp_path / name
        path.write_text(textwrap.dedent(text))
        return path

    return write


NET = """
    import torch
    from torch import nn

    class Net(nn.Module):
        def __init__(self, num_classes=3):
            super().__init__()
            self.conv, self.fc = nn.Conv2d(3, 4, 3, 2), nn.Linear(4, num_classes)

        def forward(self, x):
            return self.fc(self.conv(x).relu().mean((2, 3)))
"""


# Torchvision


def test_the_random_resnet_is_the_one_of_the_peer_numbers():
    model = load_model("torchvision:resnet18", num_classes=2, seed=0, device="cpu")
    total = sum(p.abs().sum(dtype=torch.float64) for p in model.network.parameters())
    assert total == pytest.approx(224561.4407, abs=1e-3)
    assert model.network.fc.weight.shape == (2, 512)
    assert (model.image_size, model.class_names) == (224, ["class 0", "class 1"])
    assert model.preprocess.mean_and_std[0] == [0.485, 0.456, 0.406]


def test_a_model_is_frozen_in_eval_mode_and_channels_last():
    network = load_model("torchvision:resnet18", device="cpu").network
    assert not network.training and not any(p.requires_grad for p in network.parameters())
    assert network.conv1.weight.is_contiguous(memory_format=torch.channels_last)
    assert not any(getattr(module, "inplace", False) for module in network.modules())


def test_seeds_give_their_own_weights_and_leave_the_global_random_state_alone():
    torch.manual_seed(5)
    expected = torch.rand(3)
    torch.manual_seed(5)
    models = [load_model("torchvision:squeezenet1_1", seed=seed, device="cpu", image_size=64) for seed in (0, 0, 1)]
    assert torch.equal(torch.rand(3), expected)
    first, again, other = [model.fingerprint() for model in models]
    assert first == again != other


FAMILIES = """alexnet convnext_tiny densenet121 efficientnet_b0 googlenet inception_v3 maxvit_t mnasnet0_5 mobilenet_v2
mobilenet_v3_small resnext50_32x4d shufflenet_v2_x0_5 squeezenet1_1 swin_t swin_v2_t vgg11 vit_b_16""".split()


@pytest.mark.parametrize("name", FAMILIES)
def test_every_family_of_torchvision_gets_a_new_head_and_nothing_else(name):
    with torch.device("meta"):
        options = {"init_weights": False} if name in ("googlenet", "inception_v3") else {}
        network = torchvision.models.get_model(name, weights=None, **options)
        before = {key: value.shape for key, value in network.state_dict().items()}
        replace_head(network, 7)
    changed = {key: value.shape for key, value in network.state_dict().items() if value.shape != before[key]}
    assert changed and all(before[key][0] == 1000 and shape[0] == 7 for key, shape in changed.items())


def test_published_weights_are_asked_of_torchvision_and_name_the_classes(monkeypatch):
    random_weights = torchvision.models.squeezenet1_1().state_dict()
    monkeypatch.setattr(torchvision.models._api, "load_state_dict_from_url", lambda url, **_: random_weights)
    model = load_model("torchvision:squeezenet1_1", weights="imagenet", device="cpu")
    assert model.class_names[:2] == ["tench", "goldfish"]


def test_published_weights_without_internet(monkeypatch):
    def offline(*_, **__):
        raise URLError("no route to host")

    monkeypatch.setattr(torchvision.models._api, "load_state_dict_from_url", offline)
    with raises_saying("could not be downloaded", "no route to host", "weights=FILE"):
        load_model("torchvision:resnet18", weights="IMAGENET1K_V1")


@pytest.mark.parametrize(
    ("options", "parts"),
    [
        ({"source": "torchvision:resnet81"}, ["unknown torchvision model", "resnet18"]),
        ({"source": "torchvison:resnet18"}, ["unknown model source", "did you mean 'torchvision"]),
        ({"source": "resnet18"}, ["unknown model source", "path/to/file.py:NAME"]),
        ({"source": "torchvision:resnet18", "weights": "IMAGENET1K_V9"}, ["is no file", "IMAGENET1K_V1"]),
        ({"source": "torchvision:resnet18", "device": "cuda:99"}, ["device 'cuda:99' cannot be used"]),
        ({"source": "torchvision:resnet18", "device": "tpu"}, ["device 'tpu' cannot be used"]),
        ({"source": "torchvision:resnet18", "num_classes": 0}, ["num_classes cannot be 0: it must be greater than or equal to 1"]),
        ({"source": "torchvision:resnet18", "image_size": -5}, ["image_size cannot be -5"]),
        ({"source": "torchvision:vit_b_32", "image_size": 100}, ["does not run", "100×100", "check image_size"]),
        ({"source": "torchvision:resnet18", "num_classes": 3, "class_names": ["a"]}, ["3 outputs", "1 names"]),
        ({"source": "torchvision:resnet18", "normalize": "image_net"}, ["did you mean 'imagenet'"]),
    ],
)  # fmt: skip
def test_wrong_parameters_are_refused(options, parts):
    with raises_saying(*parts):
        load_model(**options)


# Weights


@pytest.fixture(scope="module")
def small():
    torch.manual_seed(0)
    network = torchvision.models.squeezenet1_1(num_classes=2)
    return network, network.state_dict()


def load_small(path, **options):
    return load_model("torchvision:squeezenet1_1", path, num_classes=2, image_size=64, device="cpu", **options)


WRAPPED = {
    "plain": lambda state: state,
    "wrapped": lambda state: {"epoch": 3, "state_dict": state},
    "parallel": lambda state: {f"module.{key}": value for key, value in state.items()},
    "compiled": lambda state: {"model": {f"module._orig_mod.{key}": value for key, value in state.items()}},
    "lightning": lambda state: {"epoch": 3, "state_dict": {f"model._orig_mod.module.{key}": v for key, v in state.items()}},
    "averaged": lambda state: {"steps": 9, "ema": {"module": state}},
    "a key of theirs": lambda state: {"network": {f"encoder_q.{key}": value for key, value in state.items()}},
    "compiled in parts": lambda state: {key.replace("features.", "features._orig_mod."): v for key, v in state.items()},
}


@pytest.mark.parametrize("form", WRAPPED)
def test_weights_are_found_in_what_people_save(form, small, tmp_path):
    torch.save(WRAPPED[form](small[1]), tmp_path / "w.pt")
    network = load_small(tmp_path / "w.pt").network
    assert all(torch.equal(value, small[1][key]) for key, value in network.state_dict().items())


def test_weights_of_a_network_that_lies_in_another(tmp_path, user_file):
    path = user_file(textwrap.dedent(NET) + "\nclass Around(nn.Module):\n    def __init__(self):\n        super().__init__()\n"
                     "        self.inner = Net()\n    def forward(self, x):\n        return self.inner(x)")  # fmt: skip
    first = load_model(f"{path}:Net", seed=3, image_size=20, trust=True, device="cpu")
    torch.save(first.network.state_dict(), tmp_path / "w.pt")
    second = load_model(f"{path}:Around", tmp_path / "w.pt", image_size=20, trust=True, device="cpu")
    assert torch.equal(second.network.inner.fc.weight, first.network.fc.weight)


def test_auxiliary_heads_have_as_many_classes_as_they_have_in_the_file(tmp_path):
    torch.manual_seed(0)
    for name, aux in (("with.pt", True), ("without.pt", False)):
        trained = torchvision.models.googlenet(num_classes=2, init_weights=False, aux_logits=aux, transform_input=True).eval()
        if aux:
            trained.aux1.fc2 = nn.Linear(1024, 5)
        torch.save(trained.state_dict(), tmp_path / name)
        model = load_model("torchvision:googlenet", tmp_path / name, num_classes=2, image_size=64, device="cpu")
        x = model.test_images()
        torch.testing.assert_close(model(x), trained(x).detach(), rtol=1e-4, atol=1e-5)
        assert "transform_input=True" in model.notes[0]


def test_weights_from_safetensors(small, tmp_path):
    save_file(small[1], tmp_path / "w.safetensors")
    network = load_small(str(tmp_path / "w.safetensors")).network
    assert all(torch.equal(value, small[1][key]) for key, value in network.state_dict().items())


def test_weights_that_do_not_fit_are_told_key_by_key(small, tmp_path):
    state = dict(small[1])
    state["extra.weight"] = state.pop("features.0.bias")
    state["features.0.weight"] = torch.zeros(64, 1, 3, 3)
    torch.save(state, tmp_path / "w.pt")
    with raises_saying("1 missing: features.0.bias", "1 unexpected: extra.weight",
              "1 of another shape: features.0.weight 64×1×3×3 in the file, 64×3×3×3 in the network"):  # fmt: skip
        load_small(tmp_path / "w.pt")


def test_weights_of_another_architecture_name_the_first_few_and_count_the_rest(tmp_path):
    torch.save(torchvision.models.mobilenet_v3_small(num_classes=2).state_dict(), tmp_path / "w.pt")
    with raises_saying(r"52 missing: features.0.weight, [^;]*, …; \d+ unexpected: [^;]*, …") as error:
        load_small(tmp_path / "w.pt")
    assert len(str(error.value)) < 1000


def test_a_head_of_another_size_names_both_numbers(tmp_path):
    torch.save(torchvision.models.squeezenet1_1().state_dict(), tmp_path / "w.pt")
    with raises_saying("num_classes of the file is 1000, of the network 2: give num_classes=1000"):
        load_small(tmp_path / "w.pt")


def test_nan_in_weights_is_refused(small, tmp_path):
    torch.save({**small[1], "features.0.bias": torch.full((64,), float("nan"))}, tmp_path / "w.pt")
    with raises_saying("1 weights hold NaN or infinity, features.0.bias first"):
        load_small(tmp_path / "w.pt")


class Bomb:
    def __reduce__(self):
        return os.mkdir, (str(Bomb.path),)


def test_a_pickle_that_runs_code_is_refused_and_does_not_run(tmp_path):
    Bomb.path = tmp_path / "ran"
    torch.save({"state_dict": Bomb()}, tmp_path / "w.pt")
    with raises_saying("can run somebody's code", "trust=True"):
        load_small(tmp_path / "w.pt")
    assert not Bomb.path.exists()


def test_a_pickled_module_needs_trust(small, tmp_path):
    torch.save(small[0], tmp_path / "w.pth")
    with raises_saying("pickled objects", "trust=True"):
        load_small(tmp_path / "w.pth")
    network = load_small(tmp_path / "w.pth", trust=True).network
    assert torch.equal(network.features[0].bias, small[1]["features.0.bias"])


BAD_FILES = {
    "web page": (b"<!DOCTYPE html><html>Not found</html>", "w.pt", "is a web page, not weights"),
    "pointer": (b"version https://git-lfs.github.com/spec/v1\noid sha256:0\n", "w.pt", "a Git LFS pointer"),
    "noise": (bytes(random.Random(0).randbytes(4096)), "w.pt", "damaged or no file of weights"),
    "empty": (b"", "w.pt", "damaged or no file of weights"),
    "bad safetensors": (b"\x10" + bytes(7) + b"nonsense", "w.safetensors", "damaged or no file of weights"),
    "other pickle": (pickle.dumps({"a": 0.9}, protocol=2), "w.pt", "w.pt cannot be read; it is damaged"),
}


@pytest.mark.parametrize("kind", BAD_FILES)
def test_what_is_no_weights_file_is_told(kind, tmp_path):
    content, name, part = BAD_FILES[kind]
    (tmp_path / name).write_bytes(content)
    with raises_saying(part):
        load_small(tmp_path / name)


def test_a_cut_off_download_is_told(small, tmp_path):
    torch.save(small[1], tmp_path / "w.pt")
    content = (tmp_path / "w.pt").read_bytes()
    (tmp_path / "w.pt").write_bytes(content[: len(content) // 2])
    with raises_saying("w.pt cannot be read; it is damaged"):
        load_small(tmp_path / "w.pt")


def test_missing_weights_a_folder_and_something_else(tmp_path):
    with raises_saying("is no file"):
        load_small(tmp_path / "none.pt")
    with raises_saying("is a folder"):
        load_small(tmp_path)
    torch.save([1, 2], tmp_path / "list.pt")
    with raises_saying("holds a list, not a state dict"):
        load_small(tmp_path / "list.pt")
    torch.save({"epoch": 3, "loss": 0.1}, tmp_path / "numbers.pt")
    with raises_saying("holds no tensors; its keys are epoch, loss"):
        load_small(tmp_path / "numbers.pt")


# A user's file


def test_a_python_file_needs_trust_and_is_not_run_without(user_file, tmp_path):
    path = user_file(f"open({str(tmp_path / 'ran')!r}, 'w')")
    with raises_saying("runs the code in", "trust=True"):
        load_model(f"{path}:Net")
    assert not (tmp_path / "ran").exists()


FORMS = {
    "Net": "",
    "make": "def make(): return Net()",
    "net": "net = Net()",
    "Partial": "import functools; Partial = functools.partial(Net, 3)",
}


@pytest.mark.parametrize("name", FORMS)
def test_a_class_a_function_or_a_module_of_a_file(name, user_file):
    path = user_file(textwrap.dedent(NET) + "\n" + FORMS[name])
    model = load_model(f"{path}:{name}", image_size=20, trust=True, device="cpu")
    again = load_model(f"{path}:{name}", image_size=20, trust=True, device="cpu", seed=0)
    assert len(model.class_names) == 3 and list(model.layers.index) == ["conv", "fc"]
    assert model.fingerprint() == again.fingerprint()
    assert model.preprocess.normalize == "unit"


def test_a_file_with_weights_and_num_classes(user_file, tmp_path):
    path = user_file(NET)
    first = load_model(f"{path}:Net", num_classes=5, seed=3, image_size=20, trust=True, device="cpu")
    torch.save(first.network.state_dict(), tmp_path / "w.pt")
    second = load_model(f"{path}:Net", tmp_path / "w.pt", num_classes=5, image_size=20, trust=True, device="cpu")
    assert first.fingerprint() == second.fingerprint()


def test_num_classes_of_a_finished_network_are_checked(user_file):
    path = user_file(textwrap.dedent(NET) + "\nnet = Net()")
    with raises_saying("gives 3 outputs, not num_classes=4"):
        load_model(f"{path}:net", num_classes=4, image_size=20, trust=True)


def test_a_file_finds_its_neighbours_and_not_those_of_another(tmp_path):
    for folder, units in (("one", 3), ("two", 4)):
        (tmp_path / folder).mkdir()
        (tmp_path / folder / "parts.py").write_text(f"UNITS = {units}")
        text = "from torch import nn\nfrom parts import UNITS\n"
        text += "net = nn.Sequential(nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(3, UNITS))\n"
        (tmp_path / folder / "net.py").write_text(text)
    modules, path = set(sys.modules), list(sys.path)
    files = [tmp_path / folder / "net.py" for folder in ("one", "two")]
    models = [load_model(f"{file}:net", image_size=4, trust=True, device="cpu") for file in files]
    assert [len(model.class_names) for model in models] == [3, 4]
    assert set(sys.modules) - modules <= {"onnx2torch"} and sys.path == path


RETURNS = "from torch import nn\nclass make(nn.Module):\n    def forward(self, x):\n        return {}"
BAD_CODE = {
    "syntax": ("import torch\ndef make(:\n    pass", "net.py, line 2: SyntaxError"),
    "import": ("import torch\n\nimport no_such_module", "net.py, line 3: ModuleNotFoundError: .*'no_such_module'"),
    "body": ("def make():\n    x = {}\n    return x['key']", "net.py, line 3: KeyError"),
    "argument": ("def make(depth):\n    return depth", "TypeError.*depth"),
    "exit": ("import sys\nsys.exit('bye')", "line 2: SystemExit: bye"),
    "no name": ("def maker():\n    pass", "unknown name in .*'make'; did you mean 'maker'"),
    "no network": ("def make():\n    return 'net'", "is a str, not a torch.nn.Module"),
    "constant": ("make = 3", "is a int, not a torch.nn.Module"),
    "forward": ("from torch import nn\nmake = nn.Linear(5, 2)", "does not run on two 224×224.*RuntimeError"),
    "tuple": (RETURNS.format("x, x"), "returns a tuple.*output=KEY"),
    "dict": (RETURNS.format("{'a': x}"), "returns a dict with 'a'.*output=KEY"),
}  # fmt: skip


@pytest.mark.parametrize("kind", BAD_CODE)
def test_errors_in_a_users_file_name_the_line(kind, user_file):
    text, part = BAD_CODE[kind]
    with raises_saying(part):
        load_model(f"{user_file(text)}:make", trust=True, device="cpu")


def test_a_file_that_is_not_there_or_not_named(user_file, tmp_path):
    with raises_saying("there is no file"):
        load_model(f"{tmp_path / 'none.py'}:Net", trust=True)
    with raises_saying("as in path/to/file.py:NAME"):
        load_model(str(user_file(NET)), trust=True)


MANY = """
    from torch import nn
    class Net(nn.Module):
        def forward(self, x):
            return {"race": x[:, :, 0, 0], "age": (x[:, :2, 0, 0], 0)}
"""


@pytest.mark.parametrize(("output", "columns"), [("race", 3), (lambda out: out["age"][0], 2)])
def test_output_picks(output, columns, user_file):
    model = load_model(f"{user_file(MANY)}:Net", output=output, image_size=4, trust=True, device="cpu")
    assert len(model.class_names) == columns


def test_an_output_that_is_not_there(user_file):
    with raises_saying("has no 'gender'"):
        load_model(f"{user_file(MANY)}:Net", output="gender", image_size=4, trust=True, device="cpu")


# ONNX

GENDER = {"image_size": 32, "normalize": {"mean": [122.782, 117.001, 104.298], "scale": 256}}


def test_the_public_gender_model_gives_what_onnx_says(gender_file):
    import onnx
    from onnx.reference import ReferenceEvaluator

    images = torch.randint(256, (3, 3, 32, 32), dtype=torch.uint8, generator=torch.Generator().manual_seed(0))
    inputs = (images.numpy() - np.array([122.782, 117.001, 104.298])[:, None, None]) / 256
    expected = ReferenceEvaluator(onnx.load(gender_file)).run(None, {"images": inputs.astype(np.float32)})[0]
    model = load_model(f"onnx:{gender_file}", class_names=["female", "male"], device="cpu", **GENDER)
    assert model.name == "onnx:gender-v1.onnx"
    for batch in (images[:1], images):
        ours = model(model.prepare(batch))
        np.testing.assert_allclose(ours, expected[: len(batch)], atol=1e-5)


def test_the_layers_and_the_size_of_the_gender_model(gender_file):
    model = load_model(f"onnx:{gender_file}", device="cpu")
    table = list_layers(model)
    assert model.image_size == 32
    assert tuple(table.loc["layer_7_relu", ["units", "height", "width"]]) == (64, 16, 16)
    assert tuple(table.loc["layer_10_relu", ["units", "height", "width"]]) == (64, 16, 16)
    assert model.layer("layer_7_relu") is model.network.get_submodule("layer_7_relu")


def test_an_onnx_file_takes_the_weights_that_a_repair_left(tmp_path, gender_file):
    model = load_model(f"onnx:{gender_file}", device="cpu")
    weights = {name: 1.5 * value for name, value in model.network.state_dict().items()}
    torch.save(weights, tmp_path / "better.pt")
    again = load_model(f"onnx:{gender_file}", weights=tmp_path / "better.pt", device="cpu")
    assert all(torch.equal(value, weights[name]) for name, value in again.network.state_dict().items())
    torch.save({"no": torch.zeros(1)}, tmp_path / "other.pt")
    with raises_saying("do not fit the network"):
        load_model(f"onnx:{gender_file}", weights=tmp_path / "other.pt")


def test_onnx_files_that_cannot_be_read(tmp_path, gender_file):
    (tmp_path / "bad.onnx").write_bytes(b"<html>no</html>")
    with raises_saying("bad.onnx cannot be read as ONNX"):
        load_model(f"onnx:{tmp_path / 'bad.onnx'}")
    with raises_saying("there is no file"):
        load_model(f"onnx:{tmp_path / 'none.onnx'}")
    with raises_saying("2 outputs, not num_classes=5"):
        load_model(f"onnx:{gender_file}", num_classes=5, device="cpu")


def test_onnx_without_its_extra_says_what_to_install(monkeypatch):
    monkeypatch.setitem(sys.modules, "onnx2torch", None)
    with raises_saying(r"pip install 'facexkit\[onnx\]'"):
        load_model("onnx:model.onnx")


def test_a_recognition_model_of_insightface_embeds_faces_one_by_one_or_together(tmp_path):
    import onnx
    from onnx import TensorProto, helper, numpy_helper

    rng = np.random.default_rng(0)
    weights = {"w": rng.normal(size=(8, 3, 16, 16)), "b": np.zeros(8), "m": rng.normal(size=(128, 8 * 49)), "c": np.zeros(128)}
    nodes = [helper.make_node("Conv", ["data", "w", "b"], ["x"], strides=[16, 16]), helper.make_node("Flatten", ["x"], ["y"]),
             helper.make_node("Gemm", ["y", "m", "c"], ["embedding"], transB=1)]  # fmt: skip
    ends = [helper.make_tensor_value_info(name, TensorProto.FLOAT, shape)
            for name, shape in (("data", [1, 3, 112, 112]), ("embedding", [1, 128]))]  # fmt: skip
    kept = [numpy_helper.from_array(value.astype(np.float32), name) for name, value in weights.items()]
    graph = helper.make_graph(nodes, "recognition", ends[:1], ends[1:], kept)
    onnx.save(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)]), tmp_path / "w600k.onnx")
    model = load_model(f"onnx:{tmp_path / 'w600k.onnx'}", device="cpu")
    assert model.meaning.kind == "embedding" and model.try_out().shape == (2, 128)
    assert model.preprocess.normalize == "half" and model.image_size == 112


# The registry


def test_a_new_source_is_one_function(monkeypatch):
    monkeypatch.setattr(loading.SOURCES, "found", dict(loading.SOURCES))

    @loading.register_source("grey")
    def grey(name, wish):
        network = nn.Sequential(nn.AdaptiveAvgPool2d(1), nn.Flatten())
        return loading.Made(network, image_size=int(name), normalize="none", class_names=["r", "g", "b"])

    model = load_model("grey:16", device="cpu")
    images = torch.full((1, 3, 16, 16), 200, dtype=torch.uint8)
    assert model.image_size == 16 and model.class_names == ["r", "g", "b"]
    torch.testing.assert_close(model(model.prepare(images)), torch.full((1, 3), 200.0))
