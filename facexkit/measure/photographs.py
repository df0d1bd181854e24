"""Photographs become faces: found, then cut to a square or aligned as FairFace's own script does it with dlib."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from pathlib import Path, PurePosixPath

import pandas as pd
from PIL import Image
from torch import nn

from facexkit.errors import FacexkitError, listed
from facexkit.faces.cache import write_whole
from facexkit.faces.cores import cores
from facexkit.faces.cutting import CutFaces, Frame, Square, frame_of
from facexkit.faces.faceset import FaceSet
from facexkit.faces.formats import FINDERS
from facexkit.faces.images import ImageFolder, encoded
from facexkit.faces.listing import images_in
from facexkit.faces.notes import by_group
from facexkit.faces.spreadsheet import write_csv
from facexkit.measure.found_faces import BOX, find_faces, points_of
from facexkit.measure.per_image import PerImage
from facexkit.models.face_model import FaceModel
from facexkit.probe.accumulator import ProbedBatch
from facexkit.probe.options import PassOptions
from facexkit.probe.run import run
from facexkit.probe.state import Arrays

SIZE, PADDING, SMALLEST = 300, 0.25, 0.08
PART = 64
"""Faces that are written at a time."""


def crop_faces(faces: FaceSet, margin: float = 0.2, **how: object) -> FaceSet:
    """Return the faces cut to the square around the largest face that MTCNN finds, their masks cut alike.

    Parameters
    ----------
    margin : added on each side, as a share of the box's longer side. The square is moved, and at last made smaller, to
        stay inside the image.
    how : options of the pass that finds the faces, see `PassOptions`; what cannot be decoded is left to the next pass.

    Returns
    -------
    the face set; its last note counts the images without a face, which are used whole, and source["uncropped"] too.
    """
    if margin < 0:
        raise FacexkitError(f"margin {margin} of the crop must be 0 or more")
    found = find_faces(faces, **{**how, "max_skipped": 1.0})
    found = found[found.face == 0]
    cropped = _cut(faces, found, found.path.tolist(), _squares(found, margin), faces.table)
    uncropped = len(faces) - found.row.nunique()
    cropped.notes.append(f"cropped to the face that MTCNN found, margin {margin:g}; {uncropped} without one are used whole")
    cropped.source = {**faces.source, "crop": "mtcnn", "margin": margin, "uncropped": uncropped}
    return cropped


def align_faces(
    photographs: FaceSet | str | Path, out: str | Path, detector: str = "mtcnn", *, size: int = SIZE,
    padding: float = PADDING, smallest: float = SMALLEST, **how: object,
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
    how : options of the passes, see `PassOptions`.

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
    aligned = find_in(photographs, "all", detector=detector, size=size, padding=padding, smallest=smallest, **how)

    def write(part: Arrays) -> None:
        with ThreadPoolExecutor(cores()) as pool:
            [*pool.map(_write, [out / aligned.table.path[row] for row in part["rows"]], part["pixels"])]

    nobody = FaceModel(nn.Identity(), name="aligned", image_size=size, device="cpu")
    run(nobody, aligned, [Pictures(write)], PassOptions(**how), shard=PART)
    write_csv(aligned.table, out / "faces.csv")
    kept = {name: getattr(aligned, name) for name in ("name", "target", "protected", "notes", "source")}
    return FaceSet(aligned.table, ImageFolder(out), **kept)


class Pictures(PerImage):
    """The pictures themselves, as the pass shows them, `pixels` uint8 (S, S, 3); the model does not run."""

    without_images = True

    def update(self, batch: ProbedBatch) -> None:
        self.kept.take(batch.rows, pixels=batch.images.permute(0, 2, 3, 1).contiguous().cpu().numpy())


@FINDERS.register("largest")
def _largest(photographs: FaceSet, margin: float | None, **how: object) -> FaceSet:
    return find_in(photographs, "largest", margin, **{**how, "max_skipped": 1.0})


@FINDERS.register("all")
def _all(photographs: FaceSet, margin: float | None, **how: object) -> FaceSet:
    return find_in(photographs, "all", margin, smallest=SMALLEST, **{**how, "max_skipped": 1.0})


def find_in(
    photographs: FaceSet, which: str, margin: float | None = None, *, detector: str = "mtcnn", size: int = SIZE,
    padding: float = PADDING, smallest: float | None = None, **how: object,
) -> FaceSet:  # fmt: skip
    """Return the faces of photographs as a set that cuts each out when it is read, labels carried over.

    Parameters
    ----------
    which : "largest", which keeps the photograph's path; or "all", called `STEM_face0.jpg`, ….
    margin : None for faces aligned, in `size` pixels with `padding`; a number for squares with so much room around.
    """
    if not (size >= 1 and padding >= 0 and (margin is None or margin >= 0)):
        raise FacexkitError(f"size {size} must be at least 1, padding {padding} and margin {margin} at least 0")
    found = find_faces(photographs, smallest, detector, **how)
    table, count = photographs.table, len(photographs)
    empty = ~table.index.isin(found.row)
    if not len(found):
        raise FacexkitError(f"no face found in {count} photographs; a lower smallest= finds smaller faces")
    if which == "largest":
        found = found[found.face == 0]
        names, labels = found.path.tolist(), table.iloc[found.row].reset_index(drop=True)
    else:
        boxes = [f"[({left}, {top}) ({right}, {bottom})]" for left, top, right, bottom in found[BOX].to_numpy().astype(int)]
        names = _names(table.path, found)
        labels = pd.DataFrame({"photograph": found.path, "photograph_row": found.row, "bbox": boxes})
        labels.insert(0, "path", names)
        labels = labels.join(table.drop(columns=labels.columns, errors="ignore"), on="photograph_row")
    if margin is None:
        target = tuple(map(tuple, frame_of(detector, size, padding).tolist()))
        points = points_of(found) / found[["width", "height"]].to_numpy()[:, None]
        cuts = [Frame(tuple(map(tuple, five)), target, size) for five in points.tolist()]
        how_cut, told = {"aligned": detector, "size": size, "padding": padding, "smallest": smallest}, "aligned"
    else:
        cuts, how_cut, told = _squares(found, margin), {"cropped": detector, "margin": margin}, "cut out"
    cut = _cut(photographs, found, names, cuts, labels)
    broken = {one.partition(": ")[0] for one in found.attrs["skipped"]}
    nobody = [path for path in table.path[empty] if path not in broken]
    note = f"{len(found)} faces {told} from {count} photographs"
    note += f"; {len(nobody)} without a face: {listed(nobody, 20)}" if nobody else ""
    note += f"; {len(broken)} cannot be decoded: {'; '.join(found.attrs['skipped'][:5])}" if broken else ""
    cut.notes += [*by_group(photographs, empty, "photographs without a face"), note]
    cut.name, cut.source = f"{photographs.name}, {told}", photographs.source | how_cut
    return cut


def _cut(photographs: FaceSet, found: pd.DataFrame, names: list[str], cuts: list, table: pd.DataFrame) -> FaceSet:
    """Return the face set of `table` in which each name shows what a cut takes from its photograph."""
    taken = {name: (path, cut) for name, path, cut in zip(names, found.path, cuts, strict=True)}
    faces = photographs[:]
    faces.table, faces.images = table.reset_index(drop=True), CutFaces(photographs.images, taken)
    faces.masks = None if photographs.masks is None else CutFaces(photographs.masks, taken)
    return faces


def _squares(found: pd.DataFrame, margin: float) -> list[Square]:
    boxes, sizes = found[BOX].to_numpy(float).reshape(-1, 2, 2), found[["width", "height"]].to_numpy(float)
    return [Square.around(box, margin, size) for box, size in zip(boxes, sizes, strict=True)]


def _names(paths: pd.Series, found: pd.DataFrame) -> list[str]:
    stems = pd.Series([str(PurePosixPath(path).with_suffix("")) for path in paths], paths.index)
    if len(twice := paths[stems.duplicated(keep=False)]):
        raise FacexkitError(f"faces of different photographs get one name: {', '.join(twice[:4])}; rename these")
    return [f"{stems[row]}_face{face}.jpg" for row, face in zip(found.row, found.face, strict=True)]


def _write(file: Path, pixels: object) -> None:
    write_whole(file, encoded(Image.fromarray(pixels), "JPEG", quality=95))


def _folder(root: Path, out: Path) -> FaceSet:
    if out.resolve().is_relative_to(root.resolve()):
        raise FacexkitError(f"the faces would be saved among the photographs; name an out outside of {root}, not {out}")
    if not (paths := images_in(root)[0]):
        raise FacexkitError(f"there is no image in {root}; name a folder of photographs, or give a face set")
    return FaceSet(pd.DataFrame({"path": paths}), ImageFolder(root), name=root.name, source={"root": str(root)})
