"""Who the drawn people are: labels, geometry and colours, drawn at random from a seed and an identity."""

from __future__ import annotations

import colorsys
from dataclasses import dataclass

import numpy as np

from facexkit.drawn.figure import HAIRLINES

AGES = ("zero_to_twenty", "twenty_to_forty", "forty_to_sixty", "sixty_plus")
COHORTS = ("daylight", "sunset", "overcast", "faded")
BEARDS = ("none", "stubble", "goatee", "full")
LOOKS = {"lipstick": 0.5, "glasses": 0.3, "hat": 0.2, "light_hair": 0.4, "bushy_brows": 0.4, "rosy_cheeks": 0.3,
         "earrings": 0.4, "necklace": 0.35, "warm_clothes": 0.5, "warm_background": 0.5}  # fmt: skip
"""Labels of one region's look, 0 or 1, and how often each is 1; they say nothing about the other labels."""
SHORTCUTS = {"u_lip": "lipstick", "eye_g": "glasses", "hat": "hat", "hair": "light_hair", "brows": "bushy_brows",
             "skin": "rosy_cheeks", "ear_r": "earrings", "neck_l": "necklace", "cloth": "warm_clothes",
             "background": "warm_background"}  # fmt: skip
"""Where a shortcut can be planted, and the label of its look."""
TARGETS = {"gender": "female", "skin_tone": "bright", **dict.fromkeys((*LOOKS, "smiling", "mouth_open", "eye_bags"), 1)}
"""The labels that a shortcut can be tied to, and the value with which a look of 1 agrees."""

CUES = {
    "brows": ({"bushy_brows": 1}, {"brow_thick": (1.4, 2.8), "brow_arch": (-0.8, 1.2), "brow_tilt": (-0.7, 0.7)},
              "brow"),
    "eyes": ({}, {"eye_size": (0.9, 1.3), "eye_open": (0.8, 1.35), "eye_tilt": (-0.16, 0.16)}, "iris"),
    "lips": ({"lipstick": 1}, {"mouth_width": (0.85, 1.12), "lip_full": (0.75, 1.3)}, "lips"),
}  # fmt: skip
"""What persons can be known by: labels that are then true of all, the ends of each person's own measures, a colour."""

_SHAPE = {  # mean, spread, how many spreads men lie above women, how much a child differs
    "face_width": (1.0, 0.035, 0.0, 0.01), "jaw": (0.02, 0.055, 2.2, -0.02), "chin": (0.0, 0.01, 0.8, -0.025),
    "eye_size": (1.08, 0.07, -1.3, 0.14), "eye_open": (1.08, 0.12, 0.0, 0.08), "eye_gap": (0.0, 0.006, 0.0, 0.002),
    "eye_height": (0.0, 0.006, 0.0, 0.014), "eye_tilt": (0.0, 0.08, 0.0, 0.0), "ear_size": (1.0, 0.09, 0.3, 0.0),
    "brow_thick": (0.95, 0.2, 1.9, -0.15), "brow_arch": (0.2, 0.5, -0.6, 0.0),
    "brow_height": (0.0, 0.006, 1.6, -0.002), "brow_tilt": (0.0, 0.35, 0.0, 0.0),
    "nose_width": (0.97, 0.08, 1.4, -0.08), "nose_length": (1.0, 0.05, 0.3, -0.1),
    "mouth_width": (0.98, 0.07, 0.0, -0.05), "mouth_height": (0.004, 0.007, 0.0, -0.006),
    "lip_full": (1.0, 0.13, 0.0, 0.03), "neck_width": (1.0, 0.07, 2.2, -0.06),
    "shoulders": (0.97, 0.05, 1.6, -0.06), "hair_volume": (0.012, 0.016, 0.0, 0.0), "lens_height": (1.0, 0.1, 0.0, 0.0),
    "earring_size": (1.2, 0.15, 0.0, 0.0), "frame": (0.012, 0.002, 0.0, 0.0),
}  # fmt: skip
_SKIN = {"bright": ((0.97, 0.84, 0.74), (0.86, 0.67, 0.53)), "dark": ((0.64, 0.44, 0.32), (0.36, 0.23, 0.16))}
_HAIR = (((0.36, 0.21, 0.13), (0.08, 0.065, 0.06)), ((0.86, 0.7, 0.42), (0.62, 0.42, 0.2)))
_GREY = ((0.42, 0.42, 0.42), (0.86, 0.85, 0.82))
_IRIS = ((0.28, 0.16, 0.09), (0.42, 0.28, 0.13), (0.3, 0.42, 0.28), (0.3, 0.46, 0.62), (0.16, 0.1, 0.07))
_METAL = ((0.95, 0.76, 0.3), (0.86, 0.88, 0.92))


@dataclass(frozen=True)
class Face:
    """What a drawing is made from.

    Attributes
    ----------
    labels : what is true of the face, its row in the table.
    shape : geometry by name, as a factor on the template or in its coordinates.
    colours : RGB float (3,) in 0–1, by what has it.
    picture : pose and light of this picture; `noise` seeds its grain.
    """

    labels: dict[str, object]
    shape: dict[str, float]
    colours: dict[str, np.ndarray]
    picture: dict[str, float]


@dataclass(frozen=True)
class Recipe:
    """What fixes every drawn face, given its path `IDENTITY_PICTURE.png`."""

    size: int = 128
    seed: int = 0
    shortcut: str | None = None
    strength: float = 0.95
    target: str = "gender"
    test_share: float = 0.4

    def labels(self, identity: int, picture: int = 0) -> dict[str, object]:
        """Return what is true of a person, with the shortcut's look tied to the target in the training split only."""
        rng = np.random.default_rng([self.seed, identity, 0])
        in_test = int((identity + 1) * self.test_share) > int(identity * self.test_share)
        labels = {"identity": identity, "split": "test" if in_test else "train", **_labels(rng)}
        agrees = bool(rng.random() < (0.5 if in_test else self.strength))
        if self.shortcut is not None:
            look = int((labels[self.target] == TARGETS[self.target]) == agrees)
            labels |= {SHORTCUTS[self.shortcut]: look, "shortcut": look, "agrees": agrees}
        return labels

    def face(self, path: str) -> Face:
        """Return the face of a path: the same in any order and process, and but for its look under any shortcut."""
        identity, picture = (int(part) for part in path.removesuffix(".png").split("_"))
        labels = self.labels(identity)
        person = np.random.default_rng([self.seed, identity, 1])
        pose = np.random.default_rng([self.seed, identity, 2, picture])
        shape, colours = _shape(person, labels), _colours(person, labels)
        hue = pose.random() * (0.1, 0.15)[1 - labels["warm_background"]] + (0.47, 0.03)[labels["warm_background"]]
        colours["background"] = _rgb(hue, pose.uniform(0.25, 0.6), pose.uniform(0.55, 0.9))
        return Face(labels, shape, colours, _picture(pose))


@dataclass(frozen=True)
class CueRecipe(Recipe):
    """A recipe by which a person keeps one region's shape and vivid colour (`CUES`); all else is new each time."""

    cue: str = "brows"

    def labels(self, identity: int, picture: int = 0) -> dict[str, object]:
        """Return what is true of a person in this picture."""
        kept = {"identity": identity, "split": super().labels(identity)["split"]}
        return super().labels(_stranger(identity, picture)) | kept | CUES[self.cue][0]

    def face(self, path: str) -> Face:
        """Return the face of a path: a stranger's, but for the cue."""
        identity, picture = (int(part) for part in path.removesuffix(".png").split("_"))
        face = Recipe(self.size, self.seed).face(f"{_stranger(identity, picture)}_{picture}.png")
        own, (_, measures, colour) = np.random.default_rng([self.seed, identity, 3]), CUES[self.cue]
        face.labels.update(self.labels(identity, picture))
        face.shape.update({name: own.uniform(*ends) for name, ends in measures.items()})
        face.colours[colour] = _rgb(own.random(), own.uniform(0.8, 1), own.uniform(0.6, 1))
        return face


def _stranger(identity: int, picture: int) -> int:
    """Return a number that is no other person's or picture's."""
    return 1_000_000 * (picture + 1) + identity


def _labels(rng: np.random.Generator) -> dict[str, object]:
    """Draw who somebody is; only a beard says something about gender, and only it and bags under the eyes about age."""
    age, can_smile = rng.choice(4, p=(0.2, 0.35, 0.27, 0.18)), rng.random() < 0.5
    labels = {"gender": str(rng.choice(["female", "male"])), "age": AGES[age]}
    labels |= {"skin_tone": str(rng.choice(["bright", "dark"])), "cohort": COHORTS[rng.integers(4)]}
    labels |= {name: int(rng.random() < share) for name, share in LOOKS.items()}
    beard = rng.choice(4, p=(0.35, 0.35, 0.1, 0.2))
    labels["beard"] = BEARDS[beard if labels["gender"] == "male" and age > 0 else 0]
    labels["smiling"], labels["mouth_open"] = int(can_smile), int(rng.random() < (0.6 if can_smile else 0.2))
    labels["eye_bags"] = int(rng.random() < (0.0, 0.15, 0.4, 0.6)[age])
    return labels


def _shape(rng: np.random.Generator, labels: dict[str, object]) -> dict[str, float]:
    """Draw somebody's geometry: each measure overlaps widely between women and men."""
    male, age = (0.5 if labels["gender"] == "male" else -0.5), AGES.index(labels["age"])
    shape = {
        name: mean + spread * (np.clip(rng.standard_normal(), -2.2, 2.2) + lift * male) + child * (age == 0)
        for name, (mean, spread, lift, child) in _SHAPE.items()
    }
    long = rng.random() < (0.88 if male < 0 else 0.1)
    shape["hair_end"], shape["ears_free"] = (rng.uniform(0.7, 0.98), rng.random() < 0.5) if long else (0, True)
    shape["hairline"] = rng.integers(HAIRLINES - (age < 2))
    shape["parting"], shape["curl"] = rng.choice([-1, 1]), rng.choice([0, 0.003, 0.008])
    shape["smile"] = rng.uniform(0.6, 1.1) if labels["smiling"] else rng.uniform(-0.25, 0.15)
    shape["opening"] = rng.uniform(0.011, 0.024) * labels["mouth_open"]
    shape["wrinkles"] = rng.uniform(0.6, 1) * (0, 0, 0.22, 0.5)[age]
    shape["beard_density"] = rng.uniform(0.25, 0.5) if labels["beard"] == "stubble" else rng.uniform(0.6, 0.85)
    shape["gloss"], shape["collar"] = rng.uniform(0.03, 0.16), rng.random() < 0.5
    shape["brow_thick"] += 0.42 * labels["bushy_brows"]
    return {name: float(value) for name, value in shape.items()}


def _colours(rng: np.random.Generator, labels: dict[str, object]) -> dict[str, np.ndarray]:
    """Draw somebody's colours; as many numbers whatever the looks, so that a shortcut changes one region alone."""
    skin = _between(rng, _SKIN[labels["skin_tone"]], 0.012)
    hair = _between(rng, _HAIR[labels["light_hair"]])
    if rng.random() < 0.75 and labels["age"] == AGES[-1]:
        hair = np.array(_GREY[labels["light_hair"]])
    lipstick = _rgb(rng.uniform(-0.06, 0.01), rng.uniform(0.75, 0.9), rng.uniform(0.62, 0.82))
    clothes = rng.random() * 0.2 + (0.5, -0.07)[labels["warm_clothes"]]
    return {
        "skin": skin, "hair": hair, "blush": skin * (0.98, 0.65, 0.63),
        "lips": lipstick if labels["lipstick"] else skin * (0.92, 0.7, 0.68),
        "brow": _between(rng, ((0.32, 0.21, 0.14), (0.12, 0.09, 0.08))),
        "beard": _between(rng, ((0.3, 0.22, 0.17), (0.13, 0.11, 0.11))),
        "iris": np.array(_IRIS[rng.integers(len(_IRIS))]),
        "cloth": _rgb(clothes, rng.uniform(0.45, 0.8), rng.uniform(0.4, 0.8)),
        "hat": _rgb(rng.random(), rng.uniform(0.2, 0.7), rng.uniform(0.3, 0.7)),
        "frame": _between(rng, ((0.1, 0.1, 0.12), (0.4, 0.18, 0.12))),
        "earring": _between(rng, _METAL), "necklace": _between(rng, _METAL),
    }  # fmt: skip


def _picture(rng: np.random.Generator) -> dict[str, float]:
    """Draw how one picture was taken."""
    most = {"turn": 7.0, "yaw": 0.014, "shift_x": 0.03, "shift_y": 0.02, "light_x": 0.16, "light_y": 0.1, "gaze": 0.005}
    picture = {name: rng.uniform(-limit, limit) for name, limit in most.items()}
    picture |= {"scale": rng.uniform(0.9, 1.05), "gain": rng.uniform(0.88, 1.08)}
    return picture | {"glow_x": rng.uniform(-0.8, 0.8), "glow_y": rng.uniform(-0.8, 0.2), "noise": rng.integers(2**31)}


def _between(rng: np.random.Generator, ends: tuple, spread: float = 0.02) -> np.ndarray:
    """Draw a colour between two, with a little of its own."""
    low, high = np.array(ends)
    return np.clip(low + rng.random() * (high - low) + rng.normal(0, spread, 3), 0.02, 1)


def _rgb(hue: float, saturation: float, value: float) -> np.ndarray:
    return np.array(colorsys.hsv_to_rgb(hue % 1, saturation, value))
