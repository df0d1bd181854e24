"""Faces cut to the box that MTCNN finds, pixels and masks alike."""

import numpy as np
import pandas as pd
import pytest
from PIL import Image

from facexkit.errors import FacexkitError
from facexkit.faces.faceset import FaceSet
from facexkit.measure.photographs import crop_faces


class Pasted:
    """Real faces pasted into a larger picture, their place as the mask at half the size, and a picture without one."""

    names = ("place",)

    def __init__(self, faces: FaceSet | None, paths: list[str], masks: bool = False) -> None:
        self.faces, self.paths, self.masks = faces, paths, masks

    def read(self, path: str):
        canvas, box = Image.new("RGB", (400, 320), (90, 120, 150)), (150, 60, 350, 260)
        if self.masks:
            mask = np.zeros((160, 200), bool)
            mask[box[1] // 2 : box[3] // 2, box[0] // 2 : box[2] // 2] = path in self.paths
            return {"place": mask}
        if path in self.paths:
            canvas.paste(self.faces.images.read(path).resize((200, 200)), box)
        return canvas

    def digest(self, path: str) -> bytes:
        return path.encode()


@pytest.fixture(scope="module")
def pasted(shared_faces) -> FaceSet:
    paths = shared_faces.table.path[:3].tolist()
    table = pd.DataFrame({"path": [*paths, "nobody.png"]})
    return FaceSet(table, Pasted(shared_faces, paths), Pasted(None, paths, masks=True), name="pasted")


def extent(inside: np.ndarray) -> np.ndarray:
    """Return top, bottom, left and right of a mask as shares of its size."""
    ends = [np.flatnonzero(inside.any(axis))[[0, -1]] / inside.shape[1 - axis] for axis in (1, 0)]
    return np.concatenate(ends)


def test_pixels_and_masks_are_cut_alike(pasted):
    cropped = crop_faces(pasted, margin=0.6)
    for path in pasted.table.path[:3]:
        image, place = cropped.images.read(path), cropped.masks.read(path)["place"]
        assert abs(image.width - image.height) <= 1 and abs(place.shape[0] - place.shape[1]) <= 1
        face = np.abs(np.asarray(image).astype(int) - (90, 120, 150)).sum(-1) > 0
        assert 0.2 < face.mean() < 0.95
        np.testing.assert_allclose(extent(face), extent(place), atol=0.02)
    assert crop_faces(pasted, margin=0).images.read(path).width < image.width / 2


def test_an_image_without_a_face_is_used_whole_and_counted(pasted):
    cropped = crop_faces(pasted)
    assert cropped.images.read("nobody.png").size == (400, 320)
    assert cropped.masks.read("nobody.png")["place"].shape == (160, 200)
    assert cropped.source["uncropped"] == 1 and "1 without one" in cropped.notes[-1]
    assert cropped.fingerprint() != pasted.fingerprint()
    assert len(pasted.notes) == 0


def test_a_negative_margin_is_refused(pasted):
    with pytest.raises(FacexkitError, match="margin"):
        crop_faces(pasted, margin=-0.1)
