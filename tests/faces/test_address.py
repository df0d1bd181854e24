"""Face sets at addresses: the same as on a disk, and nothing outside their root."""

import io

import fsspec
import numpy as np
import pytest
from PIL import Image

from facexkit.errors import FacexkitError
from facexkit.faces.formats import load_faces
from facexkit.faces.mask_view import MaskView

VIEW = MaskView(("skin", "nose"), 16)


def png(pixels):
    Image.fromarray(pixels).save(content := io.BytesIO(), "PNG")
    return content.getvalue()


def drawn(k):
    """A picture and the index image of its masks."""
    rng = np.random.default_rng(k)
    return rng.integers(0, 256, (24, 24, 3), np.uint8), rng.integers(0, 3, (24, 24), np.uint8)


@pytest.fixture(params=["memory://faces", "file://{}", "{}"])
def place(request, tmp_path):
    """Four pictures with masks and labels, and one more picture beside their folder."""
    place = request.param.format(tmp_path)
    files, root = fsspec.core.url_to_fs(place)
    content = {"secret.png": png(np.zeros((8, 8, 3), np.uint8))}
    for k in range(4):
        content[f"images/{k % 2}/{k}.png"], content[f"masks/{k}.png"] = map(png, drawn(k))
    content["labels.csv"] = b"path,smile\n" + b"".join(b"%d/%d.png,%d\n" % (k % 2, k, k % 2) for k in range(4))
    for name, each in content.items():
        files.pipe_file(f"{root}/{name}", each) if "memory" in place else write(tmp_path / name, each)
    return place


def write(path, content):
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(content)


def test_a_face_set_at_an_address_is_the_one_on_a_disk(place):
    asked = {"root": f"{place}/images", "annotations": f"{place}/labels.csv", "masks": f"{place}/masks"}
    faces = load_faces("csv", **asked, target="smile")
    assert faces.table.path.tolist() == ["0/0.png", "1/1.png", "0/2.png", "1/3.png"]
    assert load_faces("image_folder", root=f"{place}/images").table.label.tolist() == ["0", "0", "1", "1"]
    for batch in (*faces.batches(24, 1, [VIEW], workers=0), *faces.batches(24, 1, [VIEW], workers=1)):
        pixels, index = drawn(batch.rows[0])
        np.testing.assert_array_equal(batch.images[0].permute(1, 2, 0), pixels)
        np.testing.assert_array_equal(batch.masks[VIEW][0], VIEW.of({"skin": index == 1, "nose": index == 2}))
    assert len(faces.fingerprint()) == 16


@pytest.mark.parametrize(
    ("path", "why"),
    [
        ("../secret.png", "leave the root"),
        ("1/../../secret.png", "leave the root"),
        ("/faces/secret.png", "leave the root"),
        ("memory://faces/secret.png", "not under"),
        ("simplecache::memory://faces/secret.png", "not under"),
        ("1/9.png", "not under"),
    ],
)
def test_a_path_in_an_annotation_file_stays_below_the_root(place, path, why, tmp_path):
    write(tmp_path / "other.csv", f"path\n0/0.png\n{path}\n".encode())
    with pytest.raises(FacexkitError, match=why):
        load_faces("csv", root=f"{place}/images", annotations=tmp_path / "other.csv")


def test_an_address_that_nobody_knows_is_told():
    for place, why in (("nowhere://x", "nowhere://x cannot be reached"), ("memory://none", "memory://none is no folder")):
        with pytest.raises(FacexkitError, match=why):
            load_faces("image_folder", root=place)
