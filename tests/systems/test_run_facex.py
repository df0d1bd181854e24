"""FaceX's job as its README has it: four lines, a network in memory, a table of img, task and protected."""

import numpy as np
import pandas as pd
import pytest
import torch
from PIL import Image
from torch import nn
from torchvision import transforms

from facexkit.errors import FacexkitError
from facexkit.faces.formats import load_faces
from facexkit.measure.region_scores import score_regions
from facexkit.models.loading import load_model
from facexkit.systems.facex import run_facex

QUIET = {"progress": False, "workers": 0}
TRANSFORM = transforms.Compose([
    transforms.Resize((48, 48)), transforms.ToTensor(), transforms.Normalize((0.4, 0.5, 0.6), (0.2, 0.3, 0.25)),
])  # fmt: skip


@pytest.fixture(scope="module")
def data(tmp_path_factory):
    """Twelve drawn faces, masks by region in `photos-mask-anno`, and a table with five and seven of the two groups."""
    root, drawn = tmp_path_factory.mktemp("facex") / "photos", load_faces("synthetic", limit=12)
    beside = root.with_name("photos-mask-anno")
    root.mkdir()
    beside.mkdir()
    for row, path in enumerate(drawn.table.path):
        drawn.images.read(path).resize((64, 64)).save(root / f"{row}.png")
        for region, mask in drawn.masks.read(path).items():
            if region != "background":
                Image.fromarray(mask.astype(np.uint8) * 255).resize((64, 64)).save(beside / f"{row}_{region}.png")
    table = pd.DataFrame({"img": [f"{k}.png" for k in range(12)], "task": np.arange(12) % 2, "protected": [0] * 5 + [1] * 7})
    table.to_csv(root.with_name("annotations.csv"), index=False)
    return root, table


@pytest.fixture(scope="module")
def model(tmp_path_factory):
    with torch.random.fork_rng():
        torch.manual_seed(0)
        rest = nn.ReLU(), nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(6, 2)
        network = nn.Sequential(nn.Conv2d(3, 6, 3, stride=4), *rest)
    torch.save(network, file := tmp_path_factory.mktemp("model") / "your_model.pt")
    return torch.load(file, weights_only=False)


@pytest.mark.parametrize("kind", ["a CSV", "a data frame"])
def test_its_readmes_lines_work_with_its_own_transform_balanced_and_on_the_class(data, model, kind):
    target, protected, target_class, target_layer = "task", "protected", 1, "0"
    data_dir, csv_dir = data[0], data[0].with_name("annotations.csv") if kind == "a CSV" else data[1]
    fig_heatmap, fig_patches, html = run_facex(
        target, protected, target_class, model, data_dir, csv_dir, target_layer, TRANSFORM, 48, **QUIET
    )
    faces = load_faces("csv", data[0], data[0].with_name("annotations.csv"), None, "task", ["protected"]).balanced(seed=1)
    assert faces.table.protected.value_counts().tolist() == [5, 5]
    own = faces[faces.table.task == 1]
    loaded = load_model(model, preprocess=TRANSFORM, device="cpu")
    scores = score_regions(loaded, own, "0", 1, **QUIET).isel(target_class=0)
    there = {str(region) for region in scores.region.values[scores.images.values > 0]}
    assert set(fig_patches) == there and "nose" in there
    number = f"{float(scores.score.sel(region='nose')):.2f}"
    assert number in fig_heatmap and number in html and f"{len(own)} images" in html
    assert "faces of the class" in html and html.lstrip().lower().startswith("<!doctype html>")


def test_a_class_is_explained_on_all_faces_where_that_is_asked(data, model):
    _, _, html = run_facex("task", None, 1, model, *data, "0", TRANSFORM, 48, explain_on="all", **QUIET)
    assert "12 images" in html and "FaceX score · 0 · all faces" in html


def test_masks_are_made_after_asking_alone(data, model, tmp_path, monkeypatch):
    monkeypatch.setenv("FACEXKIT_CACHE", str(tmp_path / "cache"))
    (root := tmp_path / "plain").mkdir()
    for file in data[0].iterdir():
        (root / file.name).write_bytes(file.read_bytes())
    asked = ("task", "protected", 1, model, root, data[1], "0", TRANSFORM, 48)
    with pytest.raises(FacexkitError, match="no region masks; give masks="):
        run_facex(*asked, **QUIET)  # nobody is there to answer
    monkeypatch.setattr("builtins.input", lambda question: "no")
    with pytest.raises(FacexkitError, match="no region masks"):
        run_facex(*asked, **QUIET)
    questions = []
    monkeypatch.setattr("builtins.input", lambda question: questions.append(question) or "y")
    _, patches, _ = run_facex(*asked, **QUIET)
    assert "approximate" in questions[0] and "nose" in patches
