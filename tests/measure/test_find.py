"""Plain photographs: people somewhere in them, whose faces are found, cut out, labelled and masked."""

import numpy as np
import pandas as pd
import pytest
from PIL import Image
from typer.testing import CliRunner

from facexkit import cli
from facexkit.errors import FacexkitError
from facexkit.faces.formats import load_faces
from facexkit.faces.regions import REGIONS
from facexkit.measure.region_scores import score_regions
from facexkit.models.loading import load_model
from facexkit.show.regions import region_findings
from facexkit.show.run import photographs_of


@pytest.fixture(scope="module")
def street(tmp_path_factory, shared_faces):
    """Photographs with labels: two of one person, one of two, one of nobody, one that is broken."""
    root = tmp_path_factory.mktemp("street")
    faces = [shared_faces.images.read(path) for path in shared_faces.table.path[:4]]
    for name, places in {"a.jpg": [(0, 40, 30, 200)], "b.jpg": [(1, 300, 90, 160)], "c.jpg": [(2, 30, 30, 170), (3, 320, 60, 120)]}.items():
        photograph = Image.new("RGB", (520, 300), (90, 120, 150))
        for face, left, top, side in places:
            photograph.paste(faces[face].resize((side, side)), (left, top))
        photograph.save(root / name, quality=95)
    Image.new("RGB", (520, 300), "green").save(root / "d.jpg")
    (root / "e.jpg").write_bytes(b"no picture")
    rows = ["a.jpg,1,x", "b.jpg,0,y", "c.jpg,1,y", "d.jpg,0,y", "e.jpg,0,x"]
    (root / "l.csv").write_text("img,smiling,group\n" + "\n".join(rows))
    return {"root": root, "annotations": root / "l.csv", "protected": "group"}


def centres(faces, names):
    """The middles of regions, as shares of the picture, (faces, names, 2)."""
    found = []
    for path in faces.table.path:
        masks = faces.masks.read(path)
        found.append([np.argwhere(masks[name]).mean(0) / masks[name].shape for name in names])
    return np.array(found)


def test_the_largest_face_of_each_photograph_is_aligned_with_its_labels_and_masks(street):
    faces = load_faces("csv", **street, find=True, masks="landmarks")
    assert faces.table.to_dict("list") == {"path": ["a.jpg", "b.jpg", "c.jpg"], "smiling": [1, 0, 1], "group": ["x", "y", "y"]}
    assert {faces.images.read(path).size for path in faces.table.path} == {(300, 300)}
    assert centres(faces, ["l_eye", "r_eye", "u_lip"]).std(0).max() < 0.05
    assert "photographs without a face by group: x 1 of 2, y 1 of 3" in faces.notes
    assert any(note.startswith("3 faces aligned from 5 photographs; 1 without a face: d.jpg; 1 cannot be decoded: e.jpg") for note in faces.notes)
    batch = next(faces.batches(64, workers=0))
    assert batch.images.shape == (3, 3, 64, 64) and not batch.skipped


def test_all_faces_have_the_way_back_to_their_photograph(street):
    faces = load_faces("csv", **street, find="all")
    assert faces.table.path[:4].tolist() == ["a_face0.jpg", "b_face0.jpg", "c_face0.jpg", "c_face1.jpg"]
    assert faces.table.photograph[:4].tolist() == ["a.jpg", "b.jpg", "c.jpg", "c.jpg"] and faces.table.group[:4].tolist() == list("xyyy")
    assert faces.fingerprint() != faces[:3].fingerprint()


def test_squares_and_the_sets_own_masks_are_cut_alike(street, tmp_path):
    for name in "abc":
        index = np.zeros((300, 520), np.uint8)
        index[:, 260:] = REGIONS.index("hair")
        Image.fromarray(index).save(tmp_path / f"{name}.png")
    faces = load_faces("csv", **street, find="largest", margin=0.3, masks=tmp_path)
    assert np.ptp([faces.images.read(path).size for path in faces.table.path], axis=1).max() <= 1
    assert faces.masks.read("b.jpg")["hair"].all() and not faces.masks.read("a.jpg").get("hair", np.zeros(1)).any()
    aligned = load_faces("csv", **street, find="largest", masks=tmp_path)
    assert aligned.masks.read("b.jpg")["hair"].mean() > 0.95


@pytest.mark.parametrize(("find", "message"), [("nearest", "unknown choice of found faces"), ("largest", "no face found in 1 ")])
def test_what_cannot_be_found_is_told(tmp_path, find, message):
    Image.new("RGB", (90, 80), "green").save(tmp_path / "a.jpg")
    with pytest.raises(FacexkitError, match=message):
        load_faces("photos", root=tmp_path, find=find)


def test_a_folder_of_photographs_needs_no_labels(street):
    faces = load_faces("photos", root=street["root"])
    assert len(faces) == 5 and list(faces.table) == ["path"]
    assert faces.notes == ["1 files are no images (1 .csv) and are left out: l.csv"]
    pd.testing.assert_frame_equal(load_faces("photos", **street).table, load_faces("csv", **street).table)


def test_faces_that_are_not_aligned_are_told_where_regions_would_be_exchanged(street, shared_faces, tmp_path):
    root = tmp_path / "wide"
    root.mkdir()
    for place, path in enumerate(shared_faces.table.path[:6]):
        photograph = Image.new("RGB", (600, 256), "grey")
        photograph.paste(shared_faces.images.read(path).resize((220, 220)), (70 * place, 10))
        photograph.save(root / f"{place}.png")
    apart = load_faces("photos", root=root, masks="landmarks")
    assert any(note.startswith("eyes and lips lie in different places from face to face") for note in apart.notes)
    aligned = load_faces("photos", root=root, masks="landmarks", find="yes")
    assert "scatter" in apart.source and "scatter" not in aligned.source
    model = load_model("demo:biased", device="cpu")
    how = {"layer": "layer4", "target_class": 1, "method": "share", "quick": True, "progress": False, "workers": 0}
    told = region_findings(score_regions(model, apart, **how))
    assert any("The faces are not aligned" in sentence for sentence in told)
    assert not any("not aligned" in sentence for sentence in region_findings(score_regions(model, aligned, **how)))


def test_one_command_goes_from_photographs_and_labels_to_what_a_run_needs(street, monkeypatch):
    given = photographs_of("demo:biased", street["root"], street["annotations"], {"num_classes": None})
    assert given == {"data": "photos", "data_root": str(street["root"]), "find": "largest", "masks": "landmarks",
                     "model": "demo:biased", "annotations": str(street["annotations"]), "target": "smiling",
                     "protected": ["group"], "layer": "layer4"}  # fmt: skip
    assert "annotations" not in photographs_of("demo:biased", street["root"], None, {"layer": "layer1"})
    ran = []
    monkeypatch.setattr(cli, "run_and_tell", lambda stages, given, *rest, **named: ran.append((stages, given)))
    CliRunner().invoke(cli.app, ["explain", "demo:biased", str(street["root"]), "--labels", str(street["annotations"]), "-p", "limit=3"], catch_exceptions=False)
    assert ran[0][0] == ["faces", "model", "regions", "audit"]
    assert ran[0][1]["limit"] == 3 and ran[0][1]["protected"] == ["group"]
