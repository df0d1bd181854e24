"""FineFACE's network: three experts on a backbone's last stages, their concatenation, and where they attend."""

from __future__ import annotations

import warnings
from collections.abc import Iterator, Sequence
from pathlib import Path

import numpy as np
import torch
import torch.nn.functional as F
import xarray as xr
from safetensors import safe_open
from torch import Tensor, nn

from facexkit.errors import FacexkitError, unknown
from facexkit.faces.faceset import FaceSet
from facexkit.models.demo import DemoNetwork
from facexkit.models.face_model import FaceModel
from facexkit.models.loading import SOURCES, Made, Wish, register_source
from facexkit.models.weights import load_weights, read_weights, seeded

BACKBONES = ("demo", "resnet18", "resnet34", "resnet50", "resnet101")
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

    def __init__(self, channels: int, classes: int, squeeze: int, width: int, hidden: int) -> None:
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
        self.chains: dict[str, list[str]] = {name: [] for name in EXPERTS}
        left, x = list(stages), torch.zeros(1, 3, 64, 64)
        chain = dict(_chain(backbone.eval(), stages))
        if [path for path in chain if path in left] != left:
            raise FacexkitError(f"the stages {', '.join(stages)} are not children of {type(backbone).__name__} in order")
        for path, module in chain.items():
            expert, name = EXPERTS[len(stages) - len(left)], path.replace(".", "_")
            self.add_module(name, module)
            self.chains[expert].append(name)
            with torch.no_grad():
                x = module(x)
            if path == left[0]:
                self.add_module(expert, Expert(x.shape[1], classes, *widths))
                left.pop(0)
            if not left:
                break
        self.concat = classifier(3 * widths[1], widths[2], classes)
        self.train()

    def forward(self, images: Tensor, parts: Sequence[str] = PARTS, attend: bool = False) -> dict[str, object]:
        """Return the logits (B, classes) of `parts`, running nothing else; and `sum`, where these are all four.

        With `attend`, `maps` has the attention maps (B, h, w) of the three experts; gradients go to `parts` alone.
        """
        found, pooled, maps = {}, [], []
        deepest = EXPERTS[-1] if attend or "concat" in parts else max(parts)
        grad = torch.is_grad_enabled()
        for name, chain in self.chains.items():
            for module in chain:
                images = self.get_submodule(module)(images)
            expert = self.get_submodule(name)
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


def attend(model: FaceModel, faces: FaceSet) -> xr.Dataset:
    """Say where the experts of a FineFACE model look on a few faces.

    Returns
    -------
    Dataset: picture (image, y, x, channel), uint8; of each expert and `overall`, attention (image, expert, y, x) in 0–1
    and box (image, expert, edge) in pixels; predicted (image, part), the class by each output and by their sum.
    """
    network, size, batch = _network_of(model), model.image_size, next(faces.batches(model.image_size, len(faces)))
    with torch.no_grad():
        out = network(model.prepare(batch.images), attend=True)
    sets = [*([one] for one in out["maps"]), out["maps"]]
    said = torch.stack([out[part].argmax(1) for part in (*PARTS, "sum")], 1).cpu().numpy()
    return xr.Dataset(
        {
            "picture": (("image", "y", "x", "channel"), batch.images.permute(0, 2, 3, 1).numpy()),
            "attention": (("image", "expert", "y", "x"), torch.stack([overall(s, size) for s in sets], 1).cpu().numpy()),
            "box": (("image", "expert", "edge"), torch.stack([boxes(s, size) for s in sets], 1).cpu().numpy()),
            "predicted": (("image", "part"), np.array(model.class_names, object)[said]),
        },
        {
            "image": faces.table.path.to_numpy(object)[batch.rows], "expert": [*EXPERTS, "overall"],
            "edge": ["top", "bottom", "left", "right"], "part": [*PARTS, "sum"],
        },
    )  # fmt: skip


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


@register_source("fineface")
def _from_fineface(name: str, wish: Wish) -> Made:
    if name not in BACKBONES:
        raise unknown("backbone of FineFACE", name, BACKBONES)
    widths, classes, told, path = WIDTHS, wish.num_classes or 2, {}, Path(wish.weights or "").expanduser()
    if wish.weights is not None:
        found = read_weights(path, wish.trust)
        if not {"expert1.block.3.weight", "concat.4.weight"} <= found.keys():
            raise FacexkitError(f"{path} holds no weights of a FineFACE network; see fx.train_fineface")
        widths = [len(found[key]) for key in ("expert1.block.0.weight", "expert1.block.3.weight", "concat.1.weight")]
        classes = len(found["concat.4.weight"])
    if path.suffix == ".safetensors":
        with safe_open(path, "pt") as file:
            told = file.metadata() or {}
    with seeded(wish.seed):
        network = FineFace(backbone_network(name, None, wish.seed), classes, widths=widths)
    if wish.weights is not None:
        load_weights(network, path, wish.trust)
    names = told["class_names"].split("\n") if "class_names" in told else None
    return Made(network, int(told.get("image_size", IMAGE_SIZE)), "half", names, "sum")


def backbone_network(name: str, weights: str | Path | None, seed: int) -> nn.Module:
    """Return a torchvision network or that of the demo; "imagenet" weights are random where there is no internet."""
    if name == "demo":
        return DemoNetwork()
    try:
        return SOURCES["torchvision"](name, Wish(weights, None, seed, False)).network
    except FacexkitError as error:
        if weights != "imagenet" or "downloaded" not in str(error):
            raise
        warnings.warn(f"{error}. The backbone starts from random weights", stacklevel=3)
        return backbone_network(name, None, seed)
