"""The built-in faces: drawn people with exact masks, labels and, if asked, a planted shortcut."""

from __future__ import annotations

import colorsys
import hashlib
from dataclasses import dataclass
from functools import lru_cache

import numpy as np
import pandas as pd
from PIL import Image

from facexkit.errors import FacexkitError, unknown
from facexkit.faces.drawing import COHORTS, HAIRLINES, Face, Layer, draw, masks_of, picture_of, soft_areas
from facexkit.faces.regions import FACE_DICTIONARY, REGIONS

_VERSION = 1
AGES = ("zero_to_twenty", "twenty_to_forty", "forty_to_sixty", "sixty_plus")
SHORTCUTS = {
    "u_lip": "lipstick", "eye_g": "glasses", "hat": "hat", "hair": "light_hair", "brows": "bushy_brows",
    "skin": "rosy_cheeks", "ear_r": "earrings", "neck_l": "necklace", "cloth": "warm_clothes",
    "background": "warm_background",
}  # fmt: skip
"""Where a shortcut can be planted, and the label that says which of its two looks the region has."""

_LOOKS = {"lipstick": 0.5, "glasses": 0.3, "hat": 0.2, "light_hair": 0.4, "bushy_brows": 0.4, "rosy_cheeks": 0.3,
          "earrings": 0.4, "necklace": 0.35, "warm_clothes": 0.5, "warm_background": 0.5}  # fmt: skip
_FIRST_CLASS = {"gender": "female", "skin_tone": "bright"}
_SHAPE = {  # name: mean, spread, how many spreads men lie above women, how much a child's differs
    "face_width": (1.0, 0.035, 0.0, 0.01), "jaw": (0.02, 0.05, 1.3, -0.02), "chin": (0.0, 0.01, 0.4, -0.025),
    "eye_size": (1.08, 0.06, -0.7, 0.14), "eye_open": (1.08, 0.12, 0.0, 0.08), "eye_gap": (0.0, 0.006, 0.0, 0.002),
    "eye_height": (0.0, 0.006, 0.0, 0.014), "eye_tilt": (0.0, 0.08, 0.0, 0.0), "ear_size": (1.0, 0.09, 0.3, 0.0),
    "brow_thick": (0.95, 0.16, 1.3, -0.15), "brow_arch": (0.2, 0.5, -0.6, 0.0), "brow_height": (-0.002, 0.006, -1.2, -0.002),
    "brow_tilt": (0.0, 0.35, 0.0, 0.0), "nose_width": (0.97, 0.08, 0.9, -0.08), "nose_length": (1.0, 0.05, 0.3, -0.1),
    "mouth_width": (0.98, 0.07, 0.0, -0.05), "mouth_height": (0.004, 0.007, 0.0, -0.006),
    "lip_full": (1.0, 0.13, 0.0, 0.03), "hair_volume": (0.012, 0.016, 0.0, 0.0), "lens_height": (1.0, 0.1, 0.0, 0.0),
    "earring_size": (1.2, 0.15, 0.0, 0.0), "frame": (0.012, 0.002, 0.0, 0.0),
}  # fmt: skip
_SKIN = {"bright": ((0.97, 0.84, 0.74), (0.86, 0.67, 0.53)), "dark": ((0.64, 0.44, 0.32), (0.36, 0.23, 0.16))}
_HAIR = {True: ((0.86, 0.7, 0.42), (0.62, 0.42, 0.2)), False: ((0.36, 0.21, 0.13), (0.08, 0.065, 0.06))}
_IRIS = ((0.28, 0.16, 0.09), (0.42, 0.28, 0.13), (0.3, 0.42, 0.28), (0.3, 0.46, 0.62), (0.16, 0.1, 0.07))


@dataclass(frozen=True)
class Recipe:
    """What fixes every drawn face, given its path `IDENTITY_PICTURE.png`."""

    size: int = 128
    seed: int = 0
    shortcut: str | None = None
    strength: float = 0.95
    target: str = "gender"
    test_share: float = 0.4

    def labels(self, identity: int) -> dict[str, object]:
        """Return what is true of a person, with the shortcut's look tied to the target in the training split only."""
        rng = np.random.default_rng([self.seed, identity, 0])
        in_test = int((identity + 1) * self.test_share) > int(identity * self.test_share)
        labels = {"identity": identity, "split": "test" if in_test else "train", **_labels(rng)}
        agrees = bool(rng.random() < (0.5 if in_test else self.strength))
        if self.shortcut is not None:
            look = int((labels[self.target] == _FIRST_CLASS.get(self.target, 1)) == agrees)
            labels |= {SHORTCUTS[self.shortcut]: look, "shortcut": look, "agrees": agrees}
        return labels

    def face(self, path: str) -> Face:
        """Return the face of a path, the same in any order and process."""
        identity, picture = (int(part) for part in path.removesuffix(".png").split("_"))
        labels = self.labels(identity)
        person = np.random.default_rng([self.seed, identity, 1])
        pose = np.random.default_rng([self.seed, identity, 2, picture])
        shape, colours = _shape(person, labels), _colours(person, labels)
        hue = (pose.uniform(0.03, 0.13) if labels["warm_background"] else pose.uniform(0.47, 0.62))
        colours["background"] = _rgb(hue, pose.uniform(0.25, 0.6), pose.uniform(0.55, 0.9))
        return Face(labels, shape, colours, _picture(pose))


class DrawnFaces:
    """The pictures of drawn faces, made when they are read."""

    def __init__(self, recipe: Recipe) -> None:
        self.recipe = recipe

    def read(self, path: str) -> Image.Image:
        """Return the RGB picture of a path `IDENTITY_PICTURE.png`."""
        face, layers = _drawn(self.recipe, path)
        return Image.fromarray(picture_of(layers, face))

    def digest(self, path: str) -> bytes:
        """Return bytes that change with anything that the picture is made from."""
        return hashlib.sha256(repr((_VERSION, self.recipe, path)).encode()).digest()


class DrawnMasks:
    """The exact masks of drawn faces: of the regions, or of the local concepts of the Face Dictionary.

    Parameters
    ----------
    which : "regions" or "concepts". `mouth` is the inner mouth among the regions, the whole mouth among the concepts.
    """

    def __init__(self, recipe: Recipe, which: str = "regions") -> None:
        if which not in ("regions", "concepts"):
            raise unknown("kind of masks", which, ("regions", "concepts"))
        self.recipe, self.which = recipe, which
        self.names = REGIONS if which == "regions" else CONCEPTS

    @property
    def concepts(self) -> DrawnMasks:
        """The masks of the local concepts of the same faces."""
        return DrawnMasks(self.recipe, "concepts")

    def read(self, path: str) -> dict[str, np.ndarray]:
        """Return the masks that the face has, bool (H, W) by name."""
        face, layers = _drawn(self.recipe, path)
        masks = masks_of(layers)
        return masks if self.which == "regions" else _concepts(face, masks, self.recipe.size)

    def digest(self, path: str) -> bytes:
        """Return bytes that change with anything that the masks are made from."""
        return DrawnFaces(self.recipe).digest(path) + self.which.encode()


@lru_cache(maxsize=4)
def _drawn(recipe: Recipe, path: str) -> tuple[Face, tuple[Layer, ...]]:
    """Return a face and its layers; kept for a moment, because picture and masks are read one after the other."""
    face = recipe.face(path)
    return face, draw(face, recipe.size)


def synthetic_faces(
    count: int = 1200,
    size: int = 128,
    seed: int = 0,
    shortcut: str | None = None,
    strength: float = 0.95,
    target: str = "gender",
    split: str | None = None,
    pictures_per_identity: int = 1,
    test_share: float = 0.4,
) -> tuple[pd.DataFrame, DrawnFaces, DrawnMasks]:
    """Return the table, pictures and masks of drawn faces.

    Parameters
    ----------
    count : pictures of both splits together.
    size : side length of the pictures in pixels.
    shortcut : region of `SHORTCUTS` whose look is tied to the target in the training split; None ties none.
    strength : share of the training faces whose look agrees with their label.
    target : two-valued label that the shortcut is tied to.
    split : "train" or "test" keeps one of them; None keeps both.
    pictures_per_identity : pictures of each person, in other pose, light and before another background.
    test_share : share of the persons that are in the test split.

    Raises
    ------
    FacexkitError : an unknown shortcut, split or target; a number out of its range; a shortcut that is the target itself.
    """
    recipe = Recipe(size, seed, shortcut, strength, target, test_share)
    _check(recipe, count, split, pictures_per_identity)
    people = -(-count // pictures_per_identity)
    table = pd.DataFrame(
        {"path": f"{labels['identity']:06d}_{picture}.png", **labels}
        for labels in map(recipe.labels, range(people))
        for picture in range(pictures_per_identity)
    )[:count]
    if split is not None:
        table = table[table.split == split].reset_index(drop=True)
    return table, DrawnFaces(recipe), DrawnMasks(recipe)


def _check(recipe: Recipe, count: int, split: str | None, pictures_per_identity: int) -> None:
    if recipe.shortcut is not None and recipe.shortcut not in SHORTCUTS:
        raise unknown("shortcut", recipe.shortcut, SHORTCUTS)
    if split not in (None, "train", "test"):
        raise unknown("split", split, ("train", "test"))
    two_valued = (*_FIRST_CLASS, *_LOOKS, "smiling", "mouth_open", "eye_bags")
    if recipe.shortcut is not None and recipe.target not in two_valued:
        raise unknown("two-valued label to tie a shortcut to", recipe.target, two_valued)
    if recipe.shortcut is not None and SHORTCUTS[recipe.shortcut] == recipe.target:
        raise FacexkitError(f"the look of {recipe.shortcut!r} is the target {recipe.target!r} itself; choose another shortcut")
    for name, value, low, high in (
        ("count", count, 1, 1_000_000), ("size", recipe.size, 16, 2048), ("strength", recipe.strength, 0, 1),
        ("pictures_per_identity", pictures_per_identity, 1, 1000), ("test_share", recipe.test_share, 0, 1),
        ("seed", recipe.seed, 0, 2**63),
    ):  # fmt: skip
        if not low <= value <= high:
            raise FacexkitError(f"{name} = {value} of the synthetic faces lies outside {low} to {high}")


def _labels(rng: np.random.Generator) -> dict[str, object]:
    """Draw who somebody is; only the beard depends on gender and age."""
    labels: dict[str, object] = {
        "gender": str(rng.choice(["female", "male"])),
        "age": AGES[rng.choice(4, p=(0.2, 0.35, 0.27, 0.18))],
        "skin_tone": str(rng.choice(["bright", "dark"])),
        "cohort": COHORTS[rng.choice(4)],
    }
    labels |= {name: int(rng.random() < share) for name, share in _LOOKS.items()}
    older = AGES.index(str(labels["age"]))
    can = labels["gender"] == "male" and older > 0
    kind = rng.choice(4, p=(0.45, 0.3, 0.1, 0.15))
    labels["beard"] = ("none", "stubble", "goatee", "full")[kind if can else 0]
    labels["smiling"] = int(rng.random() < 0.5)
    labels["mouth_open"] = int(rng.random() < (0.6 if labels["smiling"] else 0.2))
    labels["eye_bags"] = int(rng.random() < (0.0, 0.15, 0.4, 0.6)[older])
    return labels


def _shape(rng: np.random.Generator, labels: dict[str, object]) -> dict[str, float]:
    """Draw somebody's geometry: each measure overlaps widely between women and men."""
    male, age = (0.5 if labels["gender"] == "male" else -0.5), AGES.index(str(labels["age"]))
    shape = {
        name: mean + spread * (np.clip(rng.standard_normal(), -2.2, 2.2) + lift * male) + child * (age == 0)
        for name, (mean, spread, lift, child) in _SHAPE.items()
    }
    hairlines = len(HAIRLINES) - (age < 2)
    long = rng.random() < (0.72 if male < 0 else 0.28)
    shape |= {
        "hair_length": rng.uniform(0.35, 0.95) if long else 0.0,
        "hairline": int(rng.integers(hairlines)),
        "parting": rng.choice([-1.0, 1.0]),
        "curl": rng.choice([0.0, 0.003, 0.008]),
        "ears_free": rng.random() if long else 1.0,
        "smile": rng.uniform(0.6, 1.1) if labels["smiling"] else rng.uniform(-0.25, 0.15),
        "opening": rng.uniform(0.011, 0.024) if labels["mouth_open"] else 0.0,
        "wrinkles": (0.0, 0.0, 0.22, 0.5)[age] * rng.uniform(0.6, 1.0),
        "beard_density": rng.uniform(0.15, 0.42) if labels["beard"] == "stubble" else rng.uniform(0.6, 0.85),
        "gloss": rng.uniform(0.03, 0.16),
        "collar": rng.choice([0.0, 1.0]),
        "fold": rng.uniform(0, 6.28),
    }
    shape["brow_thick"] += 0.42 if labels["bushy_brows"] else 0.0
    return {name: float(value) for name, value in shape.items()}


def _mix(rng: np.random.Generator, ends: tuple, spread: float = 0.02) -> np.ndarray:
    """Draw a colour between two, with a little of its own."""
    low, high = np.array(ends)
    return np.clip(low + rng.random() * (high - low) + rng.normal(0, spread, 3), 0.02, 1)


def _rgb(hue: float, saturation: float, value: float) -> np.ndarray:
    return np.array(colorsys.hsv_to_rgb(hue % 1, saturation, value))


def _colours(rng: np.random.Generator, labels: dict[str, object]) -> dict[str, np.ndarray]:
    """Draw somebody's colours; both looks of everything are drawn, so that a shortcut changes one region and nothing else."""
    skin = _mix(rng, _SKIN[str(labels["skin_tone"])], 0.012)
    hair = {light: _mix(rng, _HAIR[light]) for light in (True, False)}
    if AGES.index(str(labels["age"])) == 3 and rng.random() < 0.75:
        hair = {True: np.full(3, 0.86) - (0, 0.01, 0.04), False: np.full(3, 0.42)}
    lipstick = _rgb(rng.uniform(-0.06, 0.01), rng.uniform(0.75, 0.9), rng.uniform(0.62, 0.82))
    clothes = {True: rng.uniform(-0.06, 0.12), False: rng.uniform(0.45, 0.72)}[bool(labels["warm_clothes"])]
    return {
        "skin": skin,
        "blush": skin * (1.0, 0.66, 0.64) * 0.98,
        "hair": hair[bool(labels["light_hair"])],
        "brow": _mix(rng, ((0.32, 0.21, 0.14), (0.12, 0.09, 0.08))),
        "beard": _mix(rng, ((0.3, 0.22, 0.17), (0.13, 0.11, 0.11))),
        "lips": lipstick if labels["lipstick"] else skin * (0.92, 0.7, 0.68),
        "iris": np.array(_IRIS[rng.integers(len(_IRIS))]),
        "cloth": _rgb(clothes, rng.uniform(0.45, 0.8), rng.uniform(0.4, 0.8)),
        "hat": _rgb(rng.random(), rng.uniform(0.2, 0.7), rng.uniform(0.3, 0.7)),
        "frame": _mix(rng, ((0.1, 0.1, 0.12), (0.4, 0.18, 0.12))),
        "earring": _mix(rng, ((0.95, 0.76, 0.3), (0.86, 0.88, 0.92))),
        "necklace": _mix(rng, ((0.92, 0.74, 0.3), (0.84, 0.86, 0.9))),
    }


def _picture(rng: np.random.Generator) -> dict[str, float]:
    """Draw how one picture was taken."""
    ranges = {"turn": 6.0, "yaw": 0.012, "shift_x": 0.02, "shift_y": 0.02, "light_x": 0.12, "light_y": 0.08, "gaze": 0.005}
    picture = {name: float(rng.uniform(-most, most)) for name, most in ranges.items()}
    picture |= {"scale": rng.uniform(0.93, 1.05), "gain": rng.uniform(0.88, 1.08)}
    picture |= {"glow_x": rng.uniform(-0.8, 0.8), "glow_y": rng.uniform(-0.8, 0.2), "noise": int(rng.integers(2**31))}
    return picture


def _concepts(face: Face, regions: dict[str, np.ndarray], size: int) -> dict[str, np.ndarray]:
    """Return the local Face Dictionary concepts that the face shows, bool (H, W) by name."""
    none, labels, shape = np.zeros((size, size), bool), face.labels, face.shape
    part = {name: regions.get(name, none) for name in REGIONS}
    soft = {name: (area > 0.3) & part["skin"] for name, area in soft_areas(face, size).items()}
    brows, eyes, lips = part["l_brow"] | part["r_brow"], part["l_eye"] | part["r_eye"], part["u_lip"] | part["l_lip"]
    mouth, jaw, cheeks = lips | part["mouth"], soft["jaw"] | soft["mustache"], soft["left_cheek"] | soft["right_cheek"]
    shown = {
        "left_brow": (part["l_brow"], True),
        "right_brow": (part["r_brow"], True),
        "left_eye": (part["l_eye"], True),
        "right_eye": (part["r_eye"], True),
        "Arched_Eyebrows": (brows, shape["brow_arch"] > 0.5),
        "Bushy_Eyebrows": (brows, labels["bushy_brows"]),
        "Eyeglasses": (part["eye_g"], True),
        "Narrow_Eyes": (eyes, shape["eye_open"] < 1.0),
        "left_cheek": (soft["left_cheek"], True),
        "right_cheek": (soft["right_cheek"], True),
        "Bags_Under_Eyes": (soft["bags"], labels["eye_bags"]),
        "Rosy_Cheeks": (cheeks, labels["rosy_cheeks"]),
        "No_Beard": (jaw, labels["beard"] == "none"),
        "5_o_Clock_Shadow": (jaw, labels["beard"] == "stubble"),
        "nose": (part["nose"], True),
        "Big_Nose": (part["nose"], shape["nose_width"] > 1.04),
        "Pointy_Nose": (part["nose"], shape["nose_width"] < 0.89),
        "mouth": (mouth, True),
        "Big_Lips": (lips, shape["lip_full"] > 1.12),
        "Mouth_Slightly_Open": (mouth, labels["mouth_open"]),
        "Mustache": (soft["mustache"], labels["beard"] in ("goatee", "full")),
        "Smiling": (mouth, labels["smiling"]),
        "Wearing_Lipstick": (lips, labels["lipstick"]),
        "Goatee": (soft["goatee"], labels["beard"] == "goatee"),
    }
    return {name: mask for name, (mask, present) in shown.items() if present and mask.any()}


CONCEPTS = tuple(
    name
    for names in FACE_DICTIONARY.values()
    for name in names
    if not name.startswith("AU_") and name not in ("High_Cheekbones", "Double_Chin")
)
"""The local concepts of the Face Dictionary that the drawing has."""
