"""Small files in the layouts of the public face sets."""

from pathlib import Path

import numpy as np
import pytest
from PIL import Image


@pytest.fixture
def write_image():
    """Write a small picture, a different one for each name, in the format of its suffix."""

    def write(file: Path, size: tuple[int, int] = (24, 20)) -> Path:
        file.parent.mkdir(parents=True, exist_ok=True)
        noise = np.random.default_rng(list(str(file.name).encode())).integers(0, 255, (size[1], size[0], 3), np.uint8)
        Image.fromarray(noise).save(file, "JPEG" if file.suffix.lower() in (".jpg", ".jpeg") else None)
        return file

    return write


@pytest.fixture
def csv_set(tmp_path, write_image):
    """Return a function that writes images and a CSV, and gives their places."""

    def make(text: str, images: tuple[str, ...] = ("a.jpg", "b.jpg", "c.jpg")) -> dict[str, Path]:
        for name in images:
            write_image(tmp_path / "faces" / name)
        (tmp_path / "faces").mkdir(exist_ok=True)
        (tmp_path / "labels.csv").write_text(text, encoding="utf-8")
        return {"root": tmp_path / "faces", "annotations": tmp_path / "labels.csv"}

    return make
