"""Whatever mode an image was saved in, it becomes upright RGB; what is no image is skipped with a reason."""

import numpy as np
import pandas as pd
import pytest
from PIL import Image, ImageOps

from facexkit.faces.faceset import FaceSet
from facexkit.faces.images import ImageFolder

RAMP = np.linspace(0, 255, 12 * 10).astype(np.uint8).reshape(10, 12)
COLOUR = np.dstack([RAMP, RAMP[::-1], np.full_like(RAMP, 90)])


def read(folder, image: Image.Image, name: str, **options) -> np.ndarray:
    image.save(folder / name, **options)
    return np.asarray(ImageFolder(folder).read(name)).astype(int)


@pytest.mark.parametrize("name, image", [
    ("grey.png", Image.fromarray(RAMP)),
    ("deep.png", Image.fromarray(RAMP.astype(np.uint16) * 257)),
    ("deep.tif", Image.fromarray(RAMP.astype(np.int32) * 257)),
])  # fmt: skip
def test_grey_of_8_and_16_bits(tmp_path, name, image):
    assert (read(tmp_path, image, name) == RAMP[..., None]).all()


def test_palette_and_cmyk(tmp_path):
    image = Image.fromarray(COLOUR)
    quantized = image.quantize(32)
    assert (read(tmp_path, quantized, "p.png") == np.asarray(quantized.convert("RGB"))).all()
    assert np.abs(read(tmp_path, image.convert("CMYK"), "c.tif") - COLOUR).max() <= 1


def test_transparency_lies_over_white(tmp_path):
    alpha = np.full_like(RAMP, 255)
    alpha[:, :6] = 0
    pixels = read(tmp_path, Image.fromarray(np.dstack([COLOUR, alpha])), "t.png")
    assert (pixels[:, :6] == 255).all() and (pixels[:, 6:] == COLOUR[:, 6:]).all()


@pytest.mark.parametrize("orientation, quarters", [(3, 2), (6, -1), (8, 1)])
def test_the_exif_orientation_is_obeyed(tmp_path, orientation, quarters):
    turned = np.rot90(COLOUR, quarters)
    image, exif = Image.fromarray(COLOUR), Image.Exif()
    exif[0x0112] = orientation
    assert (read(tmp_path, image, "o.png", exif=exif) == turned).all()


def test_what_is_no_image_is_skipped_with_its_reason(tmp_path, write_image, monkeypatch):
    good = write_image(tmp_path / "good.jpg", (64, 64))
    (tmp_path / "cut.jpg").write_bytes(good.read_bytes()[:800])
    (tmp_path / "text.jpg").write_text("I am no picture")
    (tmp_path / "empty.jpg").write_bytes(b"")
    broken = bytearray(write_image(tmp_path / "broken.png", (64, 64)).read_bytes())
    broken[60:900] = bytes(840)
    (tmp_path / "broken.png").write_bytes(broken)
    Image.fromarray(RAMP.astype(np.float32) / 255).save(tmp_path / "float.tif")
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", 64 * 64)
    write_image(tmp_path / "bomb.png", (256, 256))
    names = ["cut.jpg", "good.jpg", "text.jpg", "empty.jpg", "broken.png", "float.tif", "bomb.png", "gone.jpg"]
    faces = FaceSet(pd.DataFrame({"path": names}), ImageFolder(tmp_path), name="bad")
    for workers in (0, 2):
        batches = list(faces.batches(16, batch_size=3, workers=workers))
        skipped = {path: (row, reason) for batch in batches for row, path, reason in batch.skipped}
        assert [row for batch in batches for row in batch.rows] == [1]
        assert {path: row for path, (row, _) in skipped.items()} == {n: i for i, n in enumerate(names) if i != 1}
        reasons = {path: reason for path, (_, reason) in skipped.items()}
        assert "truncated" in reasons["cut.jpg"] and "cannot identify" in reasons["text.jpg"]
        assert "decompression bomb" in reasons["bomb.png"] and "floating-point" in reasons["float.tif"]
        assert batches[2].images.shape[0] == 0
    assert len(faces.fingerprint()) == 16


@pytest.mark.parametrize("orientation", [1, 6])
@pytest.mark.parametrize("how", [
    {}, {"quality": 100}, {"subsampling": 0}, {"subsampling": 1}, {"progressive": True}, {"keep_rgb": True},
    {"restart_marker_rows": 1}, {"quality": 5, "optimize": True},
])  # fmt: skip
@pytest.mark.parametrize("mode", ["RGB", "L", "CMYK"])
@pytest.mark.parametrize("size", [(1, 1), (33, 47), (200, 120)])
def test_a_jpeg_has_the_pixels_that_pillow_decodes(tmp_path, size, mode, how, orientation):
    how = {name: value for name, value in how.items() if name != "keep_rgb" or mode == "RGB"}
    exif = Image.Exif()
    exif[0x0112] = orientation
    noise = np.random.default_rng(0).integers(0, 256, (*size, 3), np.uint8)
    Image.fromarray((noise // 3 + np.indices(size)[0][..., None] % 170).astype(np.uint8)).convert(mode).save(
        tmp_path / "a.jpg", exif=exif, **how
    )
    with Image.open(tmp_path / "a.jpg") as image:
        expected = ImageOps.exif_transpose(image).convert("RGB")
    assert (np.asarray(ImageFolder(tmp_path).read("a.jpg")) == np.asarray(expected)).all()
