"""AdaFace as MAI-BIAS's users have it: a Python file, a checkpoint of its own, a transform in a file, BGR."""

import pytest
import torch

from facexkit.app.places import confined
from facexkit.errors import FacexkitError
from facexkit.faces.formats import load_faces
from facexkit.models.loading import load_model
from facexkit.models.weights import seeded

NET = """
import torch
from torch import nn

class Backbone(nn.Module):
    def __init__(self):
        super().__init__()
        self.input_layer = nn.Sequential(nn.Conv2d(3, 8, 3, 2, 1, bias=False), nn.BatchNorm2d(8), nn.PReLU(8))
        self.output_layer = nn.Linear(8 * 56 * 56, 16)

    def forward(self, x):
        x = self.input_layer(x)
        x = self.output_layer(x.view(x.size(0), -1))
        norm = torch.norm(x, 2, 1, True)
        return torch.div(x, norm), norm
"""
TRANSFORM = """
from torchvision import transforms

class ToBGR:
    def __call__(self, x):
        return x[[2, 1, 0]]

transform = transforms.Compose([
    transforms.Resize((112, 112)), transforms.ToTensor(), ToBGR(), transforms.Normalize([0.5] * 3, [0.5] * 3),
])
"""


def test_its_model_file_checkpoint_and_transform_give_its_embeddings(tmp_path):
    (tmp_path / "net.py").write_text(NET)
    (tmp_path / "transform.py").write_text(TRANSFORM)
    code, steps = {}, {}
    exec(NET, code)
    exec(TRANSFORM, steps)
    with seeded(0):
        theirs = code["Backbone"]().eval()
    torch.save({"state_dict": {f"model.{k}": v for k, v in theirs.state_dict().items()}}, tmp_path / "adaface.ckpt")
    given = {"weights": tmp_path / "adaface.ckpt", "output": 0, "preprocess": f"{tmp_path / 'transform.py'}:transform"}
    with pytest.raises(FacexkitError, match="trust=True"):
        load_model(f"{tmp_path / 'net.py'}:Backbone", device="cpu", **given)
    model = load_model(f"{tmp_path / 'net.py'}:Backbone", device="cpu", trust=True, **given)
    assert model.preprocess.channels == "BGR" and model.preprocess.size == 112
    faces = load_faces("synthetic", limit=3)
    pictures = [faces.images.read(path) for path in faces.table.path]
    with torch.no_grad():
        wanted = theirs(torch.stack([steps["transform"](picture) for picture in pictures]))[0]
        x = torch.stack([model.preprocess.shown(picture) for picture in pictures]).float().sub(0.5).div(0.5)
        torch.testing.assert_close(model.picked(model.network(x)), wanted, atol=1e-3, rtol=1e-3)


def test_the_page_takes_a_transform_file_of_its_folders_alone(tmp_path):
    (tmp_path / "own").mkdir()
    (tmp_path / "own" / "t.py").write_text(TRANSFORM)
    with pytest.raises(FacexkitError, match="runs somebody's code"):
        confined({"preprocess": "t.py:transform"}, [tmp_path / "own"], trust=False)
    assert confined({"preprocess": "t.py:transform"}, [tmp_path / "own"], True)["preprocess"].endswith("own/t.py:transform")
    with pytest.raises(FacexkitError, match="not in what the app may read"):
        confined({"preprocess": f"{tmp_path / 'away.py'}:transform"}, [tmp_path / "own"], True)
