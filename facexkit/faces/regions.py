"""The vocabulary of face regions and local concepts: names, order, layering, areas."""

from __future__ import annotations

import numpy as np

REGIONS = tuple("background skin nose eye_g l_eye r_eye l_brow r_brow l_ear r_ear mouth u_lip l_lip hair hat ear_r "
                "neck_l neck cloth".split())  # fmt: skip
"""The 19 CelebAMask-HQ regions; the position is the pixel value in an index PNG."""

TOP_TO_BOTTOM = tuple("eye_g hat ear_r neck_l mouth u_lip l_lip l_eye r_eye l_brow r_brow nose l_ear r_ear hair skin "
                      "neck cloth background".split())  # fmt: skip
"""Which region hides which where masks overlap, uppermost first."""

TITLES = {
    "background": "background", "skin": "skin", "nose": "nose", "eye_g": "glasses", "l_eye": "left eye",
    "r_eye": "right eye", "l_brow": "left brow", "r_brow": "right brow", "l_ear": "left ear", "r_ear": "right ear",
    "mouth": "inner mouth", "u_lip": "upper lip", "l_lip": "lower lip", "hair": "hair", "hat": "hat",
    "ear_r": "earring", "neck_l": "necklace", "neck": "neck", "cloth": "clothes",
    "brows": "brows", "eyes": "eyes", "ears": "ears", "lips": "lips",
}  # fmt: skip
"""What people read for each region and union."""

UNIONS = {"brows": ("l_brow", "r_brow"), "eyes": ("l_eye", "r_eye"), "ears": ("l_ear", "r_ear"), "lips": ("u_lip", "l_lip")}
"""Regions that are also asked for together."""

FACE_DICTIONARY = {area: tuple(concepts.split()) for area, concepts in {
    "eye": "AU_1 AU_2 AU_4 AU_5 left_brow right_brow left_eye right_eye Arched_Eyebrows Bushy_Eyebrows Eyeglasses "
           "Narrow_Eyes",
    "cheek": "AU_6 left_cheek right_cheek Bags_Under_Eyes High_Cheekbones Rosy_Cheeks No_Beard 5_o_Clock_Shadow",
    "nose": "AU_9 nose Big_Nose Pointy_Nose",
    "mouth": "AU_12 AU_15 AU_20 AU_25 mouth Big_Lips Mouth_Slightly_Open Mustache Smiling Wearing_Lipstick",
    "chin": "AU_17 AU_26 Double_Chin Goatee",
}.items()}  # fmt: skip
"""The 38 local concepts of the Face Dictionary by face area (Face Dissect)."""

REGION_AREAS = {
    "eye": ("eye_g", "l_eye", "r_eye", "eyes", "l_brow", "r_brow", "brows"),
    "nose": ("nose", "nose_part"),
    "mouth": ("mouth", "u_lip", "l_lip", "lips", "mouth_part"),
    "skin": ("skin",),
    "ear": ("l_ear", "r_ear", "ears", "ear_r"),
    "hair": ("hair", "hat"),
    "neck": ("neck_l", "neck", "cloth"),
}
"""The regions and their unions by face area, as the Face Dictionary groups its concepts."""

PARTS = {"nose": "nose_part", "mouth": "mouth_part"}
"""What the Face Dictionary's parts that share a region's name are called beside the regions."""


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
