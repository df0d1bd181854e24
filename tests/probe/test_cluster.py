"""Shards on a real Dask cluster of two processes: the same to the last bit, also where one of them is killed."""

import os
import signal
import subprocess
import sys
import textwrap

import numpy as np
import psutil
import pytest
import torch
import xarray as xr

from facexkit.errors import FacexkitError
from facexkit.faces.formats import load_faces
from facexkit.measure import recording
from facexkit.measure.decision_share import decision_shares
from facexkit.measure.dissection import dissect
from facexkit.measure.facex import facex_scores
from facexkit.measure.per_image import Outputs
from facexkit.measure.recording import record
from facexkit.models.loading import load_model
from facexkit.probe.options import PassOptions
from facexkit.probe.run import run

distributed = pytest.importorskip("distributed", reason="the extra 'cluster' is not installed")


@pytest.fixture(scope="module")
def client():
    how = {"n_workers": 2, "threads_per_worker": 1, "dashboard_address": None, "host": "127.0.0.1"}
    with distributed.LocalCluster(**how) as cluster, distributed.Client(cluster) as client:
        yield client


@pytest.fixture(scope="module")
def faces():
    return load_faces("synthetic", limit=24)


@pytest.fixture(scope="module")
def model():
    return load_model("torchvision:squeezenet1_1", num_classes=3, image_size=64, device="cpu")


@pytest.fixture(autouse=True)
def one_thread():
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


def outputs_of(model, faces, **how):
    outputs = Outputs()
    run(model, faces, [outputs], PassOptions(batch_size=2, progress=False, **how), shard=4)
    return outputs.result()


def test_two_workers_give_what_one_process_gives(client, model, faces, tmp_path, monkeypatch):
    monkeypatch.setattr(recording, "SHARD", 8)
    for one, other in zip(outputs_of(model, faces), outputs_of(model, faces, client=client), strict=True):
        np.testing.assert_array_equal(one, other)
    how = {"progress": False, "batch_size": 8}
    here, there = (dissect(model, faces, "features.3", quantile=0.02, mask_size=32, **how, client=c) for c in (None, client))
    assert here.identical(there)
    stored = {}
    for name, where in (("here", None), ("there", client)):
        record(model, faces, "features.3", store=tmp_path / name, chunk=4, progress=False, batch_size=4, client=where)
        stored[name] = xr.open_zarr(tmp_path / name, group="features.3").load()
    assert stored["here"].identical(stored["there"])
    shares = [decision_shares(model, faces, None, [1], images=12, **how, client=c)[0] for c in (None, client)]
    assert shares[0].identical(shares[1])
    (here,), (there,) = (facex_scores(model, faces, "features.3", [1], **how, client=c) for c in (None, client))
    assert here.identical(there)


class Deadly(Outputs):
    """Outputs whose worker is killed while it is at row 9, once."""

    def __init__(self, marker):
        super().__init__()
        self.marker = marker

    def update(self, batch):
        if 9 in batch.rows and not self.marker.exists():
            self.marker.touch()
            os.kill(os.getpid(), signal.SIGKILL)
        super().update(batch)


def test_a_worker_that_is_killed_costs_its_shards_only(client, model, faces, tmp_path):
    deadly = Deadly(tmp_path / "killed")
    run(model, faces, [deadly], PassOptions(batch_size=2, progress=False, client=client, folder=tmp_path), shard=4)
    assert deadly.marker.exists()
    for one, other in zip(outputs_of(model, faces), deadly.result(), strict=True):
        np.testing.assert_array_equal(one, other)


LOCAL = """
import psutil
import facexkit as fx
from facexkit.measure.per_image import Outputs
from facexkit.measure.recording import record
from facexkit.probe.options import PassOptions
from facexkit.probe.run import run

faces = fx.load_faces("synthetic", limit=8)
model = fx.load_model("torchvision:squeezenet1_1", num_classes=3, image_size=64, device="cpu")
seen = []
for _ in range(2):
    run(model, faces, [Outputs()], PassOptions(client="local", progress=False), shard=4)
    seen.append({child.pid for child in psutil.Process().children(recursive=True)})
assert seen[0] == seen[1]
print(*seen[0])
"""


def test_a_client_local_keeps_its_cluster_until_the_process_ends_and_leaves_nothing(tmp_path):
    script = tmp_path / "two_passes.py"
    script.write_text(f"if __name__ == '__main__':{textwrap.indent(LOCAL, '    ')}")
    ended = subprocess.run([sys.executable, script], capture_output=True, text=True, check=True)
    left = [psutil.Process(int(pid)) for pid in ended.stdout.split() if psutil.pid_exists(int(pid))]
    assert ended.stdout and not psutil.wait_procs(left, timeout=20)[1]


def test_what_fails_there_is_told_here(client, model, faces):
    class Broken(Outputs):
        def update(self, batch):
            raise ZeroDivisionError("nothing to divide")

    with pytest.raises(FacexkitError, match=r"rows 0 to 3 failed 3 times on the cluster: ZeroDivisionError"):
        run(model, faces, [Broken()], PassOptions(batch_size=2, progress=False, client=client), shard=4)
    with pytest.raises(FacexkitError, match="no Dask scheduler answers at client='tcp://127.0.0.1:9'"):
        outputs_of(model, faces, client="tcp://127.0.0.1:9")
