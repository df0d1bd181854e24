"""Look into a network while it runs: hooks as `with` blocks that leave it as it was."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager

from torch import Tensor

from facexkit.models.face_model import FaceModel
from facexkit.models.layers import Form


class _Enough(Exception):
    """Ends the forward pass when the last asked layer has run."""


@contextmanager
def capture(
    model: FaceModel, layers: Sequence[str], *, stop: bool = False, gradients: bool = False
) -> Iterator[dict[str, Tensor]]:
    """Record the activation maps of layers in the forward passes run inside the block.

        with capture(model, ["layer3", "layer4"], stop=True) as maps:
            model(inputs)
        maps["layer4"]                                 # (B, U, h, w)

    Parameters
    ----------
    layers : names of modules; their outputs are read as their `Form` says.
    stop : end the forward pass after the deepest of the layers.
    gradients : start the autograd graph at the first of the layers, so that an output can be differentiated with
        respect to the maps and nothing below is kept or computed; run the model under `torch.enable_grad`.

    Raises
    ------
    FacexkitError where a layer is unknown or has no maps.
    """
    maps: dict[str, Tensor] = {}
    seen: set[str] = set()
    block = object()

    def hook_for(layer: str, form: Form):
        def hook(_module, _inputs, output: Tensor) -> Tensor | None:
            seen.add(layer)
            taken = form.maps(output.clone() if model.keeps_in_place else output)
            if gradients and not taken.requires_grad:
                taken = taken.detach().requires_grad_()
            maps[layer] = taken
            if stop and seen == set(layers):
                raise _Enough(block)  # anew each time: one that is kept would hold on to all that ran at its time
            return form.back(taken, output)  # a copy: what comes next may work in place

        return hook

    with ExitStack() as hooks:
        for layer in layers:
            module, form = model.layer(layer), model.layers.attrs["forms"][layer]
            hooks.enter_context(module.register_forward_hook(hook_for(layer, form)))
        try:
            yield maps
        except _Enough as stopped:
            if stopped.args[0] is not block:  # it ends an outer block
                raise
