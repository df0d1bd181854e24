"""A training that was interrupted ends as an undisturbed one; nothing else is ever left in its folder."""

import os
import subprocess

import pytest
import torch
from torch import nn

from facexkit.errors import FacexkitError
from facexkit.models.training import Checkpoint
from facexkit.models.weights import seeded

EPOCHS = 3


def teach(path, *recipe, stop=None, seed=0, writes=True):
    """Teach a small network with dropout three epochs of two steps, with Ctrl-C before step `stop`; return its end."""
    with seeded(seed):
        network = nn.Sequential(nn.Linear(3, 8), nn.BatchNorm1d(8), nn.Dropout(0.5), nn.Linear(8, 1))
        optimizer = torch.optim.AdamW(network.parameters())
        schedule = torch.optim.lr_scheduler.OneCycleLR(optimizer, 0.1, total_steps=2 * EPOCHS)
        checkpoint = Checkpoint(path, network, *recipe, writes=writes)
        for epoch in checkpoint.epochs(EPOCHS, network=network, optimizer=optimizer, schedule=schedule):
            for step in range(2 * epoch, 2 * epoch + 2):
                if step == stop:
                    raise KeyboardInterrupt
                optimizer.zero_grad()
                loss = network(torch.rand(6, 3)).square().mean()
                loss.backward()
                optimizer.step()
                schedule.step()
            checkpoint.history.append({"epoch": epoch + 1, "loss": loss.item()})
        checkpoint.end()
        return checkpoint.history, [*network.state_dict().values(), torch.rand(3)]


def assert_same(found, expected):
    assert found[0] == expected[0] and len(found[0]) == EPOCHS
    assert all(map(torch.equal, found[1], expected[1]))


@pytest.mark.parametrize("stop", range(2 * EPOCHS))
def test_after_ctrl_c_at_any_step_the_same_call_ends_in_the_same_numbers(stop, tmp_path):
    with pytest.raises(KeyboardInterrupt):
        teach(tmp_path / "kept.pt", stop=stop)
    assert [path.name for path in tmp_path.iterdir()] == ["kept.pt"] * (stop >= 2)
    assert_same(teach(tmp_path / "kept.pt"), teach(tmp_path / "other.pt"))
    assert not [*tmp_path.iterdir()]


def test_finished_epochs_are_not_done_again(tmp_path, monkeypatch):
    with pytest.raises(KeyboardInterrupt):
        teach(tmp_path / "kept.pt", stop=4)
    steps, step = [], torch.optim.AdamW.step
    monkeypatch.setattr(torch.optim.AdamW, "step", lambda *given: (steps.append(1), step(*given)))
    teach(tmp_path / "kept.pt")
    assert len(steps) == 2


@pytest.mark.parametrize("other", [{"recipe": ["another rate"]}, {"seed": 1}])
def test_another_training_starts_afresh_and_says_so(other, tmp_path):
    with pytest.raises(KeyboardInterrupt):
        teach(tmp_path / "kept.pt", "a rate", stop=5)
    recipe, seed = other.get("recipe", ["a rate"]), other.get("seed", 0)
    with pytest.warns(UserWarning, match="other faces or settings; this training starts afresh"):
        found = teach(tmp_path / "kept.pt", *recipe, seed=seed)
    assert_same(found, teach(tmp_path / "new.pt", *recipe, seed=seed))


def test_no_changed_byte_changes_a_result_unsaid(tmp_path):
    path = tmp_path / "kept.pt"
    with pytest.raises(KeyboardInterrupt):
        teach(path, stop=5)
    whole, expected, told = path.read_bytes(), teach(tmp_path / "other.pt"), 0
    for place in range(7, len(whole), len(whole) // 120):
        path.write_bytes(whole[:place] + bytes([whole[place] ^ 16]) + whole[place + 1 :])
        try:
            assert_same(teach(path), expected)  # a byte that means nothing, as between two entries
        except FacexkitError as error:
            assert f"{path} is damaged" in str(error) and "remove it to start afresh" in str(error)
            told += 1
    assert told > 60


@pytest.mark.parametrize("kind", ["empty", "cut", "text", "another"])
def test_a_file_that_is_no_checkpoint_is_told_and_stays(kind, tmp_path):
    path = tmp_path / "kept.pt"
    with pytest.raises(KeyboardInterrupt):
        teach(path, stop=3)
    whole = path.read_bytes()
    torch.save({"weights": torch.rand(2)}, path)
    content = {"empty": b"", "cut": whole[: len(whole) // 2], "text": b"hello", "another": path.read_bytes()}[kind]
    path.write_bytes(content)
    with pytest.raises(FacexkitError, match="kept.pt is damaged or no checkpoint.*remove it to start afresh"):
        teach(path)
    assert path.read_bytes() == content


def test_what_a_killed_process_was_writing_is_removed_and_what_another_writes_stays(tmp_path):
    dead = subprocess.Popen(["true"])
    dead.wait()
    for process in (dead.pid, os.getppid()):
        (tmp_path / f".kept.pt.{process}.part").touch()
    (tmp_path / ".somebody's.part").touch()
    teach(tmp_path / "kept.pt")
    assert {path.name for path in tmp_path.iterdir()} == {f".kept.pt.{os.getppid()}.part", ".somebody's.part"}


def test_one_of_several_processes_writes(tmp_path):
    with pytest.raises(KeyboardInterrupt):
        teach(tmp_path / "kept.pt", stop=3, writes=False)
    assert not [*tmp_path.iterdir()]
