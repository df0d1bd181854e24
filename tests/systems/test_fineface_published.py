"""Checkpoints and folders as the scripts of FineFACE and CMAL leave them."""

import re
import sys
from types import ModuleType

import numpy as np
import pandas as pd
import pytest
import torch
import torchvision
from PIL import Image
from torch import nn

from facexkit.errors import FacexkitError
from facexkit.faces.formats import load_faces
from facexkit.measure.predictions import predict
from facexkit.models.loading import load_model
from facexkit.models.weights import seeded
from facexkit.stages import run_stages
from facexkit.systems.fineface import PARTS, FineFace, backbone_network, with_all_outputs
from facexkit.systems.fineface_training import published_results, train_fineface


class BasicConv(nn.Module):
    def __init__(self, before, after, size, padding=0):
        super().__init__()
        self.conv, self.bn = nn.Conv2d(before, after, size, padding=padding, bias=False), nn.BatchNorm2d(after)
        self.relu = nn.ReLU()

    def forward(self, x):
        return self.relu(self.bn(self.conv(x)))


class Features(nn.Module):
    def __init__(self, net_layers):
        super().__init__()
        for number, layer in enumerate(net_layers):
            setattr(self, f"net_layer_{number}", nn.Sequential(*(layer if number > 3 else [layer])))

    def forward(self, x):
        for number in range(5):
            x = getattr(self, f"net_layer_{number}")(x)
        x1 = self.net_layer_5(x)
        x2 = self.net_layer_6(x1)
        return x1, x2, self.net_layer_7(x2)


class Network_Wrapper(nn.Module):  # noqa: N801  its name in the scripts
    """Their network on a ResNet-18 for inputs of 64 pixels, with narrow experts."""

    def __init__(self, net_layers, classes):
        super().__init__()

        def classifier(width):
            return nn.Sequential(
                nn.BatchNorm1d(width), nn.Linear(width, 12), nn.BatchNorm1d(12), nn.ELU(inplace=True), nn.Linear(12, classes)
            )

        self.Features = Features(net_layers)
        for k, (channels, side) in enumerate(((128, 8), (256, 4), (512, 2)), 1):
            setattr(self, f"max_pool{k}", nn.MaxPool2d(side, stride=1))
            setattr(self, f"conv_block{k}", nn.Sequential(BasicConv(channels, 8, 1), BasicConv(8, 16, 3, padding=1)))
            setattr(self, f"classifier{k}", classifier(16))
        self.classifier_concat = classifier(48)

    def forward(self, x):
        outputs, pooled = [], []
        for k, features in enumerate(self.Features(x), 1):
            maps = getattr(self, f"conv_block{k}")(features)
            pooled.append(getattr(self, f"max_pool{k}")(maps).flatten(1))
            outputs.append(getattr(self, f"classifier{k}")(pooled[-1]))
        return (*outputs, self.classifier_concat(torch.cat(pooled, -1)))


@pytest.fixture(scope="module")
def network():
    with seeded(4):
        made = Network_Wrapper([*torchvision.models.resnet18().children()][:8], 2)
        for module in made.modules():
            if isinstance(module, (nn.BatchNorm1d, nn.BatchNorm2d)):
                module.running_mean.normal_(0, 0.1)
                module.running_var.uniform_(0.5, 1.5)
    return made.eval()


def saved_by_a_script(thing, file, monkeypatch):
    """Save as a script does that has the classes in itself and in basic_conv.py, neither of which is here later."""
    with monkeypatch.context() as there:
        there.setitem(sys.modules, "basic_conv", ModuleType("basic_conv"))
        for home, kinds in (("__main__", (Features, Network_Wrapper)), ("basic_conv", (BasicConv,))):
            for kind in kinds:
                there.setattr(kind, "__module__", home)
                there.setattr(sys.modules[home], kind.__name__, kind, raising=False)
        torch.save(thing, file)


@pytest.mark.parametrize("form", ["whole", "whole DataParallel", "state dict", "DataParallel's state dict"])
def test_their_checkpoints_load_and_answer_as_their_network(network, form, tmp_path, monkeypatch):
    thing = nn.DataParallel(network) if "DataParallel" in form else network
    whole = form.startswith("whole")
    saved_by_a_script(thing if whole else thing.state_dict(), tmp_path / "model.pth", monkeypatch)
    if whole:
        with pytest.raises(FacexkitError, match="trust=True"):
            load_model("fineface:resnet18", weights=tmp_path / "model.pth", image_size=64, device="cpu")
    model = load_model("fineface:resnet18", weights=tmp_path / "model.pth", image_size=64, device="cpu", trust=whole)
    x = torch.randn(3, 3, 64, 64, generator=torch.Generator().manual_seed(0))
    with torch.no_grad():
        theirs, ours = network(x), model.network(x)
        torch.testing.assert_close(model(x), sum(theirs), atol=1e-5, rtol=1e-5)
    for part, output in zip(PARTS, theirs, strict=True):
        torch.testing.assert_close(ours[part], output, atol=1e-5, rtol=1e-5)


@pytest.fixture(scope="module")
def folders(tmp_path_factory):
    """`train/CLASS/*.jpg` and `test/CLASS/*.jpg`: one class is red, one blue."""
    root, rng = tmp_path_factory.mktemp("dataset"), np.random.default_rng(0)
    for split, count in (("train", 30), ("test", 8)):
        for k, name in enumerate(("class_001", "class_002")):
            (root / split / name).mkdir(parents=True)
            for number in range(1, count + 1):
                pixels = rng.integers(0, 90, (48, 48, 3), np.uint8)
                pixels[:, :, 2 * k] += 150
                Image.fromarray(pixels).save(root / split / name / f"{number}.jpg")
    return root


def test_a_training_writes_their_results_files_line_by_line(folders, tmp_path):
    faces = load_faces("image_folder", root=folders)
    course = {"backbone": "demo", "weights": None, "widths": (8, 16, 12), "image_size": 48, "batch_size": 8, "epochs": 2}
    train_fineface(faces, out=tmp_path, device="cpu", rates=(0.02, 0.02), **course)
    history = pd.read_csv(tmp_path / "history.csv")
    train = (tmp_path / "results_train.txt").read_text().splitlines()
    test = (tmp_path / "results_test.txt").read_text().splitlines()
    assert len(train) == len(test) == len(history) == 2
    row = history.iloc[1]
    assert test[1] == (
        f"Iteration 1, test_acc_combined = {100 * row['validation eight']:.5f}, test_loss = {row['validation loss']:.6f}"
    )
    parts = dict(part.strip().rsplit(None, 1) for part in train[1].removesuffix(" |").replace(":", " =").split(" | "))
    assert float(parts["train_acc ="]) == pytest.approx(100 * row.accuracy, abs=1e-4) and float(parts["Iteration"]) == 1
    losses = [row[f"loss {step}"] for step in ("expert1", "expert2", "expert3", "crops", "concat")]
    said = [float(parts[f"{name} ="]) for name in ("Loss1", "Loss2", "Loss3", "Loss_ATT", "Loss_concat")]
    assert said == pytest.approx(losses, abs=1e-3)
    assert float(parts["train_loss ="]) == pytest.approx(sum(losses) - losses[3], abs=1e-4)
    assert published_results(history) == ("\n".join(train) + "\n", "\n".join(test) + "\n")


def test_without_groups_the_stage_says_first_how_many_of_the_test_faces_it_gets_right(folders, tmp_path):
    given = {"data": "image_folder", "data_root": str(folders), "model": "demo:fair", "image_size": 48, "batch_size": 8}
    manifest = run_stages(["fineface"], given, tmp_path, say=lambda line: None)
    said = manifest["stages"][0]["findings"]
    first = r"Right answers on the 16 faces of the split test, by all eight .*: FineFACE (.+) % and plain .+ %\."
    found = re.fullmatch(first, said[0])
    model = load_model("fineface:demo", weights=tmp_path / "fineface" / "fineface" / "best.safetensors", device="cpu")
    test = load_faces("image_folder", root=folders)
    test = test[test.table.split == "test"]
    right = predict(with_all_outputs(model), test, progress=False, workers=0).correct
    assert float(found[1]) == pytest.approx(100 * right.mean(), abs=0.06)
    files = {path.name for path in (tmp_path / "fineface" / "fineface").iterdir()}
    assert {"results_train.txt", "results_test.txt", "history.csv"} <= files


def test_cmals_checkpoint_on_tresnet_loads_with_its_norms_signs_taken_off(tmp_path):
    pytest.importorskip("timm")
    with seeded(1):
        ours = FineFace(backbone_network("tresnet_l", None, 1), 3, widths=(8, 16, 12)).eval()
    children = ("s2d", "conv1", "layer1", "layer2", "layer3", "layer4")

    def theirs(key):
        child, _, rest = key.partition(".")
        if child in children:
            rest = re.sub(r"(downsample\.\d)\.(conv|bn)", lambda m: f"{m[1]}.{int(m[2] == 'bn')}", rest)
            strided = child in children[3:] and key.startswith(f"{child}.0.conv2.")
            part = lambda m: f"{m[1] or ''}{'0.' * strided}{int(m[2] == 'bn')}."  # noqa: E731
            rest = re.sub(r"(?<![\w])(conv\d\.)?(conv|bn)\.", part, rest)
            return f"Features.net_layer_{children.index(child)}.{rest}"
        block = lambda m: f"conv_block{m[1]}.{int(m[2]) // 3}.{('conv', 'bn')[int(m[2]) % 3]}."  # noqa: E731
        key = re.sub(r"^expert(\d)\.block\.(\d)\.", block, key)
        return re.sub(r"^expert(\d)\.classifier", r"classifier\1", key).replace("concat.", "classifier_concat.")

    signs = {k: -v if re.match(r"(conv1|layer\d).*bn\.weight$", k) else v for k, v in ours.state_dict().items()}
    torch.save({theirs(key): value for key, value in signs.items()}, tmp_path / "model.pth")
    named = torch.load(tmp_path / "model.pth")
    keys = ("1.0.weight", "2.0.conv1.1.weight", "3.0.conv2.0.0.weight", "3.0.downsample.1.0.weight")
    assert {f"Features.net_layer_{key}" for key in keys} <= set(named)
    model = load_model("fineface:tresnet_l", weights=tmp_path / "model.pth", image_size=64, device="cpu")
    for name, value in model.network.state_dict().items():
        shift = 1e-5 if re.match(r"(conv1|layer\d).*bn\.weight$", name) else 0
        torch.testing.assert_close(value, ours.state_dict()[name] + shift, atol=1e-7, rtol=0)
    assert load_model("fineface:tresnet_l", num_classes=2, device="cpu").image_size == 368
    assert "expert3.block" in model.layers.index
