"""What stands between a photograph and the network: the kit's own, or somebody's transform that agrees with it."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from functools import cached_property
from typing import Union

import numpy as np
import torch
from PIL import Image
from torch import Tensor

from facexkit.errors import FacexkitError, check_known, told
from facexkit.faces.geometry import FILTERS, Geometry, Size
from facexkit.faces.mask_view import sides
from facexkit.models.normalization import mean_and_std

CHANNELS = {"RGB": ((1, 0, 0), (0, 1, 0), (0, 0, 1)), "BGR": ((0, 0, 1), (0, 1, 0), (1, 0, 0)),
            "grey": ((0.299, 0.587, 0.114),)}  # fmt: skip
"""Name → what each channel of the network takes of red, green and blue; grey as of ITU-R 601, as Pillow's."""
CLOSE = 1.01 / 255


@dataclass(frozen=True)
class Preprocess(Geometry):
    """What stands between a photograph and the network.

        fx.load_model("net.py:Net", preprocess=fx.Preprocess((112, 96), resize=128, channels="BGR", normalize="half"))

    Parameters
    ----------
    size, resize, interpolation : what is seen of the photograph, see `Geometry`.
    channels : "RGB", "BGR", or "grey", a single one.
    normalize : see `mean_and_std`; its numbers are in the order of the channels.
    """

    channels: str = "RGB"
    normalize: Union[str, Mapping[str, object]] = "unit"

    def __post_init__(self) -> None:
        check_known("interpolation", [self.interpolation], FILTERS)
        check_known("order of channels", [self.channels], CHANNELS)
        for name, size in (("size", self.size), ("resize", 1 if self.resize is None else self.resize)):
            each = sides(size)
            if len(each) != 2 or not all(isinstance(side, int) and 1 <= side <= 4096 for side in each):
                raise FacexkitError(f"preprocess: {name} is a number of pixels, or (height, width), not {size!r}")
        if self.resize is not None and any(w < s for w, s in zip(sides(self.resize), sides(self.size), strict=True)):
            raise FacexkitError(f"preprocess: {self.size} pixels cannot be cut out of resize={self.resize}")
        height, width = sides(self.size)
        object.__setattr__(self, "size", height if height == width else (height, width))
        self.mean_and_std  # noqa: B018  an error here, not at the first image

    @cached_property
    def mean_and_std(self) -> tuple[list[float], list[float]]:
        """Mean and standard deviation of each of the network's channels, on values in 0–1."""
        mean, std = mean_and_std(self.normalize)
        if self.channels == "grey" and len({*mean}) + len({*std}) > 2:
            raise FacexkitError("preprocess: one grey channel has one mean and one std; give normalize these")
        count = len(CHANNELS[self.channels])
        return mean[:count], std[:count]

    @cached_property
    def scale_and_shift(self) -> tuple[Tensor, Tensor]:
        """What bytes are multiplied by, and what is then taken from them; float32 (channels, 1, 1) each."""
        mean, std = torch.tensor(self.mean_and_std, dtype=torch.float64)[:, :, None, None]
        return (1 / (255 * std)).float(), (mean / std).float()

    def __str__(self) -> str:
        height, width = sides(self.size)
        how = "stretched" if not isinstance(self.resize, int) else f"the shorter side to {self.resize}"
        how += f" to {'×'.join(map(str, self.resize))}" if isinstance(self.resize, tuple) else ""
        how += ", the centre cut out" if self.resize else ""
        mean, std = ("/".join(f"{v:.3g}" for v in (part if len({*part}) > 1 else part[:1])) for part in self.mean_and_std)
        return f"{height}×{width} pixels, {how}, {self.interpolation}, {self.channels}, (x − {mean}) / {std}"

    def shown(self, image: Image.Image) -> Tensor:
        """Return what the network gets of an image, before normalization: (channels, height, width) in 0–1."""
        pixels = torch.from_numpy(np.array(self.picture(image.convert("RGB")))).double() / 255
        return torch.einsum("hwc,kc->khw", pixels, torch.tensor(CHANNELS[self.channels], dtype=torch.float64))


def preprocess_of(given: object) -> Preprocess:
    """Return the kit's own preprocessing for what another library gives, if it shows a network the same.

    Parameters
    ----------
    given : a `Preprocess`, a mapping of its parameters, a torchvision or timm transform, or an image processor of
        transformers.

    Raises
    ------
    FacexkitError
        where a test image differs by more than 1/255 at any pixel: by how much, and what of it the kit does not know.
    """
    if isinstance(given, Preprocess):
        return given
    if isinstance(given, Mapping):
        pairs = {name: tuple(v) if isinstance(v, list) else v for name, v in given.items()}
        check_known("part of preprocess", pairs, Preprocess.__dataclass_fields__)
        return Preprocess(**pairs)
    name = type(given).__name__
    if not callable(given):
        raise FacexkitError(f"preprocess is an fx.Preprocess, a transform or an image processor, not a {name}")
    processor = hasattr(given, "image_mean")
    steps, strange = (_of_processor(given), []) if processor else _of_transforms(given)
    with told(f"preprocess: {name} cannot be read", "give fx.Preprocess(…)", (TypeError, ValueError)):
        own = Preprocess(**steps)
    ask = (lambda image: given(images=image, return_tensors="pt")["pixel_values"][0]) if processor else given
    called = f"{name}{f' with {chr(44).join(strange)}' if strange else ''}"
    if not (differs := _difference(ask, own, called)):
        return own
    turned = replace(own, channels="BGR") if strange and own.channels == "RGB" else own
    if not _difference(ask, turned, called):  # one of its steps turns red and blue around
        return turned
    raise FacexkitError(f"preprocess: {called} {differs}, reading it as “{own}”; say with fx.Preprocess(…) what is right")


def _of_processor(processor: object) -> dict[str, object]:
    """Return the parameters of an image processor of transformers."""
    asks = lambda what: getattr(processor, f"do_{what}", None)  # noqa: E731
    size, cut = (_pixels(getattr(processor, name, None)) for name in ("size", "crop_size"))
    found = {"size": size, "interpolation": _filter(getattr(processor, "resample", 2))}
    if asks("center_crop") and cut is not None:
        found |= {"size": cut, "resize": size}
    elif (share := getattr(processor, "crop_pct", None)) and isinstance(size, int) and size < 384:  # as ConvNeXt's does
        found |= {"resize": int(size / share)}
    scale = {"mean": list(processor.image_mean), "std": list(processor.image_std)} if asks("normalize") else "unit"
    return found | {"normalize": scale if asks("rescale") is not False else "none"}


def _of_transforms(given: object) -> tuple[dict[str, object], list[str]]:
    """Return the parameters of a transform of torchvision or timm, and the steps that are not known."""
    found, strange = {}, []
    if hasattr(given, "resize_size"):  # torchvision's preset for its published weights
        found = {"size": _pixels(given.crop_size), "resize": _pixels(given.resize_size)}
        found |= {"interpolation": _filter(given.interpolation)}
        return found | {"normalize": {"mean": list(given.mean), "std": list(given.std)}}, []
    for step in getattr(given, "transforms", [given]):
        kind = type(step).__name__
        if kind == "Resize":
            found |= {"size": _pixels(step.size), "interpolation": _filter(step.interpolation)}
        elif kind == "CenterCrop":
            found |= {"resize": found.get("size"), "size": _pixels(step.size)}
        elif kind == "Normalize":
            found["normalize"] = {"mean": [*map(float, step.mean)], "std": [*map(float, step.std)]}
        elif kind == "Grayscale" and step.num_output_channels == 1:
            found["channels"] = "grey"
        elif kind not in ("ToTensor", "MaybeToTensor", "ToImage", "ToDtype", "PILToTensor", "ConvertImageDtype"):
            strange.append(kind)
    return found, strange


def _pixels(size: object) -> Size | None:
    """Return a size however it is written: a number, [number], (height, width), or a mapping of transformers."""
    if hasattr(size, "get"):
        size = size.get("shortest_edge") or [size.get("height"), size.get("width")]
    each = [size] if isinstance(size, int) else [int(side) for side in size or () if side]
    return None if not each else each[0] if len(each) == 1 else tuple(each)


def _filter(way: object) -> str:
    way = getattr(way, "value", way)
    return way if isinstance(way, str) else Image.Resampling(way).name.lower()


def _difference(theirs: Callable[[Image.Image], object], own: Preprocess, name: str) -> str:
    """Say how a transform's pixels of a test image, which is wider than high, differ from the kit's; nothing where none does."""
    coarse = np.random.default_rng(0).integers(0, 256, (12, 18, 3), np.uint8)
    image = Image.fromarray(coarse).resize((450, 300), Image.Resampling.BICUBIC)
    with told(f"preprocess: {name} does not run on a PIL image"):
        got = torch.as_tensor(np.asarray(theirs(image))).double()
    ours, (mean, std) = own.shown(image), (torch.tensor(v, dtype=torch.float64)[:, None, None] for v in own.mean_and_std)
    if got.shape != ours.shape:
        return f"gives {'×'.join(map(str, got.shape))} numbers, and the kit {'×'.join(map(str, ours.shape))}"
    gap = (got * std + mean - ours).abs()
    different = f"differs by up to {255 * gap.max():.0f} of 255 in a pixel, {255 * gap.mean():.1f} on average"
    return different if gap.max() > CLOSE else ""
