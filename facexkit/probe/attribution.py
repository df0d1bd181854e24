"""Attribution maps: how much each place of a layer speaks for a class, by Captum or by a caller's own function."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor, nn

from facexkit.errors import FacexkitError, check_known
from facexkit.models.face_model import FaceModel
from facexkit.probe.accumulator import Attribution
from facexkit.probe.hooks import capture
from facexkit.registry import Registry

ATTRIBUTIONS: Registry[Attribution] = Registry("attribution", "facexkit.attributions")
"""Attributions by name, beside Captum's; each is a region method too."""
CAPTUM = {"gradcam": "LayerGradCam", "gradient_x_activation": "LayerGradientXActivation"}


def attribute(
    model: FaceModel, layer: str, inputs: Tensor, targets: Sequence[int], attribution: str | Attribution = "gradcam"
) -> tuple[dict[int, Tensor], Tensor]:
    """Compute the attribution maps of one batch for several classes from one forward pass.

    Parameters
    ----------
    inputs : float (B, 3, S, S), from `model.prepare`.
    targets : output columns.
    attribution : "gradcam" (Selvaraju et al. 2017), "gradient_x_activation", or a function of the form `Attribution`,
        which is called once for each target, with gradients enabled.

    Returns
    -------
    maps : for each target float32 (B, h, w).
    outputs : (B, classes).
    """
    if isinstance(attribution, str) and attribution not in CAPTUM:
        advice = "Or pass a function (model, layer, images, target) → maps."
        check_known("attribution", [attribution], {**CAPTUM, **ATTRIBUTIONS}, advice)
        attribution = ATTRIBUTIONS[attribution]
    if callable(attribution):
        with torch.enable_grad():
            found = {t: _checked(attribution(model, layer, inputs, t), inputs) for t in targets}
        with torch.no_grad():
            return found, model(inputs)  # last, so that hooks around this call keep what these inputs gave
    with torch.enable_grad(), capture(model, [layer], gradients=True) as maps:
        outputs = model(inputs)
    if not outputs.requires_grad:
        raise FacexkitError(f"the output of {model.name!r} does not depend on layer {layer!r}; take another layer")
    from captum import attr  # here, as it takes a second

    replay = _Replay(maps[layer], outputs)
    method = getattr(attr, CAPTUM[attribution])(replay, replay.layer)
    every = {target: method.attribute(inputs, target, grad_kwargs={"retain_graph": True}) for target in targets}
    return {target: parts.sum(1).relu().detach().float() for target, parts in every.items()}, outputs.detach()


def unreached(model: FaceModel, layer: str, inputs: Tensor, targets: Sequence[int]) -> list[int]:
    """Return the targets that do not change with the maps of a layer, at these prepared inputs."""
    with torch.enable_grad(), capture(model, [layer], gradients=True) as maps:
        outputs = model(inputs)
        if not outputs.requires_grad:
            return list(targets)
        sums = [(outputs[:, target].sum(), maps[layer]) for target in targets]
        slopes = [torch.autograd.grad(*each, retain_graph=True, allow_unused=True)[0] for each in sums]
    return [target for target, slope in zip(targets, slopes, strict=True) if slope is None or not slope.any()]


class _Replay(nn.Module):
    """A forward pass that has already been run, in the form that Captum asks for.

    Captum runs the network once for every target; it gets the recorded layer and output instead.
    """

    def __init__(self, recorded: Tensor, outputs: Tensor) -> None:
        super().__init__()
        self.layer = nn.Identity()
        self.recorded, self.outputs = recorded, outputs

    def forward(self, _inputs: Tensor) -> Tensor:
        self.layer(self.recorded)
        return self.outputs


def _checked(maps: object, inputs: Tensor) -> Tensor:
    if isinstance(maps, Tensor) and maps.ndim == 4 and maps.shape[1] == 1:
        maps = maps[:, 0]
    if not isinstance(maps, Tensor) or maps.ndim != 3 or len(maps) != len(inputs):
        found = tuple(maps.shape) if isinstance(maps, Tensor) else type(maps).__name__
        raise FacexkitError(f"an attribution function must return maps ({len(inputs)}, h, w); it returned {found}")
    return maps.detach().float()
