"""What is shared by everything that is timed: the faces, the model, and what a row is."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from facexkit.faces.faceset import FaceSet
from facexkit.models.face_model import FaceModel

CONCEPTS = ("l_eye", "r_eye", "l_brow", "r_brow", "nose", "u_lip", "l_lip", "hair")


@dataclass
class Setting:
    """The faces, decoded before any clock runs, and the model that all rows share."""

    model: FaceModel
    faces: FaceSet
    batch_size: int


@dataclass(frozen=True)
class Row:
    """One line of the table.

    Attributes
    ----------
    name : what is done.
    prepare : setting → the work, which shows every face once, or returns how many it showed.
    limit : most that it may take, as a multiple of the row `beside`; None where there is no limit.
    beside : name of the row that it is compared with.
    """

    name: str
    prepare: Callable[[Setting], Callable[[], object]]
    limit: float | None = None
    beside: str = "bare ResNet-18"
