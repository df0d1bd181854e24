"""A tiny Face Dictionary in exactly the published layout."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from PIL import Image

from facexkit.errors import FacexkitError
from facexkit.faces.formats import load_faces
from facexkit.faces.mask_view import MaskView

FIRST, SECOND = "N_0000000001_00002", "N_0000000002_00001"


def write_mask(file: Path, pixels: np.ndarray) -> str:
    file.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(pixels.astype(np.uint8) * 255).save(file)
    return f"{file.parents[1].name}/{file.parent.name}/{file.name}"


@pytest.fixture
def dictionary(tmp_path, write_image) -> Path:
    """Two faces with masks of different sizes, and three others by group."""
    root, rng = tmp_path / "visual_dictionary", np.random.default_rng(3)
    for name in (FIRST, SECOND):
        write_image(root / "images" / f"{name}.jpg")
    labels = {
        "Action_Units.csv": {FIRST: ["AU/{}/AU_26.png", "AU/{}/AU_1.png"]},
        "Attributes.csv": {FIRST: ["Attributes/{}/Goatee.png"], SECOND: ["Attributes/{}/Freckles.png"]},
        "Parts.csv": {SECOND: ["Parts/{}/mouth.png"], FIRST: []},
    }
    for file, rows in labels.items():
        lines = ["image,labels"]
        for name, masks in rows.items():
            size = rng.integers(8, 20, 2)
            written = [write_mask(root / mask.format(name), rng.random(size) < 0.5) for mask in masks]
            lines.append(f"images/{name}.jpg,{';'.join(written)}")
        (root / file).write_text("\n".join(lines) + "\n")
    for place in ("Age/Sixty_Plus/a.jpg", "Age/zero_to_twenty/b.png", "skin_tone/Dark/c.jpg"):
        write_image(root / "non_localizable" / place)
    return root


def test_concepts_become_columns_and_masks(dictionary):
    faces = load_faces("face_dictionary", root=dictionary)
    assert faces.masks.names == ("AU_1", "mouth", "AU_26", "Goatee", "Freckles")  # by area, then what is new
    local = faces.table.set_index("path")[list(faces.masks.names)]
    assert local.loc[f"images/{FIRST}.jpg"].tolist() == [1, 0, 1, 1, 0]
    assert local.loc[f"images/{SECOND}.jpg"].tolist() == [0, 1, 0, 0, 1]
    assert local.iloc[2:].to_numpy().sum() == 0 and len(local) == 5
    masks = faces.masks.read(f"images/{FIRST}.jpg")
    assert set(masks) == {"AU_1", "AU_26", "Goatee"}
    assert np.array_equal(masks["AU_26"], np.array(Image.open(dictionary / f"AU/{FIRST}/AU_26.png")) > 0)


def test_groups_come_from_folders_in_lower_case(dictionary):
    table = load_faces("face_dictionary", root=dictionary).table.set_index("path")
    assert table.age.dropna().to_dict() == {
        "non_localizable/Age/Sixty_Plus/a.jpg": "sixty_plus",
        "non_localizable/Age/zero_to_twenty/b.png": "zero_to_twenty",
    }
    assert table.skin_tone.dropna().to_dict() == {"non_localizable/skin_tone/Dark/c.jpg": "dark"}


def test_masks_of_any_size_come_out_of_one_batch(dictionary):
    faces = load_faces("face_dictionary", root=dictionary)
    view = MaskView(faces.masks.names, 10)
    batch = next(iter(faces.batches(16, 5, [view], workers=0)))
    filled = batch.masks[view].flatten(2).any(2)
    assert filled.numpy().astype(int).tolist() == faces.table[list(faces.masks.names)].to_numpy().tolist()
    assert "5 faces" in faces._repr_html_()


def test_missing_parts_are_noted(dictionary):
    (dictionary / "Parts.csv").unlink()
    faces = load_faces("face_dictionary", root=dictionary)
    assert "mouth" not in faces.masks.names and any("Parts.csv" in note for note in faces.notes)
    for file in ("Action_Units.csv", "Attributes.csv"):
        (dictionary / file).unlink()
    assert load_faces("face_dictionary", root=dictionary).masks is None
    with pytest.raises(FacexkitError, match=r"none of Attributes\.csv"):
        load_faces("face_dictionary", root=dictionary / "AU")


@pytest.mark.parametrize(
    ("labels", "complaint"),
    [
        ("AU/x/AU_2.png", r"Action_Units\.csv, row 2 \(images/N_0000000002_00001\.jpg\): there is no mask .*AU_2\.png"),
        ("../../AU_2.png", r"row 2 .* leaves"),
        (f"AU/{FIRST}/AU_1.png;Parts/{SECOND}/../../AU/{FIRST}/AU_1.png", r"row 2 .*AU_1 has two masks"),
    ],
)
def test_a_wrong_label_is_named_with_its_row(dictionary, labels, complaint):
    with open(dictionary / "Action_Units.csv", "a") as file:
        file.write(f"images/{SECOND}.jpg,{labels}\n")
    with pytest.raises(FacexkitError, match=complaint):
        load_faces("face_dictionary", root=dictionary)


def test_a_label_file_without_labels_is_refused(dictionary):
    pd.DataFrame({"image": ["images/a.jpg"], "label": ["x"]}).to_csv(dictionary / "Parts.csv", index=False)
    with pytest.raises(FacexkitError, match=r"Parts\.csv has no column 'labels'"):
        load_faces("face_dictionary", root=dictionary)
