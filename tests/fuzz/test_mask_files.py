"""Whatever bytes a mask or an image file holds: masks and pixels, or an error that tells."""

from __future__ import annotations

import io

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

from facexkit.errors import FacexkitError
from facexkit.faces.images import ImageFolder
from facexkit.faces.masks import MaskFiles, mask_folder

FUZZ = settings.get_profile("fuzz")
pytestmark = pytest.mark.filterwarnings("ignore")
INDEX = np.resize(np.arange(19, dtype=np.uint8), (12, 16))


def saved(image: Image.Image, kind: str, **how: object) -> bytes:
    image.save(buffer := io.BytesIO(), kind, **how)
    return buffer.getvalue()


def turned() -> Image.Exif:
    exif = Image.Exif()
    exif[0x112] = 6
    return exif


GREY = Image.fromarray(INDEX)
COLOUR = Image.fromarray(np.dstack([INDEX * 13] * 3))
VALID = [
    saved(GREY, "PNG"), saved(GREY.quantize(19), "PNG"), saved(GREY, "PNG", exif=turned()),
    saved(GREY.convert("1"), "PNG"),
    saved(Image.fromarray(INDEX.astype(np.uint16)), "PNG"), saved(GREY.convert("LA"), "PNG"), saved(COLOUR, "PNG"),
    saved(Image.fromarray(INDEX.astype(np.int32)), "TIFF"), saved(Image.fromarray(INDEX.astype(np.float32)), "TIFF"),
    saved(GREY, "TIFF", compression="tiff_lzw"), saved(COLOUR, "TIFF", compression="jpeg"),
    saved(GREY, "GIF"), saved(GREY, "BMP"),
    saved(COLOUR, "JPEG", exif=turned()), saved(COLOUR, "JPEG", progressive=True), saved(COLOUR, "WEBP"),
    saved(GREY, "PPM"),
    saved(COLOUR, "EPS"), saved(COLOUR, "MPO", save_all=True, append_images=[COLOUR]),
]  # fmt: skip


@st.composite
def broken(draw) -> bytes:
    """A good file of some kind with bytes changed, taken out, or cut off."""
    content = bytearray(draw(st.sampled_from(VALID)))
    for _ in range(draw(st.integers(0, 6))):
        at = draw(st.integers(0, min(len(content), 400)))
        content[at : at + draw(st.sampled_from([0, 1, 1, 1, 4]))] = draw(st.binary(max_size=4))
    return bytes(content[: draw(st.integers(0, len(content)) | st.just(len(content)))])


CONTENT = broken() | broken() | st.binary(max_size=40)


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    return tmp_path_factory.mktemp("files")


@FUZZ
@given(CONTENT)
def test_any_content_of_an_index_mask(folder, or_told, content):
    (folder / "a.png").write_bytes(content)
    with or_told():
        found = mask_folder(folder, ["a.jpg"]).read("a.jpg")
        assert all(mask.dtype == bool and mask.any() for mask in found.values())
        assert not found or (np.sum([*found.values()], axis=0) == 1).all()


@FUZZ
@given(CONTENT, CONTENT)
def test_any_content_of_masks_by_region(folder, or_told, skin, hair):
    for name, content in {"r_skin": skin, "r_hair": hair}.items():
        (folder / f"{name}.png").write_bytes(content)
    with or_told():
        found = MaskFiles(folder, {"r.jpg": {"skin": "r_skin.png", "hair": "r_hair.png"}}).read("r.jpg")
        assert all(mask.dtype == bool and mask.any() for mask in found.values())


@FUZZ
@given(CONTENT, CONTENT)
def test_any_image_under_any_mask(folder, or_told, image, mask):
    (folder / "i.img").write_bytes(image)
    (folder / "i.png").write_bytes(mask)
    files = MaskFiles(folder, {"i.img": {"": "i.png"}}, images=ImageFolder(folder))
    with or_told():
        files.take_out_empty(["i.img"])
        files.read("i.img")
    try:
        assert ImageFolder(folder).read("i.img").mode == "RGB"
    except OSError as error:
        assert str(error)


@FUZZ
@given(
    st.dictionaries(st.text(min_size=1, max_size=10), CONTENT, min_size=1, max_size=4),
    st.lists(st.text(max_size=8), min_size=1),
)
def test_any_names_of_mask_files(tmp_path_factory, or_told, files, paths):
    folder = tmp_path_factory.mktemp("names")
    for name, content in files.items():
        try:
            (folder / f"{name}.png").write_bytes(content)
        except (OSError, ValueError):
            continue  # the file system takes no such name
    with or_told():
        source = mask_folder(folder, paths)
        for path in paths:
            try:
                source.read(path)
            except FacexkitError as error:
                assert str(folder) in str(error)
