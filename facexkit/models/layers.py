"""The layers of a network: what each gives out, and how that is read as activation maps."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

import pandas as pd
import torch
from torch import Tensor, nn

if TYPE_CHECKING:
    from facexkit.models.face_model import FaceModel

MOST_LEADING_TOKENS = 5
"""A class token, with up to four registers or a distillation token, may stand before a square grid of tokens."""

COLUMNS = ["type", "units", "height", "width", "parameters", "problem"]


def list_layers(model: FaceModel) -> pd.DataFrame:
    """List the modules that a forward pass of the model calls, with what they give out at its `image_size`.

    Returns
    -------
    table indexed by `layer` (the module's name), in the order of execution: `type`; `units`, `height`, `width` of its
    activation maps (0 where it has none); `parameters`, its own and its children's; `depth`, the share of the layers
    that ran before it; `problem`, empty, or why the layer cannot be explained.
    """
    return model.layers.copy()


def as_maps(output: Tensor) -> Tensor:
    """Read a layer's output as activation maps (B, U, h, w).

    (B, U) becomes 1×1 maps; (B, T, D) drops leading tokens and lays the others out as a square grid with U = D;
    (B, h, h, U), as in a Swin transformer, is moved to channels first.
    """
    if output.ndim == 2:
        return output[:, :, None, None]
    if output.ndim == 3:
        side = math.isqrt(output.shape[1])
        grid = output[:, output.shape[1] - side * side :]
        return grid.transpose(1, 2).unflatten(2, (side, side))
    return output.permute(0, 3, 1, 2) if is_channels_last(output) else output


def from_maps(maps: Tensor, output: Tensor) -> Tensor:
    """Copy `maps`, of the shape of `as_maps(output)`, into the form of `output`; leading tokens are kept."""
    if output.ndim == 2:
        return maps.flatten(1).clone()
    if output.ndim == 3:
        tokens = maps.flatten(2).transpose(1, 2)
        return torch.cat([output[:, : output.shape[1] - tokens.shape[1]], tokens], 1)
    return (maps.permute(0, 2, 3, 1) if is_channels_last(output) else maps).clone()


def is_channels_last(output: Tensor) -> bool:
    """Return whether a layer's output (B, …, …, …) has its units last, as a Swin transformer's."""
    _, first, second, third = output.shape
    return first == second != third


def layer_table(model: FaceModel) -> pd.DataFrame:
    """Run the model once and tabulate the modules that were called; see `list_layers`."""
    rows: dict[str, list[object]] = {}
    calls: dict[str, int] = {}

    def note(name: str, module: nn.Module, output: object) -> None:
        calls[name] = calls.get(name, 0) + 1
        rows[name] = _layer_row(module, output, calls[name])

    hooks = [
        module.register_forward_hook(lambda module, _, output, name=name: note(name, module, output))
        for name, module in model.network.named_modules()
        if name
    ]
    try:
        model.try_out()
    finally:
        for hook in hooks:
            hook.remove()
    table = pd.DataFrame.from_dict(rows, orient="index", columns=COLUMNS).rename_axis("layer")
    table.insert(5, "depth", [k / len(table) for k in range(len(table))])
    return table


def _layer_row(module: nn.Module, output: object, calls: int) -> list[object]:
    problem = ""
    if calls > 1:
        problem = f"it runs {calls} times in one forward pass, so its output is not one thing; take the block around it"
    elif not isinstance(output, Tensor):
        problem = f"it gives a {type(output).__name__}, not a tensor; take a layer in it or after it"
    elif not output.is_floating_point():
        problem = f"it gives {output.dtype}, not floating-point numbers"
    elif not 2 <= output.ndim <= 4 or len(output) != 2 or not output.numel():
        problem = f"for 2 images its output has the shape {tuple(output.shape)}, which is no (batch, units, …)"
    elif output.ndim == 3 and output.shape[1] - math.isqrt(output.shape[1]) ** 2 > MOST_LEADING_TOKENS:
        problem = f"its {output.shape[1]} tokens are no square grid"
    maps = (0, 0, 0) if problem else as_maps(output).shape[1:]
    return [type(module).__name__, *maps, sum(p.numel() for p in module.parameters()), problem]
