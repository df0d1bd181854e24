"""Training: the steps that every network of the kit takes, and a file from which they go on after a kill."""

from __future__ import annotations

import hashlib
import io
import json
import warnings
import zipfile
from collections.abc import Callable, Iterable, Iterator
from importlib.metadata import version
from pathlib import Path

import torch
from torch import Tensor, nn

from facexkit.errors import told
from facexkit.faces.cache import remove_strays, write_whole
from facexkit.models.weights import weights_file


def teach(
    network: nn.Module, loss: Callable[[Tensor, Tensor], Tensor],
    lessons: Callable[[int], Iterable[tuple[Tensor, Tensor]]], course: tuple[int, int, float],
    checkpoint: Checkpoint | None = None,
) -> None:  # fmt: skip
    """Train what may change of a network with AdamW and a one-cycle rate; a part without such weights stays in eval mode.

    Parameters
    ----------
    loss, lessons : of a batch of images and classes; the batches of an epoch.
    course : epochs, steps in each, and the highest rate.
    checkpoint : goes on after the last epoch that was finished, to the same weights.
    """
    network.train().to(memory_format=torch.channels_last)
    for module in network.modules():
        own = [weight.requires_grad for weight in module.parameters()]
        if own and not any(own):
            module.eval()  # a batch norm keeps its statistics
    (epochs, steps, rate), weights = course, [weight for weight in network.parameters() if weight.requires_grad]
    optimizer = torch.optim.AdamW(weights, weight_decay=0.01, fused=True)
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimizer, rate, total_steps=epochs * steps)
    parts = {"network": network, "optimizer": optimizer, "schedule": schedule}
    for epoch in checkpoint.epochs(epochs, **parts) if checkpoint else range(epochs):
        for images, classes in lessons(epoch):
            optimizer.zero_grad()
            with mixed_precision(classes.device):
                lost = loss(images, classes)
            lost.backward()
            optimizer.step()
            schedule.step()
    network.eval()


def mixed_precision(device: torch.device) -> torch.autocast:
    """Return the block in which a CUDA device that has bfloat16 computes in it."""
    modern = device.type == "cuda" and torch.cuda.get_device_capability(device)[0] >= 8
    return torch.autocast(device.type, torch.bfloat16, enabled=modern)


class Checkpoint:
    """The last finished epoch of a training: the same call goes on after it, to the same result; another starts afresh.

    Parameters
    ----------
    network : as it is before the first epoch; its modules and weights belong to what the training is known by.
    recipe : all else that changes the result: settings, and the fingerprints of the faces.
    writes : False in all processes but one, where several teach one network.
    """

    def __init__(self, path: Path, network: nn.Module, *recipe: object, writes: bool = True) -> None:
        made_by = [*map(str, recipe), str(network), torch.__version__, version("facexkit")]
        self.fingerprint = hashlib.sha256(json.dumps(made_by).encode() + weights_file(network)).hexdigest()
        self.path, self.writes = path, writes
        self.history: list[dict[str, float]] = []
        """What the training adds in each epoch; it is kept with the rest."""

    def epochs(self, count: int, **parts: object) -> Iterator[int]:
        """Yield the epochs, from 0, that are left; after each, write the parts and the CPU's random state down.

        Parameters
        ----------
        parts : network, optimizer, schedule: whatever has a state_dict; taken up as the last finished epoch left them.

        Raises
        ------
        FacexkitError
            if the file is damaged or of another kind, or cannot be written.
        """
        done = self._take_up(parts) if self.path.is_file() else 0
        if self.writes:
            remove_strays(self.path.parent)
        for epoch in range(done, count):
            yield epoch
            if self.writes:
                kept = {name: part.state_dict() for name, part in parts.items()}
                about = {"fingerprint": self.fingerprint, "epochs": epoch + 1, "history": self.history}
                torch.save(kept | about | {"random": torch.get_rng_state()}, buffer := io.BytesIO())
                write_whole(self.path, buffer.getvalue())

    def end(self) -> None:
        """Remove the file, once the training's result is written."""
        if self.writes and self.path.is_file():
            self.path.unlink()

    def _take_up(self, parts: dict[str, object]) -> int:
        """Bring the parts to where the file has them and return how many epochs that is; 0 for another training."""
        with told(f"{self.path} is damaged or no checkpoint", "remove it to start afresh"):
            with zipfile.ZipFile(self.path) as file:
                if changed := file.testzip():
                    raise ValueError(f"{changed} has changed")
            kept = torch.load(self.path, map_location="cpu", weights_only=True)
            if kept["fingerprint"] != self.fingerprint:
                warnings.warn(f"{self.path} is of other faces or settings; this training starts afresh", stacklevel=2)
                return 0
            for name, part in parts.items():
                part.load_state_dict(kept[name])
            torch.set_rng_state(kept["random"])
            self.history = kept["history"]
            return kept["epochs"]
