"""What the model makes of one batch: no more of it runs than the accumulators need, and each part once."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from contextlib import nullcontext

import torch

from facexkit.errors import FacexkitError
from facexkit.faces.faceset import FaceBatch, FaceSet
from facexkit.models.face_model import FaceModel
from facexkit.probe.accumulator import Accumulator, ProbedBatch
from facexkit.probe.attribution import attribute
from facexkit.probe.edits import run_changes
from facexkit.probe.hooks import capture


def probed(
    model: FaceModel, batch: FaceBatch, accumulators: Sequence[Accumulator], autocast: torch.dtype | None
) -> ProbedBatch:
    """Show a batch to the model and gather what the accumulators need.

    The forward pass ends after the deepest layer that somebody asked for, unless outputs or attributions are needed;
    the model does not run for accumulators that read masks alone.
    """
    model = model.at(batch.rows)
    layers, wanted, edits = (_every(getattr(a, need) for a in accumulators) for need in ("layers", "attributions", "edits"))
    found = ProbedBatch(**vars(batch) | {"masks": batch.masks.to(model.device)})
    precision = torch.autocast(model.device.type, autocast) if autocast else nullcontext()
    with torch.no_grad(), precision:
        stop = not wanted and not any(a.outputs for a in accumulators)
        if layers or not stop:
            with capture(model, layers, stop=stop) as maps:
                inputs = model.prepare(batch.images)
                for layer, by in dict.fromkeys((one.layer, one.by) for one in wanted):
                    own = [one for one in wanted if (one.layer, one.by) == (layer, by)]
                    shown, found.outputs = attribute(model, layer, inputs, [one.target for one in own], by)
                    found.attributions |= {one: shown[one.target] for one in own}
                if found.outputs is None:
                    found.outputs = model(inputs)
            found.activations = {layer: taken.detach().float() for layer, taken in maps.items()}
        for layer, changes in edits:
            found.outputs, found.edited[layer] = run_changes(model, layer, model.prepare(batch.images), changes)
    return found


def check_finite(found: ProbedBatch, model: FaceModel, faces: FaceSet) -> None:
    """Raise where an attribution map or an output is not finite, with the image."""
    values = {f"attribution map at {one.layer!r}": maps for one, maps in found.attributions.items()}
    values |= {"output": found.outputs} if found.outputs is not None else {}
    for what, numbers in values.items():
        broken = ~numbers.isfinite().flatten(1).all(1).cpu().numpy()
        if broken.any():
            path = faces.table.path.iloc[found.rows[broken][0]]
            raise FacexkitError(
                f"the {what} of {model.name!r} is not finite for {path}; check its weights and normalization, "
                "and autocast if it was on"
            )


def _every(needs: Iterable[Sequence]) -> list:
    return list(dict.fromkeys(one for own in needs for one in own))
