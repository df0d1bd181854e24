"""Shards on a Dask cluster: each worker gets the model and the faces once, runs shards and returns their states."""

from __future__ import annotations

import ctypes
import hashlib
import pickle
import sys
from collections import deque
from collections.abc import Iterator, Sequence
from functools import cache, lru_cache
from threading import Lock
from typing import TYPE_CHECKING

from facexkit.errors import told
from facexkit.faces.cores import cores
from facexkit.models.face_model import FaceModel
from facexkit.probe.shards import Shard, states_of, take_states
from facexkit.probe.state import Arrays
from facexkit.probe.work import Work

if TYPE_CHECKING:
    from distributed import Client, Future

AHEAD = 2
"""Shards under way for each worker: one at work, one that waits there."""
TRIES = 3
M_TRIM_THRESHOLD, M_MMAP_THRESHOLD = -1, -3
"""The numbers of two settings in C's malloc.h."""
_AT_WORK = Lock()
"""One shard at a time in a process: hooks into a model see whatever it runs."""
_KEPT: dict[str, Client] = {}
_SENT: dict[tuple[str, str], Future] = {}


def finished_elsewhere(work: Work, shards: Sequence[Shard]) -> Iterator[Arrays]:
    """Yield the states of shards in their order, run by the workers of `work.how.client`.

    A worker that dies costs the shards that it had; they run again elsewhere.

    Raises
    ------
    FacexkitError with its rows for a shard that failed three times, and for a cluster that cannot be reached.
    """
    client = connected(work.how.client)
    if tidies := client.amm.running():
        client.amm.stop()  # it would leave one copy of what is sent once, and that worker may die
    model, shipped = _sent(client, work.model), client.scatter(work.shipped(), broadcast=True, hash=False)
    coming, under_way = iter(shards), deque()
    try:
        while True:
            workers = max(1, len(client.scheduler_info()["workers"]))
            while len(under_way) < AHEAD * workers and (shard := next(coming, None)) is not None:
                how = {"pure": False, "retries": TRIES - 1, "priority": -shard.place}
                under_way.append((shard, client.submit(run_shard, model, shipped, shard, states_of(work.fresh()), **how)))
            if not under_way:
                return
            shard, future = under_way.popleft()
            rows = f"rows {shard.batches[0][0]} to {shard.batches[-1][-1]}"
            with told(f"{rows} failed {TRIES} times on the cluster", "the workers' logs say more"):
                states = future.result()
            yield states
    finally:
        client.cancel([future for _, future in under_way])
        if tidies:
            client.amm.start()


def run_shard(model: bytes, work: Work, shard: Shard, known: Arrays) -> Arrays:
    """Run one shard; what a worker does. The states begin as those that are `known` where the shards are merged."""
    with _AT_WORK:
        _keep_memory()
        work.model = _unpacked(model)
        take_states(work.accumulators, known)
        return work.finished(shard, work.batches([shard]), lambda _: None)


@lru_cache(maxsize=1)
def _unpacked(model: bytes) -> FaceModel:
    """Return the model that was sent, on this worker's own device where any will do."""
    found = pickle.loads(model)
    return found.on(found.wanted)


@cache
def _keep_memory() -> None:
    """Keep memory that is freed for the next batch: Dask has it handed back at once, and half as much time again is lost."""
    libc = ctypes.CDLL(None) if sys.platform == "linux" else None
    if hasattr(libc, "mallopt"):
        libc.mallopt(M_MMAP_THRESHOLD, 1 << 25)
        libc.mallopt(M_TRIM_THRESHOLD, 1 << 30)


def _sent(client: Client, model: FaceModel) -> Future:
    """Return a model on the cluster, where the last one stays, so that many passes send it once."""
    from distributed.protocol.pickle import dumps

    with told(f"model {model.name!r} cannot be sent to workers", "leave client out"):
        content = dumps(model.on("cpu"))
    key = client.id, hashlib.sha256(content).hexdigest()
    if key not in _SENT or _SENT[key].status != "finished":
        _SENT.clear()
        _SENT[key] = client.scatter(content, broadcast=True, hash=False)
    client.replicate([_SENT[key]])
    return _SENT[key]


def connected(client: object) -> Client:
    """Return a Dask client: the one given, or one that this process keeps: of a cluster of its own on this machine, which
    ends with the process, or of the scheduler at an address."""
    with told("client= needs the extra 'cluster'", "pip install 'facexkit[cluster]'", ImportError):
        from distributed import Client, LocalCluster
    if isinstance(client, Client):
        return client
    place = str(client)
    if place not in _KEPT or _KEPT[place].status != "running":
        if place == "local":
            own = {"n_workers": cores(), "threads_per_worker": 1, "dashboard_address": None, "host": "127.0.0.1"}
            client = LocalCluster(**own)
        silent = f"no Dask scheduler answers at client={client!r}"
        with told(silent, "check address and network", (OSError, ValueError, TypeError)):
            _KEPT[place] = Client(client, timeout=10, set_as_default=False)
    return _KEPT[place]
