"""Face Dissect's own networks: age, gender, beauty and smile, as its loaders build them."""

from __future__ import annotations

from pathlib import Path

from torch import nn

from facexkit.errors import FacexkitError, check_known
from facexkit.models.sources import Made, Wish, register_source
from facexkit.models.weights import load_weights, seeded

FILES = {
    "age": "age_3_val_loss_6.6400.pth", "gender": "gender_1_val_acc_0.9082.pth", "beauty": "resnet18.pth",
    "smile": "smile_nonsmile_0.912.pth",
}  # fmt: skip
SIZES = {"age": 128, "gender": 128, "beauty": 224, "smile": 200}


@register_source("face_dissect")
def _from_face_dissect(task: str, wish: Wish) -> Made:
    check_known("network of Face Dissect", [task], FILES)
    if wish.weights is None:
        raise FacexkitError(f"face_dissect:{task} needs weights=: the authors' {FILES[task]}, or the folder it lies in")
    from torchvision.models import resnet18, resnet50  # here, as its import takes seconds

    path = Path(wish.weights).expanduser()
    with seeded(wish.seed):
        network = resnet18(num_classes=1) if task == "beauty" else resnet50()
        if task in ("age", "gender"):
            widths = [nn.Linear(32768, 2048), nn.ReLU(), nn.Linear(2048, 512), nn.ReLU(), nn.Linear(512, 64), nn.ReLU()]
            network.avgpool = nn.Sequential(nn.Flatten(), *widths)
            network.fc = nn.Linear(64, 1) if task == "age" else nn.Sequential(nn.Linear(64, 2))
        if task == "smile":
            network.fc = nn.Sequential(nn.Linear(2048, 2))
    file = path / FILES[task] if path.is_dir() else path
    load_weights(network, file, wish.trust, rename=_as_torchvision if task == "beauty" else str)
    return Made(network, SIZES[task], "unit", outputs="embedding" if task in ("age", "beauty") else None)


def _as_torchvision(key: str) -> str:
    """Return torchvision's name of a weight of the beauty network, a ResNet-18 whose modules lie in groups."""
    return key.replace("group1.", "").replace("group2.fullyconnected", "fc")
