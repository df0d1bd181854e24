"""The layers of a network: what each gives out, and how that is read as activation maps."""

from __future__ import annotations

import math
import weakref
from dataclasses import dataclass
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


@dataclass(frozen=True)
class Form:
    """How a layer's output is read as activation maps (B, U, h, w).

    Parameters
    ----------
    kind : "units" (B, U), one number each; "maps" (B, U, h, w); "maps last" (B, h, w, U), as in a Swin transformer;
        "tokens" (B, T, U), as in other transformers; "rows" (B, U, T), maps that were flattened.
    grid : height and width.
    lead : tokens before those of the grid, which have no place: a class token, registers. They are left out of the maps.
    """

    kind: str
    grid: tuple[int, int] = (1, 1)
    lead: int = 0

    def maps(self, output: Tensor) -> Tensor:
        """Return the output as maps."""
        if self.kind == "units":
            return output[:, :, None, None]
        if self.kind == "tokens":
            return output[:, self.lead :].transpose(1, 2).unflatten(2, self.grid)
        if self.kind == "rows":
            return output[:, :, self.lead :].unflatten(2, self.grid)
        return output.permute(0, 3, 1, 2) if self.kind == "maps last" else output

    def back(self, maps: Tensor, output: Tensor) -> Tensor:
        """Return a copy of maps in the form of `output`, whose leading tokens are kept."""
        if self.kind == "tokens":
            return torch.cat([output[:, : self.lead], maps.flatten(2).transpose(1, 2)], 1)
        if self.kind == "rows":
            return torch.cat([output[:, :, : self.lead], maps.flatten(2)], 2)
        if self.kind == "maps last":
            return maps.permute(0, 2, 3, 1).clone()
        return maps.flatten(1).clone() if self.kind == "units" else maps.clone()


class Chain:
    """The forms of the outputs of a forward pass, each told by the module that made it and by what went before.

    A module that keeps its input's shape keeps its form; a convolution has its units first, a linear layer last; all else
    is told by the units and the grid of the maps that were there before.
    """

    def __init__(self) -> None:
        self.known: dict[int, tuple[weakref.ref, Form]] = {}
        self.seen: list[tuple[int, tuple[int, int]]] = []
        self.tokens: set[int] = set()

    def form(self, module: nn.Module, inputs: tuple, output: Tensor) -> Form | None:
        """Return the form of a module's output; None where it is no maps."""
        same = (each for each in inputs if isinstance(each, Tensor) and each.shape == output.shape)
        known = (found for each in (output, *same) if (found := self._known(each)))
        if (form := next(known, None)) is None:
            units_last = type(module) in UNITS_LAST if isinstance(module, (*UNITS_FIRST, *UNITS_LAST)) else None
            form = {2: lambda *_: Form("units"), 3: self._of_tokens, 4: self._of_maps}[output.ndim](output, units_last)
        if form is not None:
            self.known[id(output)] = weakref.ref(output), form
            if output.ndim == 4 and math.prod(form.grid) > 1:
                self.seen.insert(0, (form.maps(output).shape[1], form.grid))
            self.tokens |= {output.shape[1]} if form.kind == "tokens" else set()
        return form

    def _known(self, tensor: Tensor) -> Form | None:
        of, form = self.known.get(id(tensor), (lambda: None, None))
        return form if of() is tensor else None

    def _of_maps(self, output: Tensor, units_last: bool | None) -> Form | None:
        first, second, third = output.shape[1:]
        if units_last is None:
            before = [(third, (first, second)) in self.seen, (first, (second, third)) in self.seen]
            units_last = before[0] if before[0] != before[1] else is_channels_last(output)
        grid = (first, second) if units_last else (second, third)
        area = math.prod(self.seen[0][1]) if self.seen else 0
        in_windows = units_last and math.prod(grid) == area and grid != self.seen[0][1]
        of_tokens = second in self.tokens and (units_last or second == third)
        return None if in_windows or of_tokens else Form("maps last" if units_last else "maps", grid)

    def _of_tokens(self, output: Tensor, units_last: bool | None) -> Form | None:
        first, second = output.shape[1:]
        if units_last is None:
            rows = next((units for units, grid in self.seen if units == first and math.prod(grid) == second), None)
            units_last = rows is None or first == second
        count = first if units_last else second
        grids = [grid for _, grid in self.seen if 0 <= count - math.prod(grid) <= MOST_LEADING_TOKENS]
        side = math.isqrt(count)
        grid = grids[0] if grids else (side, side)
        lead = count - math.prod(grid)
        return Form("tokens" if units_last else "rows", grid, lead) if lead <= MOST_LEADING_TOKENS else None


UNITS_LAST = (nn.Linear, nn.LayerNorm)
UNITS_FIRST = (nn.modules.conv._ConvNd, nn.modules.batchnorm._NormBase, nn.GroupNorm, nn.MaxPool2d, nn.AvgPool2d,
               nn.AdaptiveAvgPool2d, nn.AdaptiveMaxPool2d)  # fmt: skip


def as_maps(output: Tensor, form: Form | None = None) -> Tensor:
    """Read a layer's output as activation maps (B, U, h, w), by its form, or by its shape alone where that is not known."""
    return (form or Chain().form(nn.Identity(), (), output)).maps(output)


def from_maps(maps: Tensor, output: Tensor, form: Form | None = None) -> Tensor:
    """Copy `maps`, of the shape of `as_maps(output)`, into the form of `output`; leading tokens are kept."""
    return (form or Chain().form(nn.Identity(), (), output)).back(maps, output)


def is_channels_last(output: Tensor) -> bool:
    """Return whether an output (B, …, …, …), of which nothing else is known, has its units last, as a Swin transformer's."""
    _, first, second, third = output.shape
    return first == second != third


def layer_table(model: FaceModel) -> pd.DataFrame:
    """Run the model once and tabulate the modules that were called; see `list_layers`. attrs["forms"]: each one's form."""
    rows: dict[str, list[object]] = {}
    calls: dict[str, int] = {}
    forms: dict[str, Form] = {}
    chain, images = Chain(), min(2, model.at_once or 2)

    def note(name: str, module: nn.Module, inputs: tuple, output: object) -> None:
        calls[name] = calls.get(name, 0) + 1
        rows[name] = _layer_row(module, output, calls[name], images)
        form = None if rows[name][-1] else chain.form(module, inputs, output)
        if form is not None:
            forms[name], rows[name][1:4] = form, form.maps(output).shape[1:]
        elif not rows[name][-1]:
            shape = "×".join(map(str, output.shape[1:]))
            rows[name][-1] = f"its {output.shape[1]} tokens are no square grid" if output.ndim == 3 else (
                f"its output of {shape} numbers is no picture: tokens or windows in an order of their own")  # fmt: skip

    hooks = [
        module.register_forward_hook(lambda module, inputs, output, name=name: note(name, module, inputs, output))
        for name, module in model.network.named_modules()
        if name
    ]
    try:
        if images == 2:
            model.try_out()
        else:
            with torch.no_grad():
                model.raw(model.test_images()[:1])
    finally:
        for hook in hooks:
            hook.remove()
    table = pd.DataFrame.from_dict(rows, orient="index", columns=COLUMNS).rename_axis("layer")
    table.insert(5, "depth", [k / len(table) for k in range(len(table))])
    table.attrs["forms"] = forms
    return table


def _layer_row(module: nn.Module, output: object, calls: int, images: int) -> list[object]:
    problem = ""
    if calls > 1:
        problem = f"it runs {calls} times in one forward pass, so its output is not one thing; take the block around it"
    elif not isinstance(output, Tensor):
        problem = f"it gives a {type(output).__name__}, not a tensor; take a layer in it or after it"
    elif not output.is_floating_point():
        problem = f"it gives {output.dtype}, not floating-point numbers"
    elif not 2 <= output.ndim <= 4 or len(output) != images or not output.numel():
        problem = f"for {images} images its output has the shape {tuple(output.shape)}, which is no (batch, units, …)"
    return [type(module).__name__, 0, 0, 0, sum(p.numel() for p in module.parameters()), problem]
