"""Face parsers: networks that say for every pixel which region of the face it is."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Sequence
from dataclasses import replace
from importlib import import_module
from types import ModuleType

import torch
from torch import Tensor, nn

from facexkit.errors import FacexkitError, listed, told
from facexkit.faces.mask_view import sides
from facexkit.faces.masks import class_regions
from facexkit.faces.regions import BACKGROUND, FARL_CLASSES, region_called
from facexkit.models.face_model import FaceModel
from facexkit.models.hubs import extra, from_hub, read_from_hub
from facexkit.models.preprocess import preprocess_of

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

    notes: Sequence[str] = ()

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
            network = FaceModel(network, name=name, image_size=image_size, normalize=normalize, device=device)
        size = sides(network.image_size)

        def surest(returned: object) -> Tensor:
            logits = (output or _logits)(returned)
            if not isinstance(logits, Tensor) or logits.ndim != 4 or logits.shape[1] != len(classes):
                shape = getattr(logits, "shape", None)
                found = f"the shape {tuple(shape)}" if shape else f"type {type(logits).__name__}"
                raise FacexkitError(
                    f"{name}: its output has {found}, not (images, {len(classes)} classes, height, width); "
                    "check classes=, or pick the logits with output="
                )
            if logits.shape[-2:] != size:
                logits = nn.functional.interpolate(logits, size, mode="bilinear", align_corners=False)
            return logits.argmax(1).flatten(1).float()

        self.pixels = network.but(name=name, output=surest)

    @classmethod
    def farl(cls, device: str = "auto") -> FaceParser:
        """FaRL trained on CelebAMask-HQ, as pyfacer brings it (and downloads its weights); finds the face first."""
        with told("the FaRL face parser needs a package that is not installed", "pip install pyfacer", ImportError):
            facer = import_module("facer")
        return cls(_Farl(facer, device), FARL_CLASSES, 448, "none", device, name="FaRL")

    @classmethod
    def hf(cls, name: str = "jonathandinu/face-parsing", device: str = "auto") -> FaceParser:
        """Any semantic segmentation model of a folder or of the Hugging Face hub, of whose labels some are regions.

        Labels are known by the kit's names for them and by common ones, `left_eye`, `Upper lip`, `glasses`; the others count
        as background, and `notes` lists them.
        """
        hub = extra("transformers", "hf")
        with from_hub(name):
            network = read_from_hub(hub.AutoModelForSemanticSegmentation, name, use_safetensors=True)
            shown = preprocess_of(read_from_hub(hub.AutoImageProcessor, name))
        labels = [str(network.config.id2label[place]) for place in range(len(network.config.id2label))]
        regions = [region_called(label) for label in labels]
        if not {*regions} - {"", BACKGROUND}:
            raise FacexkitError(f"hf:{name} is no face parser: none of its labels is a region ({listed(labels, 40)})")
        shown = replace(shown, size=shown.side, resize=None)
        network = FaceModel(network, name=f"hf:{name}", preprocess=shown, device=device)
        parser = cls(network, [region or BACKGROUND for region in regions], name=f"hf:{name}")
        if strange := [label for label, region in zip(labels, regions, strict=True) if not region]:
            parser.notes = [f"{parser.name}: {len(strange)} labels are no regions and count as background: {listed(strange, 40)}"]
        return parser

    def fingerprint(self) -> str:
        """Return 16 hexadecimal digits that change with the network, its input or its classes."""
        return hashlib.sha256(f"{self.pixels.fingerprint()} {self.classes}".encode()).hexdigest()[:16]


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
