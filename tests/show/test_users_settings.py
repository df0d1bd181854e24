"""Nothing of the kit changes what is everybody's: a user's own plots, random numbers, threads, environment, warnings."""

import os
import subprocess
import sys

import pytest

LOOK = """
import os, pickle, random, sys, warnings
import matplotlib, numpy as np, torch
def everybodys():
    return {
        "rcParams": dict(matplotlib.rcParams), "interactive": matplotlib.is_interactive(),
        "pyplot": "matplotlib.pyplot" in sys.modules and matplotlib.pyplot.get_fignums(),
        "random": random.getstate(), "numpy": pickle.dumps(np.random.get_state()), "torch": torch.get_rng_state().tolist(),
        "threads": (torch.get_num_threads(), torch.is_grad_enabled(), torch.get_default_dtype()),
        "environment": dict(os.environ), "warnings": list(warnings.filters), "folder": os.getcwd(),
    }
import anywidget, captum.attr, facenet_pytorch, scipy.sparse, scipy.stats, zarr  # what others change as they are imported is theirs
import facexkit as fx
"""
USE = """
before = everybodys()
faces = fx.load_faces("synthetic", limit=24)
model = fx.load_model("torchvision:resnet18", num_classes=2, image_size=64, device="cpu")
how = {"progress": False}
share = fx.score_regions(model, faces, method="share", images=6, partners=1, **how)
facex = fx.score_regions(model, faces, "layer1", **how)
found = fx.dissect(model, faces, "layer1", mask_size=32, quantile=0.02, **how)
bias = fx.global_bias(model, faces, "layer1", ["gender"], found=found, **how)
table = fx.predict(model, faces, **how).assign(truth="class 0").rename(columns={"predicted": "prediction"})
audited = fx.audit(table[["truth", "prediction", "gender"]], replicates=10, min_images=2)
fx.record(model, faces, "layer1", store="maps.zarr", **how)
figures = [fx.plot_regions([share, facex]), fx.plot_units(found, faces, 2), fx.plot_bias({"m": bias}, "gender"), fx.plot_audit(audited)]
fx.write_region_report([share, facex], faces, "report.html")
fx.write_dissection_report(found, faces, "report.pdf")
fx.write_dissection("layer1", found, bias=bias)
assert figures[0]._repr_png_().startswith(b"\\x89PNG")
explorer = fx.explore(model, faces, "layer1")
explorer.wait()
for name, value in everybodys().items():
    assert value == before[name], name
"""
PLOTS_ON = """
import matplotlib
figure = fx.plot_counts({"m": fx.rank_concepts(fx.dissect(
    fx.load_model("torchvision:resnet18", num_classes=2, image_size=64, device="cpu"), fx.load_faces("synthetic", limit=4),
    "layer1", mask_size=32, progress=False))})
import matplotlib.pyplot as plt
plt.ion()
from facexkit.show.figures import drawn
@drawn
def own():
    return plt.figure()
own()
assert plt.isinteractive() and plt.get_fignums() == [1]
"""


@pytest.mark.parametrize("use", [USE, PLOTS_ON], ids=["everything", "plots"])
def test_what_is_everybodys_stays_as_the_user_had_it(use, tmp_path):
    own = {"FACEXKIT_CACHE": str(tmp_path), "MPLBACKEND": "agg" if use is PLOTS_ON else "module://an_editors_own"}
    command = [sys.executable, "-W", "error::UserWarning", "-c", LOOK + use]
    done = subprocess.run(command, cwd=tmp_path, env={**os.environ, **own}, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
