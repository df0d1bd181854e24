"""FineFACE's network: three experts on a backbone's last stages, their concatenation, and where they attend."""

from __future__ import annotations

import re
import warnings
from collections.abc import Sequence
from copy import copy
from functools import partial
from pathlib import Path

import numpy as np
import torch
import torch.nn.functional as F
import xarray as xr
from torch import Tensor, nn

from facexkit.errors import FacexkitError, check_known
from facexkit.faces.faceset import FaceSet
from facexkit.measure.facex import scaled
from facexkit.measure.photographs import Pictures
from facexkit.measure.per_image import Outputs
from facexkit.models.face_model import FaceModel
from facexkit.models.hubs import extra
from facexkit.models.sources import SOURCES, Made, Wish, register_source
from facexkit.models.small_network import SmallNetwork
from facexkit.models.weights import load_weights, metadata_of, read_weights, seeded
from facexkit.probe.options import PassOptions
from facexkit.probe.run import run

BACKBONES = ("demo", "resnet18", "resnet34", "resnet50", "resnet101", "tresnet_l")
STAGES = ("layer2", "layer3", "layer4")
EXPERTS = ("expert1", "expert2", "expert3")
PARTS = (*EXPERTS, "concat")
WIDTHS, IMAGE_SIZE = (512, 1024, 512), 448
THRESHOLD, MARGIN = 0.5, 0.1
TRESNETS, TRESNET_SIZE = {"tresnet_l": "tresnet_v2_l"}, 368
"""CMAL's backbones of timm, and its input."""


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
        """Return the block's maps (B, width, h, w) through both linear layers' weights for the predicted class."""
        weights = (self.classifier[4].weight[logits.argmax(1)] @ self.classifier[1].weight).detach()
        found = torch.einsum("bc,bchw->bhw", weights, features.detach().to(weights.dtype))
        return found.to(self.classifier[1].weight.dtype)


class FineFace(nn.Module):
    """Cross-layer mutual attention (Manzoor and Rattani, ICPR 2024; Liu et al., Pattern Recognition 2023).

    It answers for the images as they are: a dict of the logits of each expert and of `concat`, and their `sum`. Every
    module runs once, so every layer can be explained. The paper's prediction adds the same four on the overall-
    attention crop: `BothPasses`.

    Parameters
    ----------
    backbone : its children run one after the other up to the last stage, under their own names; the rest is left out.
    classes : number of outputs.
    stages : names of the three last stages, one for each expert, in order.
    widths : of the experts' 1×1 and 3×3 convolutions, and of the classifiers' hidden layer.
    """

    def __init__(
        self, backbone: nn.Module, classes: int, stages: Sequence[str] = STAGES, widths: Sequence[int] = WIDTHS
    ) -> None:
        super().__init__()
        children, experts = dict(backbone.eval().named_children()), dict(zip(stages, EXPERTS, strict=True))
        if [name for name in children if name in experts] != list(stages):
            raise FacexkitError(f"the stages {', '.join(stages)} are not children of {type(backbone).__name__}")
        self.chains, chain, x = {}, [], torch.zeros(1, 3, 64, 64)
        for name, module in [*children.items()][: [*children].index(stages[-1]) + 1]:
            self.add_module(name, module)
            chain.append(name)
            with torch.no_grad():
                x = module(x)
            if name in experts:
                self.chains[experts[name]], chain = chain, []
                self.add_module(experts[name], Expert(x.shape[1], classes, *widths))
        self.concat = classifier(3 * widths[1], widths[2], classes)
        self.train()

    def forward(self, images: Tensor, parts: Sequence[str] = PARTS, attend: bool = False) -> dict[str, object]:
        """Return the logits (B, classes) of `parts`, running nothing else; and `sum`, where these are all four.

        With `attend`, `maps` has the attention maps (B, h, w) of the three experts; gradients go to `parts` alone.
        """
        found, pooled, maps, grad = {}, [], [], torch.is_grad_enabled()
        last = EXPERTS[-1] if attend or "concat" in parts else max(parts)
        for name, chain in self.chains.items():
            for module in chain:
                images = self.get_submodule(module)(images)
            expert, needed = self.get_submodule(name), name in parts or "concat" in parts
            with torch.set_grad_enabled(grad and needed):
                features = expert.block(images) if needed or attend else None
                pooled += [expert.pool(features).flatten(1)] if needed or attend else []
                logits = expert.classifier(pooled[-1]) if name in parts or attend else None
            found |= {name: logits} if name in parts else {}
            maps += [expert.attention(features, logits)] if attend else []
            if name == last:
                break
        if "concat" in parts:
            found["concat"] = self.concat(torch.cat(pooled, 1))
        if set(parts) == set(PARTS):
            found["sum"] = torch.stack([found[part] for part in PARTS]).sum(0)
        return found | ({"maps": maps} if attend else {})


class BothPasses(nn.Module):
    """FineFACE's prediction `eight`: the four outputs on the images and those on their overall-attention crops.

    Beside it, of the images alone, `concat` and `four`, their sum.
    """

    def __init__(self, network: FineFace) -> None:
        super().__init__()
        self.network = network

    def forward(self, images: Tensor) -> dict[str, Tensor]:
        raw = self.network(images, attend=True)
        again = self.network(crop(images, boxes(raw["maps"], images.shape[-1])))
        return {"concat": raw["concat"], "four": raw["sum"], "eight": raw["sum"] + again["sum"]}


def with_all_outputs(model: FaceModel) -> FaceModel:
    """Return a FineFACE model that answers by all eight outputs; its layers run twice and cannot be explained."""
    return FaceModel(
        BothPasses(_network_of(model)), name=f"{model.name}, both passes", preprocess=model.preprocess,
        class_names=model.class_names, output="eight", outputs=model.meaning, device=str(model.device),
    )  # fmt: skip


def overall(maps: Sequence[Tensor], size: int) -> Tensor:
    """Return attention in [0, 1], (B, size, size): the upsampled, scaled maps (B, h, w) summed, and scaled again."""
    grown = [F.interpolate(one[:, None], (size, size), mode="bilinear")[:, 0] for one in maps]
    return scaled(torch.stack([scaled(one) for one in grown]).sum(0))


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
    y, x = (  # beyond the outermost pixels' centres, their own colour
        (low + step * (high - low)).maximum(low + 0.5).minimum(high - 0.5)
        for low, high in ((top, bottom), (left, right))
    )
    grid = torch.stack(torch.broadcast_tensors(x[:, None, :], y[:, :, None]), -1) * (2 / size) - 1
    return F.grid_sample(images, grid, align_corners=False)


def expert_attention(model: FaceModel, faces: FaceSet, **how: object) -> xr.Dataset:
    """Say where the experts of a FineFACE model look on a few faces; options as of `PassOptions`.

    Returns
    -------
    Dataset: picture (image, y, x, channel), uint8; of each expert and `overall`, attention (image, expert, y, x) in 0–1
    and box (image, expert, edge) in pixels; predicted (image, part), the class by each output and by their sum.
    attrs["skipped"] lists the images that cannot be decoded.
    """
    looking = copy(model)
    looking.network, looking.output, size = _Looking(_network_of(model)).eval(), None, model.image_size
    skipped = run(looking, faces, [pictures := Pictures(), outputs := Outputs()], PassOptions(**how))
    rows, values = outputs.result()
    boxes_end = len(SETS) * 4
    attention = values[:, boxes_end + len(PARTS) + 1 :].reshape(len(rows), len(SETS), size, size)
    said = values[:, boxes_end : boxes_end + len(PARTS) + 1].astype(int)
    found = {
        "picture": (("image", "y", "x", "channel"), pictures.result()[1]),
        "attention": (("image", "expert", "y", "x"), attention.astype(np.float32)),
        "box": (("image", "expert", "edge"), values[:, :boxes_end].astype(int).reshape(len(rows), len(SETS), 4)),
        "predicted": (("image", "part"), np.array(model.class_names, object)[said]),
    }
    named = {"image": faces.table.path.to_numpy(object)[rows], "expert": [*SETS], "edge": ["top", "bottom", "left", "right"]}
    return xr.Dataset(found, named | {"part": [*PARTS, "sum"]}, attrs={"skipped": skipped})


SETS = (*EXPERTS, "overall")


class _Looking(nn.Module):
    """FineFACE as one row an image: the boxes of `SETS`, the class by each output and by their sum, and the attention."""

    def __init__(self, network: FineFace) -> None:
        super().__init__()
        self.network = network

    def forward(self, images: Tensor) -> Tensor:
        out, size = self.network(images, attend=True), images.shape[-1]
        sets = [*([one] for one in out["maps"]), out["maps"]]
        said = torch.stack([out[part].argmax(1) for part in (*PARTS, "sum")], 1)
        parts = [torch.stack([boxes(own, size) for own in sets], 1), said, torch.stack([overall(own, size) for own in sets], 1)]
        return torch.cat([part.flatten(1).float() for part in parts], 1)


def _network_of(model: FaceModel) -> FineFace:
    if not isinstance(model.network, FineFace):
        raise FacexkitError(f"model {model.name!r} has no experts; load or train a FineFACE model")
    return model.network


@register_source("fineface")
def _from_fineface(name: str, wish: Wish) -> Made:
    check_known("backbone of FineFACE", [name], BACKBONES)
    widths, classes, path = WIDTHS, wish.num_classes or 2, Path(wish.weights or "").expanduser()
    told = metadata_of(path)
    if wish.weights is not None:
        found = read_weights(path, wish.trust)
        theirs = any("Features.net_layer_" in key for key in found)
        found = {published(key): value for key, value in found.items()}
        if not {"expert1.block.3.weight", "concat.4.weight"} <= found.keys():
            raise FacexkitError(f"{path} holds no weights of a FineFACE network; see fx.train_fineface")
        widths = [len(found[key]) for key in ("expert1.block.0.weight", "expert1.block.3.weight", "concat.1.weight")]
        classes = len(found["concat.4.weight"])
    with seeded(wish.seed):
        network = FineFace(backbone_network(name, None, wish.seed), classes, widths=widths)
    if wish.weights is not None:
        load_weights(network, path, wish.trust, rename=partial(published, tresnet=name in TRESNETS))
        if theirs and name in TRESNETS:  # the norms of its backbone take weights without their sign
            backbone = (child for child in network.children() if not isinstance(child, Expert))
            for norm in (module for child in backbone for module in child.modules()):
                if isinstance(norm, nn.BatchNorm2d):
                    norm.weight.data = norm.weight.data.abs() + norm.eps
    names = told["class_names"].split("\n") if "class_names" in told else None
    size = TRESNET_SIZE if name in TRESNETS else IMAGE_SIZE
    return Made(network, int(told.get("image_size", size)), "half", names, "sum")


def published(key: str, tresnet: bool = False) -> str:
    """Return the kit's name of a weight that FineFACE's or CMAL's own script saved; other names stay as they are."""
    key = key.removeprefix("module.")
    if found := re.match(r"Features\.net_layer_(\d)\.(.+)", key):
        children = ("s2d", "conv1") if tresnet else ("conv1", "bn1", "relu", "maxpool")
        number, alone = int(found[1]), not tresnet and int(found[1]) < len(children)
        child = (*children, "layer1", "layer2", "layer3", "layer4")[number]
        key = f"{child}.{found[2].partition('.')[2] if alone else found[2]}"
        if tresnet:
            (key,) = extra("timm.models.tresnet", "timm").checkpoint_filter_fn({key: torch.ones(1)}, None)
        return key
    place = {("0", "conv"): 0, ("0", "bn"): 1, ("1", "conv"): 3, ("1", "bn"): 4}
    block = r"^conv_block(\d)\.([01])\.(conv|bn)\."
    key = re.sub(block, lambda found: f"expert{found[1]}.block.{place[found[2], found[3]]}.", key)
    return re.sub(r"^classifier(\d)\.", r"expert\1.classifier.", key).replace("classifier_concat.", "concat.")


def backbone_network(name: str, weights: str | Path | None, seed: int) -> nn.Module:
    """Return the demo's network, CMAL's TResNet-L, or one of torchvision; "imagenet" weights are random where there is no internet."""
    if name == "demo":
        return SmallNetwork()
    if name in TRESNETS:
        body = SOURCES["timm"](TRESNETS[name], Wish(weights, None, seed, False)).network.body
        for module in body.modules():
            if isinstance(module, nn.LeakyReLU):
                module.negative_slope = 1e-6  # as in the authors' TResNet-L V2
        return body
    try:
        return SOURCES["torchvision"](name, Wish(weights, None, seed, False)).network
    except FacexkitError as error:
        if weights != "imagenet" or "downloaded" not in str(error):
            raise
        warnings.warn(f"{error}. The backbone starts from random weights", stacklevel=3)
        return backbone_network(name, None, seed)
