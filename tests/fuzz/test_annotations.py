"""Whatever stands in a file of labels, in the names of files or in the arguments: a face set, or what is wrong."""

from __future__ import annotations

import io
import os
import re
import shutil

import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image
from scipy.io import savemat

import facexkit as fx
from facexkit.faces.formats import load_faces

FUZZ = settings.get_profile("fuzz")
PICTURES = ("a.jpg", "b.png", "sub/c.jpg", " d.jpg", "images/a.jpg", "train/1.jpg", "val/1.jpg", "A/A_1.jpg", "1.jpg",
            "img_align_celeba/1.jpg", "img_align_celeba/2.jpg", "AU/a/AU_1.png",
            "non_localizable/age/old/a.jpg")  # fmt: skip
CELLS = st.sampled_from([
    *PICTURES, "", " ", "0", "1", "-1", "01", "1.5", "1e+99", "1e999", "nan", "NA", "None", "True", "False",
    "male", "Male ", "img", "path", "image", "labels", "file", "age", "gender", "race", "same", "reference",
    "../a.jpg", "/etc/a.jpg",
    "..\\a.jpg", "C:\\a.jpg", ".", "sub", "a.jpg/", "./a.jpg", "AU/a/AU_1.png;AU/a/AU_1.png", "x" * 300 + ".jpg",
    '"', '"a', 'a"b', "'", "\0", "\ufeff", "\u2028",
]) | st.text(max_size=6)  # fmt: skip
TABLES = st.builds(
    lambda rows, sep, end: end.join(sep.join(row) for row in rows).encode("utf-8", "replace"),
    st.lists(st.lists(CELLS, min_size=1, max_size=5), min_size=1, max_size=6),
    st.sampled_from([",", ";", "\t", ", ", " "]),
    st.sampled_from(["\n", "\r\n", "\r", "\n\n"]),
)


def mat(**content: object) -> bytes:
    names = {"AttrName": np.array(["Male", "Young"], object), "name": np.array(["A\\A_1.jpg"] * 2, object)}
    labels = {"label": np.array([[1, 0], [0, 1]])}
    savemat(buffer := io.BytesIO(), names | labels | content, do_compression=bool(content))
    return buffer.getvalue()


FILES = {
    "csv": ("labels.csv", b"img,gender,age\na.jpg,male,3\nb.png,female,04\n"),
    "csv of attributes": ("labels.txt", b"2\nMale Young\na.jpg 1 -1\nb.png -1 1\n"),
    "celebamask_hq": ("labels.csv", b"img,gender\na.jpg,male\n"),
    "celeba": ("list_attr_celeba.txt", b"2\nMale\n1.jpg 1\n2.jpg -1\n"),
    "celeba of splits": ("list_eval_partition.txt", b"1.jpg 0\n2.jpg 2\n"),
    "fairface": ("fairface_label_val.csv", b"file,age,gender,race,service_test\nval/1.jpg,3-9,Male,Black,True\n"),
    "face_dictionary": ("Parts.csv", b"image,labels\nimages/a.jpg,AU/a/AU_1.png\n"),
    "pairs": ("labels.csv", b"first,second,same,group\na.jpg,b.png,1,x\nb.png,sub/c.jpg,0,y\n"),
}


@st.composite
def mutated(draw, valid: bytes) -> bytes:
    """A good file with some bytes taken out, put in or doubled."""
    content = valid
    for _ in range(draw(st.integers(1, 4))):
        at, gone = draw(st.integers(0, len(content))), draw(st.sampled_from([0, 0, 1, 1, 2, 8]))
        put = draw(st.binary(max_size=4) | CELLS.map(lambda cell: cell.encode("utf-8", "replace")))
        content = content[:at] + put + content[at + gone :]
    return content


@pytest.fixture(scope="module")
def root(tmp_path_factory):
    folder = tmp_path_factory.mktemp("root")
    for name in PICTURES:
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        Image.new("RGB", (4, 4), "red").save(folder / name)
    (folder / "list_attr_celeba.txt").write_bytes(FILES["celeba"][1])
    return folder


def check(faces) -> None:
    """Use what was read: it is counted, shown and identified, and every image lies under the root."""
    assert len(faces) and faces.table.columns.is_unique and faces.table.path.map(lambda p: isinstance(p, str)).all()
    root = os.path.realpath(faces.images.root)
    assert all(os.path.realpath(os.path.join(root, path)).startswith(root + os.sep) for path in faces.table.path)
    faces.describe(quiet=True)
    assert len(faces.fingerprint()) == 16
    for path in faces.table.path[:2]:
        assert faces.masks is None or all(mask.ndim == 2 for mask in faces.masks.read(path).values())


@pytest.mark.parametrize("kind", FILES)
@FUZZ
@given(st.data())
def test_any_content_of_a_file_of_labels(root, or_told, kind, data):
    file, valid = FILES[kind]
    content = data.draw(mutated(valid) | TABLES | st.binary(max_size=60), label=file)
    (root / file).write_bytes(content)
    given = {"annotations": file} if file.startswith("labels.") else {}
    try:
        with or_told():
            check(load_faces(kind.split()[0], root=root, **given))
    finally:
        (root / file).write_bytes(valid)


@settings(FUZZ, max_examples=FUZZ.max_examples // 10)
@given(mutated(mat()) | mutated(mat(more=np.eye(3))) | st.binary(max_size=200))
def test_any_content_of_a_matlab_file(root, or_told, content):
    (root / "lfw_att_40.mat").write_bytes(content)
    with or_told():
        check(load_faces("lfwa", root=root))


NAMES = st.lists(st.text(min_size=1, max_size=12).map(lambda name: re.sub("[/\0]", "", name)), min_size=1, max_size=3)
LIKELY = st.sampled_from(
    ["train", "test", "cat", "Cat", "1_0_2_20170116.jpg", "x.jpg", "x.JPG", "x.heic", "non_localizable", ".hidden"]
)


@pytest.mark.parametrize("format", ["image_folder", "utkface", "face_dictionary", "celebamask_hq"])
@FUZZ
@given(st.lists(NAMES | st.lists(LIKELY, min_size=1, max_size=4), min_size=1, max_size=4))
def test_any_names_of_folders_and_files(tmp_path_factory, or_told, format, places):
    root = tmp_path_factory.getbasetemp() / "names"
    shutil.rmtree(root, ignore_errors=True)
    for parts in places:
        parts = [part for part in parts if part not in ("", ".", "..")]
        try:
            os.makedirs(os.path.join(root, "images", *parts[:-1]))
            Image.new("RGB", (4, 4)).save(os.path.join(root, "images", *parts[:-1], parts[-1] + ".jpg"))
            Image.new("RGB", (4, 4)).save(os.path.join(root, *parts), "JPEG")
        except (OSError, UnicodeError, IndexError):
            continue  # the file system takes no such name
    with or_told():
        check(load_faces(format, root=root))


SINGLE = st.none() | st.booleans() | st.integers() | st.floats() | CELLS | st.binary(max_size=4)
ANYTHING = (
    SINGLE
    | st.just(pd.DataFrame([1]))
    | st.lists(SINGLE, max_size=3)
    | st.dictionaries(st.text(max_size=3), SINGLE, max_size=2)
)


@FUZZ
@given(st.dictionaries(
    st.sampled_from(["format", "root", "annotations", "masks", "target", "protected", "limit", "image_column", "sep"]),
    ANYTHING, min_size=1, max_size=3,
))  # fmt: skip
def test_any_argument(root, or_told, arguments):
    (root / "labels.csv").write_bytes(FILES["csv"][1])
    with or_told():
        check(fx.load_faces(**({"format": "csv", "root": root, "annotations": "labels.csv"} | arguments)))
