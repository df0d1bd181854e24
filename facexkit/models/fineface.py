"""FineFACE's network: three experts on a backbone's last stages, their concatenation, and where they attend."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path

import numpy as np
import torch
import torch.nn.functional as F
import torchvision
import xarray as xr
from safetensors import safe_open
from torch import Tensor, nn

from facexkit.errors import FacexkitError, unknown
from facexkit.faces.faceset import FaceSet
from facexkit.models.face_model import FaceModel
from facexkit.models.loading import Made, Wish, register_source
from facexkit.models.weights import load_weights, read_weights, seeded

BACKBONES = ("resnet18", "resnet34", "resnet50", "resnet101")
STAGES = ("layer2", "layer3", "layer4")
EXPERTS = ("expert1", "expert2", "expert3")
PARTS = (*EXPERTS, "concat")
WIDTHS = (512, 1024, 512)
IMAGE_SIZE = 448
THRESHOLD, MARGIN = 0.5, 0.1


def classifier(features: int, hidden: int, classes: int) -> nn.Sequential:
    """Return BatchNorm1d, Linear, BatchNorm1d, ELU, Linear."""
    norms = nn.BatchNorm1d(features), nn.BatchNorm1d(hidden)
    return nn.Sequential(norms[0], nn.Linear(features, hidden), norms[1], nn.ELU(), nn.Linear(hidden, classes))


class Expert(nn.Module):
    """A block of two convolutions on a stage's output, global max pooling, and a classifier."""

    def __init__(self, channels: int, squeeze: int, width: int, hidden: int, classes: int) -> None:
        super().__init__()
        self.block = nn.Sequential(
            nn.Conv2d(channels, squeeze, 1, bias=False), nn.BatchNorm2d(squeeze, 1e-5, 0.01), nn.ReLU(),
            nn.Conv2d(squeeze, width, 3, padding=1, bias=False), nn.BatchNorm2d(width, 1e-5, 0.01), nn.ReLU(),
        )  # fmt: skip
        self.pool = nn.AdaptiveMaxPool2d(1)
        self.classifier = classifier(width, hidden, classes)

    def attention(self, features: Tensor, logits: Tensor) -> Tensor:
        """Return the block's maps (B, width, h, w) through the weights of both linear layers for the predicted class."""
        first, second = self.classifier[1].weight, self.classifier[4].weight
        weights = second[logits.argmax(1)] @ first
        found = torch.einsum("bc,bchw->bhw", weights.detach(), features.detach().to(weights.dtype))
        return found.to(weights.dtype)


class FineFace(nn.Module):
    """Cross-layer mutual attention (Manzoor and Rattani, ICPR 2024; Liu et al., Pattern Recognition 2023).

    It answers for the images as they are: a dict of the logits of every expert, of `concat`, and their `sum`, each
    module running once, so that every layer can be explained. The prediction of the paper adds the same four on the
    overall-attention crop: `BothPasses`.

    Parameters
    ----------
    backbone : its children up to the last stage run one after the other; what follows is left out. They keep their
        names (dots become underscores), and so do their weights.
    classes : number of outputs.
    stages : names of its last three stages, one for each expert; "features.4" names a child's child.
    widths : of the experts' 1×1 and 3×3 convolutions, and of the classifiers' hidden layer.
    """

    def __init__(
        self, backbone: nn.Module, classes: int, stages: Sequence[str] = STAGES, widths: Sequence[int] = WIDTHS
    ) -> None:
        super().__init__()
        squeeze, width, hidden = widths
        self.chains: dict[str, list[str]] = {name: [] for name in EXPERTS}
        left = list(stages)
        for path, module in _chain(backbone, stages):
            name = path.replace(".", "_")
            self.add_module(name, module)
            self.chains[EXPERTS[3 - len(left)]].append(name)
            left = left[1:] if path == left[0] else left
            if not left:
                break
        else:
            raise FacexkitError(f"the stages {', '.join(stages)} are not children of {type(backbone).__name__} in order")
        for name, channels in zip(EXPERTS, self._channels(), strict=True):
            self.add_module(name, Expert(channels, squeeze, width, hidden, classes))
        self.concat = classifier(3 * width, hidden, classes)

    def _channels(self) -> list[int]:
        x, found = torch.zeros(1, 3, 64, 64), []
        training = self.training
        with torch.no_grad():
            self.eval()
            for chain in self.chains.values():
                x = self._through(chain, x)
                found.append(x.shape[1])
        self.train(training)
        return found

    def _through(self, chain: Sequence[str], x: Tensor) -> Tensor:
        for name in chain:
            x = self.get_submodule(name)(x)
        return x

    def forward(self, images: Tensor, parts: Sequence[str] = PARTS, attend: bool = False) -> dict[str, object]:
        """Return the logits (B, classes) of `parts`, running nothing else; and `sum`, where these are all four.

        With `attend`, `maps` has the attention maps (B, h, w) of the three experts; gradients go to `parts` alone.
        """
        found, pooled, maps = {}, [], []
        deepest = EXPERTS[-1] if attend or "concat" in parts else max(parts)
        grad = torch.is_grad_enabled()
        for name, chain in self.chains.items():
            images, expert = self._through(chain, images), self.get_submodule(name)
            needed = name in parts or "concat" in parts
            if needed or attend:
                with torch.set_grad_enabled(grad and needed):
                    features = expert.block(images)
                    pooled.append(expert.pool(features).flatten(1))
                    logits = expert.classifier(pooled[-1]) if name in parts or attend else None
                found |= {name: logits} if name in parts else {}
                maps += [expert.attention(features, logits)] if attend else []
            if name == deepest:
                break
        if "concat" in parts:
            found["concat"] = self.concat(torch.cat(pooled, 1))
        if set(parts) == set(PARTS):
            found["sum"] = torch.stack([found[part] for part in PARTS]).sum(0)
        return found | ({"maps": maps} if attend else {})


class BothPasses(nn.Module):
    """FineFACE's prediction: the four outputs on the images and the four on their overall-attention crops.

    Gives a dict of `concat` and `four` (of the images alone), and `eight`, the sum of all.
    """

    def __init__(self, network: FineFace) -> None:
        super().__init__()
        self.network = network

    def forward(self, images: Tensor) -> dict[str, Tensor]:
        raw = self.network(images, attend=True)
        again = self.network(crop(images, boxes(raw["maps"], images.shape[-1])))
        return {"concat": raw["concat"], "four": raw["sum"], "eight": raw["sum"] + again["sum"]}


def both_passes(model: FaceModel) -> FaceModel:
    """Return a FineFACE model that answers by all eight outputs; its layers run twice and cannot be explained."""
    return FaceModel(
        BothPasses(_network_of(model)), name=f"{model.name}, both passes", image_size=model.image_size,
        mean=model.mean.flatten().tolist(), std=model.std.flatten().tolist(), class_names=model.class_names,
        output="eight", device=str(model.device),
    )  # fmt: skip


def unit_range(maps: Tensor) -> Tensor:
    """Scale every map (B, h, w) to [0, 1] by its own minimum and maximum; a constant one becomes 0."""
    low, high = maps.amin((1, 2), keepdim=True), maps.amax((1, 2), keepdim=True)
    return (maps - low) / torch.where(high > low, high - low, torch.ones_like(high))


def overall(maps: Sequence[Tensor], size: int) -> Tensor:
    """Return attention in [0, 1], (B, size, size): the upsampled, scaled maps (B, h, w) summed, and scaled again."""
    grown = [F.interpolate(one[:, None], (size, size), mode="bilinear")[:, 0] for one in maps]
    return unit_range(torch.stack([unit_range(one) for one in grown]).sum(0))


def boxes(maps: Sequence[Tensor], size: int) -> Tensor:
    """Return the attention boxes of maps taken together, int64 (B, 4): top, bottom, left, right, ends exclusive.

    The bounding box of overall(maps) ≥ 0.5, grown by 10 % of the image on each side and clipped; the whole image where
    all maps are constant.
    """
    above = overall(maps, size) >= THRESHOLD
    above |= ~above.any(2, keepdim=True).any(1, keepdim=True)
    margin, found = round(MARGIN * size), []
    for lines in (above.any(2), above.any(1)):
        first, last = lines.int().argmax(1), size - lines.flip(1).int().argmax(1)
        found += [(first - margin).clamp(min=0), (last + margin).clamp(max=size)]
    return torch.stack(found, 1)


def crop(images: Tensor, found: Tensor) -> Tensor:
    """Cut boxes (B, 4) out of images (B, C, S, S) and resize them to S×S, bilinear with half-pixel centres."""
    size = images.shape[-1]
    step = (torch.arange(size, device=images.device, dtype=images.dtype) + 0.5) / size
    top, bottom, left, right = found.to(images.dtype).T[:, :, None]
    y, x = (low + step * (high - low) for low, high in ((top, bottom), (left, right)))
    y = y.maximum(top + 0.5).minimum(bottom - 0.5)  # beyond the outermost pixels' centres, their own colour
    x = x.maximum(left + 0.5).minimum(right - 0.5)
    grid = torch.stack(torch.broadcast_tensors(x[:, None, :], y[:, :, None]), -1) * (2 / size) - 1
    return F.grid_sample(images, grid, align_corners=False)


def attend(model: FaceModel, faces: FaceSet, batch_size: int = 32) -> xr.Dataset:
    """Say where the experts of a FineFACE model look on a few faces.

    Returns
    -------
    Dataset: picture (image, y, x, channel), uint8; attention (image, expert, y, x) in 0–1, box (image, expert, edge) in
    pixels and crop (image, expert, y, x, channel), of the three experts and `overall`; predicted (image, part), the
    class by each expert, by the concatenation and by the sum.
    """
    network, size, parts = _network_of(model), model.image_size, []
    for batch in faces.batches(size, batch_size):
        with torch.no_grad():
            out = network(model.prepare(batch.images), attend=True)
            sets = [*([one] for one in out["maps"]), out["maps"]]
            found = torch.stack([boxes(one, size) for one in sets], 1)
            crops = [crop(batch.images.float(), found[:, k].cpu()) for k in range(len(sets))]
        values = {
            "picture": (("image", "y", "x", "channel"), batch.images.permute(0, 2, 3, 1)),
            "attention": (("image", "expert", "y", "x"), torch.stack([overall(one, size) for one in sets], 1).cpu()),
            "box": (("image", "expert", "edge"), found.cpu()),
            "crop": (("image", "expert", "y", "x", "channel"), torch.stack(crops, 1).round().byte().permute(0, 1, 3, 4, 2)),
            "predicted": (("image", "part"), np.array(model.class_names, object)[
                torch.stack([out[part].argmax(1) for part in (*PARTS, "sum")], 1).cpu()]),
        }  # fmt: skip
        named = {"image": faces.table.path.to_numpy(object)[batch.rows], "expert": [*EXPERTS, "overall"]}
        parts.append(xr.Dataset({k: (d, np.asarray(v)) for k, (d, v) in values.items()}, named))
    return xr.concat(parts, "image").assign_coords(
        edge=["top", "bottom", "left", "right"], part=[*PARTS, "sum"], channel=["red", "green", "blue"]
    )


def _network_of(model: FaceModel) -> FineFace:
    if not isinstance(model.network, FineFace):
        raise FacexkitError(f"model {model.name!r} has no experts; load or train a FineFACE model")
    return model.network


def _chain(module: nn.Module, stages: Sequence[str], prefix: str = "") -> Iterator[tuple[str, nn.Module]]:
    """Yield the modules that run one after the other, opening those that have a stage inside."""
    for name, child in module.named_children():
        path = prefix + name
        if any(stage.startswith(f"{path}.") for stage in stages):
            yield from _chain(child, stages, f"{path}.")
        else:
            yield path, child


def widths_of(weights: Mapping[str, Tensor]) -> tuple[tuple[int, int, int], int]:
    """Return the widths and the number of classes of the network that a state dict belongs to."""
    try:
        squeeze, width = (len(weights[f"expert1.block.{place}.weight"]) for place in (0, 3))
        return (squeeze, width, len(weights["concat.1.weight"])), len(weights["concat.4.weight"])
    except KeyError as error:
        raise FacexkitError(f"these are no weights of a FineFACE network: they lack {error}") from error


@register_source("fineface")
def _from_fineface(name: str, wish: Wish) -> Made:
    if name not in BACKBONES:
        raise unknown("backbone of FineFACE", name, BACKBONES)
    widths, classes, size, names = WIDTHS, wish.num_classes or 2, IMAGE_SIZE, None
    if wish.weights is not None:
        path = Path(wish.weights).expanduser()
        widths, classes = widths_of(read_weights(path, wish.trust))
        if path.suffix == ".safetensors":
            with safe_open(path, "pt") as file:
                told = file.metadata() or {}
            size = int(told.get("image_size", size))
            names = told["class_names"].split("\n") if "class_names" in told else None
    with seeded(wish.seed):
        network = FineFace(torchvision.models.get_model(name, weights=None), classes, widths=widths)
    if wish.weights is not None:
        load_weights(network, path, wish.trust)
    return Made(network, size, "half", names, "sum")
