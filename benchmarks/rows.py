"""What is timed: each row is a function that makes ready, and returns the work on one batch."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from functools import lru_cache, partial
from itertools import cycle
from pathlib import Path
from tempfile import TemporaryDirectory

import cv2
import numpy as np
import pandas as pd
import torch
import torchvision

import facexkit as fx
from benchmarks.files import FILE_ROWS
from benchmarks.plain_fineface import PlainFineFace, plain_step
from benchmarks.setting import CONCEPTS, Row, Setting
from facexkit.faces.faceset import FaceBatch
from facexkit.faces.mask_view import MaskView
from facexkit.measure.candidates import Candidates
from facexkit.measure.facex import HighImpactPatches, RegionScores
from facexkit.measure.iou_tally import IoUTally
from facexkit.measure.per_image import Outputs
from facexkit.models.face_model import FaceModel
from facexkit.probe.accumulator import Accumulator, Attributed
from facexkit.probe.attribution import attribute
from facexkit.probe.hooks import capture
from facexkit.probe.options import PassOptions
from facexkit.probe.run import run
from facexkit.systems.fairface import ActivationFiles, Activations, both_models, predictions, write_predictions
from facexkit.systems.fineface import FineFace
from facexkit.systems.fineface_training import five_steps, optimizer_of

QUIET = PassOptions(progress=False)


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
        return [make(Attributed("layer4", t), paths, size) for t in targets for make in (RegionScores, HighImpactPatches)]

    decoded = Decoded(setting, accumulators())
    return lambda: run(setting.model, decoded, accumulators(), QUIET)


def dissection(setting: Setting) -> Callable[[], object]:
    """Thresholds and tally as `dissect` makes them in one pass: layer4, eight concepts, counted at 224×224."""
    paths, view = setting.faces.table.path.to_numpy(object), MaskView(CONCEPTS, setting.model.image_size)

    def first_pass() -> Candidates:
        return Candidates("layer4", paths, 0.005, view, 1 << 30)

    decoded = Decoded(setting, [first_pass()])

    def work() -> None:
        candidates = first_pass()
        run(setting.model, decoded, [candidates], QUIET)
        seen = candidates.result()
        tally = IoUTally("layer4", seen.threshold.to_numpy(), view, paths, "labelled", 4, candidates.exchange())
        candidates.replay(tally)
        tally.result()

    return work


def plain_dissection(setting: Setting) -> Callable[[], int]:
    """The same loop as one would write it down with numpy and OpenCV: an image at a time, all maps kept, on 8 faces."""
    few, view = setting.faces[:8], MaskView(CONCEPTS, setting.model.image_size)
    batches = list(few.batches(view.size, 1, [view], workers=0))

    def work() -> int:
        maps = []
        for batch in batches:
            with torch.no_grad(), capture(setting.model, ["layer4"], stop=True) as taken:
                setting.model(setting.model.prepare(batch.images))
            maps.append(taken["layer4"][0].numpy())
        stacked = np.stack(maps)
        thresholds = np.quantile(stacked.transpose(1, 0, 2, 3).reshape(stacked.shape[1], -1), 0.995, axis=1)
        tally = np.zeros((2, len(thresholds), len(CONCEPTS)))
        for image, batch in zip(stacked, batches, strict=True):
            masks = batch.masks[view][0].numpy()
            for unit, threshold in enumerate(thresholds):
                active = cv2.resize(image[unit], (view.size, view.size)) > threshold
                for concept, mask in enumerate(masks):
                    tally[:, unit, concept] += (active & mask).sum(), (active | mask).sum()
        return len(batches)

    return work


@lru_cache
def fairface_models() -> list[FaceModel]:
    """Two random networks of FairFace's shape."""
    return [fx.load_model("torchvision:resnet34", num_classes=18, seed=seed, device="cpu") for seed in (7, 4)]


def two_bare_forwards(setting: Setting) -> Callable[[], object]:
    """Both networks alone on prepared, channels-last inputs."""
    inputs = [fairface_models()[0].prepare(batch.images) for batch in Decoded(setting, []).decoded]

    def work() -> None:
        with torch.inference_mode():
            for images in inputs:
                for model in fairface_models():
                    model.network(images)

    return work


def fairface(setting: Setting) -> Callable[[], object]:
    """Predictions of both models and the activations of avgpool in one pass, all four files written."""
    decoded = Decoded(setting, [])
    (both, races), paths = both_models(*fairface_models()), setting.faces.table.path.to_numpy(object)

    def work() -> None:
        with TemporaryDirectory() as folder:
            outputs = Outputs()
            files = ActivationFiles(Path(folder, "fairface_activations"))
            run(both, decoded, [outputs, Activations("7.avgpool", paths, True, files.write)], QUIET)
            files.close()
            write_predictions(predictions(*outputs.result(), races, paths), Path(folder, "test_outputs"))

    return work


def plain_fairface(setting: Setting) -> Callable[[], int]:
    """Fairface-Activations' script on 8 faces: an image at a time, one network twice, a table that is appended to."""
    seven, four = (torchvision.models.resnet34(num_classes=18).eval() for _ in range(2))
    taken: dict[str, torch.Tensor] = {}
    seven.avgpool.register_forward_hook(lambda _module, _inputs, output: taken.update(avgpool=output.detach()))
    images = [fairface_models()[0].prepare(b.images).contiguous() for b in setting.faces[:8].batches(224, 1, workers=0)]

    def softmax(x: np.ndarray) -> np.ndarray:
        return np.exp(x) / np.exp(x).sum()

    def work() -> int:
        activations, rows = pd.DataFrame([], columns=["image_paths", *range(512)]), []
        for image in images:
            with torch.no_grad():
                seven(image)
            activations.loc[len(activations)] = ["face.jpg", *taken["avgpool"].squeeze().tolist()]
            out = seven(image).detach().numpy()[0]
            rows.append([softmax(out[:7]), softmax(out[7:9]), softmax(out[9:18])])
            rows[-1].append(softmax(four(image).detach().numpy()[0, :4]))
        with TemporaryDirectory() as folder:
            activations.to_csv(Path(folder, "fairface_activations.csv"))
            pd.DataFrame(rows).to_csv(Path(folder, "test_outputs.csv"))
        return len(images)

    return work


def fineface_step(_: Setting, plain: bool = False) -> Callable[[], int]:
    """The five steps of FineFACE on two faces at the paper's shape, ResNet-50 at 448×448; crops chosen in turn."""
    torch.manual_seed(0)
    network = PlainFineFace() if plain else FineFace(torchvision.models.resnet50(), 2)
    images, labels, choices = torch.randn(2, 3, 448, 448), torch.tensor([0, 1]), cycle([(0, 1), (2, 0), (1, 2)])
    if not plain:
        network, images = (each.to(memory_format=torch.channels_last) for each in (network, images))
    optimizer = torch.optim.SGD(network.parameters(), 0.0002, 0.9, weight_decay=5e-4)
    optimizer = optimizer if plain else optimizer_of(network, (0.0002, 0.0002))

    def work() -> int:
        (plain_step if plain else five_steps)(network.train(), images, labels, optimizer, next(choices))
        return len(images)

    return work


ROWS = [
    Row("bare ResNet-18", bare_forward),
    Row("Grad-CAM at layer4", grad_cam),
    Row("region scores and patches at layer4", region_scores, limit=1.3),
    Row("region scores and patches, two classes", region_scores_of_two),
    Row("dissection at layer4, 8 concepts", dissection, limit=1.25),
    Row("dissection, plain numpy and OpenCV", plain_dissection),
    Row("two bare ResNet-34", two_bare_forwards),
    Row("FairFace: predictions and activations", fairface, limit=1.2, beside="two bare ResNet-34"),
    Row("FairFace, plain loop with hooks", plain_fairface, beside="two bare ResNet-34"),
    Row("FineFACE step, plain version", partial(fineface_step, plain=True), beside="FineFACE step, plain version"),
    Row("FineFACE step, ResNet-50 at 448×448", fineface_step, limit=0.8, beside="FineFACE step, plain version"),
    *FILE_ROWS,
]
"""Add a row, and it is timed and printed."""


def setting(faces: int, batch_size: int) -> Setting:
    """Return a random ResNet-18 at 224×224 and drawn faces."""
    return Setting(
        fx.load_model("torchvision:resnet18", num_classes=2, device="cpu"),
        fx.load_faces("synthetic", limit=faces),
        batch_size,
    )
