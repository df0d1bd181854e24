"""Shards on a Dask cluster: each worker gets the model and the faces once, runs shards and returns their states."""

from __future__ import annotations

from collections import deque
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from threading import Lock
from typing import TYPE_CHECKING

from facexkit.errors import told
from facexkit.faces.cores import cores
from facexkit.probe.shards import Shard
from facexkit.probe.state import Arrays
from facexkit.probe.work import Work

if TYPE_CHECKING:
    from distributed import Client

AHEAD = 2
"""Shards under way for each worker: one at work, one that waits there."""
TRIES = 3
_AT_WORK = Lock()
"""One shard at a time in a process: hooks into a model see whatever it runs."""


def finished_elsewhere(work: Work, shards: Sequence[Shard]) -> Iterator[Arrays]:
    """Yield the states of shards in their order, run by the workers of `work.how.client`.

    A worker that dies costs the shards that it had; they run again elsewhere.

    Raises
    ------
    FacexkitError with its rows for a shard that failed three times, and for a cluster that cannot be reached.
    """
    with connected(work.how.client) as client:
        if tidies := client.amm.running():
            client.amm.stop()  # it would leave one copy of what is sent once, and that worker may die
        shipped = client.scatter(work.shipped(), broadcast=True, hash=False)
        coming, under_way = iter(shards), deque()
        try:
            while True:
                workers = max(1, len(client.scheduler_info()["workers"]))
                while len(under_way) < AHEAD * workers and (shard := next(coming, None)) is not None:
                    how = {"pure": False, "retries": TRIES - 1, "priority": -shard.place}
                    under_way.append((shard, client.submit(run_shard, shipped, shard, **how)))
                if not under_way:
                    return
                shard, future = under_way.popleft()
                yield _states(shard, future)
        finally:
            client.cancel([future for _, future in under_way])
            if tidies:
                client.amm.start()


def run_shard(work: Work, shard: Shard) -> Arrays:
    """Run one shard; what a worker does."""
    with _AT_WORK:
        return work.finished(shard, work.batches([shard]), lambda _: None)


def _states(shard: Shard, future: object) -> Arrays:
    rows = f"rows {shard.batches[0][0]} to {shard.batches[-1][-1]}"
    with told(f"{rows} failed {TRIES} times on the cluster", "the workers' logs say more"):
        return future.result()


@contextmanager
def connected(client: object) -> Iterator[Client]:
    """Yield a Dask client: the one given, one of the scheduler at an address, or one of a new cluster on this machine."""
    with told("client= needs the extra 'cluster'", "pip install 'facexkit[cluster]'", ImportError):
        from distributed import Client, LocalCluster
    if isinstance(client, Client):
        yield client
    elif client == "local":
        own = {"n_workers": cores(), "threads_per_worker": 1, "dashboard_address": None}
        with LocalCluster(**own) as cluster, Client(cluster) as made:
            yield made
    else:
        silent = f"no Dask scheduler answers at client={client!r}"
        with told(silent, "check address and network", (OSError, ValueError, TypeError)):
            made = Client(client, timeout=10)
        with made:
            yield made
