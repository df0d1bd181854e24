"""What is timed: each row is a function that makes ready, and returns the work on one batch."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass

import torch

import facexkit as fx
from facexkit.faces.faceset import FaceBatch, FaceSet
from facexkit.measure.facex import HighImpactPatches, RegionScores
from facexkit.models.face_model import FaceModel
from facexkit.probe.accumulator import Accumulator
from facexkit.probe.attribution import attribute
from facexkit.probe.stream import stream


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
    prepare : setting → the work, which shows every face once.
    limit : most that it may take, as a multiple of the row `beside`; None where there is no limit.
    beside : name of the row that it is compared with.
    """

    name: str
    prepare: Callable[[Setting], Callable[[], object]]
    limit: float | None = None
    beside: str = "bare ResNet-18"


class Decoded:
    """A face set whose batches are in memory, so that decoding is not timed."""

    def __init__(self, setting: Setting, accumulators: list[Accumulator]) -> None:
        views = list(dict.fromkeys(view for a in accumulators for view in a.masks))
        self.name, self.table = setting.faces.name, setting.faces.table
        self.decoded = list(setting.faces.batches(setting.model.image_size, setting.batch_size, views))

    def __len__(self) -> int:
        return len(self.table)

    def batches(self, *_how: object, **_more: object) -> Iterator[FaceBatch]:
        """Yield the batches."""
        yield from self.decoded


def bare_forward(setting: Setting) -> Callable[[], object]:
    """The network alone on prepared, channels-last inputs: no normalization, no hook, no gradient."""
    inputs = [setting.model.prepare(batch.images) for batch in Decoded(setting, []).decoded]

    def work() -> None:
        with torch.inference_mode():
            for images in inputs:
                setting.model.network(images)

    return work


def grad_cam(setting: Setting) -> Callable[[], object]:
    """Attribution maps at layer4 for one class, from prepared inputs."""
    inputs = [setting.model.prepare(batch.images) for batch in Decoded(setting, []).decoded]
    return lambda: [attribute(setting.model, "layer4", images, [1]) for images in inputs]


def region_scores(setting: Setting) -> Callable[[], object]:
    """The pass as `score_regions` runs it, from bytes in memory: maps, scores and patches at layer4 for one class."""
    return _passes(setting, [1])


def region_scores_of_two(setting: Setting) -> Callable[[], object]:
    """The same for two classes from one pass."""
    return _passes(setting, [0, 1])


def _passes(setting: Setting, targets: list[int]) -> Callable[[], object]:
    paths, size = setting.faces.table.path.to_numpy(object), setting.model.image_size

    def accumulators() -> list[Accumulator]:
        return [make("layer4", t, paths, size) for t in targets for make in (RegionScores, HighImpactPatches)]

    decoded = Decoded(setting, accumulators())
    return lambda: stream(setting.model, decoded, accumulators(), progress=False)


ROWS = [
    Row("bare ResNet-18", bare_forward),
    Row("Grad-CAM at layer4", grad_cam),
    Row("region scores and patches at layer4", region_scores, limit=1.3),
    Row("region scores and patches, two classes", region_scores_of_two),
]
"""Add a row, and it is timed and printed."""


def setting(faces: int, batch_size: int) -> Setting:
    """Return a random ResNet-18 at 224×224 and drawn faces."""
    return Setting(
        fx.load_model("torchvision:resnet18", num_classes=2, device="cpu"),
        fx.load_faces("synthetic", limit=faces),
        batch_size,
    )
