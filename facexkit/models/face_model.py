"""A network with all that is needed to show it faces: input size, normalization, classes, device."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Sequence
from copy import copy, deepcopy
from functools import cached_property
from typing import Protocol

import numpy as np
import pandas as pd
import torch
from torch import Tensor, nn

from facexkit.errors import FacexkitError, told, unknown
from facexkit.models.layers import layer_table


class Question(Protocol):
    """What is asked of an output for each row of a face set."""

    def __call__(self, outputs: Tensor, rows: np.ndarray) -> Tensor:
        """Return the answers (B, classes) for the outputs (B, D) of these rows."""

    def fingerprint(self) -> str:
        """Return a text that changes with any of the answers."""


class FaceModel:
    """A frozen network in eval mode.

    Parameters
    ----------
    network : takes float (B, 3, S, S), gives a tensor, or a tuple or dict of which `output` picks one.
    name : what the model is called in reports.
    image_size : side length S of the input in pixels.
    mean, std : per channel, on values in 0–1; the input is (x − mean) / std.
    class_names : names of the output's columns; column numbers where unknown.
    output : None, a position or key, or a function of what the network returns.
    device : "cpu", "cuda", "mps", or "auto" for the first that is there.
    """

    def __init__(
        self,
        network: nn.Module,
        *,
        name: str,
        image_size: int = 224,
        mean: Sequence[float] = (0.0, 0.0, 0.0),
        std: Sequence[float] = (1.0, 1.0, 1.0),
        class_names: Sequence[str] | None = None,
        output: int | str | Callable | None = None,
        device: str = "auto",
    ) -> None:
        self.wanted, self.device = device, pick_device(device)
        network = _inside(network, name)
        for module in network.modules():
            if getattr(module, "inplace", False):
                module.inplace = False  # an activation that is recorded must not be overwritten by its successor
        self.network = network.eval().requires_grad_(False).to(self.device, memory_format=torch.channels_last)
        self.name, self.image_size, self.output = name, int(image_size), output
        self.question: Question | None = None
        self.rows: np.ndarray | None = None
        self._class_names = list(class_names) if class_names is not None else None
        mean, std = torch.tensor([mean, std], dtype=torch.float64).reshape(2, 1, 3, 1, 1)
        self.mean, self.std = mean.float().to(self.device), std.float().to(self.device)
        self._scale = (1 / (255 * std)).float().to(self.device)
        self._shift = (mean / std).float().to(self.device)

    def prepare(self, images: Tensor) -> Tensor:
        """Turn uint8 (B, 3, S, S) into the network's float input, channels-last, on its device."""
        images = images.to(self.device, non_blocking=True)
        images = images.to(torch.float32, memory_format=torch.channels_last, copy=True)
        return images.mul_(self._scale).sub_(self._shift)

    def pick(self, returned: object) -> Tensor:
        """Return the output (B, classes) from what the network returned."""
        if callable(self.output):
            returned = self.output(returned)
        elif self.output is not None:
            with told(f"model {self.name!r}: its output has no {self.output!r}"):
                returned = returned[self.output]
        if not isinstance(returned, Tensor):
            kind = type(returned).__name__
            have = f" with {', '.join(map(repr, returned))}" if isinstance(returned, dict) else ""
            raise FacexkitError(f"model {self.name!r} returns a {kind}{have}; say which part with output=KEY")
        if not returned.ndim:
            raise FacexkitError(f"model {self.name!r} returns one number, not a row of outputs for each image")
        if not returned.is_floating_point():
            kind = str(returned.dtype).removeprefix("torch.")
            raise FacexkitError(
                f"model {self.name!r} returns {kind} numbers, no scores; let it end before argmax or rounding"
            )
        outputs = returned.flatten(1) if returned.ndim > 1 else returned[:, None]
        return outputs if self.question is None or self.rows is None else self.question(outputs, self.rows)

    def __call__(self, inputs: Tensor) -> Tensor:
        """Run the network on prepared inputs and return its output (B, classes)."""
        with told(f"model {self.name!r} ends Python instead of answering", "take that out of its forward", SystemExit):
            returned = self.network(inputs)
        return self.pick(returned)

    def on(self, device: str) -> FaceModel:
        """Return the model on another device: itself where it is there already, else a copy."""
        if (place := pick_device(device)) == self.device:
            return self
        other = copy(self)
        other.device, other.network = place, deepcopy(self.network).to(place)
        for name in ("mean", "std", "_scale", "_shift"):
            setattr(other, name, getattr(self, name).to(place))
        return other

    def asked(self, question: Question, class_names: Sequence[str]) -> FaceModel:
        """Return the model with a question of its own for each row; `class_names` are the answers' columns."""
        other = copy(self)
        other.question, other._class_names = question, list(class_names)
        return other

    def at(self, rows: np.ndarray | None) -> FaceModel:
        """Return the model as it answers for these rows of a face set: itself, unless each row asks something else."""
        if self.question is None:
            return self
        bound = copy(self)
        bound.rows = rows
        return bound

    def try_out(self) -> Tensor:
        """Return the output for two grey images; an error that says what the network said where it does not run."""
        size = self.image_size
        batches, images = "that it takes batches of any size", f"two {size}×{size} RGB images"
        with told(f"model {self.name!r} does not run on {images}", f"check image_size, and {batches}"), torch.no_grad():
            output = self.at(None)(self.prepare(torch.full((2, 3, size, size), 128, dtype=torch.uint8)))
        if len(output) != 2:
            raise FacexkitError(
                f"model {self.name!r} gives {len(output)} rows of outputs for 2 images; check output=, and {batches}"
            )
        return output

    @cached_property
    def layers(self) -> pd.DataFrame:
        """Every module with its type, output shape and parameters, from one run at `image_size`; see `list_layers`."""
        return layer_table(self)

    @property
    def class_names(self) -> list[str]:
        """Names of the output's columns."""
        if self._class_names is None:
            self._class_names = [f"class {k}" for k in range(self.try_out().shape[1])]
        return self._class_names

    def class_index(self, target_class: int | str) -> int:
        """Return the output column of a class given by position or name; an unknown one is an error."""
        if target_class in self.class_names:
            return self.class_names.index(target_class)
        try:
            index = int(str(target_class))
        except ValueError:
            raise unknown("class", target_class, self.class_names) from None
        if not 0 <= index < len(self.class_names):
            raise FacexkitError(
                f"target_class {index} is out of range: model {self.name!r} has {len(self.class_names)} outputs, from 0"
            )
        return index

    def layer(self, name: str, places: bool = False) -> nn.Module:
        """Return the module called `name` if its output can be explained; else an error that says why not.

        With `places` an output that is one number a unit, without height and width, is an error too.
        """
        if name not in self.layers.index:
            if name in dict(self.network.named_modules()):
                raise FacexkitError(f"layer {name!r} of {self.name!r} gives nothing: a forward pass does not call it")
            advice = "List them with `facexkit layers` or fx.list_layers(model)."
            raise unknown("layer", name, self.layers.index, advice)
        problem = self.layers.problem[name]
        if problem:
            raise FacexkitError(f"layer {name!r} of {self.name!r} cannot be used: {problem}")
        extent = self.layers.height * self.layers.width
        if places and extent[name] == 1:
            have = extent.index[extent > 1][-6:]
            take = f"take one of {', '.join(have)}" if len(have) else "and no layer of this model does"
            raise FacexkitError(
                f"layer {name!r} of {self.name!r} gives no places to look at, one number a unit; {take}"
            )
        return self.network.get_submodule(name)

    def fingerprint(self) -> str:
        """Return 16 hexadecimal digits that change with any weight, module, the input size or the normalization."""
        modules = [(name, type(module).__name__) for name, module in self.network.named_modules()]
        digest = hashlib.sha256(f"{self.image_size} {self.mean.tolist()} {self.std.tolist()} {modules}".encode())
        for key, value in sorted(self.network.state_dict().items()):
            if isinstance(value, Tensor):
                digest.update(f"{key} {tuple(value.shape)}".encode())
                digest.update(value.detach().cpu().contiguous().view(-1).view(torch.uint8).numpy())
        digest.update(self.question.fingerprint().encode() if self.question else b"")
        return digest.hexdigest()[:16]


def _inside(network: nn.Module, name: str) -> nn.Module:
    """Return the network whose layers can be looked into: without what torch.compile or DataParallel put around it."""
    if isinstance(network, (nn.DataParallel, nn.parallel.DistributedDataParallel)):
        network = network.module
    network = getattr(network, "_orig_mod", network)
    if isinstance(network, torch.jit.ScriptModule):
        raise FacexkitError(
            f"model {name!r} is a scripted or traced network (torch.jit), whose layers cannot be looked into; "
            "give the nn.Module that it was made from, with its state dict as weights"
        )
    return network


def pick_device(device: str | torch.device) -> torch.device:
    """Return the device; "auto" is CUDA, then Apple's MPS, then the CPU."""
    if device == "auto":
        mps = torch.backends.mps.is_available()
        return torch.device("cuda" if torch.cuda.is_available() else "mps" if mps else "cpu")
    with told(f"device {device!r} cannot be used", "take device='auto' or 'cpu'", (RuntimeError, AssertionError)):
        return torch.empty(0, device=device).device
