"""Masks from files and from parsers, the template's landmarks apart."""

from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import torch
from PIL import Image
from torch import nn

from facexkit.errors import FacexkitError
from facexkit.faces import cache, masks
from facexkit.faces.formats import load_faces
from facexkit.faces.landmarks import LandmarkMasks
from facexkit.faces.mask_view import MaskView
from facexkit.faces.masks import JoinedMasks, MaskFiles, mask_folder
from facexkit.faces.regions import REGIONS
from facexkit.measure import made_masks
from facexkit.models.parser import FaceParser

INDEX = np.array([[0, 1, 1, 2], [0, 13, 18, 2]], np.uint8)


def write(file, image, **options):
    file.parent.mkdir(parents=True, exist_ok=True)
    image.save(file, **options)


def palette(index):
    image = Image.fromarray(index)
    image.putpalette(bytes(range(256)) * 3)
    return image


@pytest.mark.parametrize("image", [Image.fromarray(INDEX), palette(INDEX), Image.fromarray(INDEX.astype(np.uint16))])
def test_an_index_png_is_grey_or_palette(tmp_path, image):
    write(tmp_path / "a.png", image)
    found = mask_folder(tmp_path, ["x/a.jpg"]).read("x/a.jpg")
    assert list(found) == ["background", "skin", "nose", "hair", "cloth"]
    assert all((mask == (INDEX == REGIONS.index(name))).all() for name, mask in found.items())


@pytest.mark.parametrize("image", [
    Image.fromarray(np.array([[0, 1, 255]], np.uint8)),
    Image.fromarray(np.array([[0, 9, 255]], np.uint8)).convert("RGB"),
    Image.fromarray(np.array([[0, 9, 255]], np.uint8)).convert("LA"),
    Image.fromarray(np.array([[0, 300, 65535]], np.uint16)),
    Image.fromarray(np.array([[False, True, True]])),
])  # fmt: skip
def test_a_png_a_region_takes_any_grey_above_nothing(tmp_path, image):
    write(tmp_path / "deep" / "a_l_eye.png", image)
    write(tmp_path / "deep" / "a_neck_l.PNG", Image.fromarray(np.zeros((1, 3), np.uint8)), format="PNG")
    source = mask_folder(tmp_path, ["a.jpg"])
    found = source.read("a.jpg")
    assert found["l_eye"].tolist() == [[False, True, True]] and found["background"].tolist() == [[True, False, False]]
    assert set(found) == {"l_eye", "background"} and source.names == ("background", "l_eye", "neck_l")


def test_masks_are_found_by_path_where_names_repeat(tmp_path):
    for split, value in (("train", 1), ("val", 2)):
        write(tmp_path / split / "1.png", Image.fromarray(np.full((2, 2), value, np.uint8)))
    both = mask_folder(tmp_path, ["train/1.jpg", "val/1.jpg"])
    assert "skin" in both.read("train/1.jpg") and "nose" in both.read("val/1.jpg")
    assert "nose" in mask_folder(tmp_path, ["val/1.jpg"]).read("val/1.jpg")
    with pytest.raises(FacexkitError, match="no mask for any of the 1 images; looked for names like 1.png and 1_skin"):
        mask_folder(tmp_path, ["1.jpg"])


def test_an_image_named_like_a_region_file_has_its_index_mask(tmp_path):
    for name in ("her_hair", "b"):
        write(tmp_path / f"{name}.png", Image.fromarray(INDEX))
    assert "skin" in mask_folder(tmp_path, ["her_hair.jpg", "b.jpg"]).read("her_hair.jpg")


@pytest.mark.parametrize("content, message", [
    (Image.fromarray(np.array([[0, 1], [2, 19]], np.uint8)), "a.png: the pixel at column 1, row 1 has the value 19"),
    (Image.fromarray(np.array([[0, 1], [300, 0]], np.uint16)), "a.png: the pixel at column 0, row 1 has the value 300"),
    (Image.fromarray(INDEX).convert("RGB"), "a.png: no index PNG"),
    (b"", "a.png cannot be read"),
    (b"\x89PNG\r\n\x1a\n cut", "a.png cannot be read"),
])  # fmt: skip
def test_a_bad_mask_says_which_file_and_where(tmp_path, content, message):
    if isinstance(content, bytes):
        (tmp_path / "a.png").write_bytes(content)
    else:
        write(tmp_path / "a.png", content)
    with pytest.raises(FacexkitError) as raised:
        mask_folder(tmp_path, ["a.jpg"]).read("a.jpg")
    assert message in str(raised.value) and str(tmp_path) in str(raised.value)


def test_region_files_of_different_sizes_are_refused(tmp_path):
    write(tmp_path / "a_skin.png", Image.fromarray(np.ones((4, 4), np.uint8)))
    write(tmp_path / "a_nose.png", Image.fromarray(np.ones((8, 4), np.uint8)))
    with pytest.raises(FacexkitError, match="differ in size: .*a_nose.png 4×8"):
        mask_folder(tmp_path, ["a.jpg"]).read("a.jpg")


def test_a_mask_of_another_size_than_its_image_is_resized(csv_set, tmp_path):
    write(tmp_path / "m" / "a.png", Image.fromarray(np.repeat(np.array([[1], [13]], np.uint8), 5, 0).repeat(12, 1)))
    write(tmp_path / "m" / "b.png", Image.fromarray(np.zeros((5, 6), np.uint8)))
    faces = load_faces("csv", **csv_set("img\na.jpg\nb.jpg\nc.jpg\n"), masks=tmp_path / "m")
    assert "1 of 3 images have no mask" in faces.notes[0] and faces.notes[0].endswith("c.jpg")
    assert faces.notes[1] == "1 of 3 images have a mask of background alone, taken for none: b.jpg"
    view = MaskView(("skin", "hair"), 4)
    found = next(faces.batches(8, masks=[view])).masks[view].numpy()
    assert (found[0, 0] == [[True] * 4] * 2 + [[False] * 4] * 2).all() and (found[0, 1] == ~found[0, 0]).all()
    assert not found[1:].any()


class Halves(nn.Module):
    """Calls the left half of a picture hair and the right half skin; dark pictures are background."""

    def __init__(self):
        super().__init__()
        self.batches = []  # a number would be a setting of the network, and another number another network

    @property
    def seen(self):
        return sum(self.batches)

    def forward(self, x):
        self.batches.append(len(x))
        logits = torch.zeros(len(x), 3, *x.shape[-2:])
        logits[:, 1, :, : x.shape[-1] // 2] = logits[:, 2, :, x.shape[-1] // 2 :] = 1
        logits[:, 0] = 2.0 * (x.mean((1, 2, 3)) < 0.35)[:, None, None]
        return logits


def halves(classes=("background", "hair", "skin")):
    network = Halves()
    return network, FaceParser(network, classes, 24, "unit", "cpu", name="halves")


def test_a_parser_writes_its_masks_once(csv_set, monkeypatch, tmp_path, capsys):
    monkeypatch.setenv("FACEXKIT_CACHE", str(tmp_path / "cache"))
    names = [f"{k:02}.jpg" for k in range(40)]
    places = csv_set("img\n" + "\n".join(names), images=tuple(names))
    Image.new("RGB", (9, 9)).save(places["root"] / "03.jpg")
    (places["root"] / "07.jpg").write_bytes(b"no picture")
    network, parser = halves()
    faces = load_faces("csv", **places, masks=parser)
    assert faces.notes == ["halves could not parse 2 of 40 faces (1 of them are no readable image): 03.jpg, 07.jpg"]
    assert network.seen == 39 and "halves on csv" in capsys.readouterr().err and faces.source["masks"] == "halves"
    found = faces.masks.read("05.jpg")
    assert set(found) == {"hair", "skin"} and found["hair"][:, :12].all() and found["skin"][:, 12:].all()
    assert faces.masks.read("03.jpg") == {}
    again = load_faces("csv", **places, masks=parser, limit=20)
    assert network.seen == 39 and again.notes[0].startswith("halves could not parse 2 of 20")
    (places["root"] / "05.jpg").write_bytes((places["root"] / "06.jpg").read_bytes())
    Image.new("RGB", (10, 6), "white").save(places["root"] / "06.jpg")
    changed = load_faces("csv", **places, masks=parser)
    assert network.seen == 40 and changed.masks.read("06.jpg")["hair"][:, :12].all()


def test_a_killed_parser_leaves_whole_masks_only_and_goes_on_after_them(csv_set, monkeypatch, tmp_path):
    monkeypatch.setenv("FACEXKIT_CACHE", str(tmp_path / "cache"))
    monkeypatch.setattr(made_masks, "PART", 2)
    places = csv_set("img\na.jpg\nb.jpg\nc.jpg\n")
    written = []

    def killed(beside, path):
        if len(written) == 2:
            raise KeyboardInterrupt
        written.append(path)
        rename(beside, path)

    rename = cache.os.replace
    monkeypatch.setattr(cache.os, "replace", killed)
    with pytest.raises(KeyboardInterrupt):
        load_faces("csv", **places, masks=halves()[1])
    assert {file for file in (tmp_path / "cache").rglob("*") if file.is_file()} == {*written}
    monkeypatch.setattr(cache.os, "replace", rename)
    network, parser = halves()
    assert len(load_faces("csv", **places, masks=parser).masks.files) == 3 and network.seen == 1


def test_masks_by_a_parser_fit_a_picture_that_is_not_square(csv_set, tmp_path, monkeypatch):
    monkeypatch.setenv("FACEXKIT_CACHE", str(tmp_path / "cache"))
    places = csv_set("img\na.jpg\n")
    Image.new("RGB", (40, 12), "white").save(places["root"] / "a.jpg")
    faces = load_faces("csv", **places, masks=halves()[1])
    view = MaskView(("hair", "skin"), 8)
    hair, skin = next(faces.batches(8, masks=[view])).masks[view].numpy()[0]
    assert hair[:, :4].all() and skin[:, 4:].all() and not (hair & skin).any()


def test_a_parser_with_unknown_classes_is_refused():
    with pytest.raises(FacexkitError, match="unknown face region 'skn'; did you mean 'skin'"):
        halves(("hair", "skn", "skin"))


def test_masks_may_be_a_users_own_source(csv_set):
    class Everything:
        names = ("skin",)

        def read(self, path):
            return {"skin": np.ones((2, 2), bool)}

    assert load_faces("csv", **csv_set("img\na.jpg\n"), masks=Everything()).masks.read("a.jpg")["skin"].all()


def test_masks_of_one_set_may_be_those_of_another(csv_set, tmp_path):
    write(tmp_path / "m" / "a.png", Image.fromarray(INDEX[:, :2].repeat(12, 1).repeat(10, 0)))
    masks = load_faces("csv", **csv_set("img\na.jpg\nb.jpg\n"), masks=tmp_path / "m").masks
    again = load_faces("csv", **csv_set("img\na.jpg\n"), masks=masks)
    assert again.masks.read("a.jpg")["skin"].mean() == 0.25 and not again.notes


def test_the_fingerprint_follows_the_mask_files(csv_set, tmp_path):
    places = csv_set("img\na.jpg\nb.jpg\n")
    for name in "ab":
        write(tmp_path / "m" / f"{name}.png", Image.fromarray(INDEX))
    first = load_faces("csv", **places, masks=tmp_path / "m").fingerprint()
    assert first != load_faces("csv", **places, masks=tmp_path / "m", mask_classes="face_parsing").fingerprint()
    assert first == load_faces("csv", **places, masks=tmp_path / "m").fingerprint()
    write(tmp_path / "m" / "b.png", Image.fromarray(INDEX[:, ::-1].copy()))
    assert first != load_faces("csv", **places, masks=tmp_path / "m").fingerprint()


def test_the_cache_folder_follows_the_environment(monkeypatch):
    monkeypatch.setenv("FACEXKIT_CACHE", "/somewhere")
    assert str(cache.cache_folder()) == "/somewhere"
    monkeypatch.delenv("FACEXKIT_CACHE")
    assert str(cache.cache_folder()) == "runs/cache"


def test_many_mask_files_are_listed_quickly_and_rightly(tmp_path):
    paths = [f"{k}.jpg" for k in range(300)]
    for k in range(300):
        for region in REGIONS[1:4]:
            (tmp_path / f"{k:05}_{region}.png").touch()
    source = mask_folder(tmp_path, paths, lambda path: path.removesuffix(".jpg").zfill(5))
    assert pd.Series(paths).isin(source.files.keys()).all() and source.files["7.jpg"]["nose"] == "00007_nose.png"
    assert masks.MaskFiles(tmp_path, {}).names == ("background",)


def test_joined_masks_are_those_of_both_sources_under_names_of_their_own(drawn_faces):
    regions, concepts = drawn_faces.masks, drawn_faces.masks.concepts
    both, path = regions.both, drawn_faces.table.path[0]
    assert set(both.names) == {*regions.names, *concepts.names, "nose_part", "mouth_part"}
    assert len(both.names) == len(regions.names) + len(concepts.names)
    read = both.read(path)
    for name, mask in regions.read(path).items():
        np.testing.assert_array_equal(read.pop(name), mask)
    for name, mask in concepts.read(path).items():
        np.testing.assert_array_equal(read.pop({"nose": "nose_part", "mouth": "mouth_part"}.get(name, name)), mask)
    assert not read
    assert len({source.digest(path) for source in (regions, concepts, both)}) == 3


def test_joined_masks_of_one_name_are_told_apart_by_the_caller(drawn_faces):
    with pytest.raises(FacexkitError, match="both sources have masks called nose, mouth"):
        JoinedMasks(drawn_faces.masks, drawn_faces.masks.concepts)


def test_an_image_that_stands_in_several_rows_has_its_mask(tmp_path):
    Image.fromarray(np.ones((4, 5), np.uint8)).save(tmp_path / "a.png")
    masks = mask_folder(tmp_path, ["a.jpg", "b.jpg", "a.jpg"])
    assert masks.missing(["a.jpg", "b.jpg"]) == ["b.jpg"] and masks.read("a.jpg")["skin"].all()


NEVER = ["eye_g", "hair", "hat", "ear_r", "neck_l", "cloth"]
"""What landmarks cannot place."""


@pytest.mark.parametrize(
    ("source", "told"),
    [
        (LandmarkMasks({}), NEVER),
        (MaskFiles(Path(), {"a": {"": "a.png"}}), []),
        (MaskFiles(Path(), {"a": {"hair": "a_hair.png", "skin": "a_skin.png"}}), []),
        (MaskFiles(Path(), {"a": {"": "a.png"}}, order=("background", "skin", "nose")), [*REGIONS[3:]]),
    ],
    ids=["landmarks", "every region", "nobody wore a hat", "an order without hair"],
)
def test_a_source_says_which_regions_it_cannot_tell_from_the_background(source, told):
    assert masks.untold(source) == told
