"""Faces are found once: where they are, what is kept of it, and who asks there."""

import numpy as np
import pandas as pd
import pytest
from PIL import Image

from facexkit.errors import FacexkitError
from facexkit.faces.faceset import FaceSet
from facexkit.faces.formats import load_faces
from facexkit.faces.images import ImageFolder
from facexkit.measure import found_faces
from facexkit.measure.found_faces import BOX, find_faces, points_of
from facexkit.measure.photographs import align_faces, crop_faces
from facexkit.models.detector import Mtcnn


@pytest.fixture
def album(tmp_path, shared_faces, monkeypatch):
    """Four pictures: a face, the face a quarter as large to the right, the same in a high picture, and none."""
    monkeypatch.setenv("FACEXKIT_CACHE", str(tmp_path / "cache"))
    picture = shared_faces.images.read(shared_faces.table.path[1])
    wide, high = Image.new("RGB", (900, 600), "grey"), Image.new("RGB", (150, 700))
    wide.paste(picture.resize((128, 128)), (500, 300))
    high.paste(picture.resize((128, 128)), (10, 500))
    root = tmp_path / "album"
    root.mkdir()
    pictures = {"a.png": picture, "b.png": wide, "c.png": high, "d.png": Image.new("RGB", (64, 48), "green")}
    for name, image in pictures.items():
        image.save(root / name)
    return FaceSet(pd.DataFrame({"path": [*pictures]}), ImageFolder(root), name="album")


@pytest.fixture
def looks(monkeypatch):
    """Counts the pictures that the detector is shown."""
    seen, find = [], Mtcnn.find
    monkeypatch.setattr(Mtcnn, "find", lambda self, images: seen.append(len(images)) or find(self, images))
    return seen


def test_a_face_is_found_where_it_is_in_a_picture_of_any_shape(album):
    found = find_faces(album)
    assert found.row.tolist() == [0, 1, 2] and found.face.eq(0).all() and found.path.tolist() == ["a.png", "b.png", "c.png"]
    assert found[["width", "height"]].to_numpy().tolist() == [[512, 512], [900, 600], [150, 700]]
    points, moved, low = points_of(found)
    assert np.abs(moved - (points / 4 + (500, 300))).max() < 8 and np.abs(low - (points / 4 + (10, 500))).max() < 8
    left, top, right, bottom = found[BOX].to_numpy().T
    assert (left < right).all() and (top < bottom).all() and found.confidence.between(0.6, 1).all()
    inside = (points_of(found) >= np.stack([left, top], 1)[:, None]) & (points_of(found) <= np.stack([right, bottom], 1)[:, None])
    assert inside.all()


def test_nobody_finds_again_what_was_found(album, looks, tmp_path):
    first = find_faces(album)
    assert sum(looks) >= 4
    looks.clear()
    pd.testing.assert_frame_equal(find_faces(album), first)
    crop_faces(album)
    (tmp_path / "l.csv").write_text("img,label\nd.png,0\nb.png,1\n")
    again = load_faces("csv", root=album.images.root, annotations=tmp_path / "l.csv", masks="landmarks")
    assert "nose" in again.masks.read("b.png") and again.notes[0].startswith("landmarks could not parse 1 of 2 faces: d.png")
    assert not looks
    align_faces(album, tmp_path / "out")
    assert sum(looks) == 4  # of any size: another question, asked once
    align_faces(album, tmp_path / "again")
    assert sum(looks) == 4


def test_a_picture_that_changes_is_looked_at_again_alone(album, looks):
    find_faces(album)
    looks.clear()
    album.images.read("a.png").transpose(Image.Transpose.FLIP_LEFT_RIGHT).save(album.images.root / "b.png")
    assert find_faces(album).row.tolist() == [0, 1, 2] and looks == [1]


def test_it_goes_on_after_the_last_part_that_was_written(album, looks, monkeypatch):
    monkeypatch.setattr(found_faces, "PART", 2)
    whole, write = [], found_faces.write_whole

    def killed(path, content):
        if whole:
            raise KeyboardInterrupt
        whole.append(write(path, content))

    monkeypatch.setattr(found_faces, "write_whole", killed)
    with pytest.raises(KeyboardInterrupt):
        find_faces(album, 0.1)
    monkeypatch.setattr(found_faces, "write_whole", write)
    looks.clear()
    found = find_faces(album, 0.1)
    assert found.row.tolist() == [0, 1, 2] and sum(looks) == 2


def test_what_cannot_be_decoded_is_listed_each_time_or_stops_it(album):
    (album.images.root / "b.png").write_bytes(b"no picture")
    with pytest.raises(FacexkitError, match=r"1 of 4 images cannot be decoded.*b\.png"):
        find_faces(album)
    for _ in range(2):
        found = find_faces(album, max_skipped=0.3)
        assert found.row.tolist() == [0, 2] and found.attrs["skipped"][0].startswith("b.png: ")


@pytest.mark.parametrize(("wrong", "message"), [({"smallest": 0}, "smallest 0"), ({"detector_name": "x"}, "unknown detector")])
def test_a_wrong_argument_is_told(album, wrong, message):
    with pytest.raises(FacexkitError, match=message):
        find_faces(album, **wrong)
