import signal
import subprocess
import sys
import textwrap

import numpy as np
import pytest
import torch

from facexkit.drawn import demo
from facexkit.errors import FacexkitError
from facexkit.models.layers import list_layers
from facexkit.models.loading import load_model


@pytest.fixture(scope="module")
def asked_faces():
    """Test faces on which lipstick says nothing about the label, drawn once."""
    faces = demo.demo_faces("biased", split="test")[:600]
    return faces.table, demo.pixels_and_labels(faces)


def made(folder):
    """The files of a cache but for the pictures that were drawn."""
    return [path for path in folder.rglob("*") if path.is_file() and path.parent.name != "drawn"]


def right(model, images, labels):
    with torch.no_grad():
        outputs = torch.cat([model(model.prepare(some)) for some in images.split(100)])
    return (outputs.argmax(1).cpu() == labels).numpy()


def test_the_biased_model_fails_where_lips_contradict_and_the_fair_one_does_not(demo_models, asked_faces):
    table, (images, labels) = asked_faces
    agrees = table.agrees.to_numpy(bool)
    assert 0.4 < agrees.mean() < 0.6
    found = {name: right(model, images, labels) for name, model in demo_models.items()}
    assert found["fair"].mean() >= 0.85
    assert abs(found["fair"][agrees].mean() - found["fair"][~agrees].mean()) < 0.08
    assert found["biased"][agrees].mean() > 0.9
    assert found["biased"][agrees].mean() - found["biased"][~agrees].mean() > 0.4


@pytest.mark.parametrize("name", demo.DEMOS)
def test_the_weights_in_the_package_are_those_of_the_recipe_as_it_is_now(name, monkeypatch, tmp_path):
    monkeypatch.setenv("FACEXKIT_CACHE", str(tmp_path))
    monkeypatch.setattr(demo, "teach", lambda *_, **__: pytest.fail("taught: run python setup/weights.py"))
    demo.demo_network(name, 0)
    assert len(list(demo.SHIPPED.glob(f"demo_{name}_*"))) == 1


def test_the_biased_model_taught_anew_is_as_biased_as_the_one_in_the_package(asked_faces, demo_models, monkeypatch, tmp_path):
    monkeypatch.setenv("FACEXKIT_CACHE", str(tmp_path))
    monkeypatch.setattr(demo, "SHIPPED", tmp_path)
    table, (images, labels) = asked_faces
    agrees = table.agrees.to_numpy(bool)
    again = right(load_model("demo:biased", device="cpu"), images, labels)
    shipped = right(demo_models["biased"], images, labels)
    for some in (agrees, ~agrees):
        assert again[some].mean() == pytest.approx(shipped[some].mean(), abs=0.08)


def test_the_demo_network_has_four_layers_of_maps(demo_models):
    table = list_layers(demo_models["fair"])
    maps = {f"layer{k}": tuple(table.loc[f"layer{k}", ["units", "height", "width"]]) for k in (1, 2, 3, 4)}
    assert maps == {"layer1": (16, 32, 32), "layer2": (32, 16, 16), "layer3": (64, 8, 8), "layer4": (96, 8, 8)}
    assert not table.problem.any()
    assert 1e5 < sum(p.numel() for p in demo_models["fair"].network.parameters()) < 4e5
    assert demo_models["fair"].class_names == ["female", "male"]


@pytest.fixture
def quick(monkeypatch, tmp_path):
    """A course of a second, and an empty cache."""
    monkeypatch.setattr(demo, "FACES", 60)
    monkeypatch.setattr(demo, "EPOCHS", 1)
    monkeypatch.setenv("FACEXKIT_CACHE", str(tmp_path))
    return tmp_path


def test_a_seed_gives_the_same_weights_and_the_global_random_state_stays(quick, monkeypatch, tmp_path_factory):
    torch.manual_seed(3)
    expected = torch.rand(2)
    torch.manual_seed(3)
    first = load_model("demo:biased", device="cpu")
    assert torch.equal(torch.rand(2), expected)
    monkeypatch.setenv("FACEXKIT_CACHE", str(tmp_path_factory.mktemp("other")))
    again = load_model("demo:biased", device="cpu")
    other = load_model("demo:biased", seed=1, device="cpu")
    assert first.fingerprint() == again.fingerprint() != other.fingerprint()


def test_a_second_load_does_not_train(quick, monkeypatch):
    first = load_model("demo:fair", device="cpu")
    monkeypatch.setattr(demo, "teach", lambda *_, **__: pytest.fail("trained again"))
    weights = next(quick.rglob("demo_fair_*.safetensors"))
    weights.with_suffix(".pt").write_bytes(b"of a training that was killed when its weights were written")
    assert load_model("demo:fair", device="cpu").fingerprint() == first.fingerprint()
    assert made(quick) == [weights]
    monkeypatch.setattr(demo, "FACES", 80)
    assert load_model("demo:fair", weights=weights, device="cpu").fingerprint() == first.fingerprint()


def test_other_faces_are_another_training(quick, monkeypatch):
    for name, count in (("fair", 60), ("biased", 60), ("fair", 80)):
        monkeypatch.setattr(demo, "FACES", count)
        load_model(f"demo:{name}", device="cpu")
    assert len(list(quick.rglob("*.safetensors"))) == 3


KILLED = """
    import os, signal, torch
    from facexkit.drawn import demo

    demo.FACES, demo.EPOCHS, demo.IMAGE_SIZE = 120, 3, 32
    step, steps = torch.optim.AdamW.step, []

    def killed(*given):
        steps.append(1)
        if len(steps) == 4:  # in the second epoch of two batches
            os.kill(os.getpid(), signal.SIGKILL)
        return step(*given)

    torch.optim.AdamW.step = killed
    demo.demo_network("biased", 0)
"""


def test_a_killed_training_goes_on_to_the_weights_of_an_undisturbed_one(quick, monkeypatch, tmp_path_factory):
    command = [sys.executable, "-c", textwrap.dedent(KILLED)]
    ran = subprocess.run(command, capture_output=True, text=True, timeout=120)
    assert ran.returncode == -signal.SIGKILL, ran.stderr[-2000:]
    (kept,) = made(quick)
    assert kept.suffix == ".pt"
    for name, value in {"FACES": 120, "EPOCHS": 3, "IMAGE_SIZE": 32}.items():
        monkeypatch.setattr(demo, name, value)
    steps, step = [], torch.optim.AdamW.step
    monkeypatch.setattr(torch.optim.AdamW, "step", lambda *given: (steps.append(1), step(*given)))
    again = demo.demo_network("biased", 0).state_dict()
    assert len(steps) == 4 and not kept.exists()
    monkeypatch.setenv("FACEXKIT_CACHE", str(tmp_path_factory.mktemp("undisturbed")))
    undisturbed = demo.demo_network("biased", 0).state_dict()
    assert len(steps) == 4 + 6
    assert all(torch.equal(value, again[key]) for key, value in undisturbed.items())


def test_training_lowers_the_loss_on_a_visible_cause():
    images = torch.randint(256, (256, 3, 32, 32), dtype=torch.uint8, generator=torch.Generator().manual_seed(0))
    labels = torch.arange(256) % 2
    images[labels == 1, 0] = 250
    with demo.seeded(0):
        network = demo.SmallNetwork()
        demo.teach(network, images, labels, "a cause")
    assert not network.training
    with torch.no_grad():
        answers = network(images.float() * 2 / 255 - 1).argmax(1)
    assert np.mean((answers == labels).numpy()) > 0.95


def test_an_unknown_demo_model():
    with pytest.raises(FacexkitError, match="unknown demo model 'baised'; did you mean 'biased'"):
        load_model("demo:baised")
