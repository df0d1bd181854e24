"""Ways to repair a model, each with a control that does the same without what it rests on."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Iterator, Mapping, Sequence
from copy import copy, deepcopy
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

import numpy as np
import pandas as pd
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from facexkit.errors import FacexkitError, check_known
from facexkit.faces.faceset import FaceSet
from facexkit.faces.regions import UNIONS
from facexkit.measure.dissection import dissect
from facexkit.measure.groups import group_labels
from facexkit.measure.iou_tally import detectors
from facexkit.measure.per_image import Outputs
from facexkit.measure.recording import record
from facexkit.mend.lessons import Lessons
from facexkit.models.face_model import FaceModel
from facexkit.models.training import Checkpoint, teach
from facexkit.models.unit_map import put_map
from facexkit.models.weights import seeded
from facexkit.probe.edits import ablation
from facexkit.probe.options import PassOptions
from facexkit.probe.progress import progress_bar
from facexkit.probe.run import run
from facexkit.registry import Registry

DRAWS, DECAY = 10, 1e-2
"""Balanced sets over which a refitted head is averaged, and the weight decay of each fit."""


@dataclass
class Task:
    """What is to be repaired, on which faces: every argument of `repair` that a method may want.

    Attributes
    ----------
    classes : int64 (N,), the true class of each of the faces to train on.
    layers : as given to `repair`. by : the group column, "" where there is none.
    """

    model: FaceModel
    faces: FaceSet
    classes: np.ndarray
    regions: tuple[str, ...]
    layers: Sequence[str] | Mapping[str, Sequence[int]] | None
    by: str
    epochs: int
    rate: float
    seed: int
    folder: Path | None
    how: PassOptions

    @cached_property
    def groups(self) -> np.ndarray:
        """Which group each face is in, int64 (N,); −1 without one."""
        labels = group_labels(self.faces.table, self.by)
        return pd.Index(sorted({*labels} - {""})).get_indexer(labels)

    def twin(self) -> FaceModel:
        """Return a model of the same weights, which may be changed."""
        twin = copy(self.model)
        vars(twin).pop("layers", None)
        twin.network = deepcopy(self.model.network)
        return twin

    def units(self, model: FaceModel) -> np.ndarray:
        """Return what goes into the model's last layer, float64 (N, U)."""
        bare, (name, head) = copy(model), head_of(model)
        bare.network, bare._class_names = deepcopy(model.network), None
        parent, _, own = name.rpartition(".")
        setattr(bare.network.get_submodule(parent), own, getattr(head, "map_in", nn.Identity()))
        run(bare, self.faces, [outputs := Outputs()], self.how)
        return outputs.result()[1]


class RepairMethod(ABC):
    """A way to repair: called with a task it returns a changed model, or with `control` what it is compared with.

    Attributes
    ----------
    wants : of "masks", "groups" and "gradients", what it cannot do without.
    """

    wants: tuple[str, ...] = ()

    def check(self, task: Task) -> None:
        """Raise the error for a task that it cannot do, before any work."""

    @abstractmethod
    def __call__(self, task: Task, control: bool) -> FaceModel:
        """Return the repaired model, or the one that took the same steps without what the repair rests on."""


REPAIRS: Registry[type[RepairMethod]] = Registry("repair method", "facexkit.repairs")


@REPAIRS.register("exchange")
class Exchange(RepairMethod):
    """Train on with its own labels while the regions are a random other face's; the control: while they are its own."""

    wants = ("masks", "gradients")

    def check(self, task: Task) -> None:
        check_known("layer", task.layers or (), dict(task.model.network.named_modules()))

    def __call__(self, task: Task, control: bool) -> FaceModel:
        twin, lessons, regions = task.twin(), Lessons(task.faces, task.classes), () if control else task.regions
        for name, weight in twin.network.named_parameters():
            inside = task.layers is None or any(f"{name}.".startswith(f"{layer}.") for layer in task.layers)
            weight.requires_grad_(inside and weight.is_floating_point())
        batch = min(task.how.batch_size, len(lessons))
        course = task.epochs, len(lessons) // batch, task.rate
        meaning = task.model.meaning.settled(task.model.try_out())
        likely = meaning.likely or meaning.kind == "binary"

        def loss(images: Tensor, classes: Tensor) -> Tensor:
            outputs = twin(twin.prepare(images))
            return F.nll_loss(meaning.probabilities(outputs).clamp_min(1e-7).log(), classes) if likely else F.cross_entropy(outputs, classes)

        def shown(epoch: int) -> Iterator[tuple[Tensor, Tensor]]:
            said = f"{twin.name}, {'control' if control else 'repair'}, epoch {epoch + 1}/{task.epochs}"
            bar = progress_bar(task.how.progress, total=course[1], desc=said, unit="batch")
            with bar as bar, seeded(task.seed + epoch, twin.device.type == "cuda"):
                for images, classes in lessons.epoch(epoch, regions, batch, task.seed):
                    yield images, classes.to(twin.device)
                    bar.update(1)

        recipe = course, batch, task.seed, regions, task.layers, task.faces.fingerprint()
        file = None if task.folder is None else Path(task.folder, f"{'_'.join(regions) or 'control'}.checkpoint.pt")
        teach(twin.network, loss, shown, course, file and Checkpoint(file, twin.network, *recipe))
        twin.network.requires_grad_(False)
        return twin


@REPAIRS.register("last_layer")
class LastLayer(RepairMethod):
    """Refit the last layer on sets with equally many faces of each class in each group; the control: on random sets.

    Deep feature reweighting (Kirichenko et al., ICLR 2023): logistic regression on the last layer's standardized inputs,
    averaged over ten sets.
    """

    wants = ("groups",)

    def check(self, task: Task) -> None:
        head_of(task.model)

    def __call__(self, task: Task, control: bool) -> FaceModel:
        twin, dice, fits = task.twin(), np.random.default_rng(task.seed), []
        units, head = torch.from_numpy(task.units(task.model)), head_of(twin)[1]
        every = np.flatnonzero(task.groups >= 0)
        mean, spread = units[every].mean(0), units[every].std(0).clamp_min(1e-6)
        _, cell = np.unique(np.stack([task.groups, task.classes])[:, every], axis=1, return_inverse=True)
        rows = [every[cell == place] for place in range(cell.max() + 1)]
        least = min(map(len, rows))
        for _ in range(DRAWS):
            even = np.concatenate([dice.choice(own, least, replace=False) for own in rows])
            chosen = dice.choice(every, len(even), replace=False) if control else even
            fits.append(_logistic((units[chosen] - mean) / spread, torch.from_numpy(task.classes[chosen]), head.out_features))
        weight, bias = (torch.stack(parts).mean(0) for parts in zip(*fits, strict=True))
        with torch.no_grad():
            head.weight.copy_(weight / spread)
            head.bias.copy_(bias - (weight / spread) @ mean)
        return twin


@REPAIRS.register("erase")
class Erase(RepairMethod):
    """Map a layer's units so that no linear classifier finds the group; the control: a random group of the same sizes.

    LEACE (Belrose et al., NeurIPS 2023): x − W⁺PW(x − μ), W = Σ_xx^(−1/2), P the projection onto the columns of WΣ_xz, with z
    the group. Faces are weighted so that class and group are independent, else what tells the class would go too.
    Without `layers` the units are the last layer's inputs; else the mean of each of a layer's maps.
    """

    wants = ("groups",)

    def check(self, task: Task) -> None:
        for layer in task.layers or ():
            task.model.layer(layer)
        if not task.layers:
            head_of(task.model)

    def __call__(self, task: Task, control: bool) -> FaceModel:
        twin, dice = task.twin(), np.random.default_rng(task.seed)
        for layer in task.layers or (head_of(twin)[0],):
            if task.layers:
                units, place = record(twin, task.faces, [layer], **vars(task.how))[layer]["mean"].to_numpy(), "map_out"
            else:
                units, place = task.units(twin), "map_in"
            known = task.groups >= 0
            own = dice.permutation(task.groups[known]) if control else task.groups[known]
            found = leace(units[known].astype(float), own, task.classes[known])
            put_map(twin.network, layer, place, *(torch.from_numpy(part).float().to(twin.device) for part in found))
        return twin


@REPAIRS.register("ablate")
class Ablate(RepairMethod):
    """Switch units off for good: those named by layer, or those of the layers that detect the regions.

    The control: as many random other units.
    """

    def check(self, task: Task) -> None:
        if not task.layers:
            raise FacexkitError("ablate needs layers=: names, of which the detectors of the region go, or {layer: units}")
        if isinstance(task.layers, Mapping):
            for layer, units in task.layers.items():
                ablation(task.model, layer, units)
        elif task.faces.masks is None:
            raise FacexkitError(f"{task.faces.name!r} has no masks to find detectors by; name the units: layers={{layer: units}}")
        else:
            for layer in task.layers:
                task.model.layer(layer, places=True)

    def __call__(self, task: Task, control: bool) -> FaceModel:
        twin, dice = task.twin(), np.random.default_rng(task.seed)
        for layer, units in self._units(task).items():
            count = int(task.model.layers.units[layer])
            if control:
                units = dice.permutation(np.setdiff1d(np.arange(count), units))[: len(units)]
            kept = torch.ones(count, device=twin.device)
            kept[torch.tensor(np.array(units, np.int64))] = 0
            put_map(twin.network, layer, "map_out", torch.diag(kept), torch.zeros_like(kept))
        return twin

    @staticmethod
    def _units(task: Task) -> Mapping[str, Sequence[int]]:
        if isinstance(task.layers, Mapping):
            return task.layers
        wanted = {*task.regions} | {union for union, parts in UNIONS.items() if {*parts} & {*task.regions}}
        found, size = {}, min(112, task.model.preprocess.side)
        for layer in task.layers:
            seen = dissect(task.model, task.faces, layer, mask_size=size, **vars(task.how))
            found[layer] = np.flatnonzero(detectors(seen) & seen.best_concept.isin([*wanted])).tolist()
        if not any(found.values()):
            raise FacexkitError(f"no unit of {', '.join(found)} detects {' or '.join(task.regions)}; name units, or other layers")
        return {layer: units for layer, units in found.items() if units}


def head_of(model: FaceModel) -> tuple[str, nn.Linear]:
    """Return the name and the module of a model's last layer, if that is linear; else an error."""
    linear = [(name, module) for name, module in model.network.named_modules() if isinstance(module, nn.Linear)]
    if not linear or linear[-1][1].out_features != len(model.class_names) or linear[-1][1].bias is None:
        raise FacexkitError(f"{model.name!r} does not end in a linear layer with an output for each class")
    return linear[-1]


def leace(units: np.ndarray, groups: np.ndarray, classes: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Return A and b of the map x ↦ A·x + b after which no linear classifier finds the group; see `Erase`.

    Parameters
    ----------
    units : float (N, U). groups, classes : int (N,), from 0.
    """
    joint = np.zeros((groups.max() + 1, classes.max() + 1))
    np.add.at(joint, (groups, classes), 1 / len(units))
    weights = (joint.sum(1)[groups] * joint.sum(0)[classes] / joint[groups, classes])[:, None]
    weights /= weights.sum()
    mean, z = (weights * units).sum(0), np.eye(groups.max() + 1)[groups]
    x, z = units - mean, z - (weights * z).sum(0)
    values, vectors = np.linalg.eigh((weights * x).T @ x)
    roots = np.sqrt(np.where(values > 1e-10 * values.max(), values, np.inf))
    whiten, back = (vectors / roots) @ vectors.T, (vectors * np.where(np.isfinite(roots), roots, 0)) @ vectors.T
    left, sizes, _ = np.linalg.svd(whiten @ (weights * x).T @ z, full_matrices=False)
    left = left[:, sizes > 1e-10]
    gone = back @ left @ left.T @ whiten
    return np.eye(len(mean)) - gone, gone @ mean


def _logistic(x: Tensor, classes: Tensor, outputs: int) -> tuple[Tensor, Tensor]:
    """Return the weights (outputs, U) and biases of a logistic regression with decay."""
    weight, bias = (torch.zeros(shape, dtype=x.dtype, requires_grad=True) for shape in ((outputs, x.shape[1]), (outputs,)))
    solver = torch.optim.LBFGS([weight, bias], max_iter=200, line_search_fn="strong_wolfe")

    def lost() -> Tensor:
        solver.zero_grad()
        loss = F.cross_entropy(F.linear(x, weight, bias), classes) + DECAY * weight.square().sum() / 2
        loss.backward()
        return loss

    solver.step(lost)
    return weight.detach(), bias.detach()
