"""FairFace's files: the same numbers as a plain loop, in the same forms."""

import csv

import numpy as np
import pandas as pd
import pytest
import torch
import torchvision
from PIL import Image
from torchvision import transforms

from facexkit.errors import FacexkitError
from facexkit.faces.formats import load_faces
from facexkit.models.loading import load_model
from facexkit.models.parser import FaceModel
from facexkit.systems import fairface as home
from facexkit.systems.fairface import fairface
from facexkit.systems.fairface_networks import BLOCKS, FILES

COLUMNS = ["face_name_align", "race", "race4", "gender", "age"]
COLUMNS += ["race_scores_fair", "race_scores_fair_4", "gender_scores_fair", "age_scores_fair"]
STEMS = ["test_outputs", *(f"fairface_activations{more}" for more in ("", "_layer4", "_4.layer3"))]


@pytest.fixture(scope="module")
def photos(tmp_path_factory):
    """Five drawn faces as files of 300 pixels, and FairFace's own CSV of them."""
    folder = tmp_path_factory.mktemp("detected_faces")
    drawn = load_faces("synthetic", limit=5)
    names = [f"photo{row}_face0.jpg" for row in range(5)]
    for name, path in zip(names, drawn.table.path, strict=True):
        drawn.images.read(path).resize((300, 300)).save(folder / name, quality=95)
    (folder / "test_imgs.csv").write_text("img_path\n" + "\n".join(names) + "\n")
    return folder


@pytest.fixture(scope="module")
def faces(photos):
    return load_faces("csv", root=photos, annotations="test_imgs.csv")


@pytest.fixture(scope="module")
def networks(photos, tmp_path_factory):
    """Two random networks whose activations have the size that trained ones have, and their weights in a folder."""
    folder, made = tmp_path_factory.mktemp("weights"), {}
    for seed, (races, file) in enumerate(FILES.items()):
        torch.manual_seed(seed)
        made[races] = torchvision.models.resnet34(num_classes=18)
        for module in made[races].modules():
            if isinstance(module, torch.nn.BatchNorm2d):
                module.momentum = None
        for name, value in made[races].named_parameters():
            if name.endswith("bn2.weight"):
                torch.nn.init.constant_(value, 0.1)  # as in a trained network, rounding errors then do not grow
        with torch.no_grad():
            made[races].train()(torch.stack([prepared(photos / f"photo{row}_face0.jpg") for row in range(5)]))
        torch.save(made[races].eval().state_dict(), folder / file)
    return made, folder


@pytest.fixture(scope="module")
def models(networks):
    return [load_model(f"fairface:{races}", weights=networks[1], device="cpu") for races in "74"]


def prepared(path):
    """One image as FairFace's script prepares it."""
    mean, std = [0.485, 0.456, 0.406], [0.229, 0.224, 0.225]
    steps = [transforms.Resize((224, 224)), transforms.ToTensor(), transforms.Normalize(mean, std)]
    return transforms.Compose(steps)(Image.open(path).convert("RGB"))


def softmax(x):
    return np.exp(x) / np.exp(x).sum()


@pytest.fixture(scope="module")
def plain(networks, photos):
    """The plain loop: one image at a time, hooks for the activations, softmax in numpy."""
    seven, four = networks[0]["7"], networks[0]["4"]
    taken, rows = {}, []
    for name, module in (("avgpool", seven.avgpool), ("layer4", seven.layer4), ("4.layer3", four.layer3)):
        module.register_forward_hook(lambda _m, _i, output, name=name: taken.update({name: output.numpy()[0].copy()}))
    for row in range(5):
        with torch.no_grad():
            image = prepared(photos / f"photo{row}_face0.jpg")[None]
            out7, out4 = seven(image).numpy()[0], four(image).numpy()[0]
        scores = {"race": softmax(out7[:7]), "gender": softmax(out7[7:9]), "age": softmax(out7[9:18])}
        rows.append(scores | {"race4": softmax(out4[:4])} | taken)
    return rows


@pytest.fixture(scope="module")
def run(faces, models, tmp_path_factory):
    out = tmp_path_factory.mktemp("run")
    said = fairface(faces, *models, layers=["avgpool", "layer4", "4.layer3"], out=out, batch_size=2, progress=False)
    return said, out


@pytest.mark.parametrize("block", ["race", "race4", "gender", "age"])
def test_scores_equal_those_of_the_plain_loop(run, plain, block):
    names = (BLOCKS["7"] | BLOCKS["4"])[block]
    expected = np.array([row[block] for row in plain])
    found = run[0][[f"{block} {name}" for name in names]].to_numpy()
    np.testing.assert_allclose(found, expected, rtol=0, atol=1e-5)
    assert run[0][block].tolist() == [names[k] for k in expected.argmax(1)]
    assert expected.std(0).max() > 1e-4


@pytest.mark.parametrize(("layer", "file"), [("avgpool", ""), ("layer4", "_layer4"), ("4.layer3", "_4.layer3")])
def test_pooled_activations_equal_those_of_the_plain_loop(run, plain, layer, file):
    table = pd.read_csv(run[1] / f"fairface_activations{file}.csv")
    expected = np.array([row[layer].mean((1, 2)) for row in plain])
    assert list(table) == ["image_paths", *map(str, range(expected.shape[1]))]
    assert table.image_paths.tolist() == [f"photo{row}_face0.jpg" for row in range(5)]
    np.testing.assert_allclose(table.iloc[:, 1:], expected, rtol=0, atol=1e-5)


def test_flattened_activations_equal_those_of_the_plain_loop(faces, models, plain, tmp_path):
    fairface(faces, models[0], layers="layer4", pooled=False, out=tmp_path, batch_size=2, progress=False)
    table = pd.read_csv(tmp_path / "fairface_activations.csv")
    np.testing.assert_allclose(table.iloc[:, 1:], [row["layer4"].ravel() for row in plain], rtol=1e-5, atol=1e-5)
    assert table.image_paths.is_unique and len(table) == 5


def test_csv_and_parquet_hold_the_same_activations(run):
    for stem in ("fairface_activations", "fairface_activations_4.layer3"):
        kept = pd.read_parquet(run[1] / f"{stem}.parquet")
        read = pd.read_csv(run[1] / f"{stem}.csv", dtype={str(k): np.float32 for k in range(512)})
        assert kept.dtypes.iloc[1] == np.float32
        pd.testing.assert_frame_equal(read, kept, check_exact=True, check_dtype=False)


def test_test_outputs_has_fairfaces_columns_and_printed_arrays(run):
    with open(run[1] / "test_outputs.csv", newline="") as file:
        header, *rows = csv.reader(file)
    assert header == COLUMNS
    for row, (_, said) in zip(rows, run[0].iterrows(), strict=True):
        assert row[:5] == said[COLUMNS[:5]].tolist()
        for text, block in zip(row[5:], ("race", "race4", "gender", "age"), strict=True):
            scores = said[[f"{block} {name}" for name in (BLOCKS["7"] | BLOCKS["4"])[block]]].to_numpy(np.float32)
            assert text == str(scores)
            assert np.allclose(np.array(text.strip("[]").split(), np.float32), scores, atol=1e-8)


def test_the_form_is_that_of_a_published_output(tmp_path):
    scores = {"race": [9.8397699e-04, 1.0657344e-05, 1.7186903e-03, 9.4166619e-01, 5.5295408e-02, 1.4021843e-04, 1.8481574e-04],
              "gender": [1.3908281e-04, 9.9986094e-01]}
    columns = {f"{block} {name}": [np.float32(value)] for block, values in scores.items()
               for name, value in zip(BLOCKS["7"][block], values, strict=True)}
    said = pd.DataFrame({"face_name_align": ["detected_faces/race_Asian_face0.jpg"], "race": "East Asian", "gender": "Female"} | columns)
    home.write_predictions(said, tmp_path / "x")
    assert (tmp_path / "x.csv").read_text().splitlines()[1:] == [
        'detected_faces/race_Asian_face0.jpg,East Asian,Female,'
        '"[9.8397699e-04 1.0657344e-05 1.7186903e-03 9.4166619e-01 5.5295408e-02',
        ' 1.4021843e-04 1.8481574e-04]",[1.3908281e-04 9.9986094e-01]',
    ]


def test_the_tidy_table_has_a_column_a_probability_that_add_up_to_one(run):
    table = pd.read_parquet(run[1] / "test_outputs.parquet")
    assert len(table.columns) == 5 + 7 + 4 + 2 + 9
    for block in ("race", "race4", "gender", "age"):
        np.testing.assert_allclose(table.filter(regex=f"^{block} ").sum(axis=1), 1, atol=1e-6)


def test_long_sets_are_written_in_parts_with_one_header(run, tmp_path, monkeypatch):
    monkeypatch.setattr(home, "ROWS_AT_ONCE", 2)
    home.write_predictions(run[0], tmp_path / "test_outputs")
    assert (tmp_path / "test_outputs.csv").read_bytes() == (run[1] / "test_outputs.csv").read_bytes()


def test_both_models_see_each_image_decoded_once(faces, models, tmp_path, monkeypatch):
    decoded = []
    read = type(faces.images).read
    monkeypatch.setattr(type(faces.images), "read", lambda self, path: decoded.append(path) or read(self, path))
    fairface(faces, *models, out=tmp_path, batch_size=4, workers=0, progress=False)
    assert decoded == faces.table.path.tolist()


def test_one_model_alone_writes_the_columns_that_it_knows(faces, models, run, tmp_path):
    four = fairface(faces, four=models[1], layers="layer3", out=tmp_path, progress=False)
    assert list(four)[:2] == ["face_name_align", "race4"] and "gender" not in four
    np.testing.assert_allclose(four.filter(regex="^race4 "), run[0].filter(regex="^race4 "), atol=1e-6)
    ours, both = (pd.read_csv(path) for path in (tmp_path / "fairface_activations.csv", run[1] / "fairface_activations_4.layer3.csv"))
    np.testing.assert_allclose(ours.iloc[:, 1:], both.iloc[:, 1:], atol=1e-5)
    assert list(pd.read_csv(tmp_path / "test_outputs.csv")) == ["face_name_align", "race4", "race_scores_fair_4"]


def test_an_undecodable_image_is_left_out_of_every_file_and_listed(photos, models, tmp_path):
    root = tmp_path / "root"
    root.mkdir()
    for row in (0, 2):
        (root / f"{row}.jpg").write_bytes((photos / f"photo{row}_face0.jpg").read_bytes())
    (root / "1.jpg").write_bytes(b"broken")
    (root / "imgs.csv").write_text("img_path\n0.jpg\n1.jpg\n2.jpg\n")
    faces = load_faces("csv", root=root, annotations="imgs.csv")
    said = fairface(faces, models[0], layers="avgpool", out=tmp_path / "out", max_skipped=0.5, batch_size=2, progress=False)
    assert said.index.tolist() == [0, 2] and said.attrs["skipped"][0].startswith("1.jpg")
    for name in ("test_outputs", "fairface_activations"):
        assert pd.read_csv(tmp_path / "out" / f"{name}.csv").iloc[:, 0].tolist() == ["0.jpg", "2.jpg"]


def test_a_failed_run_leaves_the_earlier_files_and_nothing_else(faces, models, run, tmp_path):
    (tmp_path / "test_outputs.csv").write_text("earlier")
    with pytest.raises(FacexkitError, match="layer9"):
        fairface(faces, *models, layers=["avgpool", "layer9"], out=tmp_path, progress=False)
    assert [path.name for path in tmp_path.iterdir()] == ["test_outputs.csv"]
    assert (tmp_path / "test_outputs.csv").read_text() == "earlier"
    assert sorted(path.name for path in run[1].iterdir()) == sorted(f"{stem}.{suffix}" for stem in STEMS for suffix in ("csv", "parquet"))


def test_an_activation_that_is_not_finite_is_told_with_its_image(faces, tmp_path):
    class Broken(torch.nn.Module):
        def __init__(self):
            super().__init__()
            self.layer, self.fc = torch.nn.Conv2d(3, 4, 3), torch.nn.Linear(4, 18)
            torch.nn.init.constant_(self.layer.bias, float("nan"))

        def forward(self, x):
            return self.fc(self.layer(x).mean((2, 3)).nan_to_num())

    model = FaceModel(Broken(), name="broken", image_size=32, device="cpu")
    with pytest.raises(FacexkitError, match=r"'7.layer', image 'photo0_face0.jpg'"):
        fairface(faces, model, layers="layer", out=tmp_path, progress=False)
    assert not any(tmp_path.iterdir())


def test_wrong_models_are_told(faces, models, tmp_path):
    with pytest.raises(FacexkitError, match="one or both of FairFace's models"):
        fairface(faces, out=tmp_path)
    with pytest.raises(FacexkitError, match="of 18 outputs"):
        fairface(faces, load_model("torchvision:resnet18", num_classes=2, device="cpu"), out=tmp_path)
    other = load_model("torchvision:resnet18", num_classes=18, image_size=64, device="cpu")
    with pytest.raises(FacexkitError, match="load them alike"):
        fairface(faces, models[0], other, out=tmp_path)


def test_on_request_the_files_are_those_of_fairface_activations_and_predict_bbox(faces, models, tmp_path):
    boxed = faces[:3]
    boxed.table["bbox"] = [f"[({k}, 1) (20, 30)]" for k in range(3)]
    fairface(boxed, *models, out=tmp_path, layers="avgpool", as_script=True, progress=False, workers=0)
    names = [f"detected_faces/photo{row}_face0.jpg" for row in range(3)]
    with open(tmp_path / "fairface_activations.csv") as file:
        rows = [*csv.reader(file)]
    assert rows[0] == ["", "image_paths", *map(str, range(512))]  # as pandas writes a frame with its index
    assert [row[:2] for row in rows[1:]] == [[str(k), name] for k, name in enumerate(names)]
    said = pd.read_csv(tmp_path / "test_outputs.csv")
    assert [*said] == [*COLUMNS, "bbox"] and said.bbox.tolist() == boxed.table.bbox.tolist()
    assert said.face_name_align.tolist() == names
    plain = tmp_path / "plain"
    fairface(boxed, *models, out=plain, layers="avgpool", progress=False, workers=0)
    assert [*pd.read_csv(plain / "test_outputs.csv")] == COLUMNS
    assert pd.read_csv(plain / "fairface_activations.csv").columns[0] == "image_paths"
