"""The vocabulary of face regions and local concepts: names, order, layering, areas."""

from __future__ import annotations

import json
import re
from pathlib import Path

import numpy as np

VOCABULARY = json.loads(Path(__file__).with_suffix(".json").read_text("utf-8"))
"""What is known of every region and union: title, colour, outline (see `template`); orders, other names, and areas of the face."""

REGIONS = tuple(VOCABULARY["regions"])
"""The 19 CelebAMask-HQ regions; the position is the pixel value in an index PNG."""

BACKGROUND = REGIONS[0]

TOP_TO_BOTTOM = tuple(VOCABULARY["top_to_bottom"].split())
"""Which region hides which where masks overlap, uppermost first."""

UNIONS = {name: tuple(union["of"]) for name, union in VOCABULARY["unions"].items()}
"""Regions that are also asked for together."""

FARL_CLASSES = tuple(VOCABULARY["farl"].split())
"""The regions in the order of FaRL's face parser."""

CALLED = {name: region for region, names in VOCABULARY["called"].items() for name in names.split()}
"""What others call a region."""

TITLES = {name: about["title"] for kind in ("regions", "unions") for name, about in VOCABULARY[kind].items()}
"""What people read for each region and union."""

FACE_DICTIONARY = {area: tuple(concepts.split()) for area, concepts in VOCABULARY["face_dictionary"].items()}
"""The 38 local concepts of the Face Dictionary by face area (Face Dissect)."""

REGION_AREAS = {area: tuple(regions.split()) for area, regions in VOCABULARY["areas"].items()}
"""The regions and their unions by face area, as the Face Dictionary groups its concepts."""

PARTS = {"nose": "nose_part", "mouth": "mouth_part"}
"""What the Face Dictionary's parts that share a region's name are called beside the regions."""


def region_called(label: str) -> str:
    """Return the region that somebody's label means, "" for none."""
    name = "_".join(VOCABULARY["words"].get(word, word) for word in re.split(r"[\W_]+", label.casefold()) if word)
    return name if name in REGIONS else CALLED.get(name, "")


def index_map(masks: np.ndarray) -> np.ndarray:
    """Give every pixel to the uppermost region that has it.

    Parameters
    ----------
    masks : bool (…, 19, h, w), in the order of `REGIONS`.

    Returns
    -------
    uint8 (…, h, w), positions in `REGIONS`; a pixel without a region is background (0).
    """
    index = np.zeros(masks.shape[:-3] + masks.shape[-2:], np.uint8)
    for name in reversed(TOP_TO_BOTTOM):
        region = REGIONS.index(name)
        index[masks[..., region, :, :]] = region
    return index
