"""What is timed from files on disk: 512×512 JPEGs, each with an index PNG of its masks."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import lru_cache, partial
from importlib.util import find_spec
from io import BytesIO
from pathlib import Path
from tempfile import TemporaryDirectory

import cv2
import numpy as np
import pandas as pd
import torch
from PIL import Image

import facexkit as fx
from benchmarks.setting import CONCEPTS, Row, Setting
from facexkit.faces.faceset import FaceSet
from facexkit.faces.mask_view import MaskView
from facexkit.faces.regions import REGIONS, index_map

SIDE = 512
FILES = 64
REPEATED = 4
"""A pass from disk goes so many times over the files, so that starting its workers is a small part of it."""


@lru_cache
def faces_on_disk() -> tuple[TemporaryDirectory, FaceSet]:
    """Write drawn faces and their masks to a folder that lives as long as the process; return it and the face set."""
    folder, drawn = TemporaryDirectory(), fx.load_faces("synthetic", size=SIDE, limit=FILES)
    root, view = Path(folder.name), MaskView(REGIONS, SIDE)
    for kind in ("images", "masks"):
        (root / kind).mkdir()
    for path in drawn.table.path:
        drawn.images.read(path).save(root / "images" / f"{Path(path).stem}.jpg", quality=92)
        index = Image.fromarray(index_map(view.of(drawn.masks.read(path))))
        index.save(root / "masks" / f"{Path(path).stem}.png")
    files = sorted(file.name for file in (root / "images").iterdir())
    pd.DataFrame({"img": files}).to_csv(root / "annotations.csv", index=False)
    faces = fx.load_faces("csv", root=root / "images", annotations=root / "annotations.csv", masks=root / "masks")
    return folder, faces[np.arange(REPEATED * FILES) % FILES]


def scores_from_disk(setting: Setting) -> Callable[[], int]:
    """All of `score_regions` at layer4 for one class, with decoding processes as they are by default."""
    faces = faces_on_disk()[1]
    how = {"batch_size": setting.batch_size, "progress": False}
    return lambda: fx.score_regions(setting.model, faces, "layer4", 1, **how).sizes["image"]


def dissection_from_disk(setting: Setting) -> Callable[[], int]:
    """All of `dissect` at layer4 for eight concepts, counted at 224×224."""
    faces, size = faces_on_disk()[1], setting.model.image_size
    how = {"concepts": CONCEPTS, "mask_size": size, "batch_size": setting.batch_size, "progress": False}

    def work() -> int:
        fx.dissect(setting.model, faces, "layer4", **how)
        return len(faces)

    return work


def decoded_alone(setting: Setting, decode: Callable[[bytes], Image.Image]) -> Callable[[], int]:
    """Each image from its file to bytes at the model's size, by one decoder, in one thread."""
    files = sorted(Path(faces_on_disk()[0].name, "images").iterdir())
    size = (setting.model.image_size,) * 2

    def work() -> int:
        for file in files:
            np.array(decode(file.read_bytes()).resize(size, Image.Resampling.BILINEAR))
        return len(files)

    return work


def decoded_with_masks(setting: Setting, views: Sequence[MaskView] = ()) -> Callable[[], int]:
    """The face set's own batches, decoded in this thread alone."""
    faces = faces_on_disk()[1][:FILES]

    def work() -> int:
        threads = torch.get_num_threads()
        torch.set_num_threads(1)
        for _ in faces.batches(setting.model.image_size, setting.batch_size, views, workers=0):
            pass
        torch.set_num_threads(threads)
        return len(faces)

    return work


def _by_pillow(content: bytes) -> Image.Image:
    return Image.open(BytesIO(content)).convert("RGB")


def _by_opencv(content: bytes) -> Image.Image:
    return Image.fromarray(cv2.imdecode(np.frombuffer(content, np.uint8), cv2.IMREAD_COLOR_RGB))


def _by_simplejpeg(content: bytes) -> Image.Image:
    import simplejpeg  # here, as it need not be installed

    return Image.fromarray(simplejpeg.decode_jpeg(content))


DECODERS = {"Pillow": _by_pillow, "OpenCV": _by_opencv}
if find_spec("simplejpeg"):
    DECODERS["simplejpeg"] = _by_simplejpeg
FASTEST = f"decoding an image alone, {[*DECODERS][-1]}"
SCORED = (MaskView(REGIONS, 64, "antialias", through=224), MaskView(REGIONS, 224))
FILE_ROWS = [
    Row("region scores, whole, from files", scores_from_disk, limit=1.15),
    Row("dissection, whole, from files", dissection_from_disk, limit=1.25),
    *(
        Row(f"decoding an image alone, {name}", partial(decoded_alone, decode=decode), beside=FASTEST)
        for name, decode in DECODERS.items()
    ),
    Row("decoding a batch without masks", decoded_with_masks, beside=FASTEST),
    Row("decoding with masks, region scores", partial(decoded_with_masks, views=SCORED), 1.6, FASTEST),
    Row("decoding with masks, dissection", partial(decoded_with_masks, views=[MaskView(CONCEPTS, 224)]), 1.6, FASTEST),
]
