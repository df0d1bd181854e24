"""The streaming pass: the model runs once a batch, and every accumulator gets what it asked for."""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import nullcontext

import torch

from facexkit.errors import FacexkitError
from facexkit.faces.faceset import FaceBatch, FaceSet
from facexkit.models.face_model import FaceModel
from facexkit.probe.accumulator import Accumulator, ProbedBatch
from facexkit.probe.attribution import Attribution, attribute
from facexkit.probe.hooks import capture
from facexkit.probe.progress import Progress, progress_bar


def stream(
    model: FaceModel,
    faces: FaceSet,
    accumulators: Sequence[Accumulator],
    *,
    batch_size: int = 32,
    attribution: str | Attribution = "gradcam",
    workers: int | None = None,
    autocast: torch.dtype | None = None,
    max_skipped: float = 0.01,
    progress: Progress = True,
) -> list[str]:
    """Show every face to the model once and hand the batches to the accumulators.

    The forward pass ends after the deepest layer that somebody asked for, unless outputs or attributions are needed;
    the model does not run for accumulators that read masks alone.

    Parameters
    ----------
    workers : decoding processes, see `FaceSet.batches`.
    autocast : torch.float16 or torch.bfloat16 for mixed precision on a GPU; None for float32.
    max_skipped : largest share of images that may be undecodable.
    progress : whether a bar is shown, or what shows it, see `Progress`.

    Returns
    -------
    list of "path: reason" of the images that could not be decoded, in order.

    Raises
    ------
    FacexkitError for an empty face set, missing masks, unknown layers, too many undecodable images, or attribution maps
    or outputs that are not finite.
    """
    if not len(faces):
        raise FacexkitError(f"the face set {faces.name!r} is empty; loosen its filter or limit")
    masks = tuple(dict.fromkeys(view for a in accumulators for view in a.masks))
    batches = faces.batches(model.image_size, batch_size, masks, workers, pin_memory=model.device.type == "cuda")
    skipped: list[str] = []
    with progress_bar(progress, total=len(faces), unit="face", desc=f"{model.name} on {faces.name}") as bar:
        for batch in batches:
            skipped += skips(batch)
            check_skipped(skipped, len(faces), max_skipped)
            if len(batch.rows):
                probed = _probe(model, batch, accumulators, attribution, autocast)
                _check_finite(probed, model, faces)
                for accumulator in accumulators:
                    accumulator.update(probed)
            bar.update(len(batch.rows) + len(batch.skipped))
    return skipped


def skips(batch: FaceBatch) -> list[str]:
    """Return "path: reason" of the images of a batch that could not be decoded."""
    return [f"{path}: {reason}" for _, path, reason in batch.skipped]


def check_skipped(skipped: Sequence[str], images: int, max_skipped: float) -> None:
    """Raise where so many of the images were skipped that the rest no longer speaks for the set."""
    if len(skipped) > max_skipped * images or len(skipped) == images:
        raise FacexkitError(
            f"at least {len(skipped)} of {images} images cannot be decoded, max_skipped={max_skipped:g} is the share "
            f"allowed: {'; '.join(skipped[:5])}; replace them or take their rows out"
        )


def _check_finite(probed: ProbedBatch, model: FaceModel, faces: FaceSet) -> None:
    found = {f"attribution map at {layer!r}": maps for (layer, _), maps in probed.attributions.items()}
    found |= {"output": probed.outputs} if probed.outputs is not None else {}
    for what, values in found.items():
        broken = ~values.isfinite().flatten(1).all(1).cpu().numpy()
        if broken.any():
            path = faces.table.path.iloc[probed.rows[broken][0]]
            raise FacexkitError(
                f"the {what} of {model.name!r} is not finite for {path}; check its weights and normalization, "
                "and autocast if it was on"
            )


def _probe(
    model: FaceModel,
    batch: FaceBatch,
    accumulators: Sequence[Accumulator],
    attribution: str | Attribution,
    autocast: torch.dtype | None,
) -> ProbedBatch:
    model = model.at(batch.rows)
    layers = list(dict.fromkeys(layer for a in accumulators for layer in a.layers))
    pairs = list(dict.fromkeys(pair for a in accumulators for pair in a.attributions))
    probed = ProbedBatch(**vars(batch) | {"masks": batch.masks.to(model.device)})
    precision = torch.autocast(model.device.type, autocast) if autocast else nullcontext()
    stop = not pairs and not any(a.outputs for a in accumulators)
    if stop and not layers:
        return probed
    with torch.no_grad(), precision, capture(model, layers, stop=stop) as maps:
        inputs = model.prepare(batch.images)
        for layer in dict.fromkeys(layer for layer, _ in pairs):
            targets = [target for other, target in pairs if other == layer]
            found, probed.outputs = attribute(model, layer, inputs, targets, attribution)
            probed.attributions |= {(layer, target): found[target] for target in targets}
        if probed.outputs is None:
            probed.outputs = model(inputs)
    probed.activations = {layer: taken.detach().float() for layer, taken in maps.items()}
    return probed
