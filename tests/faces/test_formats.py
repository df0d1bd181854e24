"""Each format on small files in exactly its layout, and what bad input gets."""

import os

import numpy as np
import pandas as pd
import pytest
from PIL import Image
from scipy.io import savemat

from facexkit.errors import FacexkitError
from facexkit.faces import formats
from facexkit.faces.formats import Reading, load_faces, register_format
from facexkit.faces.images import ImageFolder

ATTRIBUTES = "5_o_Clock_Shadow Male Smiling"


def write_index(file, size=(12, 10), values=(0, 1, 2)):
    file.parent.mkdir(parents=True, exist_ok=True)
    pixels = np.resize(np.array(values, np.uint8), (size[1], size[0]))
    Image.fromarray(pixels).save(file)


def assert_same(faces, expected: dict) -> None:
    pd.testing.assert_frame_equal(faces.table[list(expected)], pd.DataFrame(expected), check_dtype=False)


def write_celeba(root, write_image, lines=("1 -1 1", "-1 1 -1", "-1 -1 1"), count=3):
    names = [f"{n:06d}.jpg" for n in range(1, len(lines) + 1)]
    rows = "".join(f"{name}  {line}\n" for name, line in zip(names, lines, strict=True))
    root.mkdir(exist_ok=True)
    (root / "list_attr_celeba.txt").write_text(f"{count}\n{ATTRIBUTES} \n{rows}")
    (root / "list_eval_partition.txt").write_text("".join(f"{name} {k}\n" for k, name in enumerate(names)))
    for name in names:
        write_image(root / "img_align_celeba" / name)
    return root


def test_celeba(tmp_path, write_image):
    faces = load_faces("celeba", root=write_celeba(tmp_path, write_image), target="Male", protected=("Smiling",))
    assert_same(faces, {
        "path": [f"img_align_celeba/00000{n}.jpg" for n in (1, 2, 3)],
        "5_o_Clock_Shadow": [1, 0, 0], "Male": [0, 1, 0], "Smiling": [1, 0, 1], "split": ["train", "val", "test"],
    })  # fmt: skip
    assert faces.masks is None and faces.target == "Male" and faces.images.read(faces.table.path[1]).size == (24, 20)


def test_celeba_keeps_its_download_folders(tmp_path, write_image):
    write_celeba(tmp_path, write_image)
    names = {"Anno": "list_attr_celeba.txt", "Eval": "list_eval_partition.txt", "Img": "img_align_celeba"}
    for folder, name in names.items():
        (tmp_path / folder).mkdir()
        (tmp_path / name).rename(tmp_path / folder / name)
    faces = load_faces("celeba", root=tmp_path)
    assert faces.table.path[0] == "Img/img_align_celeba/000001.jpg"
    assert faces.table.split.tolist() == ["train", "val", "test"]


def test_celebamask_hq_as_published(tmp_path, write_image):
    for number in (0, 1, 2001):
        write_image(tmp_path / "CelebA-HQ-img" / f"{number}.jpg")
        parts = tmp_path / "CelebAMask-HQ-mask-anno" / str(number // 2000)
        write_index(parts / f"{number:05d}_skin.png", values=(0, 255))
        write_index(parts / f"{number:05d}_l_eye.png", values=(0, 0, 0, 7))
    (tmp_path / "CelebAMask-HQ-attribute-anno.txt").write_text(
        f"3\n{ATTRIBUTES}\n0.jpg  1 -1 1\n1.jpg  -1 1 1\n2001.jpg  -1 -1 1\n"
    )
    faces = load_faces("celebamask_hq", root=tmp_path, target="Male")
    assert_same(faces, {"path": [f"CelebA-HQ-img/{n}.jpg" for n in (0, 1, 2001)], "Male": [0, 1, 0]})
    masks = faces.masks.read("CelebA-HQ-img/2001.jpg")
    assert set(masks) == {"background", "skin", "l_eye"} and set(faces.masks.names) == set(masks)
    assert masks["skin"].sum() == 60 and (masks["background"] == ~(masks["skin"] | masks["l_eye"])).all()
    assert not faces.notes


def test_celebamask_hq_with_index_masks(tmp_path, write_image):
    for name in ("a", "b"):
        write_image(tmp_path / "images" / f"{name}.jpg")
        write_index(tmp_path / "masks" / f"{name}.png", values=(0, 1, 18))
    (tmp_path / "labels.csv").write_text("img,gender\na.jpg,male\nb.jpg,female\n")
    faces = load_faces("celebamask_hq", root=tmp_path)
    assert_same(faces, {"path": ["images/a.jpg", "images/b.jpg"], "gender": ["male", "female"]})
    assert set(faces.masks.read("images/a.jpg")) == {"background", "skin", "cloth"}
    (tmp_path / "more.csv").write_text("img,age\nb.jpg,3\n")
    with pytest.raises(FacexkitError, match="2 CSV files.*annotations="):
        load_faces("celebamask_hq", root=tmp_path)
    assert_same(load_faces("celebamask_hq", root=tmp_path, annotations="more.csv"), {"path": ["images/b.jpg"], "age": [3]})
    for file in ("labels.csv", "more.csv"):
        (tmp_path / file).unlink()
    unlabelled = load_faces("celebamask_hq", root=tmp_path)
    assert len(unlabelled) == 2 and "no CSV of labels" in unlabelled.notes[0]


def test_the_shared_faces_have_their_labels_and_masks(shared_faces):
    assert len(shared_faces) == 240 and not shared_faces.notes
    masks = shared_faces.masks.read(shared_faces.table.path[0])
    assert masks["skin"].shape == (512, 512) and sum(mask.sum() for mask in masks.values()) == 512 * 512
    glasses = [("eye_g" in shared_faces.masks.read(path)) for path in shared_faces.table.path[:40]]
    assert (shared_faces.table.eyeglasses[:40] <= glasses).all()


def test_csv_finds_masks_beside_the_root(csv_set, tmp_path):
    places = csv_set("img,task,group\na.jpg,1,x\nb.jpg,0,y\nc.jpg,1,y\n")
    for name in ("a_skin.png", "a_hair.png", "b_ear_r.png"):
        write_index(tmp_path / "faces-mask-anno" / name, values=(0, 9))
    faces = load_faces("csv", **places, target="task", protected="group")
    assert_same(faces, {"path": ["a.jpg", "b.jpg", "c.jpg"], "task": [1, 0, 1], "group": list("xyy")})
    assert set(faces.masks.read("a.jpg")) == {"background", "skin", "hair"} and faces.masks.read("c.jpg") == {}
    assert faces.notes == [
        f"1 of 3 images have no mask in {tmp_path / 'faces-mask-anno'}: c.jpg",
        "images without a mask by group: x 0 of 1, y 1 of 2",
        "images without a mask by task: 0 0 of 1, 1 1 of 2",
    ]
    assert not load_faces("csv", **places, limit=2).notes
    assert faces.protected == ("group",) and faces.source["annotations"].endswith("labels.csv")


def test_every_format_finds_masks_beside_its_root(tmp_path, write_image):
    write_image(tmp_path / "faces" / "cat" / "a.jpg")
    write_index(tmp_path / "faces-mask-anno" / "a_skin.png", values=(0, 9))
    assert set(load_faces("image_folder", root=tmp_path / "faces").masks.read("cat/a.jpg")) == {"background", "skin"}


@pytest.mark.parametrize("text, options", [
    ("n,file,label\n1,a.jpg,3\n2,b.jpg,4\n", {}),
    ("label;where\n3;a.jpg\n4;b.jpg\n", {"image_column": "where"}),
    ("\ufeffpicture\tlabel\na.jpg\t3\nb.jpg\t4\n", {}),
])  # fmt: skip
def test_csv_image_column_and_separator(csv_set, text, options):
    assert_same(load_faces("csv", **csv_set(text), **options), {"path": ["a.jpg", "b.jpg"], "label": [3, 4]})


def test_csv_takes_celebas_attribute_list(tmp_path, write_image):
    root = write_celeba(tmp_path, write_image)
    faces = load_faces("csv", root=root / "img_align_celeba", annotations=root / "list_attr_celeba.txt")
    assert_same(faces, {"path": [f"00000{n}.jpg" for n in (1, 2, 3)], "Male": [0, 1, 0]})


def test_image_folder(tmp_path, write_image):
    for path in ("train/cat/b.jpg", "train/dog/x/a.JPG", "test/cat/c.png", "test/loose.jpg"):
        write_image(tmp_path / path)
    (tmp_path / "train/cat/notes.txt").write_text("no image")
    faces = load_faces("image_folder", root=tmp_path)
    assert_same(faces, {"path": ["test/cat/c.png", "train/cat/b.jpg", "train/dog/x/a.JPG"],
                 "label": ["cat", "cat", "dog"], "split": ["test", "train", "train"]})  # fmt: skip
    assert faces.target == "label" and "test/loose.jpg" in faces.notes[0]
    inside = load_faces("image_folder", root=tmp_path / "train")
    assert_same(inside, {"path": ["cat/b.jpg", "dog/x/a.JPG"], "label": ["cat", "dog"]})


def test_fairface(tmp_path, write_image):
    header = "file,age,gender,race,service_test\n"
    (tmp_path / "fairface_label_train.csv").write_text(header + "train/1.jpg,50-59,Male,East Asian,True\n")
    (tmp_path / "fairface_label_val.csv").write_text(header + "val/1.jpg,3-9,Female,Black,False\n")
    for path in ("train/1.jpg", "val/1.jpg"):
        write_image(tmp_path / path)
    faces = load_faces("fairface", root=tmp_path)
    assert_same(faces, {"path": ["train/1.jpg", "val/1.jpg"], "age": ["50-59", "3-9"], "gender": ["Male", "Female"],
                 "race": ["East Asian", "Black"], "split": ["train", "val"]})  # fmt: skip
    (tmp_path / "fairface_label_val.csv").write_text("file,age,gender\nval/1.jpg,3-9,Female\n")
    with pytest.raises(FacexkitError, match="fairface_label_val.csv has no column 'race'"):
        load_faces("fairface", root=tmp_path)


def test_utkface_lists_names_that_lack_a_field(tmp_path, write_image):
    good = ("26_1_2_20170116184024662.jpg.chip.jpg", "8_0_4_20161219140623096.JPG", "part2/110_0_0_20170110183726.jpg")
    bad = ("39_1_20170116174525125.jpg.chip.jpg", "61_3_20170109150557335.jpg", "24_0_1_.jpg")
    for name in good + bad:
        write_image(tmp_path / name)
    faces = load_faces("utkface", root=tmp_path)
    assert_same(faces, {"path": list(good), "age": [26, 8, 110], "gender": ["female", "male", "male"],
                 "race": ["Asian", "Others", "White"]})  # fmt: skip
    assert faces.notes[0].startswith("3 images lack a field") and all(name in faces.notes[0] for name in bad)


def write_lfwa(root, **content):
    names = np.array([["Al_Bo\\Al_Bo_0001.jpg"], ["Cy_Da\\Cy_Da_0002.jpg"]], object)
    attributes = np.array([["Male"], ["Smiling "]], object)
    default = {"name": names, "label": np.array([[1, 0], [0, 1]], np.uint8), "AttrName": attributes}
    savemat(root / "lfw_att_40.mat", {k: v for k, v in (default | content).items() if v is not None})


@pytest.mark.parametrize("below", ["", "lfw/"])
def test_lfwa(tmp_path, write_image, below):
    write_lfwa(tmp_path)
    paths = [f"{below}Al_Bo/Al_Bo_0001.jpg", f"{below}Cy_Da/Cy_Da_0002.jpg"]
    for path in paths:
        write_image(tmp_path / path)
    assert_same(load_faces("lfwa", root=tmp_path), {"path": paths, "Male": [1, 0], "Smiling": [0, 1]})


@pytest.mark.parametrize(
    "content", [{"label": None}, {"label": np.zeros((3, 2))}, {"AttrName": np.array([["Male"]], object)}]
)
def test_a_malformed_mat_file_is_named(tmp_path, content):
    write_lfwa(tmp_path, **content)
    with pytest.raises(FacexkitError, match="lfw_att_40.mat is not LFWA's.*name, label and AttrName"):
        load_faces("lfwa", root=tmp_path)
    (tmp_path / "lfw_att_40.mat").write_bytes(b"not a mat file")
    with pytest.raises(FacexkitError, match="is not LFWA's"):
        load_faces("lfwa", root=tmp_path)


def test_synthetic_faces_have_a_target_and_exact_masks(drawn_faces):
    assert len(drawn_faces) == 24 and drawn_faces.target == "gender"
    planted = load_faces("synthetic", count=40, shortcut="u_lip", target="skin_tone", strength=1.0)
    train = planted.table[planted.table.split == "train"]
    assert planted.target == "skin_tone" and train.agrees.all()


def test_a_user_registers_a_format(tmp_path, write_image, monkeypatch):
    monkeypatch.setattr(formats.FORMATS, "found", dict(formats.FORMATS))

    @register_format("mine")
    def read_mine(root, *, smile="yes"):
        return Reading(pd.DataFrame({"path": ["x.jpg"], "smile": [smile]}), ImageFolder(root))

    write_image(tmp_path / "x.jpg")
    assert load_faces("mine", root=tmp_path, smile="no").table.smile.tolist() == ["no"]
    with pytest.raises(FacexkitError, match="already"):
        register_format("csv")(read_mine)


def test_limit_takes_the_first_rows_and_asks_for_no_more(csv_set):
    places = csv_set("img,y\na.jpg,1\nb.jpg,2\nc.jpg,3\n", images=("a.jpg", "b.jpg"))
    assert_same(load_faces("csv", **places, limit=2), {"path": ["a.jpg", "b.jpg"], "y": [1, 2]})


@pytest.mark.parametrize("arguments, message", [
    ({"format": "celba", "root": "."}, "unknown format 'celba'; did you mean 'celeba'"),
    ({"format": "celeba"}, "format 'celeba' needs root="),
    ({"format": "csv", "root": "."}, "format 'csv' needs annotations="),
    ({"format": "csv", "root": "nowhere", "annotations": "x.csv"}, "root nowhere is no folder"),
    ({"format": "csv", "root": ".", "annotations": "no.csv"}, "no annotation file no.csv"),
    ({"format": "csv", "root": ".", "annotations": "x.csv", "image_colum": "img"}, "did you mean 'image_column'"),
    ({"format": "synthetic", "root": "."}, "unknown option of format 'synthetic' 'root'"),
    ({"format": "synthetic", "limit": 0}, "limit cannot be 0"),
    ({"format": "synthetic", "limit": -3}, "limit cannot be -3"),
    ({"format": "synthetic", "limit": "10"}, "limit cannot be '10'"),
    ({"format": "synthetic", "protected": "gendre"}, "unknown label column 'gendre'; did you mean 'gender'"),
    ({"format": "synthetic", "masks": 3}, "masks is a int"),
    ({"format": "synthetic", "masks": "nowhere"}, "no mask folder nowhere"),
    ({"format": "celeba", "root": "."}, "no img_align_celeba in"),
    ({"format": "lfwa", "root": "."}, "no lfw_att_40.mat in"),
    ({"format": "fairface", "root": "."}, "neither fairface_label_train.csv"),
    ({"format": "celebamask_hq", "root": "."}, "neither CelebA-HQ-img/ nor images/"),
    ({"format": "utkface", "root": "."}, "no image named AGE_GENDER_RACE"),
    ({"format": "image_folder", "root": "."}, "no image in SPLIT/CLASS/"),
])  # fmt: skip
def test_bad_arguments_say_what_to_do(tmp_path, monkeypatch, arguments, message):
    monkeypatch.chdir(tmp_path)
    with pytest.raises(FacexkitError) as raised:
        load_faces(**arguments)
    assert message in str(raised.value)


@pytest.mark.parametrize("text, message", [
    ("", "labels.csv is no CSV that can be read"),
    ("img,y\n", "labels.csv lists no image"),
    ("name,y\nx,1\ny,2\n", "column 'name' names no image file (first value 'x'); call the column that does image"),
    ("img,y\na.jpg,1\nb.jpg,2,3,4\n", "labels.csv, line 3: 4 cells where line 1 names 2 columns"),
    ("img,y\na.jpg,1\na.jpg,2\n", "images with two rows of different labels: row 2 (a.jpg)"),
    ("img,y\na.jpg,1\n../out.jpg,2\n", "paths that leave the root: row 2 (../out.jpg)"),
    ("img,y\na/../../out.jpg,2\n", "paths that leave the root: row 1 (../out.jpg)"),
    ("img,y\n/etc/passwd.jpg,2\n", "paths that leave the root: row 1 (/etc/passwd.jpg)"),
    ("img,y\nC:\\x.jpg,2\n", "paths that leave the root"),
    ("img,y\n..\\x.jpg,2\n", "paths that leave the root"),
    ("img,y\na.jpg,1\nz.jpg,1\nsub/q.jpg,2\n", "2 of 3 images are not under"),
    ("img,y\na.jpg,1\n,1\n", "rows without an image: row 2 (nan)"),
])  # fmt: skip
def test_a_bad_csv_is_refused_with_file_and_row(csv_set, text, message):
    places = csv_set(text)
    with pytest.raises(FacexkitError) as raised:
        load_faces("csv", **places)
    assert message in str(raised.value) and "labels.csv" in str(raised.value)


def test_a_csv_that_is_no_text_is_refused(csv_set):
    places = csv_set("img\na.jpg\n")
    places["annotations"].write_bytes(b"img,y\n\xff\xfe\x00a.jpg,1\n")
    with pytest.raises(FacexkitError, match="save it as UTF-8"):
        load_faces("csv", **places)


def test_links_must_stay_inside_the_root(csv_set, tmp_path, write_image):
    places = csv_set("img,y\na.jpg,1\nlink.jpg,2\n")
    os.symlink(places["root"] / "b.jpg", places["root"] / "link.jpg")
    assert len(load_faces("csv", **places)) == 2
    write_image(tmp_path / "outside.jpg")
    (places["root"] / "link.jpg").unlink()
    os.symlink(tmp_path / "outside.jpg", places["root"] / "link.jpg")
    with pytest.raises(FacexkitError, match=r"links that leave .*row 2 \(link.jpg\)"):
        load_faces("csv", **places)
    places["annotations"].write_text("img,y\nsub/outside.jpg,2\n")
    os.symlink(tmp_path, places["root"] / "sub")
    with pytest.raises(FacexkitError, match="links that leave"):
        load_faces("csv", **places)


def test_repeated_rows_and_missing_labels_are_noted(csv_set):
    faces = load_faces("csv", **csv_set("img,y,z\na.jpg,1,u\nb.jpg,,v\n./a.jpg,1,u\nc.jpg,,w\n"), target="y")
    assert faces.table.path.tolist() == ["a.jpg", "b.jpg", "c.jpg"]
    assert faces.notes == [
        "1 rows repeat an earlier one and are left out: row 3 (a.jpg)",
        "column 'y' has no value in 2 of 3 rows: row 2 (b.jpg), row 4 (c.jpg)",
    ]


def test_names_with_spaces_unicode_and_upper_case(csv_set):
    names = ("Zoë K.JPG", "顔 1.jpeg", "a&b<i>.PNG")
    faces = load_faces("csv", **csv_set("img,y\n" + "".join(f"{n},1\n" for n in names), images=names))
    batch = next(faces.batches(8))
    assert faces.table.path.tolist() == list(names) and len(batch.rows) == 3 and not batch.skipped


@pytest.mark.parametrize("lines, count, message", [
    (("1 -1 1", "-1 1", "1 1 1"), 3, "line 4 (000002.jpg), column 'Smiling': nan is neither 1 nor -1"),
    (("1 -1 1", "-1 1 1 1", "1 1 1"), 3, "a line does not have 3 values after its image: ParserError: Error tokenizing data. C error: Expected 4 fields"),
    (("1 -1 1", "-1 0 1", "1 1 1"), 3, "line 4 (000002.jpg), column 'Male': 0 is neither 1 nor -1"),
    (("1 -1 1", "-1 1 1", "1 1 1"), 9, "line 1 says 9 images, but 3 follow"),
    (("1 -1 1", "-1 1 1", "1 1 1"), "image", "line 1 is the number of images"),
])  # fmt: skip
def test_a_wrong_attribute_list_is_refused_with_its_line(tmp_path, write_image, lines, count, message):
    root = write_celeba(tmp_path, write_image, lines, count)
    with pytest.raises(FacexkitError) as raised:
        load_faces("celeba", root=root)
    assert message in str(raised.value) and "list_attr_celeba.txt" in str(raised.value)
