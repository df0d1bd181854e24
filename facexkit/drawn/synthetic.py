"""The built-in faces: drawn people with exact masks, labels and, if asked, a planted shortcut."""

from __future__ import annotations

import hashlib
import os
import zlib
from collections.abc import Callable, Sequence
from functools import lru_cache, wraps

import numpy as np
import pandas as pd
from PIL import Image

from facexkit.drawn.drawing import Layer, draw, masks_of, picture_of, soft_areas
from facexkit.drawn.people import CUES, SHORTCUTS, TARGETS, CueRecipe, Face, Recipe
from facexkit.errors import FacexkitError, check_known
from facexkit.faces.cache import cache_folder, write_whole
from facexkit.faces.formats import Reading, register_format
from facexkit.faces.masks import JoinedMasks
from facexkit.faces.regions import FACE_DICTIONARY, PARTS, REGIONS

CONCEPTS = tuple(
    name
    for names in FACE_DICTIONARY.values()
    for name in names
    if not name.startswith("AU_") and name not in ("High_Cheekbones", "Double_Chin")
)
"""The local concepts of the Face Dictionary that the drawing has."""
KEPT = 2000
"""Of so many persons pictures and masks are kept, 28 kB a picture of 128×128."""
_VERSION = 2


class DrawnFaces:
    """The pictures of drawn faces, made when they are read."""

    def __init__(self, recipe: Recipe) -> None:
        self.recipe = recipe

    def read(self, path: str) -> Image.Image:
        """Return the RGB picture of a path `IDENTITY_PICTURE.png`."""
        size = self.recipe.size
        return Image.frombytes("RGB", (size, size), _kept(self, path, lambda face, layers: picture_of(layers, face).tobytes()))

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
        check_known("kind of masks", [which], ("regions", "concepts"))
        self.recipe, self.which = recipe, which
        self.names = REGIONS if which == "regions" else CONCEPTS

    @property
    def concepts(self) -> DrawnMasks:
        """The masks of the local concepts of the same faces."""
        return DrawnMasks(self.recipe, "concepts")

    @property
    def both(self) -> JoinedMasks:
        """The masks of the regions and of the local concepts of the same faces; nose and mouth are parts there."""
        return JoinedMasks(DrawnMasks(self.recipe), self.concepts, PARTS)

    def read(self, path: str) -> dict[str, np.ndarray]:
        """Return the masks that the face has, bool (H, W) by name."""
        names, _, bits = _kept(self, path, self._packed).partition(b"\0")
        size, known = self.recipe.size, names.decode().split("\n")
        masks = np.unpackbits(np.frombuffer(bits, np.uint8).reshape(len(known), -1), axis=1, count=size**2)
        return dict(zip(known, masks.view(bool).reshape(-1, size, size), strict=True))

    def _packed(self, face: Face, layers: Sequence[Layer]) -> bytes:
        masks = masks_of(layers)
        masks = masks if self.which == "regions" else _concepts(face, masks, self.recipe.size)
        return "\n".join(masks).encode() + b"\0" + np.packbits([mask.ravel() for mask in masks.values()], axis=1).tobytes()

    def digest(self, path: str) -> bytes:
        """Return bytes that change with anything that the masks are made from."""
        return DrawnFaces(self.recipe).digest(path) + self.which.encode()


@lru_cache(maxsize=4)
def _drawn(recipe: Recipe, path: str) -> tuple[Face, tuple[Layer, ...]]:
    """Return a face and its layers; kept for a moment, because picture and masks are read one after the other."""
    face = recipe.face(path)
    return face, draw(face, recipe.size)


def _kept(source: DrawnFaces | DrawnMasks, path: str, make: Callable[[Face, Sequence[Layer]], bytes]) -> bytes:
    """Return what `make` makes of a face; of the first persons it is kept in a run's cache, which is read ten times as fast."""
    if "FACEXKIT_CACHE" not in os.environ or int(path.partition("_")[0]) >= KEPT:
        return make(*_drawn(source.recipe, path))
    file = cache_folder() / "drawn" / source.digest(path).hex()
    if file.is_file():
        return zlib.decompress(file.read_bytes())
    content = make(*_drawn(source.recipe, path))
    write_whole(file, zlib.compress(content, 1))
    return content


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
    identities: int | None = None,
    cue: str | None = None,
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
    identities : persons of both splits together, in the place of `count`.
    cue : of `CUES`, the region whose shape and colour alone tell persons apart, as all else is new in every picture.
        None: a person keeps everything but pose, light and background.

    Raises
    ------
    FacexkitError : an unknown shortcut, split or target; a number out of range; a shortcut that is the target itself.
    """
    asked = size, seed, shortcut, strength, target, test_share
    recipe = Recipe(*asked) if cue is None else CueRecipe(*asked, cue)
    count = count if identities is None else identities * pictures_per_identity
    _check(recipe, count, split, pictures_per_identity)
    people = -(-count // pictures_per_identity)
    table = pd.DataFrame(
        {"path": f"{identity:06d}_{picture}.png", **recipe.labels(identity, picture)}
        for identity in range(people)
        for picture in range(pictures_per_identity)
    )[:count]
    if split is not None:
        table = table[table.split == split].reset_index(drop=True)
    return table, DrawnFaces(recipe), DrawnMasks(recipe)


def _check(recipe: Recipe, count: int, split: str | None, pictures_per_identity: int) -> None:
    check_known("split", [] if split is None else [split], ("train", "test"))
    check_known("cue", [recipe.cue] if isinstance(recipe, CueRecipe) else [], CUES)
    if isinstance(recipe, CueRecipe) and recipe.shortcut is not None:
        raise FacexkitError("a shortcut is tied to persons' labels, which a cue draws anew; give one of them")
    if recipe.shortcut is not None:
        check_known("shortcut", [recipe.shortcut], SHORTCUTS)
        check_known("two-valued label to tie a shortcut to", [recipe.target], TARGETS)
        if SHORTCUTS[recipe.shortcut] == recipe.target:
            raise FacexkitError(f"{recipe.shortcut!r} shows the target {recipe.target!r} itself; choose another")
    for name, value, low, high in (
        ("count", count, 1, 1_000_000), ("size", recipe.size, 16, 2048), ("strength", recipe.strength, 0, 1),
        ("pictures_per_identity", pictures_per_identity, 1, 1000), ("test_share", recipe.test_share, 0, 1),
        ("seed", recipe.seed, 0, 2**63),
    ):  # fmt: skip
        if not low <= value <= high:
            raise FacexkitError(f"{name} = {value} of the synthetic faces lies outside {low} to {high}")


def _concepts(face: Face, regions: dict[str, np.ndarray], size: int) -> dict[str, np.ndarray]:
    """Return the local Face Dictionary concepts that the face shows, bool (H, W) by name."""
    none, labels, shape = np.zeros((size, size), bool), face.labels, face.shape
    part = {name: regions.get(name, none) for name in REGIONS}
    soft = {name: (area > 0.3) & part["skin"] for name, area in soft_areas(face, size).items()}
    brows, eyes, lips = part["l_brow"] | part["r_brow"], part["l_eye"] | part["r_eye"], part["u_lip"] | part["l_lip"]
    mouth, jaw, cheeks = lips | part["mouth"], soft["jaw"] | soft["mustache"], soft["left_cheek"] | soft["right_cheek"]
    shown = {
        "left_brow": (part["l_brow"], True), "right_brow": (part["r_brow"], True),
        "left_eye": (part["l_eye"], True), "right_eye": (part["r_eye"], True),
        "Arched_Eyebrows": (brows, shape["brow_arch"] > 0.5), "Bushy_Eyebrows": (brows, labels["bushy_brows"]),
        "Eyeglasses": (part["eye_g"], True), "Narrow_Eyes": (eyes, shape["eye_open"] < 1.0),
        "left_cheek": (soft["left_cheek"], True), "right_cheek": (soft["right_cheek"], True),
        "Bags_Under_Eyes": (soft["bags"], labels["eye_bags"]), "Rosy_Cheeks": (cheeks, labels["rosy_cheeks"]),
        "No_Beard": (jaw, labels["beard"] == "none"), "5_o_Clock_Shadow": (jaw, labels["beard"] == "stubble"),
        "nose": (part["nose"], True), "Big_Nose": (part["nose"], shape["nose_width"] > 1.04),
        "Pointy_Nose": (part["nose"], shape["nose_width"] < 0.89), "mouth": (mouth, True),
        "Big_Lips": (lips, shape["lip_full"] > 1.12), "Mouth_Slightly_Open": (mouth, labels["mouth_open"]),
        "Mustache": (soft["mustache"], labels["beard"] in ("goatee", "full")), "Smiling": (mouth, labels["smiling"]),
        "Wearing_Lipstick": (lips, labels["lipstick"]), "Goatee": (soft["goatee"], labels["beard"] == "goatee"),
    }  # fmt: skip
    return {name: mask for name, (mask, present) in shown.items() if present and mask.any()}


@register_format("synthetic")
@wraps(synthetic_faces)
def read_synthetic(target: str = "gender", **options: object) -> Reading:
    """The built-in drawn faces."""
    return Reading(*synthetic_faces(target=target, **options), target=target)
