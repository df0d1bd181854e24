"""Teaching FineFACE: five steps a batch; and a plain network of the same backbone and budget, to compare with."""

from __future__ import annotations

import io
import json
import math
import os
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path

import numpy as np
import pandas as pd
import torch
import torch.distributed as dist
import torch.nn.functional as F
from PIL import Image
from safetensors.torch import save
from torch import Tensor, nn
from torch.nn.parallel import DistributedDataParallel
from tqdm.auto import tqdm

from facexkit.errors import FacexkitError, unknown
from facexkit.faces.cache import write_whole
from facexkit.faces.faceset import FaceSet, ImageSource
from facexkit.models.face_model import FaceModel, pick_device
from facexkit.models.fineface import (
    IMAGE_SIZE, PARTS, STAGES, WIDTHS, BothPasses, FineFace, backbone_network, boxes, crop,
)  # fmt: skip
from facexkit.models.loading import replace_head
from facexkit.models.weights import load_weights, seeded

STEPS = ("expert3", "expert2", "expert1", "crops", "concat")
RESIZED, PADDING = 460 / 448, 8 / 448
KEPT = 1 << 30
MOST_SKIPPED = 0.01


@dataclass(frozen=True)
class Course:
    """How a network is taught; the defaults are the paper's.

    Pictures are resized to 460/448 of the image size, padded by 8/448, cropped at random, mirrored or not. `rates` are
    those of new layers and backbone at the start of a cosine over the epochs; `batch_size` is that of each process.
    """

    epochs: int = 25
    batch_size: int = 16
    image_size: int = IMAGE_SIZE
    rates: tuple[float, float] = (0.002, 0.0002)
    seed: int = 0

    def __post_init__(self) -> None:
        if self.epochs < 1 or self.batch_size < 2 or self.image_size < 32:
            raise FacexkitError("a training takes epochs of at least 1, batch_size of 2 and image_size of 32")


def train_fineface(
    faces: FaceSet,
    target: str | None = None,
    *,
    out: str | Path,
    backbone: str | nn.Module = "resnet50",
    weights: str | Path | None = "imagenet",
    stages: Sequence[str] = STAGES,
    widths: Sequence[int] = WIDTHS,
    plain: bool = False,
    device: str = "auto",
    **course: object,
) -> FaceModel:
    """Teach FineFACE a label on the split "train"; return the epoch with the best prediction on validation faces.

    SGD with momentum 0.9 and weight decay 5e-4; see `five_steps` and `Course`. Validation faces are the split "val" of a
    set that has a split "test" too, else a tenth of the training faces. In `out`: `history.csv`, `best.safetensors` and
    `checkpoint.pt`, from which the same call goes on after an interruption, to the same weights. Mixed precision on
    CUDA devices with bfloat16; under `torchrun` one process a device.

    Parameters
    ----------
    target : label column; the set's own by default. Faces without a value are left out.
    backbone, stages, widths : a torchvision network's name, "demo", or a module; see `FineFace`.
    weights : the backbone's: "imagenet" (random with a warning where that cannot be downloaded), a file, or None.
    plain : teach the backbone alone, with as many steps: five a batch, each on other random views.
    course : epochs, batch_size, image_size, rates, seed; see `Course`.

    Returns
    -------
    FaceModel of the sum of four outputs; `both_passes` makes one of all eight.

    Raises
    ------
    FacexkitError for a target without two classes, fewer faces than a batch, or `out` of another training.
    """
    if unlike := course.keys() - Course.__dataclass_fields__.keys():
        raise unknown("setting of a training", min(unlike), Course.__dataclass_fields__)
    how = Course(**course)
    pupils, examinees, classes = _splits(faces, faces.target if target is None else target, how)
    name = backbone if isinstance(backbone, str) else type(backbone).__name__
    with seeded(how.seed):
        network = backbone_network(backbone, weights, how.seed) if isinstance(backbone, str) else backbone
        if plain:
            replace_head(network, len(classes))
        else:
            network = FineFace(network, len(classes), stages, widths)
    rank, world, place = _process(device)
    network = network.requires_grad_().to(place, memory_format=torch.channels_last)
    recipe = json.dumps([repr(how), str(network), str(weights), world, pupils.fingerprint(), examinees.fingerprint()])
    _Training(network, how, classes, Path(out), recipe, rank, world).run(pupils, examinees)
    load_weights(network, Path(out, "best.safetensors"))
    return FaceModel(
        network, name=f"plain {name}" if plain else f"fineface:{name}", image_size=how.image_size, mean=(0.5,) * 3,
        std=(0.5,) * 3, class_names=classes, output=None if plain else "sum", device=str(place),
    )  # fmt: skip


def five_steps(
    network: nn.Module, images: Tensor, labels: Tensor, optimizer: torch.optim.Optimizer, choices: Sequence[int]
) -> tuple[list[Tensor], Tensor]:
    """Descend five times on a batch; return the losses in the order of `STEPS`, and the concatenation's logits.

    Expert 3 on the images; expert 2 on the attention crops of expert 3, of expert 1, or the images, by choices[0];
    expert 1 on those of expert 3, of expert 2, or the images, by choices[1]; all on the overall-attention crops, with
    CE1 + CE2 + CE3 + 2·CEconcat; the concatenation on the images, with 2·CE. The attention is that of the first step's
    forward pass, and each step runs only what its loss needs.
    """
    losses, size = [], images.shape[-1]

    def descend(shown: Tensor, weights: dict[str, int], attend: bool = False) -> dict:
        out = _descend(optimizer, lambda: network(shown, tuple(weights), attend), labels, weights)
        losses.append(out.pop("loss"))
        return out

    def view(choice: int, others: Sequence[Tensor]) -> Tensor:
        return images if choice == 2 else crop(images, boxes([others[choice]], size))

    one, two, three = maps = descend(images, {"expert3": 1}, attend=True)["maps"]
    descend(view(choices[0], (three, one)), {"expert2": 1})
    descend(view(choices[1], (three, two)), {"expert1": 1})
    descend(crop(images, boxes(maps, size)), dict(zip(PARTS, (1, 1, 1, 2), strict=True)))
    return losses, descend(images, {"concat": 2})["concat"]


def _descend(optimizer: torch.optim.Optimizer, run: Callable[[], dict], labels: Tensor, weights: dict[str, int]) -> dict:
    modern = labels.is_cuda and torch.cuda.get_device_capability(labels.device)[0] >= 8
    optimizer.zero_grad()
    with torch.autocast(labels.device.type, torch.bfloat16, enabled=modern):
        out = run()
        loss = sum(weight * F.cross_entropy(out[part], labels) for part, weight in weights.items())
    loss.backward()
    optimizer.step()
    return out | {"loss": loss.detach()}


def augment(pictures: Tensor, size: int, generator: torch.Generator) -> Tensor:
    """Return uint8 pictures (B, 3, R, R) padded, cropped at random to S×S, mirrored or not, in −1…1, channels-last."""
    margin, count = round(PADDING * size), len(pictures)
    room = pictures.shape[-1] + 2 * margin - size + 1
    top, left = torch.randint(room, (2, count, 1), generator=generator).to(pictures.device)
    mirrored = (torch.rand(count, 1, generator=generator) < 0.5).to(pictures.device)
    line, every = (torch.arange(n, device=pictures.device) for n in (size, count))
    rows, columns = top + line, left + torch.where(mirrored, line.flip(0), line)
    cut = F.pad(pictures, [margin] * 4)[every[:, None, None], :, rows[:, :, None], columns[:, None]]
    return _inputs(cut.permute(0, 3, 1, 2))


def _inputs(pictures: Tensor) -> Tensor:
    return pictures.to(torch.float32).mul_(2 / 255).sub_(1)


@dataclass
class _Training:
    """A network on its way, in one of `world` processes."""

    network: nn.Module
    how: Course
    classes: list[str]
    out: Path
    recipe: str
    rank: int
    world: int

    def run(self, pupils: FaceSet, examinees: FaceSet) -> None:
        """Go on from the checkpoint, or from the start, to the last epoch."""
        how, file, history = self.how, self.out / "checkpoint.pt", []
        self.fine, self.device = isinstance(self.network, FineFace), next(self.network.parameters()).device
        new = PARTS if self.fine else [*dict(self.network.named_children())][-1:]
        groups = [[p for n, p in self.network.named_parameters() if (n.split(".")[0] in new) == own] for own in (1, 0)]
        self.optimizer = torch.optim.SGD([{"params": group} for group in groups], momentum=0.9, weight_decay=5e-4)
        if file.is_file():
            kept = torch.load(file, map_location=self.device, weights_only=True)
            if kept["recipe"] != self.recipe:
                raise FacexkitError(f"{file} is of a training with other faces or settings; name another folder with out=")
            self.network.load_state_dict(kept["network"])
            self.optimizer.load_state_dict(kept["optimizer"])
            history = kept["history"]
        several = self.world > 1
        self.learner = DistributedDataParallel(self.network, find_unused_parameters=True) if several else self.network
        for epoch in range(len(history), how.epochs):
            for group, rate in zip(self.optimizer.param_groups, how.rates, strict=True):
                group["lr"] = rate / 2 * (1 + math.cos(math.pi * epoch / how.epochs))
            history.append({"epoch": epoch + 1, **self._teach(pupils, epoch), **self._examine(examinees)})
            if not self.rank:
                self._keep(history)
        if several:
            dist.barrier()

    def _teach(self, pupils: FaceSet, epoch: int) -> dict[str, float]:
        """Show the training faces once, in an order and views that the seed and the epoch fix; return mean losses."""
        how, sums, right, seen = self.how, 0.0, 0, 0
        order = np.random.default_rng([how.seed, epoch]).permutation(len(pupils))
        batches = len(order) // (how.batch_size * self.world)
        state = np.random.SeedSequence([how.seed, epoch, self.rank]).generate_state(1)[0]
        generator = torch.Generator().manual_seed(int(state))
        self.learner.train()
        lessons = _lessons(pupils, order[self.rank :: self.world][: batches * how.batch_size], RESIZED, how, self.device)
        with tqdm(lessons, f"epoch {epoch + 1}/{how.epochs}", batches, unit="batch", disable=self.rank > 0 or None) as bar:
            for pictures, labels in bar:
                losses, logits = self._step(pictures, labels, generator)
                sums, seen = sums + torch.stack(losses).double().cpu() * len(labels), seen + len(labels)
                right += int((logits.argmax(1) == labels).sum())
                bar.set_postfix(loss=f"{float(sums.sum()) / seen:.3f}", accuracy=f"{right / seen:.1%}")
        means = zip(STEPS if self.fine else ("view 1", "2", "3", "4", "5"), (sums / seen).tolist(), strict=True)
        return {f"loss {name}": mean for name, mean in means} | {"accuracy": right / seen}

    def _step(self, pictures: Tensor, labels: Tensor, generator: torch.Generator) -> tuple[list[Tensor], Tensor]:
        def view() -> Tensor:
            return augment(pictures, self.how.image_size, generator)

        if self.fine:
            choices = torch.randint(3, (2,), generator=generator).tolist()
            return five_steps(self.learner, view(), labels, self.optimizer, choices)
        steps = [_descend(self.optimizer, lambda: {"plain": self.learner(view())}, labels, {"plain": 1}) for _ in STEPS]
        return [step["loss"] for step in steps], steps[-1]["plain"]

    @torch.no_grad()
    def _examine(self, examinees: FaceSet) -> dict[str, float]:
        """Return the share of right answers on the validation faces by each prediction, the best prediction last."""
        ask, right, asked = BothPasses(self.network) if self.fine else self.network, 0, 0
        self.network.eval()
        for buffer in self.network.buffers() if self.world > 1 else ():
            dist.broadcast(buffer, 0)
        for pictures, labels in _lessons(examinees, np.arange(len(examinees))[self.rank :: self.world], 1, self.how, self.device):
            out = ask(_inputs(pictures))
            out = out if self.fine else {"plain": out}
            right, asked = right + torch.stack([(logits.argmax(1) == labels).sum() for logits in out.values()]), asked + len(labels)
        counts = torch.cat([right, right.new_tensor([asked])])
        if self.world > 1:
            dist.all_reduce(counts)
        return {f"validation {name}": int(n) / int(counts[-1]) for name, n in zip(out, counts, strict=False)}

    def _keep(self, history: list[dict[str, float]]) -> None:
        """Write the weights if they are the best yet, the checkpoint and the history, each whole or not at all."""
        state = {name: value.detach().cpu().contiguous() for name, value in self.network.state_dict().items()}
        scores = [[*row.values()][-1] for row in history]
        if scores[-1] > max(scores[:-1], default=-1):
            told = {"image_size": str(self.how.image_size), "class_names": "\n".join(self.classes)}
            write_whole(self.out / "best.safetensors", save(state, told))
        kept = {"network": state, "optimizer": self.optimizer.state_dict(), "recipe": self.recipe, "history": history}
        torch.save(kept, buffer := io.BytesIO())
        write_whole(self.out / "checkpoint.pt", buffer.getvalue())
        write_whole(self.out / "history.csv", pd.DataFrame(history).to_csv(index=False).encode())


def _lessons(
    faces: FaceSet, order: np.ndarray, larger: float, how: Course, device: torch.device
) -> Iterator[tuple[Tensor, Tensor]]:
    """Yield uint8 pictures (B, 3, R, R), R = `larger` × the image size, and their classes (B,), of rows in an order."""
    side, skipped = round(larger * how.image_size), []
    workers = 0 if isinstance(faces.images, _Kept) else None
    for batch in faces[order].batches(side, how.batch_size, workers=workers):
        skipped += batch.skipped
        if len(skipped) > MOST_SKIPPED * len(order):
            _, path, reason = skipped[0]
            raise FacexkitError(f"{len(skipped)} or more of {len(order)} images cannot be decoded; {path}: {reason}")
        labels = torch.from_numpy(faces.table[faces.target].to_numpy()[order[batch.rows]])
        yield batch.images.to(device), labels.to(device)


def _splits(faces: FaceSet, target: str | None, how: Course) -> tuple[FaceSet, FaceSet, list[str]]:
    """Return the faces to teach and those to choose the best epoch by, labelled by numbers of classes, and the classes."""
    if target is None or target not in faces.table:
        raise unknown("target", target, faces.table.columns.drop("path"), "Name the label to teach with target=.")
    known, faces = faces.table[target].notna(), faces[:]
    faces.target = target
    split = faces.table.split if "split" in faces.table else pd.Series("train", faces.table.index)
    pupils, examinees = faces[known & (split == "train")], faces[known & (split == "val")]
    if not {"val", "test"} <= set(split):
        order = np.random.default_rng(how.seed).permutation(len(pupils))
        examinees, pupils = pupils[np.sort(order[::10])], pupils[np.sort(np.delete(order, np.s_[::10]))]
    classes = sorted({str(value) for value in pupils.table[target]})
    if len(pupils) < how.batch_size or len(classes) < 2 or {*map(str, examinees.table[target])} - {*classes}:
        raise FacexkitError(
            f"{faces.name!r} has {len(pupils)} faces to teach, of {len(classes)} classes of {target!r}; it takes a batch of "
            f"{how.batch_size} and two classes, and no others to validate; check target= and the column 'split'"
        )
    for own, side in ((pupils, round(RESIZED * how.image_size)), (examinees, how.image_size)):
        own.table[target] = [classes.index(str(value)) for value in own.table[target]]
        if 3 * side * side * len(own) <= KEPT:
            own.images = _Kept(own.images, side)
    return pupils, examinees, classes


class _Kept:
    """Pictures of a source, squeezed to side×side when they are first read, and kept from then on."""

    def __init__(self, source: ImageSource, side: int) -> None:
        self.digest = source.digest
        self.read = lru_cache(None)(lambda path: source.read(path).resize((side, side), Image.Resampling.BILINEAR))


def _process(device: str) -> tuple[int, int, torch.device]:
    """Return this process's rank, the number of processes that torchrun started, and this one's device."""
    world = int(os.environ.get("WORLD_SIZE", 1))
    if world == 1:
        return 0, 1, pick_device(device)
    own = torch.cuda.is_available() and device != "cpu"
    if not dist.is_initialized():
        dist.init_process_group("nccl" if own else "gloo")
    return dist.get_rank(), world, pick_device(f"cuda:{os.environ['LOCAL_RANK']}" if own else "cpu")
