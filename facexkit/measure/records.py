"""What a result must say of its making."""

from __future__ import annotations

from importlib.metadata import version

from facexkit.faces.faceset import FaceSet
from facexkit.models.face_model import FaceModel


def provenance(model: FaceModel, faces: FaceSet, **parameters: object) -> dict[str, object]:
    """Return the attributes of a result: model, face set, their fingerprints, the kit's version, the parameters."""
    return {
        "model": model.name,
        "model_fingerprint": model.fingerprint(),
        "image_size": model.image_size if isinstance(model.image_size, int) else list(model.image_size),
        "preprocess": str(model.preprocess),
        "faces": faces.name,
        "faces_fingerprint": faces.fingerprint(),
        "version": version("facexkit"),
        **({"geometry": [model.preprocess.size, model.preprocess.resize]} if model.preprocess.resize else {}),
        **parameters,
    }
