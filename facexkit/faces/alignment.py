"""Faces found in photographs and brought to one frame, as FairFace's own script does it with dlib."""

from __future__ import annotations

import io
import math
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from importlib.util import find_spec
from pathlib import Path, PurePosixPath

import cv2
import numpy as np
import pandas as pd
from PIL import Image

from facexkit.errors import FacexkitError, check_known
from facexkit.faces.cache import write_whole
from facexkit.faces.faceset import FaceSet
from facexkit.faces.images import ImageFolder, decoded
from facexkit.faces.landmarks import DETECTION_SIDE, FACE_SIDES, LandmarkParser
from facexkit.faces.readers import images_in
from facexkit.faces.spreadsheet import write_csv

AT_ONCE = 16
MOST_SIDE, DLIB_SIDE = 1600, 800
"""A photograph is brought to so many pixels at most; dlib looks for faces in as many as in FairFace's script."""

TARGETS = {
    "mtcnn": ((0.2255, 0.2160), (0.7547, 0.2160), (0.4901, 0.5156), (0.2541, 0.7802), (0.7261, 0.7802)),
    "dlib": ((0.8596, 0.2135), (0.6461, 0.2290), (0.1206, 0.2137), (0.3341, 0.2291), (0.4901, 0.6278)),
}
"""Where a detector's five points lie on the mean face of dlib's `get_face_chip_details`, as shares of the frame.

dlib's own are corners of the eyes and the base of the nose. MTCNN finds other points, which are read off the 68 that
the same function holds: the middle of an eye's six, the tip of the nose (30) and the corners of the mouth (48 and 54).
"""

Detector = Callable[[list[Image.Image]], list[np.ndarray]]
"""Images → of each all its faces, float (F, 7, 2) in pixels: two corners of the box, and five points."""


def align_faces(
    photographs: FaceSet | str | Path, out: str | Path, detector: str = "mtcnn", *, size: int = 300,
    padding: float = 0.25, smallest: float = 0.08, max_skipped: float = 0.01,
) -> FaceSet:
    """Find all faces of photographs; save each as `STEM_face0.jpg`, …, aligned as dlib's `get_face_chip` does it.

    Parameters
    ----------
    photographs : a face set, or a folder of images.
    out : folder for the faces, and their table as `faces.csv`.
    detector : "mtcnn", largest face first; or "dlib", as in FairFace's script, slow without a GPU.
    size : side of an aligned face in pixels.
    padding : room around the face on each side, as a share of the frame without it.
    smallest : MTCNN looks for faces from this share of the photograph's longer side on.
    max_skipped : largest share of photographs that may be undecodable.

    Returns
    -------
    the aligned faces; table: `path`, `photograph` (its path), `photograph_row`, `bbox` (where the face was found there,
    as dlib prints it: [(left, top) (right, bottom)]) and the photograph's labels. The last note names photographs
    without a face.

    Raises
    ------
    FacexkitError for an unknown or missing detector, photographs that cannot be decoded or that share a name, an `out`
    inside the folder of the photographs, or no face at all.
    """
    out = Path(out).expanduser()
    if not isinstance(photographs, FaceSet):
        photographs = _folder(Path(photographs).expanduser(), out)
    check_known("detector", [detector], DETECTORS)
    if not (size >= 1 and padding >= 0 and 0 < smallest <= 1):
        raise FacexkitError(f"size {size} must be at least 1, padding {padding} at least 0, smallest {smallest} in 0–1")
    target = (np.array(TARGETS[detector]) + padding) / (1 + 2 * padding) * size
    table, without = _save_faces(photographs, out, DETECTORS[detector](smallest), target, size)
    note = _account(len(photographs), len(table), without, max_skipped)
    table = table.join(photographs.table.drop(columns=table.columns, errors="ignore"), on="photograph_row")
    write_csv(table, out / "faces.csv")
    how = {"aligned": detector, "size": size, "padding": padding, "smallest": smallest}
    kept = {"target": photographs.target, "protected": photographs.protected, "notes": [*photographs.notes, note]}
    name, source = f"{photographs.name}, aligned", photographs.source | how
    return FaceSet(table, ImageFolder(out), name=name, source=source, **kept)


def cut_out(image: Image.Image, points: np.ndarray, target: np.ndarray, size: int) -> Image.Image:
    """Return the square of `size` pixels in which the image's `points` (5, 2) lie at `target` (5, 2), about.

    As in dlib, z ↦ a·z + b (complex: turn, scale, move) takes `target` nearest to `points`; around the image is black.
    """
    goal, place = (each @ (1, 1j) for each in (target, points))
    spread = goal - goal.mean()
    a = np.vdot(spread, place - place.mean()) / np.vdot(spread, spread)
    b = place.mean() - a * goal.mean()
    shrink = max(1, int(abs(a)))  # a pixel of the square covers so many of the image: average them first
    a, b = a / shrink, (b + 0.5 + 0.5j) / shrink - 0.5 - 0.5j
    back = np.array([[a.real, -a.imag, b.real], [a.imag, a.real, b.imag]])
    pixels = np.asarray(image.reduce(shrink))
    return Image.fromarray(cv2.warpAffine(pixels, back, (size, size), flags=cv2.INTER_LINEAR | cv2.WARP_INVERSE_MAP))


def _save_faces(
    photographs: FaceSet, out: Path, detect: Detector, target: np.ndarray, size: int
) -> tuple[pd.DataFrame, dict[str, str]]:
    """Return a row a face, and the photographs without one, with why each cannot be decoded, or ""."""
    paths = photographs.table.path
    stems = pd.Series([str(PurePosixPath(path).with_suffix("")) for path in paths], paths)
    if len(twice := paths[stems.duplicated(keep=False).to_numpy()]):
        raise FacexkitError(f"faces of different photographs get one name: {', '.join(twice[:4])}; rename these")

    def save(path: str, image: Image.Image, points: np.ndarray) -> None:
        cut_out(image, points, target, size).save(content := io.BytesIO(), "JPEG", quality=95)
        write_whole(out / path, content.getvalue())

    rows, saved, without = [], [], {}
    row_of = {path: row for row, path in enumerate(paths)}
    with ThreadPoolExecutor(2) as pool:
        for images, broken in decoded(photographs.images, [*paths], AT_ONCE, "aligning faces", MOST_SIDE):
            without |= broken
            for (path, image), faces in zip(images.items(), detect([*images.values()]) if images else (), strict=True):
                without |= {} if len(faces) else {path: ""}
                for number, face in enumerate(faces):
                    left, top, right, bottom = (face[:2] * image.info["size"] / image.size).astype(int).ravel()
                    box = f"[({left}, {top}) ({right}, {bottom})]"
                    rows.append((f"{stems[path]}_face{number}.jpg", path, row_of[path], box))
                    saved.append(pool.submit(save, rows[-1][0], image, face[2:]))
    for each in saved:
        each.result()
    return pd.DataFrame(rows, columns=["path", "photograph", "photograph_row", "bbox"]), without


def _mtcnn(smallest: float) -> Detector:
    parser, side = LandmarkParser(), max(DETECTION_SIDE, math.ceil(FACE_SIDES[-1] / smallest))
    return lambda images: parser.every_face(images, side, [round(side * smallest)])


def _dlib(_smallest: float) -> Detector:
    if not (find_spec("dlib") and find_spec("face_recognition_models")):
        raise FacexkitError("detector 'dlib' needs dlib and its models: pip install dlib face-recognition-models")
    import dlib

    folder = Path(find_spec("face_recognition_models").submodule_search_locations[0], "models")
    find = dlib.cnn_face_detection_model_v1(str(folder / "mmod_human_face_detector.dat"))
    predict = dlib.shape_predictor(str(folder / "shape_predictor_5_face_landmarks.dat"))

    def five_points(image: Image.Image) -> np.ndarray:
        scale = DLIB_SIDE / max(image.size)
        pixels = np.array(image.resize([max(1, round(side * scale)) for side in image.size], Image.Resampling.BILINEAR))
        found = [(each.rect, predict(pixels, each.rect).parts()) for each in find(pixels, 1)]
        shapes = [[box.tl_corner(), box.br_corner(), *points] for box, points in found]
        return np.array([[(point.x, point.y) for point in shape] for shape in shapes]).reshape(-1, 7, 2) / scale

    return lambda images: [five_points(image) for image in images]


DETECTORS: dict[str, Callable[[float], Detector]] = {"mtcnn": _mtcnn, "dlib": _dlib}


def _folder(root: Path, out: Path) -> FaceSet:
    if out.resolve().is_relative_to(root.resolve()):
        raise FacexkitError(f"the faces would be saved among the photographs; name an out outside of {root}, not {out}")
    if not (paths := images_in(root)):
        raise FacexkitError(f"there is no image in {root}; name a folder of photographs, or give a face set")
    return FaceSet(pd.DataFrame({"path": paths}), ImageFolder(root), name=root.name, source={"root": str(root)})


def _account(photographs: int, faces: int, without: dict[str, str], max_skipped: float) -> str:
    """Say how many faces were found, and which photographs have none; raise where too much is missing."""
    broken = [f"{path}: {why}" for path, why in without.items() if why]
    empty = [path for path, why in without.items() if not why]
    if len(broken) > max_skipped * photographs:
        raise FacexkitError(f"{len(broken)} of {photographs} photographs cannot be decoded, more than the share "
                            f"max_skipped={max_skipped:g}: {'; '.join(broken[:5])}; replace them or take them out")
    if not faces:
        raise FacexkitError(f"no face found in {photographs} photographs; a lower smallest= finds smaller faces")
    said = f"{faces} faces aligned from {photographs} photographs"
    said += f"; {len(empty)} without a face: {', '.join(empty)}" if empty else ""
    return said + (f"; {len(broken)} cannot be decoded: {'; '.join(broken)}" if broken else "")
