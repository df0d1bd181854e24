"""Copies of a batch's tensors to the host that run while the model works on the next batch."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable
from functools import lru_cache
from typing import Any

import torch
from torch import Tensor

Ready = list[tuple[Any, dict[str, Tensor]]]
"""(label, tensors on the host by name) of batches whose copies have ended, in the order in which they were put."""


class HostCopies:
    """A double buffer between the device and the host.

    The model can be given its next batch before anybody waits for the copies of this one; a batch comes out when
    `depth` − 1 later ones are under way, on any device.
    """

    def __init__(self, depth: int = 2) -> None:
        self.depth = depth
        self.under_way: deque[tuple[Any, dict[str, tuple[Tensor, Callable[[], object]]]]] = deque()

    def put(self, label: Any, tensors: dict[str, Tensor]) -> Ready:
        """Start the copies of a batch; return the earlier batches that make room for it."""
        self.under_way.append((label, {name: start_copy(tensor) for name, tensor in tensors.items()}))
        return self._finish(self.depth - 1)

    def rest(self) -> Ready:
        """Return all that are still under way."""
        return self._finish(0)

    def _finish(self, leave: int) -> Ready:
        ready = []
        while len(self.under_way) > leave:
            label, copies = self.under_way.popleft()
            for _, wait in copies.values():
                wait()
            ready.append((label, {name: tensor for name, (tensor, _) in copies.items()}))
        return ready


def start_copy(tensor: Tensor) -> tuple[Tensor, Callable[[], object]]:
    """Return a tensor on the host, and what must be called before it is read.

    From a GPU it goes into page-locked memory, on a stream of its own, so that copies and kernels overlap.
    """
    if tensor.device.type != "cuda":
        return tensor.cpu(), _already_there
    stream = _copy_stream(tensor.device)
    stream.wait_stream(torch.cuda.current_stream(tensor.device))
    with torch.cuda.stream(stream):
        host = torch.empty(tensor.shape, dtype=tensor.dtype, pin_memory=True).copy_(tensor, non_blocking=True)
        tensor.record_stream(stream)  # its memory goes to nobody else before the copy has ended
        return host, stream.record_event().synchronize


def _already_there() -> None:
    """Nothing to wait for."""


@lru_cache
def _copy_stream(device: torch.device) -> torch.cuda.Stream:
    return torch.cuda.Stream(device)
