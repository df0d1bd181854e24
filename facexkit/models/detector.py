"""Detectors: networks that say where faces are, each with five points and how sure it is."""

from __future__ import annotations

import math
import warnings
from collections.abc import Sequence
from functools import lru_cache
from importlib.util import find_spec
from pathlib import Path

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn.utils.rnn import pad_sequence

from facexkit.errors import FacexkitError, check_known
from facexkit.models.face_model import FaceModel

SIDE, DLIB_SIDE = 256, 800
"""Faces are looked for in an image whose longer side has been brought to so many pixels; dlib's are FairFace's."""
FACE_SIDES = (40, 20)
"""The smallest face looked for in it, in pixels; the second only where the first finds none, as it takes longer."""
VALUES = 15
"""What is said of a face: how sure it is, the box's left, top, right and bottom, and five points x, y."""


class Detector(nn.Module):
    """Bytes (B, 3, S, S) → float64 (B, K·15): the faces of each image, largest first; zeros where it has fewer than K."""

    def forward(self, images: Tensor) -> Tensor:
        found = self.find(images.permute(0, 2, 3, 1).contiguous())
        return pad_sequence([*map(torch.from_numpy, found)], batch_first=True).flatten(1)


class Mtcnn(Detector):
    """MTCNN; its points are the eyes, the tip of the nose and the corners of the mouth, the image's left first."""

    def __init__(self, face_sides: Sequence[int]) -> None:
        super().__init__()
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            from facenet_pytorch import MTCNN

            self.mtcnn = MTCNN(min_face_size=face_sides[0], select_largest=True, device="cpu")
        self.register_buffer("face_sides", torch.tensor(face_sides))

    def find(self, images: Tensor) -> list[np.ndarray]:
        """Return the faces (F, 15) of each image, of bytes (B, S, S, 3)."""
        found = [np.empty((0, VALUES)) for _ in images]
        self.mtcnn.device = images.device
        threads = torch.get_num_threads()
        torch.set_num_threads(1)  # the detector's many small layers wait for threads longer than they take
        try:
            for self.mtcnn.min_face_size in self.face_sides.tolist():
                left = [k for k, faces in enumerate(found) if not len(faces)]
                if not left:
                    break
                boxes, sure, points = self.mtcnn.detect(images[left], landmarks=True)
                for k, box, own, five in zip(left, boxes, sure, points, strict=True):
                    if five is not None:
                        parts = (np.reshape(own, (-1, 1)), box, np.reshape(five, (-1, 10)))
                        found[k] = np.concatenate([part.astype(float) for part in parts], 1)
        finally:
            torch.set_num_threads(threads)
            self.mtcnn.min_face_size = int(self.face_sides[0])  # a setting, by which the detector is known
        return found


class Dlib(Detector):
    """dlib's CNN and five points, corners of the eyes and the base of the nose, as in FairFace's script."""

    def __init__(self) -> None:
        super().__init__()
        if not (find_spec("dlib") and find_spec("face_recognition_models")):
            raise FacexkitError("detector 'dlib' needs dlib and its models: pip install dlib face-recognition-models")
        import dlib

        folder = Path(find_spec("face_recognition_models").submodule_search_locations[0], "models")
        self.detect = dlib.cnn_face_detection_model_v1(str(folder / "mmod_human_face_detector.dat"))
        self.predict = dlib.shape_predictor(str(folder / "shape_predictor_5_face_landmarks.dat"))

    def find(self, images: Tensor) -> list[np.ndarray]:
        """Return the faces (F, 15) of each image, of bytes (B, S, S, 3)."""
        found = []
        for pixels in images.to(torch.uint8).cpu().numpy():
            rows = [np.empty((0, VALUES))]
            for face in self.detect(pixels, 1):
                box = (face.rect.left(), face.rect.top(), face.rect.right(), face.rect.bottom())
                points = [at for point in self.predict(pixels, face.rect).parts() for at in (point.x, point.y)]
                rows.append(np.array([[max(face.confidence, 1e-6), *box, *points]], float))
            found.append(np.concatenate(rows))
        return found


DETECTORS = {"mtcnn": Mtcnn, "dlib": Dlib}


@lru_cache(maxsize=4)
def detector(name: str = "mtcnn", smallest: float | None = None) -> FaceModel:
    """Return a detector as a model of bytes, for pictures brought into a square.

    Parameters
    ----------
    name : "mtcnn"; or "dlib", slow without a GPU.
    smallest : MTCNN looks for all faces from this share of the picture's longer side on; None for those from a sixth
        on, and smaller ones only where it finds none.
    """
    check_known("detector", [name], DETECTORS)
    if smallest is not None and not 0 < smallest <= 1:
        raise FacexkitError(f"smallest {smallest} must lie in 0–1, as a share of the photograph's longer side")
    side = DLIB_SIDE if name == "dlib" else SIDE if smallest is None else max(SIDE, math.ceil(FACE_SIDES[-1] / smallest))
    network = Dlib() if name == "dlib" else Mtcnn(FACE_SIDES if smallest is None else [round(side * smallest)])
    return FaceModel(network, name=name, image_size=side, normalize="none", device="cpu")
