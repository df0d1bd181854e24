"""Teaching FineFACE beside the plain version: five losses, their gradients, and trainings that go on."""

import copy
import os
import shutil
import signal
import subprocess
import sys
import textwrap
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pandas as pd
import pytest
import torch
from safetensors.torch import load_file

from benchmarks.plain_fineface import PlainFineFace, plain_step
from facexkit.errors import FacexkitError
from facexkit.faces.formats import load_faces
from facexkit.models.loading import load_model
from facexkit.models.small_network import SmallNetwork
from facexkit.models.weights import seeded
from facexkit.systems import fineface_training
from facexkit.systems.fineface import FineFace, backbone_network
from facexkit.systems.fineface_figures import plot_history
from facexkit.systems.fineface_training import STEPS, augment, five_steps, optimizer_of, train_fineface

NARROW = (8, 16, 12)
RESULTS = ["results_test.txt", "results_train.txt"]
QUICK = {"backbone": "demo", "weights": None, "widths": NARROW, "image_size": 48, "batch_size": 8, "device": "cpu"}


@pytest.fixture(scope="module")
def faces():
    """72 drawn faces to teach, among them the 7 to validate, and 48 others."""
    return load_faces("synthetic", target="gender", count=120, size=48)


def descend(step, network, images, labels, choices):
    """Do the five steps; return the losses, and the gradients of every step by parameter."""
    optimizer = torch.optim.SGD(network.parameters(), 0.01, momentum=0.9, weight_decay=5e-4)
    if step is five_steps:
        optimizer = optimizer_of(network, (0.01, 0.01))
    gradients = []
    optimizer.register_step_pre_hook(
        lambda *_: gradients.append({k: p.grad.clone() for k, p in network.named_parameters() if p.grad is not None})
    )
    losses = step(network, images, labels, optimizer, choices)
    losses = losses[0] if isinstance(losses, tuple) else losses
    return [float(loss) for loss in losses], gradients


@pytest.mark.parametrize("choices", [(0, 0), (1, 1), (2, 0), (1, 2)])
def test_the_five_losses_and_gradients_are_those_of_the_plain_version(choices):
    import torchvision

    with seeded(3):
        network = FineFace(torchvision.models.resnet18(), 3, widths=NARROW).double()
        images, labels = torch.randn(4, 3, 64, 64, dtype=torch.float64), torch.tensor([0, 1, 2, 1])
    plain = PlainFineFace("resnet18", 3, NARROW).double()
    plain.load_state_dict(network.state_dict())
    losses, gradients = descend(five_steps, network, images, labels, choices)
    expected, expected_gradients = descend(plain_step, plain, images, labels, choices)
    np.testing.assert_allclose(losses, expected, atol=1e-5)
    assert len(gradients) == len(STEPS)
    for own, theirs in zip(gradients, expected_gradients, strict=True):
        assert own.keys() == theirs.keys()
        for name, gradient in own.items():
            torch.testing.assert_close(gradient, theirs[name], rtol=1e-5, atol=1e-5)
    for name, parameter in network.named_parameters():
        torch.testing.assert_close(parameter, plain.get_parameter(name), rtol=0, atol=1e-5)


def test_a_view_is_a_padded_crop_mirrored_or_not():
    pictures = torch.randint(256, (40, 3, 46, 46), dtype=torch.uint8, generator=torch.Generator().manual_seed(1))
    found = augment(pictures, 44, torch.Generator().manual_seed(2))
    assert found.shape == (40, 3, 44, 44) and found.is_contiguous(memory_format=torch.channels_last)
    padded = torch.nn.functional.pad(pictures, [1] * 4).float() / 127.5 - 1
    seen = set()
    for one, picture in zip(found, padded, strict=True):
        fits = [
            (top, left, flip)
            for top in range(5) for left in range(5) for flip in (False, True)
            if torch.allclose(one.flip(2) if flip else one, picture[:, top : top + 44, left : left + 44], atol=1e-6)
        ]  # fmt: skip
        assert len(fits) == 1
        seen |= set(fits)
    assert {flip for *_, flip in seen} == {False, True} and len({top for top, *_ in seen}) == 5


@pytest.fixture(scope="module")
def trained(faces, tmp_path_factory):
    """A model taught three epochs without interruption, and its folder."""
    out = tmp_path_factory.mktemp("trained")
    return train_fineface(faces, out=out, epochs=3, rates=(0.02, 0.02), **QUICK), out


def test_a_training_leaves_its_history_and_the_best_weights(trained, faces):
    model, out = trained
    assert sorted(path.name for path in out.iterdir()) == ["best.safetensors", "history.csv", *RESULTS]
    history = pd.read_csv(out / "history.csv")
    assert history.epoch.tolist() == [1, 2, 3]
    assert [c for c in history if c.startswith("loss ")] == [f"loss {step}" for step in STEPS]
    assert {"accuracy", "validation concat", "validation four", "validation eight"} <= set(history)
    assert history.filter(like="validation").drop(columns="validation loss").stack().between(0, 1).all()
    assert model.class_names == ["female", "male"] and model.image_size == 48 and model.output == "sum"
    lines = plot_history({"FineFACE": history}).axes[0].lines
    assert lines[0].get_ydata().tolist() == history["validation eight"].tolist() and len(lines) == 2
    again = load_model("fineface:demo", weights=out / "best.safetensors", device="cpu")
    assert again.fingerprint() == model.fingerprint() and again.class_names == model.class_names


KILLED = """
    import os, signal, sys, torch, facexkit as fx
    from facexkit.systems import fineface_training as training

    torch.set_num_threads({threads})
    steps, whole = [], training.five_steps

    def killed(*given):
        steps.append(1)
        if len(steps) == 12:  # in the second epoch of eight batches
            os.kill(os.getpid(), signal.SIGKILL)
        return whole(*given)

    training.five_steps = killed
    faces = fx.load_faces("synthetic", target="gender", count=120, size=48)
    fx.train_fineface(faces, out=sys.argv[1], epochs=3, rates=(0.02, 0.02), **{how})
"""


def test_a_killed_training_goes_on_to_the_result_of_an_undisturbed_one(trained, faces, tmp_path, monkeypatch):
    script = textwrap.dedent(KILLED.format(threads=torch.get_num_threads(), how=QUICK))
    ran = subprocess.run([sys.executable, "-c", script, tmp_path], capture_output=True, text=True, timeout=120)
    assert ran.returncode == -signal.SIGKILL, ran.stderr[-2000:]
    names = sorted(path.name for path in tmp_path.iterdir())
    assert names == ["best.safetensors", "checkpoint.pt", "history.csv", *RESULTS]
    assert len(pd.read_csv(tmp_path / "history.csv")) == 1
    steps, whole = [], five_steps
    monkeypatch.setattr(fineface_training, "five_steps", lambda *given: (steps.append(1), whole(*given))[1])
    torch.rand(5)  # whatever else draws random numbers
    train_fineface(faces, out=tmp_path, epochs=3, rates=(0.02, 0.02), **QUICK)
    assert len(steps) == 16
    _, out = trained
    assert sorted(path.name for path in tmp_path.iterdir()) == sorted(path.name for path in out.iterdir())
    assert (out / "history.csv").read_bytes() == (tmp_path / "history.csv").read_bytes()
    undisturbed, again = (load_file(folder / "best.safetensors") for folder in (out, tmp_path))
    assert undisturbed.keys() == again.keys()
    assert all(torch.equal(value, again[name]) for name, value in undisturbed.items())


def test_a_finished_training_is_not_done_again(trained, faces, monkeypatch):
    model, out = trained
    monkeypatch.setattr(fineface_training, "five_steps", lambda *_: pytest.fail("trained again"))
    (out / "checkpoint.pt").write_bytes(b"of a training that was killed when its result was written")
    assert train_fineface(faces, out=out, epochs=3, rates=(0.02, 0.02), **QUICK).fingerprint() == model.fingerprint()
    assert not (out / "checkpoint.pt").exists()


def test_a_copy_of_a_given_backbone_is_taught(faces, tmp_path, monkeypatch):
    backbone, step = SmallNetwork(), fineface_training._descend
    before, steps = copy.deepcopy(backbone.state_dict()), []

    def interrupted(*given):
        steps.append(1)
        if len(steps) == 3:
            raise KeyboardInterrupt
        return step(*given)

    monkeypatch.setattr(fineface_training, "_descend", interrupted)
    with pytest.raises(KeyboardInterrupt):
        train_fineface(faces, out=tmp_path, epochs=1, **QUICK | {"backbone": backbone})
    assert backbone.state_dict().keys() == before.keys()
    assert all(torch.equal(value, before[name]) for name, value in backbone.state_dict().items())
    assert not [*tmp_path.iterdir()]


def test_another_training_in_its_folder_starts_afresh(trained, faces, tmp_path):
    _, out = trained
    shutil.copytree(out, tmp_path, dirs_exist_ok=True)
    train_fineface(faces, out=tmp_path, epochs=1, rates=(0.02, 0.02), **QUICK)
    assert len(pd.read_csv(tmp_path / "history.csv")) == 1
    history, best = ((tmp_path / name).read_bytes() for name in ("history.csv", "best.safetensors"))
    assert history != (out / "history.csv").read_bytes() and best != (out / "best.safetensors").read_bytes()


@pytest.mark.parametrize("plain", [False, True])
def test_it_learns_a_visible_cause(plain, tmp_path):
    faces = load_faces("synthetic", target="warm_background", count=250, size=48, seed=3)
    model = train_fineface(faces, out=tmp_path, epochs=2, rates=(0.02, 0.02), plain=plain, **QUICK)
    history = pd.read_csv(tmp_path / "history.csv")
    assert history.iloc[-1].filter(like="loss ").sum() < 0.7 * history.iloc[0].filter(like="loss ").sum()
    assert history.iloc[:, -1].max() > 0.85
    assert model.name == ("plain demo" if plain else "fineface:demo") and model.class_names == ["0", "1"]


def test_rates_follow_a_cosine_and_new_layers_have_their_own(faces, tmp_path, monkeypatch):
    rates, step = [], torch.optim.SGD.step

    def watched(optimizer):
        rates.append({id(p): group["lr"] for group in optimizer.param_groups for p in group["params"]})
        step(optimizer)

    monkeypatch.setattr(torch.optim.SGD, "step", watched)
    model = train_fineface(faces, out=tmp_path, epochs=2, rates=(0.002, 0.0002), **QUICK)
    assert len(rates) == 2 * 8 * len(STEPS)
    for name, parameter in model.network.named_parameters():
        start = 0.002 if name.startswith(("expert", "concat")) else 0.0002
        assert [rates[0][id(parameter)], rates[-1][id(parameter)]] == pytest.approx([start, start / 2])


def test_validation_faces_are_not_taught(faces):
    how = SimpleNamespace(batch=8, size=48, seed=0)
    taught, asked, classes = fineface_training._splits(faces, "gender", how)
    assert set(faces.table.split[faces.table.path.isin([*taught.table.path, *asked.table.path])]) == {"train"}
    assert not set(taught.table.path) & set(asked.table.path) and len(asked) == 8
    three = faces[:]
    three.table["split"] = np.resize(["train", "val", "test"], len(faces))
    taught, asked, _ = fineface_training._splits(three, "gender", how)
    assert set(asked.table.split) == {"val"} and set(taught.table.split) == {"train"}


@pytest.mark.parametrize(
    ("how", "said"),
    [
        ({"target": "gendre"}, "did you mean 'gender'"),
        ({"target": "path_"}, "target"),
        ({"target": "split"}, "1 classes"),
        ({"batch_size": 99}, "a batch of 99"),
        ({"batch_size": 1}, "batch_size of 2"),
        ({"backbone": "resnet5"}, "did you mean"),
        ({"backbone": "resnet18", "weights": "nowhere.pth"}, "nowhere.pth"),
    ],
)
def test_bad_input_is_told(faces, how, said, tmp_path):
    with pytest.raises(FacexkitError, match=said):
        train_fineface(faces, out=tmp_path, **{**QUICK, **how})
    assert not any(tmp_path.iterdir())


def test_without_internet_the_backbone_is_random_with_a_warning(monkeypatch):
    def offline(*_, **__):
        raise OSError("no route to host")

    monkeypatch.setattr("torch.hub.load_state_dict_from_url", offline)
    monkeypatch.setattr("torchvision.models._api.load_state_dict_from_url", offline)
    with pytest.warns(UserWarning, match="random weights"):
        network = backbone_network("resnet18", "imagenet", 1)
    with seeded(1):
        expected = load_model("torchvision:resnet18", seed=1, device="cpu").network
    assert torch.equal(network.conv1.weight, expected.conv1.weight)


def test_images_that_cannot_be_decoded_are_left_out_and_many_are_an_error(faces, tmp_path):
    broken = faces[:]

    class Some:
        def __init__(self, bad):
            self.bad = bad

        def read(self, path):
            if path in self.bad:
                raise OSError("this is no picture")
            return faces.images.read(path)

        def digest(self, path):
            return path.encode()

    broken.images = Some(set(broken.table.path[:20]))
    with pytest.raises(FacexkitError, match="images cannot be decoded.*this is no picture"):
        train_fineface(broken, out=tmp_path, epochs=1, **QUICK)


TWO = """
    import sys, torch, facexkit as fx, torch.distributed as dist
    from torch.nn.parallel import DistributedDataParallel
    from facexkit.systems import fineface_training as training
    from facexkit.models.small_network import SmallNetwork
    from facexkit.systems.fineface import FineFace

    torch.set_num_threads(1)
    out, narrow = sys.argv[1], (8, 16, 12)
    faces = fx.load_faces("synthetic", target="gender", count=60, size=48)
    model = fx.train_fineface(
        faces, out=out, epochs=2, backbone="demo", weights=None, widths=narrow, image_size=48, batch_size=4, device="cpu"
    )
    rank = dist.get_rank()
    torch.save(model.network.state_dict(), f"{out}/rank{rank}.pt")

    def parts():
        torch.manual_seed(3)
        return FineFace(SmallNetwork(), 2, widths=narrow).double(), torch.randn(8, 3, 48, 48).double(), torch.arange(8) % 2

    network, images, labels = parts()
    own = slice(4 * rank, 4 * rank + 4)
    learner = DistributedDataParallel(network, find_unused_parameters=True)
    optimizer = torch.optim.SGD(network.parameters(), 0.05, 0.9)
    training.five_steps(learner, images[own], labels[own], optimizer, (0, 1))
    torch.save({k: p.detach() for k, p in network.named_parameters()}, f"{out}/step{rank}.pt")
    dist.destroy_process_group()
"""


def test_two_processes_teach_one_network(tmp_path):
    (tmp_path / "two.py").write_text(textwrap.dedent(TWO))
    command = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node", "2", "two.py", "out"]
    environment = {**os.environ, "OMP_NUM_THREADS": "1", "PYTHONPATH": str(Path(__file__).parents[2])}
    ran = subprocess.run(command, cwd=tmp_path, env=environment, capture_output=True, text=True, timeout=120)
    assert ran.returncode == 0, ran.stderr[-2000:]
    one, two = (torch.load(tmp_path / f"out/rank{k}.pt") for k in (0, 1))
    assert all(torch.equal(value, two[name]) for name, value in one.items())
    history = pd.read_csv(tmp_path / "out/history.csv")
    assert history.epoch.tolist() == [1, 2] and history["validation eight"].mul(4).mod(1).eq(0).all()

    with torch.random.fork_rng():
        torch.manual_seed(3)
        first = FineFace(SmallNetwork(), 2, widths=NARROW).double()
        images, labels = torch.randn(8, 3, 48, 48).double(), torch.arange(8) % 2
    second = FineFace(SmallNetwork(), 2, widths=NARROW).double()
    second.load_state_dict(first.state_dict())
    expected = averaged_steps((first, second), images, labels)
    for name, value in torch.load(tmp_path / "out/step1.pt").items():
        torch.testing.assert_close(value, expected[name], rtol=0, atol=1e-9)


def averaged_steps(networks, images, labels):
    """Let each network take the five steps on its half, every step with the mean of their gradients."""
    import threading

    both, found = threading.Barrier(2), [None, None]

    def run(own):
        network = networks[own]
        optimizer = torch.optim.SGD(network.parameters(), 0.05, 0.9)

        def average(*_):
            found[own] = {k: p.grad.clone() for k, p in network.named_parameters() if p.grad is not None}
            both.wait()
            for name, parameter in network.named_parameters():
                if parameter.grad is not None:
                    parameter.grad = (found[0][name] + found[1][name]) / 2
            both.wait()

        optimizer.register_step_pre_hook(average)
        half = slice(4 * own, 4 * own + 4)
        five_steps(network, images[half], labels[half], optimizer, (0, 1))

    threads = [threading.Thread(target=run, args=(own,)) for own in (0, 1)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    return {name: parameter.detach() for name, parameter in networks[1].named_parameters()}
