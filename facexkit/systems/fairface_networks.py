"""FairFace's classifiers of race, gender and age: ResNet-34 with 18 outputs, and how these are read."""

from __future__ import annotations

from pathlib import Path

import numpy as np
from scipy.special import softmax

from facexkit.errors import FacexkitError, check_known
from facexkit.models.sources import Made, Wish, register_source
from facexkit.models.weights import load_weights, seeded

RACES = ("White", "Black", "Latino_Hispanic", "East Asian", "Southeast Asian", "Indian", "Middle Eastern")
AGES = ("0-2", "3-9", "10-19", "20-29", "30-39", "40-49", "50-59", "60-69", "70+")
BLOCKS = {
    "7": {"race": RACES, "gender": ("Male", "Female"), "age": AGES},
    "4": {"race4": ("White", "Black", "Asian", "Indian")},
}
"""Model → blocks of outputs in order. The four-race model has 18 as well; as in FairFace's script, 14 go unread."""
FILES = {"7": "res34_fair_align_multi_7_20190809.pt", "4": "res34_fair_align_multi_4_20190809.pt"}
OUTPUTS = 18


@register_source("fairface")
def _from_fairface(races: str, wish: Wish) -> Made:
    check_known("FairFace model", [races], BLOCKS)
    if wish.weights is None:
        raise FacexkitError(
            f"fairface:{races} needs weights=: the public file {FILES[races]}, or its folder; the README of "
            "github.com/dchen236/FairFace links to it. Without it: torchvision:resnet34 with num_classes=18, untrained"
        )
    from torchvision.models import resnet34  # here, as its import takes seconds

    path = Path(wish.weights).expanduser()
    with seeded(wish.seed):
        network = resnet34(num_classes=OUTPUTS)
    load_weights(network, path / FILES[races] if path.is_dir() else path, wish.trust)
    read = sum(map(len, BLOCKS[races].values()))
    unread = {"unread": [f"unread {k}" for k in range(read, OUTPUTS)]} if read < OUTPUTS else {}
    return Made(network, 224, "imagenet", outputs=BLOCKS[races] | unread)


def decode(outputs: np.ndarray, races: str) -> dict[str, np.ndarray]:
    """Return the softmax of each block of the logits (N, 18) of model "7" or "4".

    For "7" these are `race` (N, 7), `gender` (N, 2) and `age` (N, 9), for "4" `race4` (N, 4).
    """
    ends = np.cumsum([len(names) for names in BLOCKS[races].values()])
    *parts, _unread = np.split(outputs, ends, axis=1)
    return {block: softmax(part, axis=1) for block, part in zip(BLOCKS[races], parts, strict=True)}
