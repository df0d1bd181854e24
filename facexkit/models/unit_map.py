"""An affine map of a layer's units, put into a network for good: it is saved, loaded and exported with it."""

from __future__ import annotations

from collections.abc import Mapping

import torch.nn.functional as F
from torch import Tensor, nn

from facexkit.errors import FacexkitError
from facexkit.models.layers import is_channels_last

PLACES = ("map_in", "map_out")
"""What the map is called in its layer: before it, or after it."""


class UnitMap(nn.Module):
    """y = A·x + b for the units x at every place.

    Parameters
    ----------
    matrix, offset : A, float (U, U), and b, float (U,).
    """

    def __init__(self, matrix: Tensor, offset: Tensor) -> None:
        super().__init__()
        self.register_buffer("matrix", matrix.clone())
        self.register_buffer("offset", offset.clone())

    def forward(self, units: Tensor) -> Tensor:
        if units.ndim == 4 and not is_channels_last(units):
            return F.conv2d(units, self.matrix[:, :, None, None], self.offset)
        return F.linear(units, self.matrix, self.offset)


def put_map(network: nn.Module, layer: str, place: str, matrix: Tensor, offset: Tensor) -> None:
    """Put a map before or after a layer, into the map that is there if there is one; no other weight changes its name."""
    module = network.get_submodule(layer)
    if hasattr(module, place):
        there = getattr(module, place)
        matrix, offset = matrix @ there.matrix, matrix @ there.offset + offset
        there.matrix.copy_(matrix), there.offset.copy_(offset)
        return
    module.add_module(place, UnitMap(matrix, offset))
    if place == "map_in":
        module.register_forward_pre_hook(_before)
    elif type(module).forward is not nn.Sequential.forward:  # which runs what is added to it
        module.register_forward_hook(_after)


def put_saved_maps(network: nn.Module, weights: Mapping[str, Tensor]) -> None:
    """Put the maps that a state dict has into a network that lacks them."""
    layers = dict(network.named_modules())
    for key, matrix in weights.items():
        layer, _, place = key.removesuffix(".matrix").rpartition(".")
        if key.endswith(".matrix") and place in PLACES and layer in layers and not hasattr(layers[layer], place):
            if f"{layer}.{place}.offset" not in weights:
                raise FacexkitError(f"the weights have {key} without its offset; save the model again")
            put_map(network, layer, place, matrix, weights[f"{layer}.{place}.offset"])


def _before(module: nn.Module, given: tuple) -> tuple:
    return (module.map_in(given[0]), *given[1:])


def _after(module: nn.Module, _given: tuple, output: Tensor) -> Tensor:
    return module.map_out(output)
