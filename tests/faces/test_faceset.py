"""The face set: views of masks, choosing, balancing, counting, fingerprints, the view in a notebook."""

import html
import pickle
import re

import numpy as np
import pandas as pd
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

from facexkit.errors import FacexkitError
from facexkit.faces.faceset import FaceSet
from facexkit.faces.formats import load_faces
from facexkit.faces.images import ImageFolder
from facexkit.faces.mask_view import MaskView
from facexkit.faces.regions import FACE_DICTIONARY, REGIONS, TITLES, TOP_TO_BOTTOM, UNIONS, index_map

seeds, sides = st.integers(0, 2**32 - 1), st.integers(1, 40)


class Plain:
    """Pictures and masks from two dictionaries."""

    names = ("skin", "nose")

    def __init__(self, content):
        self.content = content

    def read(self, path):
        return Image.new("RGB", (8, 8), self.content[path])

    def digest(self, path):
        return bytes(self.content[path])


class PlainMasks(Plain):
    def read(self, path):
        return {"skin": np.ones((4, 4), bool)}


def plain(n=9, **columns):
    content = {f"{k}.png": (k % 256, k // 256, 7) for k in range(n)}
    table = pd.DataFrame({"path": list(content), "number": range(n), **columns})
    return FaceSet(table, Plain(content), PlainMasks(dict(content)), name="plain")


@settings(deadline=None, max_examples=40)
@given(seeds, sides, sides)
def test_the_index_map_gives_each_pixel_to_its_uppermost_region(seed, height, width):
    masks = np.random.default_rng(seed).random((len(REGIONS), height, width)) < 0.15
    index = index_map(masks)
    for y, x in np.ndindex(height, width):
        here = [name for name in TOP_TO_BOTTOM if masks[REGIONS.index(name), y, x]]
        assert REGIONS[index[y, x]] == (here[0] if here else "background")


def test_the_vocabulary():
    assert len(REGIONS) == 19 and sorted(REGIONS) == sorted(TOP_TO_BOTTOM) and set(TITLES) == {*REGIONS, *UNIONS}
    assert sum(map(len, FACE_DICTIONARY.values())) == 38


@given(st.lists(st.booleans(), min_size=9, max_size=9), st.slices(9))
def test_choosing_rows_is_choosing_from_the_table(keep, part):
    faces = plain()
    for chosen in (np.array(keep), keep, pd.Series(keep)):
        assert faces[chosen].table.number.tolist() == [n for n, k in enumerate(keep) if k]
    assert faces[part].table.number.tolist() == list(range(9))[part]
    assert faces[part].table.index.tolist() == list(range(len(faces[part])))


def test_a_chosen_set_keeps_what_belongs_to_it():
    faces = plain(group=list("aab" * 3))
    faces.protected, faces.target, faces.notes, faces.source = ("group",), "number", ["a note"], {"format": "x"}
    some = faces[[-1, 2]]
    assert some.table.number.tolist() == [8, 2] and faces[3].table.number.tolist() == [3] and len(faces[[]]) == 0
    assert (some.protected, some.target, some.notes, some.source) == (("group",), "number", ["a note"], {"format": "x"})
    some.notes.append("another")
    assert faces.notes == ["a note"]


@pytest.mark.parametrize("chosen", [[True, False], [9], [-10], ["a"], [0.5]])
def test_a_choice_that_does_not_fit_is_refused(chosen):
    with pytest.raises(FacexkitError):
        plain()[chosen]


def test_balanced_takes_as_many_of_each_group_as_the_smallest_has():
    faces = plain(60, g=["a", "b", "b"] * 20, h=["x"] * 40 + ["y"] * 20)
    by_group = faces.balanced(by="g")
    assert by_group.table.g.value_counts().to_dict() == {"a": 20, "b": 20}
    assert by_group.table.number.is_monotonic_increasing and by_group.table.number.is_unique
    by_both = faces.balanced(by=["g", "h"], seed=1)
    assert by_both.table.groupby(["g", "h"]).size().tolist() == [6, 6, 6, 6]
    assert faces.balanced("g", seed=1).table.equals(faces.balanced("g", seed=1).table)
    assert not faces.balanced("g", seed=1).table.equals(faces.balanced("g", seed=2).table)
    faces.protected = ("h",)
    assert faces.balanced().table.h.value_counts().tolist() == [20, 20]


def test_balanced_says_which_faces_it_leaves_out():
    faces = plain(6, g=["a", "a", None, "b", None, "a"])
    some = faces.balanced("g")
    assert some.table.g.tolist() in (["a", "b"], ["b", "a"])
    assert some.notes == ["balanced by g: 1 faces in each of 2 groups; 2 faces without a value left out"]
    for by, message in ((None, "needs columns"), ("gg", "unknown label column"), ("empty", "no face")):
        with pytest.raises(FacexkitError, match=message):
            plain(6, g=["a"] * 6, empty=[None] * 6).balanced(by)


def test_describe_counts_every_value(capsys):
    split, name = ["train"] * 30 + ["test"] * 10, [f"n{k}" for k in range(40)]
    faces = plain(40, group=["b", "a", None, "a"] * 10, split=split, name=name)
    faces.protected, faces.notes = ("group",), ["three faces have no mask"]
    table = faces.describe()
    assert capsys.readouterr().out == "three faces have no mask\n"
    assert table.faces.to_dict() == {
        ("group", "(no value)"): 10, ("group", "a"): 20, ("group", "b"): 10,
        ("split", "test"): 10, ("split", "train"): 30, ("number", "0 to 39"): 40,
    }  # fmt: skip
    assert table.index.get_level_values("column")[0] == "group" and table.share["group", "a"] == 0.5


def test_batches_hold_the_faces_in_order_with_their_masks(drawn_faces):
    views = (MaskView(("u_lip", "hat"), 20), MaskView(REGIONS, 16, "antialias"))
    at_once = next(drawn_faces.batches(32, 24, views, workers=0))
    assert at_once.images.shape == (24, 3, 32, 32) and at_once.images.dtype == torch.uint8
    assert at_once.masks[views[1]].shape == (24, 19, 16, 16) and at_once.masks[views[0]].dtype == torch.bool
    for row in (0, 17):
        path = drawn_faces.table.path[row]
        picture = drawn_faces.images.read(path).resize((32, 32), Image.Resampling.BILINEAR)
        assert (at_once.images[row].permute(1, 2, 0).numpy() == np.asarray(picture)).all()
        assert (at_once.masks[views[0]][row].numpy() == views[0].of(drawn_faces.masks.read(path))).all()
    parts = list(drawn_faces.batches(32, 7, views, workers=2))
    assert np.concatenate([b.rows for b in parts]).tolist() == list(range(24))
    assert torch.equal(torch.cat([b.images for b in parts]), at_once.images)
    assert torch.equal(torch.cat([b.masks[views[1]] for b in parts]), at_once.masks[views[1]])


def test_masks_are_asked_of_a_set_that_has_them(csv_set):
    faces = load_faces("csv", **csv_set("img\na.jpg\n"))
    with pytest.raises(FacexkitError, match="has no masks; load it with masks="):
        next(faces.batches(8, masks=[MaskView(("skin",), 4)]))


@pytest.mark.parametrize("workers", [0, 2])
def test_a_bad_mask_ends_the_batches_with_its_file_only(csv_set, tmp_path, workers):
    places = csv_set("img\na.jpg\nb.jpg\nc.jpg\n")
    for name in "abc":
        (tmp_path / "m").mkdir(exist_ok=True)
        Image.new("L", (24, 20), 1).save(tmp_path / "m" / f"{name}.png")
    faces = load_faces("csv", **places, masks=tmp_path / "m")
    (tmp_path / "m" / "a.png").write_bytes(b"no picture")
    with pytest.raises(FacexkitError) as raised:
        list(faces.batches(8, 2, [MaskView(("skin",), 4)], workers=workers))
    assert "a.png cannot be read" in str(raised.value) and "Traceback" not in str(raised.value)


@settings(deadline=None, max_examples=30)
@given(st.integers(0, 8), st.sampled_from(["pixels", "mask", "label", "order", "column", "fewer"]))
def test_the_fingerprint_changes_with_table_pictures_and_masks_only(row, change):
    before, after = plain(), plain()
    assert before.fingerprint() == plain().fingerprint() == pickle.loads(pickle.dumps(plain())).fingerprint()
    path = after.table.path[row]
    if change == "pixels":
        after.images.content[path] = (200, 200, 200)
    elif change == "mask":
        after.masks.content[path] = (200, 200, 200)
    elif change == "label":
        after.table.loc[row, "number"] = 77
    elif change == "order":
        after.table = after.table.iloc[::-1].reset_index(drop=True)
    elif change == "column":
        after.table["new"] = 1
    else:
        after = after[:-1]
    assert before.fingerprint() != after.fingerprint()
    renamed = plain()
    renamed.name, renamed.notes = "other", ["note"]
    assert renamed.fingerprint() == before.fingerprint()


def test_the_fingerprint_of_files_follows_their_bytes_not_their_dates(tmp_path, write_image):
    paths = pd.DataFrame({"path": [f"{k}.png" for k in range(5)]})
    for path in paths.path:
        write_image(tmp_path / path)
    faces = FaceSet(paths, ImageFolder(tmp_path), name="files")
    first = faces.fingerprint()
    (tmp_path / "3.png").touch()
    assert faces[:].fingerprint() == FaceSet(paths, ImageFolder(tmp_path), name="again").fingerprint() == first
    content = bytearray((tmp_path / "3.png").read_bytes())
    content[len(content) // 2] ^= 1
    (tmp_path / "3.png").write_bytes(content)
    assert FaceSet(paths, ImageFolder(tmp_path), name="changed").fingerprint() != first


def test_content_is_read_once_for_fingerprints_until_it_is_that_of_other_faces():
    faces, reads = plain(), []
    faces.images.digest = lambda path: reads.append(path) or b""
    faces.masks = None
    first = faces.fingerprint()
    assert faces.fingerprint() == faces[:].fingerprint() == first and len(reads) == 9
    faces.table["new"] = 1
    assert faces.fingerprint() != first and len(reads) == 2 * 9
    faces.masks = PlainMasks(faces.images.content)
    assert faces.fingerprint() != first and len(reads) == 3 * 9


def test_a_large_set_is_read_in_part_for_its_fingerprint():
    faces = plain(4500)
    reads = []
    faces.images.digest = lambda path: reads.append(path) or b""
    faces.masks = None
    faces.fingerprint()
    assert 1000 <= len(reads) <= 2000


def test_the_view_shows_twelve_faces_counts_and_notes_with_every_name_escaped(csv_set, tmp_path):
    evil = "<script>alert('x')</script>"
    names = [f"a&b<i>'{k}.png" for k in range(20)]
    faces = load_faces("csv", **csv_set(f"img,{evil}\n" + "".join(f"{n},{evil}\n" for n in names), images=tuple(names)))
    faces.notes, faces.name = [evil], evil
    page = faces._repr_html_()
    assert page.count("<figure") == 12 and page.count("data:image/jpeg") == 12
    assert "<script" not in page and "<i>'" not in page and html.unescape(page).count(evil) >= 4
    assert not re.search(r'(src|href)="(?!data:)', page)


def test_the_view_covers_faces_with_their_masks(drawn_faces):
    page = drawn_faces._repr_html_()
    assert page.count("data:image/png") == 12 and "upper lip" in page and "<caption>gender</caption>" in page
    assert len(page) < 400_000


def test_the_view_names_what_it_cannot_show(csv_set):
    places = csv_set("img\na.jpg\nb.jpg\n")
    (places["root"] / "a.jpg").write_bytes(b"")
    page = load_faces("csv", **places)._repr_html_()
    assert page.count("<figure") == 2 and "cannot identify" in page
