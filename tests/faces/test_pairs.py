"""Pairs: which are read, which are refused, and the drawn ones, whose cue alone tells persons apart."""

import numpy as np
import pytest
from PIL import Image

from facexkit.drawn.people import CUES, CueRecipe, Recipe
from facexkit.drawn.synthetic import DrawnFaces
from facexkit.errors import FacexkitError
from facexkit.faces.formats import load_faces
from facexkit.faces.pairs import references

GOOD = "first;second;label;gender;same\na.jpg;b.jpg;1;f;x\na.jpg;c.jpg;0;m;y\nc.jpg;b.jpg;0;f;z\n"


def test_columns_are_read_by_their_place_and_a_probe_may_come_twice(csv_set):
    faces = load_faces("pairs", **csv_set(GOOD), protected="gender")
    assert faces.table.path.tolist() == ["b.jpg", "c.jpg", "b.jpg"]
    assert faces.table.reference.tolist() == ["a.jpg", "a.jpg", "c.jpg"]
    assert faces.table.same.tolist() == [1, 0, 0] and faces.table["same (label)"].tolist() == ["x", "y", "z"]
    assert references(faces).table.path.tolist() == ["a.jpg", "c.jpg"]
    assert len(next(faces.batches(8, workers=0)).rows) == 3 and len(load_faces("pairs", limit=1, **csv_set(GOOD))) == 1


@pytest.mark.parametrize(
    ("text", "said"),
    [
        (GOOD.replace("c.jpg;0;m", "c.jpg;2;m"), r"labels.csv, row 2 \(c.jpg\), column 'label': 2 is neither 1"),
        (GOOD.replace("c.jpg;0;m", "c.jpg;;m"), r"row 2 \(c.jpg\), column 'label': nan is neither 1"),
        (GOOD.replace("a.jpg;c", "gone.jpg;c"), r"labels.csv: 1 of 3 images are not under .*row 2 \(gone.jpg\)"),
        (GOOD.replace("a.jpg;c", "../a.jpg;c"), r"labels.csv: paths that leave the root: row 2 \(../a.jpg\)"),
        (GOOD.replace("c.jpg;b", ";b"), r"labels.csv: rows without an image: row 3 \(nan\)"),
        (GOOD.replace("a.jpg;c.jpg;0", "a.jpg;b.jpg;0"), "labels.csv, rows 1 and 2: a.jpg and b.jpg are one person"),
        ("a.jpg,b.jpg,1\na.jpg,c.jpg,0\n", "line 1 is a.jpg, b.jpg, 1, and a.jpg is an image, no column"),
        ("first,second\na.jpg,b.jpg\n", "it names the columns: reference image, probe image"),
    ],
)  # fmt: skip
def test_what_is_wrong_is_told_with_file_and_row(csv_set, text, said):
    with pytest.raises(FacexkitError, match=said):
        load_faces("pairs", **csv_set(text))


def test_a_root_needs_annotations_and_other_sets_have_no_references(csv_set, drawn_faces):
    with pytest.raises(FacexkitError, match="needs root=… and annotations=…"):
        load_faces("pairs", root=csv_set(GOOD)["root"])
    with pytest.raises(FacexkitError, match="has no pairs"):
        references(drawn_faces)


def test_other_formats_still_refuse_two_rows_of_one_image(csv_set):
    with pytest.raises(FacexkitError, match="two rows of different labels"):
        load_faces("csv", **csv_set("image,x\na.jpg,1\na.jpg,2\n"))


def test_drawn_pairs_are_half_of_one_person_and_every_probe_meets_its_own_and_a_stranger():
    table = load_faces("pairs", identities=20, pictures_per_identity=4).table
    assert len(table) == 2 * 2 * table.identity.nunique() == 32 and set(table.split) == {"test"}
    assert table.groupby("path").same.agg(set).map(lambda values: values == {0, 1}).all()
    of_reference = table.reference.str[:6].astype(int)
    assert ((of_reference == table.identity) == (table.same == 1)).all()


@pytest.mark.parametrize("cue", CUES)
def test_pictures_of_a_person_share_the_cue_and_nothing_else(cue):
    recipe, (labels, measures, colour) = CueRecipe(cue=cue), CUES[cue]
    first, second, other = (recipe.face(path) for path in ("000003_0.png", "000003_1.png", "000004_0.png"))
    for name in measures:
        assert first.shape[name] == second.shape[name] != other.shape[name]
    assert labels.items() <= first.labels.items() and labels.items() <= other.labels.items()
    assert np.array_equal(first.colours[colour], second.colours[colour])
    rest = [name for name in first.shape if name not in measures]
    differ = [first.shape[name] != second.shape[name] for name in rest]
    assert sum(differ) > 0.5 * len(rest)
    assert not any(np.array_equal(first.colours[n], second.colours[n]) for n in first.colours if n != colour)


def test_labels_of_a_table_are_those_of_the_drawn_faces_and_a_cue_is_its_own_digest():
    faces = load_faces("synthetic", identities=3, pictures_per_identity=2, cue="brows")
    for row in faces.table.itertuples():
        drawn = faces.images.recipe.face(row.path).labels
        assert (drawn["identity"], drawn["gender"], drawn["hat"]) == (row.identity, row.gender, row.hat)
    assert DrawnFaces(Recipe()).digest("000000_0.png") != faces.images.digest("000000_0.png")


@pytest.mark.parametrize(
    ("options", "said"),
    [
        ({"cue": "brow"}, "unknown cue 'brow'; did you mean 'brows'"),
        ({"cue": "brows", "shortcut": "hat"}, "give one of them"),
        ({"identities": 0}, "count = 0"),
    ],
)
def test_a_wrong_cue_is_an_error(options, said):
    with pytest.raises(FacexkitError, match=said):
        load_faces("synthetic", **options)


def test_drawn_pairs_need_two_persons():
    with pytest.raises(FacexkitError, match="two persons with two pictures"):
        load_faces("pairs", identities=3, pictures_per_identity=1)


def test_the_probes_masks_are_found_beside_the_images(csv_set):
    given = csv_set(GOOD)
    folder = given["root"].with_name(f"{given['root'].name}-mask-anno")
    folder.mkdir()
    for name in ("b", "c"):
        size = Image.open(given["root"] / f"{name}.jpg").size
        Image.new("L", size, 255).save(folder / f"{name}_nose.png")
    masks = load_faces("pairs", **given).masks
    assert set(masks.read("b.jpg")) == {"nose"} and masks.missing(["b.jpg", "c.jpg"]) == []
