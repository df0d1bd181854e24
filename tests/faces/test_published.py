"""Face sets as they are published and as programs leave them: each layout in small, and what is read from it."""

import io
import json
import unicodedata

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from PIL import Image

from facexkit.errors import FacexkitError
from facexkit.faces.formats import load_faces
from facexkit.faces.images import ImageFolder
from facexkit.faces.masks import ORDERS
from facexkit.faces.regions import REGIONS


def png(colour, kind="PNG"):
    Image.new("RGB", (12, 10), colour).save(content := io.BytesIO(), kind)
    return content.getvalue()


def test_a_hub_data_set_has_its_images_class_names_and_splits(tmp_path):
    (tmp_path / "data").mkdir()
    features = {"image": {"_type": "Image"}, "gender": {"names": ["female", "male"], "_type": "ClassLabel"}, "age": {"dtype": "int64"}}
    for split, colours in {"train": ["red", "green", "blue"], "test": ["white"]}.items():
        count = len(colours)
        table = pa.table({
            "image": pa.array([{"bytes": png(colour), "path": None} for colour in colours]), "gender": [1, 0, -1][:count],
            "age": [30 + k for k in range(count)], "box": [[1, 2]] * count,
        })  # fmt: skip
        table = table.replace_schema_metadata({"huggingface": json.dumps({"info": {"features": features}})})
        pq.write_table(table, tmp_path / "data" / f"{split}-00000-of-00001.parquet", row_group_size=2)
    faces = load_faces("parquet", root=tmp_path, target="gender")
    assert faces.table.split.tolist() == ["test", "train", "train", "train"] and faces.table.age.tolist() == [30, 30, 31, 32]
    assert faces.table.gender.fillna("none").tolist() == ["male", "male", "female", "none"]
    assert [faces.images.read(path).getpixel((0, 0)) for path in faces.table.path] == [(255, 255, 255), (255, 0, 0), (0, 128, 0), (0, 0, 255)]
    assert "1 columns are neither numbers nor text and are left out: box" in faces.notes
    batches = faces.batches(8, 1, workers=2)
    assert [batch.images[0, 2, 0, 0].item() for batch in batches] == [255, 0, 0, 255]
    assert len({faces.images.digest(path) for path in faces.table.path}) == 4


def test_a_parquet_file_without_images_is_told(tmp_path):
    pq.write_table(pa.table({"age": [1]}), tmp_path / "a.parquet")
    with pytest.raises(FacexkitError, match="unknown image column 'image'.*age"):
        load_faces("parquet", root=tmp_path)
    with pytest.raises(FacexkitError, match="has no .parquet file"):
        (tmp_path / "empty").mkdir()
        load_faces("parquet", root=tmp_path / "empty")


def test_lfws_own_pairs(tmp_path, write_image):
    for name in ("Anna_B/Anna_B_0001", "Anna_B/Anna_B_0004", "Carl_D/Carl_D_0002"):
        write_image(tmp_path / "lfw" / f"{name}.jpg")
    (tmp_path / "pairs.txt").write_text("10\t300\nAnna_B\t1\t4\nAnna_B\t1\tCarl_D\t2\n")
    faces = load_faces("pairs", root=tmp_path, annotations="pairs.txt")
    assert faces.table.values.tolist() == [["lfw/Anna_B/Anna_B_0004.jpg", "lfw/Anna_B/Anna_B_0001.jpg", 1],
                                           ["lfw/Carl_D/Carl_D_0002.jpg", "lfw/Anna_B/Anna_B_0001.jpg", 0]]  # fmt: skip


def test_rfw(tmp_path, write_image):
    for race in ("African", "Asian"):
        for name in ("m.01/m.01_0001", "m.01/m.01_0002", "m.02/m.02_0003"):
            write_image(tmp_path / "test" / "data" / race / f"{name}.jpg")
        (tmp_path / "test" / "txts" / race).mkdir(parents=True)
        (tmp_path / "test" / "txts" / race / f"{race}_pairs.txt").write_text("m.01\t1\t2\nm.01\t1\tm.02\t3\n")
    faces = load_faces("rfw", root=tmp_path, protected="race")
    assert faces.table.race.tolist() == ["African", "African", "Asian", "Asian"] and faces.table.same.tolist() == [1, 0, 1, 0]
    assert faces.table.path[3] == "test/data/Asian/m.02/m.02_0003.jpg"


def test_bfw(tmp_path, write_image):
    names = [f"asian_females/n0000{k}/0010_01.jpg" for k in (1, 2)]
    for name in names:
        write_image(tmp_path / "bfw-cropped-aligned" / name)
    row = f"1,{names[0]},{names[1]},0,1,2,asian_females,asian_females,0.3,asian,asian,F,F,A,A"
    head = "fold,p1,p2,label,id1,id2,att1,att2,vgg16,a1,a2,g1,g2,e1,e2"
    (tmp_path / "bfw-v0.1.5-datatable.csv").write_text(f"{head}\n{row}\n")
    faces = load_faces("bfw", root=tmp_path, protected=["ethnicity", "gender"])
    assert faces.table.iloc[0].to_dict() == {
        "path": f"bfw-cropped-aligned/{names[1]}", "reference": f"bfw-cropped-aligned/{names[0]}", "same": 0,
        "group": "asian_females", "gender": "F", "ethnicity": "A", "fold": 1,
    }  # fmt: skip


@pytest.mark.parametrize("parts", [("Training", "Validation"), ("Train", "Test"), ("training", "testing"), ("TRAIN", "valid")])
def test_the_folders_of_the_parts_are_no_classes(tmp_path, write_image, parts):
    for part in parts:
        for label in ("female", "male"):
            write_image(tmp_path / part / label / "1.jpg")
    table = load_faces("image_folder", root=tmp_path).table
    assert {*table.label} == {"female", "male"} and {*table.split} == {"train", "val" if parts[1][0] in "Vv" else "test"}


@pytest.mark.parametrize("name", ["24_0_1_2017 .jpg.chip.jpg", "55_0_1_2017jpg.chip.jpg", "44_0_1_2017.pg.chip.jpg", "26_0_1_2017.png"])
def test_utkfaces_own_misspelt_names(tmp_path, write_image, name):
    write_image(tmp_path / name)
    faces = load_faces("utkface", root=tmp_path)
    assert faces.table.race.tolist() == ["Black"] and faces.table.age[0] == int(name[:2]) and not faces.notes


def celeba(root, write_image, folder, files):
    for k in (1, 2):
        write_image(root / folder / f"00000{k}.jpg")
    for name, content in files.items():
        (root / name).write_bytes(content.encode() if isinstance(content, str) else content)
    return load_faces("celeba", root=root)


KAGGLE = {"list_attr_celeba.csv": "image_id,Male,Young\n000001.jpg,1,-1\n000002.jpg,-1,-1\n",
          "list_eval_partition.csv": "image_id,partition\n000001.jpg,0\n000002.jpg,2\n"}  # fmt: skip
LIST = "2\nMale Young\n000001.jpg 1 -1\n000002.jpg -1 -1\n"


@pytest.mark.parametrize(("folder", "files"), [
    ("img_align_celeba/img_align_celeba", KAGGLE), ("img_align_celeba", KAGGLE),
    ("img_align_celeba/img_align_celeba", {"list_attr_celeba.txt": LIST}),
    ("img_align_celeba", {"list_attr_celeba.txt": b"\xef\xbb\xbf" + LIST.replace("\n", "\r\n").encode()}),
])  # fmt: skip
def test_celeba_from_kaggle_with_a_doubled_folder_or_a_bom(tmp_path, write_image, folder, files):
    faces = celeba(tmp_path, write_image, folder, files)
    assert faces.table.Male.tolist() == [1, 0] and faces.table.Young.tolist() == [0, 0]
    assert faces.table.path[0] == f"{folder}/000001.jpg" and ("split" in faces.table) == (len(files) == 2)


def test_a_value_of_kaggles_list_that_is_neither_is_named(tmp_path, write_image):
    with pytest.raises(FacexkitError, match=r"list_attr_celeba.csv, line 3 \(000002.jpg\), column 'Male': 0 is neither 1 nor -1"):
        celeba(tmp_path, write_image, "img_align_celeba", {"list_attr_celeba.csv": "image_id,Male\n000001.jpg,1\n000002.jpg,0\n"})


@pytest.mark.parametrize("text", [
    b"\xef\xbb\xbfimg;y\r\na.jpg;1\r\n", "img\ty\na.jpg\t1\n".encode("utf-16"), b"img,y,\na.jpg,1,\n", b"img,y\n.\\a.jpg,1\n",
    b"img,y\na.JPG,1\n",
])  # fmt: skip
def test_a_table_is_read_as_programs_write_it(csv_set, text):
    places = csv_set("", images=("a.jpg",))
    places["annotations"].write_bytes(text)
    faces = load_faces("csv", **places)
    assert faces.table.to_dict("list") == {"path": ["a.jpg"], "y": [1]}


def test_paths_that_are_written_otherwise_are_found_and_told(csv_set):
    names = (unicodedata.normalize("NFC", "Zoë.jpg"), "sub/b.JPG", "c.jpg")
    places = csv_set("", images=names)
    rows = [unicodedata.normalize("NFD", names[0]), "sub\\b.jpg", str(places["root"] / "c.jpg")]
    places["annotations"].write_text("img,y\n" + "\n".join(f"{row},1" for row in rows))
    faces = load_faces("csv", **places)
    assert faces.table.path.tolist() == [*names]
    assert faces.notes[0].startswith("3 paths are written otherwise than their files, which are taken: row 1")
    places["annotations"].write_text("img,y\nc.jpg,1\nC.jpg,2\n")
    with pytest.raises(FacexkitError, match="1 of 2 images are not under"):
        load_faces("csv", **places)


def test_two_ways_to_write_one_file_are_no_two_faces(csv_set):
    places = csv_set("img,y\na.jpg,1\na.JPG,2\n")
    with pytest.raises(FacexkitError, match=r"two rows of different labels: row 2 \(a.jpg\)"):
        load_faces("csv", **places)


def test_ages_that_a_spreadsheet_took_for_dates_are_mended_and_told(csv_set):
    faces = load_faces("csv", **csv_set("img,age\na.jpg,9-Mar\nb.jpg,20-29\nc.jpg,Oct-19\n"))
    assert faces.table.age.tolist() == ["3-9", "20-29", "10-19"]
    assert faces.notes == ["column 'age': 2 values are dates that a spreadsheet made of ranges, and are taken for these: "
                           "9-Mar is 3-9, Oct-19 is 10-19"]  # fmt: skip
    dates = load_faces("csv", **csv_set("img,day\na.jpg,9-Mar\nb.jpg,1-May\n"))
    assert dates.table.day.tolist() == ["9-Mar", "1-May"] and not dates.notes


@pytest.mark.parametrize("name", ["a.jfif", "a.pgm", "a.gif", "a.JPE", "a.ppm"])
def test_what_pillow_reads_is_taken(tmp_path, name):
    kind = {"jfif": "JPEG", "jpe": "JPEG", "gif": "GIF"}.get(name.rpartition(".")[2].lower(), "PPM")
    picture = Image.new("RGB", (8, 8), "white")
    (picture.convert("L") if name == "a.pgm" else picture).save(tmp_path / name, kind)
    (tmp_path / "b.svg").write_text("<svg/>")
    faces = load_faces("photos", root=tmp_path)
    assert faces.table.path.tolist() == [name] and faces.images.read(name).getpixel((3, 3)) == (255, 255, 255)
    assert faces.notes == ["1 files are no images (1 .svg) and are left out: b.svg"]


@pytest.mark.parametrize(("most", "kind"), [(255, np.int32), (1023, np.uint16), (4095, np.uint16), (65535, np.uint16)])
def test_grey_of_any_depth_spans_black_to_white(tmp_path, most, kind):
    Image.fromarray(np.linspace(0, most, 64).round().reshape(8, 8).astype(kind)).save(tmp_path / "a.tif")
    pixels = np.asarray(ImageFolder(tmp_path).read("a.tif"))[..., 0].ravel().astype(int)
    assert np.abs(pixels - np.linspace(0, 255, 64)).max() <= 1


def masked(tmp_path, csv_set, files, **how):
    (tmp_path / "m").mkdir(exist_ok=True)
    for name, mask in files.items():
        mask.save(tmp_path / "m" / name)
    return load_faces("csv", **csv_set("img\na.jpg\nb.jpg\n"), masks=tmp_path / "m", **how)


def index_in(order):
    """A drawn face: hair over a brow over a nose over lips, a neck below, as values of an order."""
    index = np.zeros((20, 24), np.uint8)
    for row, name in enumerate(["hair", "skin", "l_brow", "l_eye", "nose", "u_lip", "mouth", "l_lip", "neck", "cloth"]):
        index[2 * row : 2 * row + 2] = order.index(name)
    return Image.fromarray(index)


def test_values_in_another_order_are_read_by_its_name_or_told(tmp_path, csv_set):
    other = {f"{name}.png": index_in(ORDERS["face_parsing"]) for name in "ab"}
    faces = masked(tmp_path, csv_set, other, mask_classes="face_parsing")
    assert not faces.notes and faces.masks.read("a.jpg")["hair"][:2].all() and faces.masks.read("a.jpg")["cloth"][-2:].all()
    listed = masked(tmp_path, csv_set, other, mask_classes=ORDERS["face_parsing"])
    assert listed.masks.read("b.jpg").keys() == faces.masks.read("b.jpg").keys()
    told = masked(tmp_path, csv_set, other).notes[0]
    assert told.startswith("in 2 of 2 masks that were looked at regions lie where they cannot") and "face_parsing" in told
    assert not masked(tmp_path, csv_set, {f"{name}.png": index_in(REGIONS) for name in "ab"}).notes


@pytest.mark.parametrize("wrong", ["face_parsin", "skin, hare"])
def test_an_unknown_order_is_told(tmp_path, csv_set, wrong):
    with pytest.raises(FacexkitError, match="unknown (order of mask classes|face region) '(face_parsin|hare)'; did you mean"):
        masked(tmp_path, csv_set, {"a.png": index_in(REGIONS)}, mask_classes=wrong)


def test_a_mask_folder_that_is_the_image_folder_is_refused(csv_set, tmp_path):
    places = csv_set("img\na.png\n", images=())
    Image.fromarray(np.ones((8, 8), np.uint8)).save(places["root"] / "a.png")
    with pytest.raises(FacexkitError, match="holds the images themselves, a.png say, and no masks"):
        load_faces("csv", **places, masks=places["root"])


def region(alpha, colour=255):
    picture = np.full((20, 24, 4), colour, np.uint8)
    picture[..., 3] = alpha
    return Image.fromarray(picture)


@pytest.mark.parametrize(("mask", "share"), [
    (region(np.r_[np.zeros((10, 24)), np.full((10, 24), 255)]), 0.5), (region(np.r_[np.zeros((5, 24)), np.full((15, 24), 255)], 0), 0.75),
    (region(255), 1.0), (Image.fromarray(np.tile([0, 1], (20, 12)).astype(bool)), 0.5),
    (Image.fromarray(np.tile(np.uint8([[[0, 0, 0]], [[0, 9, 0]]]), (10, 24, 1))), 0.5),
])  # fmt: skip
def test_a_region_is_where_its_mask_is_opaque_or_not_black(tmp_path, csv_set, mask, share):
    faces = masked(tmp_path, csv_set, {"a_skin.png": mask})
    assert faces.masks.read("a.jpg")["skin"].mean() == share


@pytest.mark.parametrize(("name", "mask", "message"), [
    ("a_skin.png", region(0), "it is transparent everywhere"), ("a.png", Image.new("1", (24, 20), 1), "it has one bit a pixel"),
    ("a.png", region(255), "no index PNG"), ("a.png", Image.new("RGB", (24, 20)), "no index PNG"),
])  # fmt: skip
def test_a_mask_that_cannot_be_meant_is_refused(tmp_path, csv_set, name, mask, message):
    with pytest.raises(FacexkitError, match=message):
        masked(tmp_path, csv_set, {name: mask}).masks.read("a.jpg")


def test_lfwa_may_have_celebas_signs(tmp_path, write_image):
    from scipy.io import savemat

    for name in ("A/A_1.jpg", "B/B_1.jpg"):
        write_image(tmp_path / name)
    words = lambda *texts: np.array(texts, object)  # noqa: E731
    savemat(tmp_path / "lfw_att_40.mat", {"AttrName": words("Male", "Young"), "name": words("A\\A_1.jpg", "B\\B_1.jpg"),
                                          "label": np.array([[1, -1], [-1, 1]])})  # fmt: skip
    table = load_faces("lfwa", root=tmp_path).table
    pd.testing.assert_frame_equal(table[["Male", "Young"]], pd.DataFrame({"Male": [1, 0], "Young": [0, 1]}))
