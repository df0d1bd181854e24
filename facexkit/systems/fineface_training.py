"""Teaching FineFACE: five steps a batch; and a plain network of the same backbone and budget, to compare with."""

from __future__ import annotations

import copy
import math
import os
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pandas as pd
import torch
import torch.distributed as dist
import torch.nn.functional as F
from PIL import Image
from torch import Tensor, nn
from torch.nn.parallel import DistributedDataParallel

from facexkit.errors import FacexkitError, unknown
from facexkit.faces.cache import write_whole
from facexkit.faces.faceset import FaceSet
from facexkit.faces.spreadsheet import write_csv
from facexkit.models.face_model import FaceModel, pick_device
from facexkit.models.loading import replace_head
from facexkit.models.training import Checkpoint, mixed_precision
from facexkit.models.weights import load_weights, metadata_of, seeded, weights_file
from facexkit.probe.options import PassOptions
from facexkit.probe.progress import progress_bar
from facexkit.probe.work import check_skipped
from facexkit.systems import fineface
from facexkit.systems.fineface import PARTS, BothPasses, FineFace, boxes, crop

STEPS = ("expert3", "expert2", "expert1", "crops", "concat")
RESIZED, PADDING = 460 / 448, 8 / 448
KEPT = 1 << 30


def train_fineface(
    faces: FaceSet,
    target: str | None = None,
    *,
    out: str | Path,
    backbone: str | nn.Module = "resnet50",
    weights: str | Path | None = "imagenet",
    stages: Sequence[str] = fineface.STAGES,
    widths: Sequence[int] = fineface.WIDTHS,
    plain: bool = False,
    epochs: int = 25,
    batch_size: int = 16,
    image_size: int = fineface.IMAGE_SIZE,
    rates: tuple[float, float] = (0.002, 0.0002),
    seed: int = 0,
    device: str = "auto",
) -> FaceModel:
    """Teach FineFACE a label on the split "train"; return the epoch with the best prediction on validation faces.

    SGD with momentum 0.9 and weight decay 5e-4; the five steps of `five_steps` on views of `augment`. Validation faces
    are the split "val" of a set that has a "test" too, else a tenth of the training faces. In `out`: `history.csv`, the
    same as the authors' script writes it (`results_train.txt`, and `results_test.txt` of the validation faces), and
    `best.safetensors`; until the end `checkpoint.pt`, from which the same call goes on after an interruption, to the
    same result. The same call after the end returns that; another call starts afresh.
    Mixed precision on CUDA devices with bfloat16; under `torchrun` one process a device.

    Parameters
    ----------
    target : label column; the set's own by default. Faces without a value are left out.
    backbone, stages, widths : a torchvision network's name, "demo", or a module, of which a copy is taught; see
        `FineFace`.
    weights : the backbone's: "imagenet" (random with a warning where that cannot be downloaded), a file, or None.
    plain : teach the backbone alone, with as many steps: five a batch, each on other random views.
    epochs, batch_size, image_size, rates : the paper's by default; batch of each process; rates of new layers and of
        the backbone at the start of a cosine over the epochs.

    Returns
    -------
    FaceModel of the sum of four outputs; `with_all_outputs` makes one of all eight.

    Raises
    ------
    FacexkitError for a target without two classes, fewer faces than a batch, or a damaged checkpoint.
    """
    if epochs < 1 or batch_size < 2 or image_size < 32:
        raise FacexkitError("a training takes epochs of at least 1, batch_size of 2 and image_size of 32")
    how = SimpleNamespace(epochs=epochs, batch=batch_size, size=image_size, rates=tuple(rates), seed=seed)
    pupils, examinees, classes = _splits(faces, faces.target if target is None else target, how)
    named = isinstance(backbone, str)
    with seeded(seed):
        network = fineface.backbone_network(backbone, weights, seed) if named else copy.deepcopy(backbone)
        if plain:
            replace_head(network, len(classes))
        else:
            network = FineFace(network, len(classes), stages, widths)
        rank, world, place = _process(device)
        network = network.requires_grad_().to(place, memory_format=torch.channels_last)
        recipe = how, classes, world, pupils.fingerprint(), examinees.fingerprint()
        checkpoint = Checkpoint(Path(out, "checkpoint.pt"), network, *recipe, writes=not rank)
        _Training(network, how, classes, checkpoint, rank, world).run(pupils, examinees)
        checkpoint.end()
    name = f"{'plain ' if plain else 'fineface:'}{backbone if named else type(backbone).__name__}"
    return FaceModel(
        network, name=name, image_size=image_size, normalize="half", class_names=classes,
        output=None if plain else "sum", device=str(place),
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
        out, loss = _descend(optimizer, lambda: network(shown, tuple(weights), attend), labels, weights)
        losses.append(loss)
        return out

    def view(choice: int, others: Sequence[Tensor]) -> Tensor:
        return images if choice == 2 else crop(images, boxes([others[choice]], size))

    one, two, three = maps = descend(images, {"expert3": 1}, attend=True)["maps"]
    descend(view(choices[0], (three, one)), {"expert2": 1})
    descend(view(choices[1], (three, two)), {"expert1": 1})
    descend(crop(images, boxes(maps, size)), dict(zip(PARTS, (1, 1, 1, 2), strict=True)))
    return losses, descend(images, {"concat": 2})["concat"]


def _descend(
    optimizer: torch.optim.Optimizer, run: Callable[[], dict], labels: Tensor, weights: dict[str, int]
) -> tuple[dict, Tensor]:
    optimizer.zero_grad()
    with mixed_precision(labels.device):
        out = run()
        loss = sum(weight * F.cross_entropy(out[part], labels) for part, weight in weights.items())
    loss.backward()
    optimizer.step()
    return out, loss.detach()


def optimizer_of(network: nn.Module, rates: tuple[float, float]) -> torch.optim.SGD:
    """Return SGD with a group for every part that a step trains whole or not at all, as fused SGD wants it."""
    new, groups = PARTS if isinstance(network, FineFace) else [*dict(network.named_children())][-1:], {}
    for name, parameter in network.named_parameters():
        part = name.split(".")[: 1 + name.startswith("expert")]
        groups.setdefault(tuple(part), {"params": [], "rate": rates[part[0] not in new]})["params"].append(parameter)
    return torch.optim.SGD([*groups.values()], lr=rates[0], momentum=0.9, weight_decay=5e-4, fused=True)


def augment(pictures: Tensor, size: int, generator: torch.Generator) -> Tensor:
    """Return uint8 pictures (B, 3, R, R), R = 460/448·S, padded by 8/448·S, cropped at random to S×S, mirrored or not.

    In −1…1, channels-last.
    """
    margin, count, place = round(PADDING * size), len(pictures), pictures.device
    room = pictures.shape[-1] + 2 * margin - size + 1
    top, left = torch.randint(room, (2, count, 1), generator=generator).to(place)
    mirrored = (torch.rand(count, 1, generator=generator) < 0.5).to(place)
    line, every = torch.arange(size, device=place), torch.arange(count, device=place)
    rows, columns = top + line, left + torch.where(mirrored, line.flip(0), line)
    cut = F.pad(pictures, [margin] * 4)[every[:, None, None], :, rows[:, :, None], columns[:, None]]
    return _inputs(cut.permute(0, 3, 1, 2))


def _inputs(pictures: Tensor) -> Tensor:
    return pictures.to(torch.float32).mul_(2 / 255).sub_(1)


@dataclass
class _Training:
    """A network on its way, in one of `world` processes."""

    network: nn.Module
    how: SimpleNamespace
    classes: list[str]
    checkpoint: Checkpoint
    rank: int
    world: int

    def run(self, pupils: FaceSet, examinees: FaceSet) -> None:
        """Teach the epochs that are left, and leave the network with the best weights; a finished training has none."""
        how, best, training = self.how, self.checkpoint.path.with_name("best.safetensors"), self.checkpoint.fingerprint
        self.fine, self.device = isinstance(self.network, FineFace), next(self.network.parameters()).device
        if metadata_of(best).get("training") == training:
            return load_weights(self.network, best)
        self.optimizer, several = optimizer_of(self.network, how.rates), self.world > 1
        self.learner = DistributedDataParallel(self.network, find_unused_parameters=True) if several else self.network
        for epoch in self.checkpoint.epochs(how.epochs, network=self.network, optimizer=self.optimizer):
            for group in self.optimizer.param_groups:
                group["lr"] = group["rate"] / 2 * (1 + math.cos(math.pi * epoch / how.epochs))
            row = {"epoch": epoch + 1, **self._teach(pupils, epoch), **self._examine(examinees)}
            self.checkpoint.history.append(row)
            if not self.rank:
                self._keep(best)
        if several:
            dist.barrier()
        load_weights(self.network, best)
        if not self.rank:
            self._write(best, training)

    def _teach(self, pupils: FaceSet, epoch: int) -> dict[str, float]:
        """Show the training faces once, in an order and views that the seed and the epoch fix; return mean losses."""
        how, sums, right, seen = self.how, 0.0, 0, 0
        order = np.random.default_rng([how.seed, epoch]).permutation(len(pupils))
        batches = len(order) // (how.batch * self.world)
        state = int(np.random.SeedSequence([how.seed, epoch, self.rank]).generate_state(1)[0])
        generator = torch.Generator().manual_seed(state)
        self.learner.train()
        lessons = self._lessons(pupils, order[self.rank :: self.world][: batches * how.batch], RESIZED)
        about = {"iterable": lessons, "total": batches, "desc": f"epoch {epoch + 1}/{how.epochs}", "unit": "batch"}
        bar = progress_bar(self.rank == 0, **about)
        with seeded(state, self.device.type == "cuda"), bar:
            for pictures, labels in bar:
                losses, logits = self._step(lambda: augment(pictures, how.size, generator), labels, generator)
                sums, seen = sums + torch.stack(losses).double().cpu() * len(labels), seen + len(labels)
                right += int((logits.argmax(1) == labels).sum())
                bar.set_postfix(loss=f"{float(sums.sum()) / seen:.3f}", accuracy=f"{right / seen:.1%}")
        names = [f"loss {name}" for name in (STEPS if self.fine else range(1, 6))]
        return dict(zip(names, (sums / seen).tolist(), strict=True)) | {"accuracy": right / seen}

    def _step(
        self, view: Callable[[], Tensor], labels: Tensor, generator: torch.Generator
    ) -> tuple[list[Tensor], Tensor]:
        if self.fine:
            choices = torch.randint(3, (2,), generator=generator).tolist()
            return five_steps(self.learner, view(), labels, self.optimizer, choices)
        steps = [_descend(self.optimizer, lambda: {"": self.learner(view())}, labels, {"": 1}) for _ in STEPS]
        return [loss for _, loss in steps], steps[-1][0][""]

    @torch.no_grad()
    def _examine(self, examinees: FaceSet) -> dict[str, float]:
        """Return the share of right answers on the validation faces by each prediction, the best prediction last."""
        ask, counts = BothPasses(self.network) if self.fine else lambda x: {"plain": self.network(x)}, 0
        self.network.eval()
        for buffer in self.network.buffers() if self.world > 1 else ():
            dist.broadcast(buffer, 0)
        for pictures, labels in self._lessons(examinees, np.arange(len(examinees))[self.rank :: self.world], 1):
            out = ask(_inputs(pictures))
            right = ((logits.argmax(1) == labels).sum() for logits in out.values())
            loss = F.cross_entropy([*out.values()][0], labels, reduction="sum")
            counts += torch.stack([*right, loss, (labels >= 0).sum()]).double()
        if self.world > 1:
            dist.all_reduce(counts)
        *right, loss, faces = counts.tolist()
        return {"validation loss": loss / faces} | {f"validation {n}": k / faces for n, k in zip(out, right, strict=True)}

    def _keep(self, best: Path) -> None:
        """Write the history, and the weights if they are the best yet, each whole or not at all."""
        write_csv(history := pd.DataFrame(self.checkpoint.history), best.with_name("history.csv"))
        for part, text in zip(("train", "test"), published_results(history) if self.fine else (), strict=False):
            write_whole(best.with_name(f"results_{part}.txt"), text.encode())
        if history.iloc[:, -1].argmax() == len(history) - 1:
            self._write(best)

    def _write(self, best: Path, training: str = "") -> None:
        told = {"image_size": str(self.how.size), "class_names": "\n".join(self.classes), "training": training}
        write_whole(best, weights_file(self.network, **told))

    def _lessons(self, faces: FaceSet, order: np.ndarray, larger: float) -> Iterator[tuple[Tensor, Tensor]]:
        """Yield uint8 pictures (B, 3, R, R), R = `larger` × the image size, and classes (B,), of rows in order."""
        workers, skipped = 0 if isinstance(faces.images, SimpleNamespace) else None, []
        for batch in faces[order].batches(round(larger * self.how.size), self.how.batch, workers=workers):
            skipped += [f"{path}: {reason}" for _, path, reason in batch.skipped]
            check_skipped(skipped, len(order), PassOptions.max_skipped)
            labels = torch.from_numpy(faces.table[faces.target].to_numpy()[order[batch.rows]])
            yield batch.images.to(self.device), labels.to(self.device)


def published_results(history: pd.DataFrame) -> tuple[str, str]:
    """Return a training's history as the lines of `results_train.txt` and `results_test.txt` of the authors' script."""
    train = test = ""
    for row in history.to_dict("records"):
        third, second, first, crops, concat = (row[f"loss {step}"] for step in STEPS)
        each = f"Loss1: {first:.3f} | Loss2: {second:.5f} | Loss3: {third:.5f} | Loss_ATT: {crops:.5f} | Loss_concat: {concat:.5f} |"
        train += f"Iteration {row['epoch'] - 1} | train_acc = {100 * row['accuracy']:.5f} | train_loss = "
        train += f"{first + second + third + concat:.5f} | {each}\n"
        test += f"Iteration {row['epoch'] - 1}, test_acc_combined = {100 * row['validation eight']:.5f}, "
        test += f"test_loss = {row['validation loss']:.6f}\n"
    return train, test


def _splits(faces: FaceSet, target: str | None, how: SimpleNamespace) -> tuple[FaceSet, FaceSet, list[str]]:
    """Return the faces to teach, those to choose the best epoch by, with classes as numbers, and the classes' names."""
    if target is None or target not in faces.table:
        raise unknown("target", target, faces.table.columns.drop("path"), "Name the label to teach with target=.")
    split = faces.table.split if "split" in faces.table else pd.Series("train", faces.table.index)
    known, faces = faces.table[target].notna(), faces[:]
    faces.target, pupils, examinees = target, faces[known & (split == "train")], faces[known & (split == "val")]
    if not {"val", "test"} <= set(split):
        order = np.random.default_rng(how.seed).permutation(len(pupils))
        examinees, pupils = pupils[np.sort(order[::10])], pupils[np.sort(np.delete(order, np.s_[::10]))]
    classes = sorted({str(value) for value in pupils.table[target]})
    others = {*map(str, examinees.table[target])} - {*classes}
    if len(pupils) < how.batch or len(classes) < 2 or others or not len(examinees):
        raise FacexkitError(
            f"{faces.name!r} has {len(pupils)} faces to teach, of {len(classes)} classes of {target!r}; it takes a batch "
            f"of {how.batch} and two classes, and no others to validate; check target= and the column 'split'"
        )
    for own, side in ((pupils, round(RESIZED * how.size)), (examinees, how.size)):
        own.target = target
        own.table[target] = [classes.index(str(value)) for value in own.table[target]]
        if 3 * side * side * len(own) <= KEPT:
            own.images = _kept(own.images, side)
    return pupils, examinees, classes


def _kept(source: object, side: int) -> SimpleNamespace:
    """Return a source of the same pictures, squeezed to side×side when they are first read and kept from then on."""
    read = lru_cache(None)(lambda path: source.read(path).resize((side, side), Image.Resampling.BILINEAR))
    return SimpleNamespace(read=read, digest=source.digest)


def _process(device: str) -> tuple[int, int, torch.device]:
    """Return this process's rank, the number of processes that torchrun started, and this one's device."""
    world = int(os.environ.get("WORLD_SIZE", 1))
    if world == 1:
        return 0, 1, pick_device(device)
    own = torch.cuda.is_available() and device != "cpu"
    if not dist.is_initialized():
        dist.init_process_group("nccl" if own else "gloo")
    return dist.get_rank(), world, pick_device(f"cuda:{os.environ['LOCAL_RANK']}" if own else "cpu")
