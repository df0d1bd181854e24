"""Before anything is measured a network is asked: as it was given and as the kit runs it, alone and in a batch, twice."""

from __future__ import annotations

from copy import deepcopy

import torch
from torch import Tensor, nn

from facexkit.errors import FacexkitError, listed, told
from facexkit.models.face_model import FaceModel
from facexkit.models.layers import watched
from facexkit.models.outputs import Meaning

FORMS = ((True, False, True), (False, False, True), (False, True, True), (False, True, False))
"""Channels-last, activations in place, single precision: in what order they are tried."""
SAME = {torch.float16: 3e-2, torch.bfloat16: 1e-1}
"""By how much of the largest output two answers in this precision may differ; 1e-3 in others."""
PASSED_ON = ("View", "Squeeze", "Unsqueeze", "Reshape", "Select", "Slice", "Permute", "Transpose", "Clone", "Cat", "ToCopy")


def settle(model: FaceModel) -> tuple[Tensor, str]:
    """Find the form in which a network that lies in a model as it was given gives the same answers.

    The first of `FORMS` that does is taken; images go in one at a time where a batch does not run or answers otherwise.

    Returns
    -------
    the answers for two images as the network means them, (2, D), and the last operation: "sigmoid", "softmax", "pairs"
    of them for each attribute, or "".

    Raises
    ------
    FacexkitError where the answers are random, depend on the other images, or are others in every form.
    """
    network, model._meaning = model.network, Meaning()
    own = next((t.dtype for t in network.state_dict().values() if t.is_floating_point()), torch.float32)
    in_place = [name for name, module in network.named_modules() if getattr(module, "inplace", False)]
    pristine = deepcopy(network) if own != torch.float32 else network
    model.take_form(False, in_place, own)
    given = _given(model)
    for fast, keeps, single in FORMS:
        if not single:
            model.network = pristine
        model.take_form(fast, in_place if keeps else (), torch.float32 if single else own)
        if _same(given, _tried(model), own):
            break
    else:
        _random(model, own)
        raise FacexkitError(
            f"model {model.name!r} answers {listed([f'{value:.4g}' for value in given[0].tolist()], 4)} as it was given, and never "
            "again: something in it counts its calls, or keeps what it saw; give a network whose answer depends on the image alone"
        )
    with told(f"model {model.name!r} does not run on a single image"):
        alone, end = _alone(model)
    model.squeezes |= alone.shape != given[:1].shape and alone.numel() == given[0].numel()
    if not _same(given[:1], alone.reshape(1, -1), own):
        _together(model)
        given = model.try_out()
    return given, end


def _given(model: FaceModel) -> Tensor:
    try:
        return model.try_out()
    except FacexkitError:
        model.at_once, model.squeezes = 1, True
        if (given := _tried(model)) is None:
            raise
    model.notes.append(f"{model.name} takes one image at a time, and is shown them so.")
    return given


def _tried(model: FaceModel) -> Tensor | None:
    try:
        return model.try_out()
    except FacexkitError:  # as a layout that a view does not allow; the next form is tried
        return None


def _same(given: Tensor, found: Tensor | None, dtype: torch.dtype) -> bool:
    if found is None or found.shape != given.shape:
        return False
    one, other = given.double(), found.double()
    reach = SAME.get(dtype, 1e-3) * float(one.nan_to_num(0, 0, 0).abs().max())
    return torch.allclose(one, other, rtol=0, atol=reach + 1e-12, equal_nan=True)


def _random(model: FaceModel, dtype: torch.dtype) -> None:
    """Raise where the same images get other answers each time, with the first module that gives another output."""
    seen: dict[str, Tensor] = {}
    first: list[str] = []

    def compare(name: str, _module: nn.Module, _inputs: tuple, output: object) -> None:
        if isinstance(output, Tensor) and not torch.equal(seen.setdefault(name, output.clone()), output):
            first.append(name)

    with watched(model.network, compare):
        one, other = _tried(model), _tried(model)
    if one is not None and not _same(one, other, dtype):
        where = f", from layer {first[0]!r} on" if first else ""
        raise FacexkitError(
            f"model {model.name!r} gives the same image another answer each time{where}: dropout or other chance stays on; "
            "write F.dropout(x, p, self.training), or use nn.Dropout"
        )


def _together(model: FaceModel) -> None:
    """Let a network whose answer depends on the other images see one at a time; an error where that is no answer."""
    for name, module in model.network.named_modules():
        if isinstance(module, nn.modules.batchnorm._BatchNorm) and module.running_mean is None:
            raise FacexkitError(
                f"model {model.name!r}: batch norm {name!r} has no running statistics, so an image's answer depends on the "
                "others in its batch; build it with track_running_stats=True and the statistics of its training"
            )
    model.at_once = 1
    model.notes.append(f"{model.name} answers otherwise when it sees several images at once, and is shown them one by one.")


def _alone(model: FaceModel) -> tuple[Tensor, str]:
    """Return the answer for the first image alone, and the last operation."""
    one = model.test_images()[:1]
    with model.home:
        try:
            with torch.enable_grad():
                picked = model.picked(model.network(one.requires_grad_() * 1))
        except RuntimeError:  # it cannot be differentiated, which is told where that is needed
            with torch.no_grad():
                picked = model.picked(model.network(one.detach()))
    node, end = picked.grad_fn, ""
    while node is not None and node.name().startswith(PASSED_ON):
        node = node.next_functions[0][0]
    if node is not None and node.name().startswith(("Sigmoid", "Softmax")):
        end = node.name()[:7].lower()
    pairs = len([side for side in picked.shape[1:] if side != 1]) == 2
    return model.rows_of(picked).detach(), ("sigmoid pairs" if end else "pairs") if pairs else end
