"""A network with all that is needed to show it faces: input size, normalization, classes, device."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Sequence
from functools import cached_property

import pandas as pd
import torch
from torch import Tensor, nn

from facexkit.errors import FacexkitError, unknown
from facexkit.models.layers import layer_table


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
        self.device = pick_device(device)
        for module in network.modules():
            if getattr(module, "inplace", False):
                module.inplace = False  # an activation that is recorded must not be overwritten by its successor
        self.network = network.eval().requires_grad_(False).to(self.device, memory_format=torch.channels_last)
        self.name, self.image_size, self.output = name, int(image_size), output
        self._class_names = list(class_names) if class_names is not None else None
        shape = (1, 3, 1, 1)
        self.mean = torch.tensor(mean, dtype=torch.float32, device=self.device).reshape(shape)
        self.std = torch.tensor(std, dtype=torch.float32, device=self.device).reshape(shape)

    def prepare(self, images: Tensor) -> Tensor:
        """Turn uint8 (B, 3, S, S) into the network's float input, channels-last, on its device."""
        images = images.to(self.device, non_blocking=True).to(torch.float32, memory_format=torch.channels_last)
        return images.mul_(1 / 255).sub_(self.mean).div_(self.std)

    def pick(self, returned: object) -> Tensor:
        """Return the output (B, classes) from what the network returned."""
        if callable(self.output):
            returned = self.output(returned)
        elif self.output is not None:
            try:
                returned = returned[self.output]
            except (KeyError, IndexError, TypeError) as error:
                raise FacexkitError(f"model {self.name!r}: its output has no {self.output!r} ({error})") from error
        if not isinstance(returned, Tensor):
            kind = type(returned).__name__
            have = f" with {', '.join(map(repr, returned))}" if isinstance(returned, dict) else ""
            raise FacexkitError(f"model {self.name!r} returns a {kind}{have}; say which part with output=KEY")
        return returned.reshape(len(returned), -1)

    def __call__(self, inputs: Tensor) -> Tensor:
        """Run the network on prepared inputs and return its output (B, classes)."""
        return self.pick(self.network(inputs))

    @cached_property
    def layers(self) -> pd.DataFrame:
        """Every module with its type, output shape and parameters, from one run at `image_size`; see `list_layers`."""
        return layer_table(self)

    @property
    def class_names(self) -> list[str]:
        """Names of the output's columns."""
        if self._class_names is None:
            with torch.no_grad():
                columns = self(self.prepare(torch.zeros(1, 3, self.image_size, self.image_size, dtype=torch.uint8)))
            self._class_names = [f"class {k}" for k in range(columns.shape[1])]
        return self._class_names

    def class_index(self, target_class: int | str) -> int:
        """Return the output column of a class given by position or name; an unknown one is an error."""
        if target_class in self.class_names:
            return self.class_names.index(target_class)
        try:
            index = int(target_class)
        except (TypeError, ValueError):
            raise unknown("class", target_class, self.class_names) from None
        if not 0 <= index < len(self.class_names):
            raise FacexkitError(
                f"target_class {index} is out of range: model {self.name!r} has {len(self.class_names)} outputs, from 0"
            )
        return index

    def layer(self, name: str) -> nn.Module:
        """Return the module called `name` if its output can be explained; else an error that says why not."""
        if name not in self.layers.index:
            raise unknown("layer", name, self.layers.index, "List them with `facexkit layers` or fx.list_layers(model).")
        problem = self.layers.problem[name]
        if problem:
            raise FacexkitError(f"layer {name!r} of {self.name!r} cannot be used: {problem}")
        return self.network.get_submodule(name)

    def fingerprint(self) -> str:
        """Return 16 hexadecimal digits that change with any weight, the input size or the normalization."""
        digest = hashlib.sha256(f"{self.image_size} {self.mean.tolist()} {self.std.tolist()}".encode())
        for key, value in sorted(self.network.state_dict().items()):
            digest.update(key.encode())
            digest.update(value.detach().cpu().contiguous().view(-1).view(torch.uint8).numpy().tobytes())
        return digest.hexdigest()[:16]


def pick_device(device: str) -> torch.device:
    """Return the device; "auto" is CUDA, then Apple's MPS, then the CPU."""
    if device == "auto":
        mps = torch.backends.mps.is_available()
        return torch.device("cuda" if torch.cuda.is_available() else "mps" if mps else "cpu")
    if device.startswith("cuda") and not torch.cuda.is_available():
        raise FacexkitError(f"device {device!r}: this machine has no CUDA GPU that torch can use; take device='cpu'")
    try:
        return torch.device(device)
    except RuntimeError as error:
        raise FacexkitError(f"device {device!r}: {error}") from error
