"""The layers of a network: what each gives out, and how that is read as activation maps."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Callable, Iterator, MutableMapping
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING

import pandas as pd
import torch
from torch import Tensor, nn
from torch.utils.weak import WeakTensorKeyDictionary

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
    axis : of the units: 1 in (B, U), one number each, in (B, U, h, w), and in maps that were flattened, (B, U, T); −1 in
        (B, h, w, U), as in a Swin transformer, and in (B, T, U), the tokens of other transformers.
    grid : height and width.
    lead : tokens before those of the grid, which have no place: a class token, registers. They are left out of the maps.
    """

    axis: int = 1
    grid: tuple[int, int] = (1, 1)
    lead: int = 0

    def maps(self, output: Tensor) -> Tensor:
        """Return the output as maps."""
        return self._in_a_row(output)[:, :, self.lead :].unflatten(2, self.grid)

    def back(self, maps: Tensor, output: Tensor) -> Tensor:
        """Return a copy of maps in the form of `output`, as it lies in memory; its leading tokens are kept."""
        tokens = maps.flatten(2)
        if self.lead:
            tokens = torch.cat([self._in_a_row(output)[:, :, : self.lead], tokens], 2)
        return torch.empty_like(output).copy_(tokens.movedim(1, self.axis).reshape(output.shape))

    def _in_a_row(self, output: Tensor) -> Tensor:
        """Return the output as (B, U, T), all places in a row."""
        return output.movedim(self.axis, 1)[..., None].flatten(2)


@contextmanager
def watched(network: nn.Module, note: Callable[[str, nn.Module, tuple, object], None]) -> Iterator[None]:
    """Call `note(name, module, inputs, output)` after each module of a network that runs inside the block."""
    with ExitStack() as hooks:
        for name, module in network.named_modules():
            if name:
                hooks.enter_context(module.register_forward_hook(partial(note, name)))
        yield


class Chain:
    """The forms of the outputs of a forward pass, each told by the module that made it and by what went before.

    A module that keeps its input's shape keeps its form; a convolution has its units first, a linear layer last; all else
    is told by the units and the grid of the maps that were there before.
    """

    def __init__(self) -> None:
        self.known: MutableMapping[Tensor, Form] = WeakTensorKeyDictionary()
        self.seen: list[tuple[int, tuple[int, int]]] = []
        self.tokens: set[int] = set()

    def form(self, module: nn.Module, inputs: tuple, output: Tensor) -> Form | None:
        """Return the form of a module's output; None where it is no maps."""
        same = (each for each in inputs if isinstance(each, Tensor) and each.shape == output.shape)
        form = next((self.known[each] for each in (output, *same) if each in self.known), None)
        if form is None:
            units_last = type(module) in UNITS_LAST if isinstance(module, (*UNITS_FIRST, *UNITS_LAST)) else None
            form = {2: lambda *_: Form(), 3: self._of_tokens, 4: self._of_maps}[output.ndim](output, units_last)
        if form is not None:
            self.known[output] = form
            if output.ndim == 4 and math.prod(form.grid) > 1:
                self.seen.insert(0, (form.maps(output).shape[1], form.grid))
            self.tokens |= {output.shape[1]} if output.ndim == 3 and form.axis == -1 else set()
        return form

    def _of_maps(self, output: Tensor, units_last: bool | None) -> Form | None:
        first, second, third = output.shape[1:]
        if units_last is None:
            before = [(third, (first, second)) in self.seen, (first, (second, third)) in self.seen]
            units_last = before[0] if before[0] != before[1] else is_channels_last(output)
        grid = (first, second) if units_last else (second, third)
        area = math.prod(self.seen[0][1]) if self.seen else 0
        in_windows = units_last and math.prod(grid) == area and grid != self.seen[0][1]
        of_tokens = second in self.tokens and (units_last or second == third)
        return None if in_windows or of_tokens else Form(-1 if units_last else 1, grid)

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
        return Form(-1 if units_last else 1, grid, lead) if lead <= MOST_LEADING_TOKENS else None


UNITS_LAST = (nn.Linear, nn.LayerNorm)
UNITS_FIRST = (nn.modules.conv._ConvNd, nn.modules.batchnorm._NormBase, nn.GroupNorm, nn.MaxPool2d, nn.AvgPool2d,
               nn.AdaptiveAvgPool2d, nn.AdaptiveMaxPool2d)  # fmt: skip


def is_channels_last(output: Tensor) -> bool:
    """Return whether an output (B, …, …, …), of which nothing else is known, has its units last, as a Swin transformer's."""
    _, first, second, third = output.shape
    return first == second != third


def layer_table(model: FaceModel) -> pd.DataFrame:
    """Run the model once and tabulate the modules that were called; see `list_layers`. attrs["forms"]: each one's form."""
    rows: dict[str, list[object]] = {}
    forms: dict[str, Form | None] = {}
    calls, chain, images = Counter(), Chain(), min(2, model.at_once or 2)

    def note(name: str, module: nn.Module, inputs: tuple, output: object) -> None:
        calls[name] += 1
        problem = _problem(output, calls[name], images)
        form = forms[name] = None if problem else chain.form(module, inputs, output)
        if not problem and form is None:
            shape = "×".join(map(str, output.shape[1:]))
            problem = f"its {output.shape[1]} tokens are no square grid" if output.ndim == 3 else (
                f"its output of {shape} numbers is no picture: tokens or windows in an order of their own")  # fmt: skip
        extent = form.maps(output).shape[1:] if form else (0, 0, 0)
        rows[name] = [type(module).__name__, *extent, sum(p.numel() for p in module.parameters()), problem]

    with watched(model.network, note), torch.no_grad():
        if images == 2:
            model.try_out()
        else:
            model.raw(model.test_images()[:1])
    table = pd.DataFrame.from_dict(rows, orient="index", columns=COLUMNS).rename_axis("layer")
    table.insert(5, "depth", [k / len(table) for k in range(len(table))])
    table.attrs["forms"] = forms
    return table


def _problem(output: object, calls: int, images: int) -> str:
    """Say why what a layer gives is nothing to look at; nothing where it may be."""
    if calls > 1:
        return f"it runs {calls} times in one forward pass, so its output is not one thing; take the block around it"
    if not isinstance(output, Tensor):
        return f"it gives a {type(output).__name__}, not a tensor; take a layer in it or after it"
    if not output.is_floating_point():
        return f"it gives {output.dtype}, not floating-point numbers"
    if not 2 <= output.ndim <= 4 or len(output) != images or not output.numel():
        return f"for {images} images its output has the shape {tuple(output.shape)}, which is no (batch, units, …)"
    return ""
