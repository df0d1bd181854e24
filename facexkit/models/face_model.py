"""A network with all that is needed to show it faces: input size, normalization, classes, device."""

from __future__ import annotations

import hashlib
import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, nullcontext
from copy import copy, deepcopy
from dataclasses import replace
from functools import cached_property
from typing import Protocol

import numpy as np
import pandas as pd
import torch
from torch import Tensor, nn

from facexkit.errors import FacexkitError, listed, told, unknown
from facexkit.faces.geometry import Size
from facexkit.faces.mask_view import sides
from facexkit.models.layers import layer_table
from facexkit.models.outputs import Meaning, are_probabilities
from facexkit.models.preprocess import CHANNELS, Preprocess


class Question(Protocol):
    """What is asked of an output for each row of a face set."""

    def __call__(self, outputs: Tensor, rows: np.ndarray) -> Tensor:
        """Return the answers (B, classes) for the outputs (B, D) of these rows."""

    def fingerprint(self) -> str:
        """Return a text that changes with any of the answers."""


OF_NO_WEIGHT = ("inplace", "training", "device")
"""Attributes of a module that change none of its numbers."""


class Scripted(nn.Module):
    """A scripted or traced network: it answers, but hides its layers, as no hook can look into them."""

    def __init__(self, network: torch.jit.ScriptModule) -> None:
        super().__init__()
        self.network, self.code = network, network.code
        for weight in network.parameters():
            weight.detach_().requires_grad_(False)

    def forward(self, images: Tensor) -> object:
        with torch.jit.optimized_execution(False):  # else nobody could say which operation is the last
            return self.network(images)

    def named_modules(self, memo: object = None, prefix: str = "", remove_duplicate: bool = True) -> Iterator[tuple]:
        yield prefix, self


class FaceModel:
    """A frozen network in eval mode.

    Parameters
    ----------
    network : takes float (B, channels, height, width), gives a tensor, or a tuple or dict of which `output` picks one. One
        that is scripted or traced answers, but has no layers to look into.
    name : what the model is called in reports.
    image_size, normalize : short for a preprocessing that stretches photographs to a square, RGB; see `mean_and_std`.
    preprocess : what stands between a photograph and the network, in their place.
    class_names : names of the classes; column numbers where unknown.
    output : None, a position or key, or a function of what the network returns.
    outputs : what the output's columns mean; None for a choice between classes, or a yes or no where there is one column.
    device : "cpu", "cuda", "mps", or "auto" for the first that is there.
    as_given : leave the network's layout to `check.settle`.

    Attributes
    ----------
    at_once : the most images that the network is shown together; None for any number.
    notes : sentences on what had to be assumed, or done to show it photographs.
    """

    at_once: int | None = None
    squeezes = False
    home: AbstractContextManager = nullcontext()
    _read: tuple[list, bytes] = ([], b"")

    def __init__(
        self,
        network: nn.Module,
        *,
        name: str,
        image_size: Size = 224,
        normalize: str | Mapping[str, object] = "unit",
        preprocess: Preprocess | None = None,
        class_names: Sequence[str] | None = None,
        output: int | str | Callable | None = None,
        outputs: Meaning | None = None,
        device: str = "auto",
        as_given: bool = False,
    ) -> None:
        self.wanted, self.device = device, pick_device(device)
        self.network = _inside(network).eval().requires_grad_(False).to(self.device)
        self.name, self.output, self.notes = name, output, []
        self.preprocess = preprocess or Preprocess(image_size, normalize=normalize)
        self.question: Question | None = None
        self.rows: np.ndarray | None = None
        self._meaning, self._class_names = outputs, list(class_names) if class_names is not None else None
        if not as_given:
            self.take_form()

    def take_form(self, channels_last: bool = True, in_place: Sequence[str] = (), dtype: torch.dtype = torch.float32) -> None:
        """Lay the network out in memory and let only the modules named `in_place` overwrite what they are given."""
        self.form = torch.channels_last if channels_last else torch.contiguous_format
        self.dtype, self.keeps_in_place = dtype, bool(in_place)
        for name, module in self.network.named_modules():
            if hasattr(module, "inplace"):
                module.inplace = name in in_place  # an activation that is recorded must not be overwritten
        if dtype == torch.float32:
            self.network.float()
        for tensor in (*self.network.parameters(), *self.network.buffers()):
            if tensor.ndim == 4:
                tensor.data = tensor.data.contiguous(memory_format=self.form)

    @property
    def image_size(self) -> Size:
        """The input's side length in pixels, or its (height, width)."""
        return self.preprocess.size

    @property
    def mean(self) -> Tensor:
        """What is taken from the values in 0–1, float (channels,)."""
        return torch.tensor(self.preprocess.mean_and_std[0])

    @property
    def meaning(self) -> Meaning:
        """What the columns of the answers mean."""
        if self.question is not None:
            return Meaning("classes", likely=False)
        if self._meaning is None:
            self.try_out()
        return self._meaning

    def prepare(self, images: Tensor) -> Tensor:
        """Turn uint8 (B, 3, height, width), RGB, into the network's float input, on its device."""
        images = images.to(self.device, non_blocking=True)
        if self.preprocess.channels == "BGR":
            images = images.flip(1)
        images = images.to(torch.float32, memory_format=self.form, copy=True)
        if self.preprocess.channels == "grey":
            weights = torch.tensor(CHANNELS["grey"], device=self.device)
            images = (images * weights[0, :, None, None]).sum(1, keepdim=True)
        scale, shift = (part.to(self.device, non_blocking=True) for part in self.preprocess.scale_and_shift)
        return images.mul_(scale).sub_(shift).to(self.dtype)

    def raw(self, inputs: Tensor) -> Tensor:
        """Run the network on prepared inputs and return its output as rows (B, D), as it means them."""
        parts = inputs.split(self.at_once or len(inputs)) if len(inputs) else [inputs]
        ended = told(f"model {self.name!r} ends Python instead of answering", "take that out of its forward", SystemExit)
        with self.home, ended:
            return torch.cat([self.rows_of(self.picked(self.network(part))) for part in parts])

    def picked(self, returned: object) -> Tensor:
        """Return the output in what the network returned."""
        if callable(self.output):
            returned = self.output(returned)
        elif self.output is not None:
            with told(f"model {self.name!r}: its output has no {self.output!r}"):
                returned = returned[self.output]
        if not isinstance(returned, Tensor):
            have = f" with {', '.join(map(repr, returned))}" if isinstance(returned, Mapping) else ""
            wrong = f"a {type(returned).__name__}{have}; say which part with output=KEY"
        elif not returned.ndim:
            wrong = "one number, not a row of outputs for each image"
        elif not returned.is_floating_point():
            kind = str(returned.dtype).removeprefix("torch.")
            wrong = f"{kind} numbers, no scores; let it end before argmax or rounding"
        else:
            return returned
        raise FacexkitError(f"model {self.name!r} returns {wrong}")

    def rows_of(self, returned: Tensor) -> Tensor:
        """Return an output as rows (B, D); of no and yes for each attribute, (B, D, 2), what speaks for yes."""
        returned = returned[None] if self.squeezes and returned.ndim == 1 else returned
        outputs = returned.reshape(len(returned), *(side for side in returned.shape[1:] if side != 1))
        if outputs.ndim == 3 and outputs.shape[2] == 2:
            return outputs[..., 1] if are_probabilities(outputs.flatten(0, 1)) else outputs[..., 1] - outputs[..., 0]
        if outputs.ndim > 2:
            shape = "×".join(map(str, outputs.shape[1:]))
            raise FacexkitError(
                f"model {self.name!r} returns {shape} numbers for each image, not a row of them; let output= be a "
                "function that makes one"
            )
        return outputs if outputs.ndim == 2 else outputs[:, None]

    def __call__(self, inputs: Tensor) -> Tensor:
        """Run the network on prepared inputs and return its output (B, classes)."""
        outputs = self.raw(inputs)
        self._meaning = self._meaning or Meaning("binary" if outputs.shape[1] == 1 else "classes")
        outputs = self._meaning.read(outputs)
        return outputs if self.question is None or self.rows is None else self.question(outputs, self.rows)

    def but(self, **changed: object) -> FaceModel:
        """Return the model with other attributes."""
        other = copy(self)
        vars(other).update(changed)
        return other

    def on(self, device: str) -> FaceModel:
        """Return the model on another device: itself where it is there already, else a copy."""
        place = pick_device(device)
        return self if place == self.device else self.but(device=place, network=deepcopy(self.network).to(place))

    def asked(self, question: Question, class_names: Sequence[str]) -> FaceModel:
        """Return the model with a question of its own for each row; `class_names` are the answers' columns."""
        return self.but(question=question, _class_names=list(class_names))

    def at(self, rows: np.ndarray | None) -> FaceModel:
        """Return the model as it answers for these rows of a face set: itself, unless each row asks something else."""
        return self if self.question is None else self.but(rows=rows)

    def about(self, meaning: Meaning, class_names: Sequence[str]) -> FaceModel:
        """Return the model as it answers another question of its own outputs, one attribute or block of them."""
        return self.but(_meaning=meaning, _class_names=list(class_names))

    def test_images(self) -> Tensor:
        """Return two prepared images of noise."""
        noise = torch.Generator().manual_seed(0)
        return self.prepare(torch.randint(256, (2, 3, *sides(self.image_size)), dtype=torch.uint8, generator=noise))

    @torch.no_grad()
    def try_out(self) -> Tensor:
        """Return the output for two images; an error that says what the network said where it does not run."""
        shape = "×".join(map(str, sides(self.image_size)))
        kind = "grey" if self.preprocess.channels == "grey" else "RGB"
        batches = "that it takes batches of any size"
        advice = f"check image_size (or preprocess=, if its input is not square or not RGB), and {batches}"
        with told(f"model {self.name!r} does not run on two {shape} {kind} images", advice):
            output = self.at(None)(self.test_images())
        if len(output) != 2:
            raise FacexkitError(
                f"model {self.name!r} gives {len(output)} rows of outputs for 2 images; check output=, and {batches}"
            )
        return output

    @cached_property
    def layers(self) -> pd.DataFrame:
        """Every module with its type, output shape and parameters, from one run at `image_size`; see `list_layers`."""
        if isinstance(self.network, Scripted):
            raise FacexkitError(
                f"model {self.name!r} is a scripted or traced network (torch.jit), whose layers cannot be looked into; "
                "give the nn.Module that it was made from, with its state dict as weights"
            )
        return layer_table(self)

    @cached_property
    def _numbers(self) -> list[str]:
        return [f"class {k}" for k in range(self.try_out().shape[1])]

    @property
    def named(self) -> bool:
        """Whether the classes have names, rather than numbers."""
        return self._class_names is not None

    def __repr__(self) -> str:
        outputs = f"; outputs {listed(self._class_names)}" if self.named else ""
        return f"<{self.name}: input {self.preprocess}{outputs}>"

    @property
    def class_names(self) -> list[str]:
        """Names of the output's columns."""
        return self._class_names if self.named else self._numbers

    def class_index(self, target_class: int | str) -> int:
        """Return the output column of a class given by name or position; an unknown one is an error."""
        if str(target_class) in self.class_names:
            return self.class_names.index(str(target_class))
        if not re.fullmatch(r"-?\d+", str(target_class)):
            raise unknown("class", target_class, self.class_names)
        index = int(str(target_class))
        if not 0 <= index < len(self.class_names):
            raise FacexkitError(
                f"target_class {index} is out of range: model {self.name!r} has {len(self.class_names)} outputs, from 0"
            )
        return index

    def layer(self, name: str, places: bool = False) -> nn.Module:
        """Return the module called `name` if its output can be explained; else an error that says why not.

        With `places` an output that is one number a unit, without height and width, is an error too.
        """
        table = self.layers
        if name not in table.index:
            if name not in dict(self.network.named_modules()):
                raise unknown("layer", name, table.index, "List them with `facexkit layers` or fx.list_layers(model).")
            problem = "gives nothing: a forward pass does not call it"
        elif table.problem[name]:
            problem = f"cannot be used: {table.problem[name]}"
        elif places and table.height[name] * table.width[name] == 1:
            have = table.index[table.height * table.width > 1][-6:]
            take = f"take one of {', '.join(have)}" if len(have) else "and no layer of this model does"
            problem = f"gives no places to look at, one number a unit; {take}"
        else:
            return self.network.get_submodule(name)
        raise FacexkitError(f"layer {name!r} of {self.name!r} {problem}")

    def fingerprint(self) -> str:
        """Return 16 hexadecimal digits that change with whatever could change a number.

        Weights, modules and their settings, the preprocessing, which output is picked, and what it means. The weights are
        read once for as long as nobody writes into them; what is written into their `.data` is not seen.
        """
        own = self.preprocess
        seen = self.image_size, own.resize, own.interpolation, own.channels, own.mean_and_std
        asked = getattr(self.output, "__code__", None)
        asked = (asked.co_code, asked.co_consts, asked.co_names) if asked else self.output
        means = replace(self._meaning or Meaning(), guessed=False)
        if replace(means, likely=None) in (Meaning(), Meaning("binary")):  # as where nobody said so
            means = ""
        digest = hashlib.sha256(f"{seen} {asked} {means} {self.dtype}".encode())
        for name, module in self.network.named_modules():
            own = {key: value for key, value in vars(module).items() if key[0] != "_" and key not in OF_NO_WEIGHT}
            kept = sorted((key, value) for key, value in own.items() if isinstance(value, (int, float, str, tuple)))
            code = getattr(getattr(module.forward, "__code__", None), "co_code", b"")
            digest.update(f"{name} {type(module).__name__} {kept} ".encode() + code)
        digest.update(self._weights() + (self.question.fingerprint().encode() if self.question else b""))
        return digest.hexdigest()[:16]

    def _weights(self) -> bytes:
        """Return a digest of the weights and buffers."""
        every = {**dict(self.network.named_buffers()), **self.network.state_dict()}
        held = {key: value for key, value in sorted(every.items()) if isinstance(value, Tensor)}
        state = [(key, value.data_ptr(), value.is_inference() or value._version) for key, value in held.items()]
        if self._read[0] != state:
            digest = hashlib.sha256()
            for key, value in held.items():
                digest.update(f"{key} {tuple(value.shape)}".encode())
                digest.update(value.detach().cpu().contiguous().view(-1).view(torch.uint8).numpy())
            self._read = state, digest.digest()
        return self._read[1]


def apart(models: Sequence[object]) -> list:
    """Return the models with names that differ: those of one name get the beginning of their fingerprint; all else as it is."""
    names = [model.name for model in models if isinstance(model, FaceModel)]
    alike = [isinstance(model, FaceModel) and names.count(model.name) > 1 for model in models]
    called = zip(models, alike, strict=True)
    return [model.but(name=f"{model.name} {model.fingerprint()[:6]}") if same else model for model, same in called]


def _inside(network: nn.Module) -> nn.Module:
    """Return the network whose layers can be looked into: without what torch.compile or DataParallel put around it."""
    if isinstance(network, (nn.DataParallel, nn.parallel.DistributedDataParallel)):
        network = network.module
    network = getattr(network, "_orig_mod", network)
    return Scripted(network) if isinstance(network, torch.jit.ScriptModule) else network


def pick_device(device: str | torch.device) -> torch.device:
    """Return the device; "auto" is CUDA, then Apple's MPS, then the CPU."""
    if device == "auto":
        mps = torch.backends.mps.is_available()
        return torch.device("cuda" if torch.cuda.is_available() else "mps" if mps else "cpu")
    with told(f"device {device!r} cannot be used", "take device='auto' or 'cpu'", (RuntimeError, AssertionError)):
        return torch.empty(0, device=device).device
