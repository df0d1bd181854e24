"""What a model's outputs say of a class: its probability, and how clearly they speak for it."""

from __future__ import annotations

import torch
from torch import Tensor


def margin(outputs: Tensor, target: int, likely: bool) -> Tensor:
    """Return how clearly the outputs (…, classes) speak for the target, (…).

    The logit of the class minus log-sum-exp of the others; log-odds where they are `likely` probabilities; or one logit.
    """
    if likely:
        return torch.logit(outputs[..., target], eps=1e-7)
    if outputs.shape[-1] == 1:
        return outputs[..., 0]
    others = torch.arange(outputs.shape[-1]) != target
    return outputs[..., target] - outputs[..., others].logsumexp(-1)


def are_probabilities(outputs: Tensor) -> bool:
    """Whether outputs (B, classes) are probabilities: within [0, 1], and adding up to 1 where there are several."""
    within = bool(((outputs >= 0) & (outputs <= 1)).all())
    return within and (outputs.shape[1] == 1 or bool((outputs.sum(1) - 1).abs().max() < 1e-3))


def probabilities(outputs: Tensor) -> Tensor:
    """Return outputs (B, classes) as probabilities: as they are if they are some, else their softmax, or one's sigmoid."""
    if are_probabilities(outputs):
        return outputs
    return outputs.softmax(1) if outputs.shape[1] > 1 else outputs.sigmoid()
