"""What bad files of faces, labels and masks get: each small input, and the message or the number that it must give."""

from __future__ import annotations

import os
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from scipy.io import savemat

import facexkit as fx
from facexkit.errors import FacexkitError
from facexkit.faces.formats import load_faces
from facexkit.faces.images import TURNS, ImageFolder
from facexkit.faces.regions import REGIONS

PICTURE = Image.fromarray(np.random.default_rng(0).integers(0, 255, (20, 24, 3), np.uint8))
INDEX = np.zeros((20, 24), np.uint8)
INDEX[:10, :6], INDEX[10:, :] = 1, 13
MASK = Image.fromarray(INDEX)
HUGE = Image.fromarray(np.int32(INDEX) + 2_000_000_000)
FULL = Image.new("L", (24, 20), 255)
LATIN = "Zoë".encode("latin-1")


def lay(root: Path, files: dict[str, object]) -> None:
    """Write text, bytes or pictures; what is None becomes a pipe, a tuple a picture and how it is saved."""
    for name, content in files.items():
        file = root / name
        file.parent.mkdir(parents=True, exist_ok=True)
        if content is None:
            os.mkfifo(file)
        elif isinstance(content, (str, bytes)):
            file.write_bytes(content.encode() if isinstance(content, str) else content)
        elif isinstance(content, dict):
            savemat(file, content)
        else:
            image, how = content if isinstance(content, tuple) else (content, {})
            image.save(file, **how)


def csv(text: str | bytes, **more: object) -> dict[str, object]:
    """Three pictures and a table of them."""
    return {"a.jpg": PICTURE, "b.jpg": PICTURE, "c.jpg": PICTURE, "l.csv": text} | more


def celeba(attributes: str | bytes, partition: str | None = None) -> dict[str, object]:
    pictures = {f"img_align_celeba/{k}.jpg": PICTURE for k in (1, 2)}
    splits = {} if partition is None else {"list_eval_partition.txt": partition}
    return pictures | {"list_attr_celeba.txt": attributes} | splits


def lfwa(label: object, names: tuple[str, ...] = ("Male", "Young")) -> dict[str, object]:
    paths = np.array(["A\\A_1.jpg", "B\\B_1.jpg"], object)
    content = {"AttrName": np.array(names, object), "name": paths, "label": np.array(label)}
    return {"lfw_att_40.mat": content, "A/A_1.jpg": PICTURE, "B/B_1.jpg": PICTURE}


def load(root: Path, format: str, files: dict[str, object], options: dict[str, object]):
    lay(root, files)
    options = {name: root / value if name == "masks" else value for name, value in options.items()}
    table = {"annotations": "l.csv"} if format in ("csv", "pairs") else {}
    return load_faces(format, **({"root": root} | table | options))


PAIR = "first,second,same\n"
THREE = "img,g\na.jpg,x\nb.jpg,x\nc.jpg,y\n"
DICTIONARY = {"images/a.jpg": PICTURE, "AU/a/AU_1.png": FULL}

REFUSED = {
    "csv: no header": ("csv", csv("a.jpg,f\nb.jpg,m\n"), {}, "l.csv: line 1 is a.jpg, f, and a.jpg is an image"),
    "csv: no header, numbered": ("csv", csv("0,a.jpg\n1,b.jpg\n"), {}, "write a line with the columns' names above it"),
    "csv: no header, upper case": ("csv", csv(" A.PNG ;1\na.jpg;2\n"), {}, "A.PNG is an image, no column"),
    "csv: a column twice": ("csv", csv("img,gender,gender\na.jpg,f,m\n"), {}, "l.csv has two columns called 'gender'"),
    "csv: a column twice but for blanks": ("csv", csv("img,x ,x\na.jpg,f,m\n"), {}, "two columns called 'x'"),
    "csv: the image column twice": ("csv", csv("img,img\na.jpg,b.jpg\n"), {}, "two columns called 'img'"),
    "csv: a cell too many": ("csv", csv("img,x\na.jpg,1\nb.jpg,2,3\n"), {},
         "l.csv, line 3: 3 cells where line 1 names 2"),
    "csv: a cell too many in every row": ("csv", csv("img,x\na.jpg,1,2\nb.jpg,2,3\n"), {}, "line 2: 3 cells"),
    "csv: an open quote": ("csv", csv('img,x\na.jpg,"1\nb.jpg,2\n'), {}, "l.csv, line 3: unexpected end of data"),
    "csv: text after a quote": ("csv", csv('img,x\na.jpg,"1"2\n'), {}, "l.csv, line 2: ',' expected after '\"'"),
    "csv: a cell without end": ("csv", csv("img,x\na.jpg," + "1" * 140_000), {},
         "line 2: field larger than field limit"),
    "csv: latin-1": ("csv", csv(b"img,x\na.jpg,1\nb.jpg," + LATIN), {},
         "l.csv, line 3: the byte 0xeb is no text in UTF-8"),
    "csv: UTF-16 that is cut": ("csv", csv("img,x\na.jpg,1\n".encode("utf-16")[:-1]), {}, "begins as UTF-16 and goes on"),
    "csv: a NUL": ("csv", csv("img,x\na.jpg,1\nb\0.jpg,2\n"), {}, "l.csv, line 3: the byte 0x00 is no text"),
    "csv: only blanks": ("csv", csv(" \n\n ,, \n"), {}, "l.csv is no CSV that can be read: it is empty"),
    "csv: one label for an image and another": ("csv", csv("img,x\na.jpg,1\n./a.jpg,2\n"), {},
         "two rows of different labels"),
    "csv: a folder": ("csv", csv("img,x\nd.jpg,1\n") | {"d.jpg/x.jpg": PICTURE}, {},
         "no files but folders, pipes or devices: row 1 (d.jpg)"),
    "csv: a pipe": ("csv", csv("img,x\na.jpg,1\np.jpg,1\n") | {"p.jpg": None}, {},
         "no files but folders, pipes or devices: row 2 (p.jpg)"),
    "csv: a name too long": ("csv", csv(f"img,x\n{'d' * 5000}/a.jpg,1\n"), {}, "1 of 1 images are not under"),
    "csv: a separator of two letters": ("csv", csv(THREE), {"sep": "||"}, "sep is '||'; it is the one character"),
    "csv: the table is a pipe": ("csv", csv("") | {"p.csv": None}, {"annotations": "p.csv"}, "no annotation file"),
    "celeba: latin-1": ("celeba", celeba(b"2\nMale\n1.jpg 1\n" + LATIN + b".jpg 1\n"), {},
         "list_attr_celeba.txt, line 4: the byte 0xeb"),
    "celeba: an attribute twice": ("celeba", celeba("2\nMale Male\n1.jpg 1 1\n2.jpg 1 1\n"), {},
         "two columns called 'Male'"),
    "celeba: a value too many everywhere": ("celeba", celeba("2\nMale\n1.jpg 1 1\n2.jpg 1 1\n"), {},
         "a line does not have 1 values after its image but 2"),
    "celeba: a value too few everywhere": ("celeba", celeba("2\nMale Old\n1.jpg 1\n2.jpg 1\n"), {},
         "line 3 (1.jpg), column 'Old': nan is neither 1 nor -1"),
    "celeba: a count of 30 digits": ("celeba", celeba("9" * 30 + "\nMale\n1.jpg 1\n"), {},
         "line 1 is the number of images"),
    "celeba: no rows": ("celeba", celeba("2\nMale\n"), {}, "line 1 says 2 images, but 0 follow"),
    "celeba: an unknown split": ("celeba", celeba("1\nMale\n1.jpg 1\n", "1.jpg 0\n2.jpg 3\n"), {},
         "list_eval_partition.txt, line 2: '2.jpg 3' is no new"),
    "celeba: two splits of one face": ("celeba", celeba("1\nMale\n1.jpg 1\n", "1.jpg 0\n1.jpg 1\n"), {},
         "line 2: '1.jpg 1' is no new image"),
    "celeba: the list is a pipe": ("celeba", celeba("") | {"list_attr_celeba.txt": None}, {},
         "list_attr_celeba.txt cannot be read: "),
    "celebamask_hq: no header": ("celebamask_hq", {"images/a.jpg": PICTURE, "l.csv": "a.jpg,1\n"}, {},
         "a.jpg is an image, no column"),
    "fairface: a race column twice": (
         "fairface", {"fairface_label_val.csv": "file,age,gender,race,race\nval/1.jpg,1,f,x,y\n"}, {},
         "two columns called 'race'"),
    "lfwa: scores for labels": ("lfwa", lfwa([[1.5, 0], [0, 1]]), {},
         "row 1 (A/A_1.jpg), column 'Male': 1.5 is neither 1 nor 0"),
    "lfwa: no number": ("lfwa", lfwa([[0, np.nan], [0, 1]]), {}, "row 1 (A/A_1.jpg), column 'Young': nan is neither"),
    "lfwa: an attribute twice": ("lfwa", lfwa([[0, 1], [0, 1]], ("Male", "Male ")), {}, "two columns called 'Male'"),
    "pairs: a cell too many": ("pairs", csv(PAIR + "a.jpg,b.jpg,1,x\n"), {},
         "l.csv, line 2: 4 cells where line 1 names 3 columns"),
    "pairs: no header": ("pairs", csv("a.jpg,b.jpg,1\na.jpg,c.jpg,0\n"), {}, "a.jpg is an image, no column"),
    "pairs: a face with itself": ("pairs", csv(PAIR + "a.jpg,b.jpg,1\nc.jpg,./c.jpg,1\n"), {},
         "l.csv, row 2: ./c.jpg is a pair with itself"),
    "pairs: yes and no": ("pairs", csv(PAIR + "a.jpg,b.jpg,1\na.jpg,b.jpg,0\n"), {},
         "l.csv, rows 1 and 2: a.jpg and b.jpg are one"),
    "pairs: mirrored, yes and no": ("pairs", csv(PAIR + "a.jpg,b.jpg,1\nb.jpg,c.jpg,1\nb.jpg,a.jpg,0\n"), {},
         "l.csv, rows 1 and 3"),
    "pairs: LFW's own list": ("pairs", csv("10\t300\nAnna\t1\t4\nAnna\t1\n"), {},
         "l.csv, line 3: 'Anna\\t1' is neither NAME i j nor NAME i OTHER j"),
    "dictionary: a concept called path": (
         "face_dictionary",
         DICTIONARY | {"AU/a/path.png": FULL, "Parts.csv": "image,labels\nimages/a.jpg,AU/a/path.png\n"}, {},
         "has two columns called 'path'"),
    "dictionary: a mask without end": (
         "face_dictionary", DICTIONARY | {"Parts.csv": f"image,labels\nimages/a.jpg,{'x' * 5000}.png\n"}, {},
         "Parts.csv, row 1 (images/a.jpg): there is no mask"),
    "dictionary: a mask is a pipe": (
         "face_dictionary", DICTIONARY | {"AU/p.png": None, "Parts.csv": "image,labels\nimages/a.jpg,AU/p.png\n"}, {},
         "there is no mask"),
    "masks: another shape": ("csv", csv(THREE) | {"m/a.png": MASK.crop((0, 0, 12, 20))}, {"masks": "m"},
         "m/a.png has 12×20 pixels, its image a.jpg 24×20"),
    "masks: a region of another shape": (
         "csv", csv(THREE) | {"m/a_skin.png": FULL.crop((0, 0, 24, 10))}, {"masks": "m"},
         "a_skin.png has 24×10 pixels, its image a.jpg 24×20"),
    "masks: a JPEG called PNG": ("csv", csv(THREE) | {"m/a.png": (MASK, {"format": "JPEG"})}, {"masks": "m"},
         "m/a.png cannot be read: it is a JPEG by its content"),
    "masks: a region as JPEG": ("csv", csv(THREE) | {"m/a_skin.png": (FULL, {"format": "JPEG"})}, {"masks": "m"},
         "a_skin.png cannot be read: it is a JPEG"),
    "masks: WebP called PNG": ("csv", csv(THREE) | {"m/a.png": (MASK, {"format": "WEBP"})}, {"masks": "m"},
         "it is a WEBP by its content"),
    "masks: a pipe": ("csv", csv(THREE) | {"m/a.png": None}, {"masks": "m"},
         "m/a.png cannot be read: a.png is no file but"),
    "masks: EPS": ("csv", csv(THREE) | {"m/a.png": (MASK, {"format": "EPS"})}, {"masks": "m"},
         "m/a.png cannot be read: cannot identify"),
    "masks: negative numbers": (
         "csv", csv(THREE) | {"m/a.png": (Image.fromarray(np.int32(INDEX) - 1), {"format": "TIFF"})}, {"masks": "m"},
         "has the value -1, which is no region"),
    "masks: a number of 31 bits": (
         "csv", csv(THREE) | {"m/a.png": (HUGE, {"format": "TIFF"})}, {"masks": "m"},
         "which is no region (0–18)"),
}  # fmt: skip


@pytest.mark.parametrize(("format", "files", "options", "message"), REFUSED.values(), ids=REFUSED)
def test_refused_with_the_place_and_what_to_do(tmp_path, format, files, options, message):
    with pytest.raises(FacexkitError) as raised:
        faces = load(tmp_path, format, files, options)
        faces.masks.read("a.jpg")
    assert message in str(raised.value)


BLANKS = "img,gender\na.jpg,male \nb.jpg,Male\nc.jpg,male\n"
UNION = {f"m/{name}.png": FULL for name in ("a_skin", "a_lips", "b_skin", "b_chin")}
EMPTY = Image.new("L", (24, 20))

NOTED = {
    "labels with blanks": ("csv", csv(BLANKS), {},
         "column 'gender': 1 values had blanks around them, which are taken off: row 1 (a.jpg)"),
    "labels in two cases": ("csv", csv(BLANKS), {},
         "column 'gender' has values that look alike but for case and are kept apart: Male (1), male (2)"),
    "labels of folders in two cases": ("image_folder", {"cat/a.jpg": PICTURE, "Cat/b.jpg": PICTURE}, {},
         "column 'label' has values that look alike but for case and are kept apart: Cat (1), cat (1)"),
    "labels that look alike": (
         "csv", csv("img,g\na.jpg,cafe\u0301\nb.jpg,caf\xe9\nc.jpg,caf\u200b\xe9\n"), {},
         "look alike but for case and are kept apart: cafe\u0301 (1), caf\xe9 (1), caf\u200b\xe9 (1)"),
    "labels with two blanks": ("csv", csv("img,g\na.jpg,East  Asian\nb.jpg,East Asian\nc.jpg,x\n"), {},
         "look alike but for case and are kept apart: East  Asian (1), East Asian (1)"),
    "pairs with blanks": ("pairs", csv("r,p,same,g\na.jpg,b.jpg,1,x \nb.jpg,c.jpg,0,x\n"), {},
         "column 'g': 1 values had blanks around them, which are taken off: row 1 (b.jpg)"),
    "labels that are lacking": ("csv", csv("img,g\na.jpg,x\nb.jpg, \nc.jpg,NA\n"), {},
         "column 'g' has no value in 2 of 3 rows: row 2 (b.jpg), row 3 (c.jpg)"),
    "a union among the regions": ("csv", csv(THREE) | UNION, {"masks": "m"},
         "2 mask files name no region and are left out: a_lips.png, b_chin.png; lips is u_lip and l_lip together: "
         "save these"),
    "an index mask beside regions": (
         "csv", csv(THREE) | {"m/a.png": MASK, "m/b.png": MASK, "m/c.png": MASK, "m/a_nose.png": FULL}, {"masks": "m"},
         "1 images have an index mask and masks by region; the former count: a.jpg"),
    "images without a mask": ("csv", csv(THREE) | {"m/c.png": MASK}, {"masks": "m", "protected": "g"},
         "images without a mask by g: x 2 of 2, y 0 of 1"),
    "classes without a mask": ("csv", csv(THREE) | {"m/a.png": MASK, "m/b.png": MASK}, {"masks": "m", "target": "g"},
         "images without a mask by g: x 0 of 2, y 1 of 1"),
    "index masks of background": (
         "csv", csv(THREE) | {"m/a.png": EMPTY, "m/b.png": MASK, "m/c.png": MASK}, {"masks": "m"},
         "1 of 3 images have a mask of background alone, taken for none: a.jpg"),
    "empty regions": (
         "csv", csv(THREE) | {"m/a_skin.png": EMPTY, "m/b_skin.png": FULL, "m/c_skin.png": FULL}, {"masks": "m"},
         "1 of 3 images have a mask of background alone, taken for none: a.jpg"),
    "background counts as without": (
         "csv", csv(THREE) | {"m/a.png": EMPTY, "m/b.png": MASK, "m/c.png": MASK}, {"masks": "m", "protected": "g"},
         "images without a mask by g: x 1 of 2, y 0 of 1"),
    "other files": ("image_folder", {"x/a.jpg": PICTURE, "x/b.heic": b"", "x/c.jpg": PICTURE}, {},
         "1 files are no images (1 .heic) and are left out: x/b.heic"),
    "other files of UTKFace": ("utkface", {"1_0_0_2.jpg": PICTURE, "readme.md": ""}, {},
         "1 files are no images (1 .md) and are left out: readme.md"),
    "images in no group": (
         "face_dictionary", {"non_localizable/age/old/a.jpg": PICTURE, "non_localizable/b.jpg": PICTURE}, {},
         "1 images do not lie in non_localizable/ATTRIBUTE/GROUP/ and are left out: non_localizable/b.jpg"),
}  # fmt: skip


@pytest.mark.parametrize(("format", "files", "options", "note"), NOTED.values(), ids=NOTED)
def test_what_is_changed_or_left_out_is_noted(tmp_path, format, files, options, note):
    assert any(told.endswith(note) for told in load(tmp_path, format, files, options).notes)


def test_images_whose_names_are_no_text_are_left_out_with_a_word(tmp_path):
    lay(tmp_path, {"x/a.jpg": PICTURE, "x/b.jpg": PICTURE})
    try:
        os.rename(tmp_path / "x" / "b.jpg", os.fsencode(tmp_path / "x") + b"/\xff.jpg")
    except OSError:
        pytest.skip("this disk has no names but text")
    faces = load_faces("image_folder", root=tmp_path)
    assert faces.table.path.tolist() == ["x/a.jpg"]
    assert faces.notes == ["1 images have a name that is no text in UTF-8 and are left out: x/\\udcff.jpg"]


LONG = "12345678901234567890"
READ = {
    "leading zeros": (["1", "01", "001"], ["1", "01", "001"]),
    "plain numbers": (["1", " 2", "-3 "], [1, 2, -3]),
    "decimals": ([".5", "1e-05", "2.0"], [0.5, 1e-5, 2.0]),
    "a number beside a word": (["1", "two", "3"], ["1", "two", "3"]),
    "more digits than a float keeps": ([LONG, f"{LONG[:-1]}1", "1"], [LONG, f"{LONG[:-1]}1", "1"]),
    "digits of other scripts": (["١", "٢", "٣"], ["١", "٢", "٣"]),
    "infinity and hexadecimal": (["inf", "0x1", "1_0"], ["inf", "0x1", "1_0"]),
    "an exponent without a sign": (["1e5", "1e6", "2"], ["1e5", "1e6", "2"]),
    "yes and no": (["yes", "no", "yes"], ["yes", "no", "yes"]),
    "true and false": (["True", "False", "True"], [True, False, True]),
    "none": (["None", "some", "none"], ["None", "some", "none"]),
    "blanks taken off": (["x ", " x", "x"], ["x", "x", "x"]),
}  # fmt: skip


@pytest.mark.parametrize(("written", "read"), READ.values(), ids=READ)
def test_labels_are_text_as_written_unless_all_are_plain_numbers(tmp_path, written, read):
    text = "img,x\n" + "".join(f"{name}.jpg,{value}\n" for name, value in zip("abc", written, strict=True))
    assert load(tmp_path, "csv", csv(text), {}).table.x.tolist() == read


@pytest.mark.parametrize(("text", "names"), [
    ("img,x\n a.jpg,1\na.jpg,2\n", [" a.jpg", "a.jpg"]),
    ("img, x\n a.jpg, 1\nb.jpg, 2\n", ["a.jpg", "b.jpg"]),
    ("x,img\n1, a.jpg\n2,b.jpg \n", [" a.jpg", "b.jpg"]),
    ("img;x\r\na.jpg;1\r\nb.jpg;2\r\n;\r\n", ["a.jpg", "b.jpg"]),
    ("img,x\ra.jpg,1\rb.jpg,2\r", ["a.jpg", "b.jpg"]),
    ("img,x,\na.jpg,1,\nb.jpg,2,\n", ["a.jpg", "b.jpg"]),
    ('img,x\n"a.jpg",1\n"b,.jpg",2\n', ["a.jpg", "b,.jpg"]),
])  # fmt: skip
def test_file_names_keep_what_is_theirs(tmp_path, text, names):
    faces = load(tmp_path, "csv", csv(text) | {" a.jpg": PICTURE, "b,.jpg": PICTURE}, {})
    assert faces.table.path.tolist() == names and faces.table.x.tolist() == [1, 2]


@pytest.mark.parametrize("arguments", [
    {"format": 5}, {"format": ["csv"]}, {"target": 5}, {"target": ["g"]}, {"protected": 5}, {"protected": ["g", 3]},
    {"root": 5}, {"root": b"."}, {"root": "~nobody-of-this-name"}, {"root": "x" * 5000}, {"root": "a\0b"},
    {"annotations": 5}, {"annotations": {"img": ["a.jpg"]}}, {"annotations": "x" * 5000}, {"annotations": "a\0b"},
    {"masks": 5}, {"masks": "x" * 5000}, {"masks": "a\0b"}, {"limit": 1.5}, {"limit": True}, {"limit": "1"},
    {"image_column": 5}, {"image_column": ["img"]}, {"sep": 5}, {"sep": ""}, {"nonsense": 1},
    {"format": "synthetic", "root": None, "annotations": None, "count": "4"},
    {"format": "synthetic", "root": None, "annotations": None, "count": True},
    {"format": "synthetic", "root": None, "annotations": None, "strength": "much"},
    {"format": "synthetic", "root": None, "annotations": None, "split": 1},
    {"format": "pairs", "root": None, "annotations": None, "identities": 2.5},
], ids=str)  # fmt: skip
def test_arguments_of_a_wrong_type_are_told(tmp_path, arguments):
    lay(tmp_path, csv(THREE))
    with pytest.raises(FacexkitError):
        fx.load_faces(**({"format": "csv", "root": tmp_path, "annotations": "l.csv"} | arguments))


RAMP = np.arange(240).reshape(20, 12)


@pytest.mark.parametrize(("pixels", "expected"), [
    (RAMP.astype(np.uint16), RAMP), (RAMP.astype(np.int32), RAMP), (RAMP.astype(np.float32), RAMP),
    ((RAMP * 257).astype(np.uint16), RAMP), ((RAMP * 257).astype(np.int32), RAMP),
    ((RAMP * 257).astype(np.float32), RAMP),
    (RAMP.astype(np.int32) - 1, "numbers from -1 to 238, no agreed range"),
    (RAMP.astype(np.int32) * 70_000, "no agreed range; save it with 8 or 16 bits"),
    ((RAMP / 255).astype(np.float32), "floating-point numbers from 0 to 0.937255, no agreed range"),
    (np.full((3, 3), np.nan, np.float32), "floating-point numbers from nan to nan"),
])  # fmt: skip
def test_deep_grey_is_scaled_by_its_values_or_skipped(tmp_path, pixels, expected):
    Image.fromarray(pixels).save(tmp_path / "a.tif")
    if isinstance(expected, str):
        with pytest.raises(OSError, match=expected):
            ImageFolder(tmp_path).read("a.tif")
    else:
        assert (np.asarray(ImageFolder(tmp_path).read("a.tif")) == expected[..., None]).all()


@pytest.mark.parametrize("content", [None, (PICTURE, {"format": "EPS"}), (PICTURE, {"format": "PDF"})])
def test_pipes_and_pages_are_no_pictures(tmp_path, content, monkeypatch):
    monkeypatch.setattr("subprocess.check_call", lambda *_, **__: pytest.fail("a program was started"))
    lay(tmp_path, {"a.jpg": content})
    with pytest.raises(OSError):
        ImageFolder(tmp_path).read("a.jpg")
    assert ImageFolder(tmp_path).digest("a.jpg")


@pytest.mark.parametrize("orientation", range(1, 9))
@pytest.mark.parametrize("scale", [1, 2])
@pytest.mark.parametrize("whole", [True, False])
def test_a_mask_drawn_on_the_unturned_photograph_is_turned_along(tmp_path, orientation, scale, whole):
    """The photograph's red part is its hair; the mask of the stored pixels covers it once both are upright."""
    hair = INDEX == REGIONS.index("hair")
    hair[:, 4:] = False
    exif, stored = Image.Exif(), np.zeros((20, 24, 3), np.uint8)
    exif[0x112], stored[hair] = orientation, (255, 0, 0)
    drawn = np.uint8(hair if orientation in TURNS else mirrored(hair, orientation)).repeat(scale, 0).repeat(scale, 1)
    mask = {"m/a.png": Image.fromarray(drawn * 13)} if whole else {"m/a_hair.png": Image.fromarray(drawn * 255)}
    picture = {"a.png": (Image.fromarray(stored), {"exif": exif})}
    faces = load(tmp_path, "csv", {"l.csv": "img\na.png\n"} | picture | mask, {"masks": "m"})
    truth = np.asarray(faces.images.read("a.png"))[..., 0] == 255
    found = faces.masks.read("a.png")["hair"][::scale, ::scale]
    assert (found == truth).all() and truth.sum() == hair.sum()


def mirrored(pixels: np.ndarray, orientation: int) -> np.ndarray:
    """Mirror or turn round, as the orientations do that keep width and height."""
    return {1: pixels, 2: pixels[:, ::-1], 3: pixels[::-1, ::-1], 4: pixels[::-1]}[orientation]


@pytest.mark.parametrize("orientation", TURNS)
def test_a_mask_of_the_upright_photograph_stays_as_it_is(tmp_path, orientation):
    exif = Image.Exif()
    exif[0x112] = orientation
    files = {"a.jpg": (PICTURE, {"exif": exif}), "m/a.png": Image.fromarray(INDEX.T.copy()), "l.csv": "img\na.jpg\n"}
    faces = load(tmp_path, "csv", files, {"masks": "m"})
    assert (faces.masks.read("a.jpg")["hair"] == (INDEX.T == 13)).all()


def test_masks_that_vanish_or_become_pipes_are_told(tmp_path):
    faces = load(tmp_path, "csv", csv(THREE) | {f"m/{name}.png": MASK for name in "abc"}, {"masks": "m"})
    for name in "ab":
        (tmp_path / "m" / f"{name}.png").unlink()
    os.mkfifo(tmp_path / "m" / "b.png")
    for name in "ab":
        for use in (faces.masks.read, faces.masks.digest):
            with pytest.raises(FacexkitError, match=f"{name}.* cannot be read"):
                use(f"{name}.jpg")
    with pytest.raises(FacexkitError, match="a mask of a.jpg cannot be read"):
        faces.fingerprint()


def test_a_set_may_have_index_masks_and_masks_by_region(tmp_path):
    files = csv(THREE) | {"m/a.png": MASK, "m/b.png": MASK, "m/c_nose.png": FULL}
    faces = load(tmp_path, "csv", files, {"masks": "m"})
    assert {path: set(faces.masks.read(path)) for path in ("a.jpg", "c.jpg")} == {
        "a.jpg": {"background", "skin", "hair"},
        "c.jpg": {"nose"},
    }
    assert not faces.notes


def test_a_folder_that_is_a_link_is_named(tmp_path):
    lay(tmp_path, {"set/x/a.jpg": PICTURE, "elsewhere/b.jpg": PICTURE})
    os.symlink(tmp_path / "elsewhere", tmp_path / "set" / "y")
    faces = load_faces("image_folder", root=tmp_path / "set")
    assert faces.table.label.tolist() == ["x"] and faces.notes == ["1 folders are links and are left out: y"]
