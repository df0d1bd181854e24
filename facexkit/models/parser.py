"""Face parsers: networks that say for every pixel which region of the face it is."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Sequence
from copy import copy
from importlib import import_module
from types import ModuleType

import torch
from torch import Tensor, nn

from facexkit.errors import FacexkitError, told
from facexkit.faces.masks import class_regions
from facexkit.models.face_model import FaceModel
from facexkit.models.normalization import mean_and_std

FARL_CLASSES = tuple("background neck skin cloth r_ear l_ear r_brow l_brow r_eye l_eye nose mouth l_lip u_lip hair "
                     "eye_g hat ear_r neck_l".split())  # fmt: skip


class FaceParser:
    """Any network that gives class maps, as a source of masks: `load_faces(…, masks=FaceParser(network, classes))`.

    Its attribute `pixels` is the model that gives the class of every pixel, (B, S·S).

    Parameters
    ----------
    network : gives logits (B, classes, h, w), or a tuple or dict with them first, under `logits` or under `out`;
        or a `FaceModel`, whose input size and normalization then hold.
    classes : the region's name of each class, in the network's order; several may share one.
    image_size, normalize, device : as in `load_model`.
    output : a function that takes the logits out of what the network returns.
    name : what the parser is called in notes.
    """

    def __init__(
        self,
        network: nn.Module | FaceModel,
        classes: Sequence[str],
        image_size: int = 256,
        normalize: str | dict = "half",
        device: str = "auto",
        output: Callable[[object], Tensor] | None = None,
        name: str = "the face parser",
    ) -> None:
        class_regions(classes)
        self.classes, self.name = tuple(classes), name
        if not isinstance(network, FaceModel):
            mean, std = mean_and_std(normalize)
            network = FaceModel(network, name=name, image_size=image_size, mean=mean, std=std, device=device)
        self.pixels = copy(network)
        self.pixels.name, self.pixels.output = name, None
        self.pixels.network = _Surest(network.network, self.classes, output or _logits, network.image_size, name).eval()

    @classmethod
    def farl(cls, device: str = "auto") -> FaceParser:
        """FaRL trained on CelebAMask-HQ, as pyfacer brings it (and downloads its weights); finds the face first."""
        facer = _optional("facer", "pyfacer", "the FaRL face parser")
        return cls(_Farl(facer, device), FARL_CLASSES, 448, "none", device, name="FaRL")

    @classmethod
    def segformer(cls, name: str = "jonathandinu/face-parsing", device: str = "auto") -> FaceParser:
        """A SegFormer of the Hugging Face hub or a folder, whose labels are named as the kit's regions."""
        transformers = _optional("transformers", "transformers", "a SegFormer face parser")
        network = transformers.SegformerForSemanticSegmentation.from_pretrained(name)
        labels = network.config.id2label
        classes = [str(labels[k]) for k in range(len(labels))]
        return cls(network, classes, 512, "imagenet", device, name=f"SegFormer {name}")

    def fingerprint(self) -> str:
        """Return 16 hexadecimal digits that change with the network, its input or its classes."""
        return hashlib.sha256(f"{self.pixels.fingerprint()} {self.classes}".encode()).hexdigest()[:16]


class _Surest(nn.Module):
    """A network's surest class of every pixel, float (B, S·S)."""

    def __init__(self, network: nn.Module, classes: Sequence[str], pick: Callable, size: int, name: str) -> None:
        super().__init__()
        self.network, self.classes, self.pick, self.size, self.name = network, classes, pick, size, name

    def forward(self, inputs: Tensor) -> Tensor:
        logits = self.pick(self.network(inputs))
        if not isinstance(logits, Tensor) or logits.ndim != 4 or logits.shape[1] != len(self.classes):
            shape = getattr(logits, "shape", None)
            found = f"the shape {tuple(shape)}" if shape else f"type {type(logits).__name__}"
            raise FacexkitError(
                f"{self.name}: its output has {found}, not (images, {len(self.classes)} classes, height, width); "
                "check classes=, or pick the logits with output="
            )
        if logits.shape[-2:] != (self.size, self.size):
            logits = nn.functional.interpolate(logits, (self.size, self.size), mode="bilinear", align_corners=False)
        return logits.argmax(1).flatten(1).float()


class _Farl(nn.Module):
    """Detector and parser of pyfacer as one network: bytes (B, 3, S, S) → logits; background where no face is."""

    def __init__(self, facer: ModuleType, device: str) -> None:
        super().__init__()
        place = "cuda" if device == "auto" and torch.cuda.is_available() else device.replace("auto", "cpu")
        self.detector = facer.face_detector("retinaface/mobilenet", device=place)
        self.parser = facer.face_parser("farl/celebm/448", device=place)

    def forward(self, images: Tensor) -> Tensor:
        images = images.round().to(torch.uint8)
        logits = images.new_zeros((len(images), len(FARL_CLASSES), *images.shape[-2:]), dtype=torch.float32)
        logits[:, 0] = 1
        faces = self.detector(images)
        if len(faces.get("image_ids", ())):
            faces = self.parser(images, faces)
            for face in faces["scores"].argsort():
                logits[faces["image_ids"][face]] = faces["seg"]["logits"][face]
        return logits


def _logits(returned: object) -> object:
    if isinstance(returned, dict):
        return returned.get("logits", returned.get("out"))
    return returned[0] if isinstance(returned, (tuple, list)) else getattr(returned, "logits", returned)


def _optional(module: str, package: str, what: str) -> ModuleType:
    with told(f"{what} needs a package that is not installed", f"pip install {package}", ImportError):
        return import_module(module)
