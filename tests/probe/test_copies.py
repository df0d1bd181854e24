"""Batches come out of the double buffer in order, whole, and never before their copies have ended."""

from __future__ import annotations

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from facexkit.probe import copies
from facexkit.probe.copies import HostCopies


@given(depth=st.integers(1, 4), batches=st.integers(0, 9))
def test_every_batch_comes_out_once_and_in_order(depth, batches):
    under_test, seen = HostCopies(depth), []
    for label in range(batches):
        seen += under_test.put(label, {"value": torch.full((2,), label)})
        assert len(seen) == max(0, label + 2 - depth)
    seen += under_test.rest()
    assert [label for label, _ in seen] == list(range(batches))
    assert all((host["value"] == label).all() for label, host in seen)
    assert under_test.rest() == []


@pytest.fixture
def slow_device(monkeypatch):
    """Make copies that hold nothing of use until they are waited for, as those on a GPU's own stream."""
    log = []

    def start(tensor):
        host = torch.full_like(tensor, float("nan"))
        log.append("start")

        def wait():
            host.copy_(tensor)
            log.append("wait")

        return host, wait

    monkeypatch.setattr(copies, "start_copy", start)
    return log


def test_nothing_is_read_before_its_copy_has_ended(slow_device):
    under_test, seen = HostCopies(), []
    for label in range(4):
        seen += under_test.put(label, {"a": torch.tensor([float(label)]), "b": torch.tensor([-float(label)])})
    seen += under_test.rest()
    assert [(label, host["a"].item(), host["b"].item()) for label, host in seen] == [(n, n, -n) for n in range(4)]


def test_the_next_batch_starts_before_the_last_is_waited_for(slow_device):
    under_test = HostCopies()
    for label in range(3):
        under_test.put(label, {"a": torch.zeros(1)})
    assert slow_device == ["start", "start", "wait", "start", "wait"]
