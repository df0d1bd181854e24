"""Change what a layer gives while the network runs: units switched off, maps edited or masked."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from typing import Union

import numpy as np
import torch
from torch import Tensor

from facexkit.errors import FacexkitError, told
from facexkit.models.face_model import FaceModel
from facexkit.probe.accumulator import Change

AT_ONCE = 512
"""Images that pass the part above a layer together."""


@contextmanager
def edit(model: FaceModel, layer: str, change: Change | Tensor) -> Iterator[None]:
    """Change a layer's activation maps in the forward passes run inside the block.

        with fx.edit(model, "layer3", lambda maps: maps.flip(3)), fx.edit(model, "layer4", mask):
            model(inputs)

    Parameters
    ----------
    change : maps (B, U, h, w) → maps of that shape, or an elementwise mask that they are multiplied by: (U,), (U, h, w)
        or what else broadcasts to them.

    Raises
    ------
    FacexkitError for an unknown layer, a mask that does not fit, or a change that returns another shape.
    """
    apply = _masking(change, layer) if isinstance(change, Tensor) else change

    def hook(_module: object, _inputs: object, output: Tensor) -> Tensor:
        return _changed(output, apply, layer, model)

    with model.layer(layer).register_forward_hook(hook):
        yield


@contextmanager
def ablate(
    model: FaceModel,
    layer: str | Mapping[str, Sequence[int]],
    units: Sequence[int] = (),
    value: float | str | Sequence[float] | np.ndarray = 0,
) -> Iterator[None]:
    """Switch units off in the forward passes run inside the block.

        with fx.ablate(model, "layer4", units=[3, 17]):
            model(inputs)

    Parameters
    ----------
    layer, units : one layer and its units; or {layer: units} for several layers at once.
    value : what the units' maps hold instead: a number, "mean" for each map's own mean (the unit still answers, but
        nowhere in particular), or one number a unit, such as its mean over a face set from `fx.record`.
    """
    with ExitStack() as edits:
        for name, own in (layer if isinstance(layer, Mapping) else {layer: units}).items():
            edits.enter_context(edit(model, name, ablation(model, name, own, value)))
        yield


@dataclass(frozen=True)
class Ablation:
    """The change that switches units off: what their maps hold instead is `value`, see `ablate`."""

    units: tuple[int, ...]
    value: Union[float, str, Sequence[float], np.ndarray] = 0

    def __call__(self, maps: Tensor) -> Tensor:
        units = list(self.units)
        if isinstance(self.value, str):
            maps[:, units] = maps[:, units].mean((2, 3), keepdim=True).expand(-1, -1, *maps.shape[2:])
        else:
            maps[:, units] = torch.as_tensor(np.reshape(self.value, (-1, 1, 1)), dtype=maps.dtype, device=maps.device)
        return maps


def ablation(
    model: FaceModel, layer: str, units: Sequence[int], value: float | str | Sequence[float] | np.ndarray = 0
) -> Ablation:
    """Return the change that switches units of a layer off; see `ablate`."""
    model.layer(layer)
    count, units = int(model.layers.units[layer]), list(units)
    wrong = [unit for unit in units if isinstance(unit, bool) or int(unit) != unit or not 0 <= unit < count]
    if wrong or not units:
        raise FacexkitError(f"units {wrong or units} of {layer!r}: it has the units 0 to {count - 1}; name some of them")
    if isinstance(value, str) and value != "mean":
        raise FacexkitError(f"value is {value!r}; it is a number, one number a unit, or 'mean'")
    if not isinstance(value, str) and np.size(value) not in (1, len(units)):
        raise FacexkitError(f"value has {np.size(value)} numbers for {len(units)} units; give one, or one a unit")
    return Ablation(tuple(map(int, units)), value if isinstance(value, (str, int, float)) else tuple(np.ravel(value)))


def run_changes(model: FaceModel, layer: str, inputs: Tensor, changes: Sequence[Change]) -> tuple[Tensor, Tensor]:
    """Run one batch as it is, and with each change of a layer; what lies below the layer runs once.

    The network is shown a single image while the layer's output is replaced by the stored ones, so that only what
    comes after it works on all of them. Where something leads around the layer, which the unchanged output tells, the
    whole network runs for each change.

    Parameters
    ----------
    inputs : prepared (B, 3, S, S).

    Returns
    -------
    outputs (B, classes), and those of each change (changes, B, classes).
    """
    taken: list[Tensor] = []
    with torch.no_grad():
        with model.layer(layer).register_forward_hook(lambda _module, _inputs, output: taken.append(output.clone())):
            outputs = model(inputs)
        (given,) = taken
        if not _leads_through(model, layer, inputs, given, outputs):
            return outputs, torch.stack([_whole(model, layer, inputs, change) for change in changes])
        step, found = max(1, AT_ONCE // len(inputs)), []
        for start in range(0, len(changes), step):
            changed = torch.cat([_changed(given, change, layer, model) for change in changes[start : start + step]])
            found.append(_from(model, layer, inputs, changed).unflatten(0, (-1, len(inputs))))
        return outputs, torch.cat(found)


def _leads_through(model: FaceModel, layer: str, inputs: Tensor, given: Tensor, outputs: Tensor) -> bool:
    try:
        again = _from(model, layer, inputs, given)
    except RuntimeError:
        return False
    return again.shape == outputs.shape and torch.allclose(again, outputs, rtol=1e-4, atol=1e-5)


def _whole(model: FaceModel, layer: str, inputs: Tensor, change: Change) -> Tensor:
    with edit(model, layer, change):
        return model(inputs)


def _from(model: FaceModel, layer: str, inputs: Tensor, given: Tensor) -> Tensor:
    """Return the model's output when the layer gives `given`, for as many images as that holds."""
    with model.layer(layer).register_forward_hook(lambda *_: given.clone()):
        return model(inputs[:1])


def _changed(output: Tensor, change: Change, layer: str, model: FaceModel) -> Tensor:
    form = model.layers.attrs["forms"][layer]
    maps = form.maps(output)
    changed = change(maps.clone())
    if not isinstance(changed, Tensor) or changed.shape != maps.shape:
        found = tuple(changed.shape) if isinstance(changed, Tensor) else type(changed).__name__
        raise FacexkitError(f"a change of {layer!r} must return maps {tuple(maps.shape)}; it returned {found}")
    return form.back(changed, output)


def _masking(mask: Tensor, layer: str) -> Change:
    def change(maps: Tensor) -> Tensor:
        own = mask.to(maps)
        own = own[:, None, None] if own.ndim == 1 else own
        with told(f"a mask {tuple(mask.shape)} does not fit {layer!r}: {tuple(maps.shape)}", kinds=RuntimeError):
            return maps * own

    return change
