"""Face Dissect's job on a tiny dictionary in the published layout; its files read as its own scripts read them."""

from __future__ import annotations

import pickle
import re
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from torch import nn

from facexkit.cli import main
from facexkit.errors import FacexkitError
from facexkit.faces.formats import load_faces
from facexkit.measure.dissection import dissect
from facexkit.measure.global_bias import global_bias
from facexkit.measure.hierarchy import rank_concepts
from facexkit.measure.saved import read_result
from facexkit.models.face_model import FaceModel
from facexkit.models.loading import load_model
from facexkit.show.dissection import write_dissection
from facexkit.systems.face_dissect_figures import (
    count_biased,
    count_concepts,
    plot_affinity,
    plot_biased_units,
    plot_probabilities,
)
from facexkit.systems.face_dissect_files import CONCEPTS, read_face_dissect

QUIET = {"progress": False, "workers": 0}
SIZE = 24
LABELS = {
    "Attributes.csv": ("attributes", ["Smiling;No_Beard", "Big_Nose;Smiling", "Mustache"] * 3),
    "Action_Units.csv": ("AU", ["AU_4;AU_26", "AU_1"] * 3),
    "Parts.csv": ("parts", ["nose;mouth;left_eye", "mouth;right_eye"] * 3),
}
GROUPS = {
    "Age": ("zero_to_twenty", "twenty_to_forty", "forty_to_sixty", "sixty_plus"), "Gender": ("Male", "Female"),
    "Ethnicity": ("white", "black", "asian", "indian"), "skin_tone": ("bright", "dark"),
}  # fmt: skip


@pytest.fixture(scope="module")
def root(tmp_path_factory) -> Path:
    root, rng = tmp_path_factory.mktemp("hnd") / "visual_dictionary", np.random.default_rng(1)

    def picture(file: Path) -> None:
        file.parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(rng.integers(0, 255, (SIZE, SIZE, 3), np.uint8)).save(file)

    for file, (folder, every) in LABELS.items():
        lines = ["image,labels"]
        for number, labels in enumerate(every):
            place = f"{folder}/{number:06}"
            picture(root / place / "original.png")
            for name in labels.split(";"):
                mask = np.zeros((SIZE, SIZE), np.uint8)
                y, x = rng.integers(0, SIZE - 10, 2)
                mask[y : y + 10, x : x + 10] = 255
                Image.fromarray(mask).save(root / place / f"{name}.png")
            lines.append(f"{place}/original.png,{';'.join(f'{place}/{name}.png' for name in labels.split(';'))}")
        (root / file).write_text("\n".join(lines) + "\n")
    for attribute, groups in GROUPS.items():
        for group in groups:
            for number in range(4):
                picture(root / "non_localizable" / attribute / group / f"{number}.png")
    return root


@pytest.fixture(scope="module")
def model() -> FaceModel:
    with torch.random.fork_rng():
        torch.manual_seed(0)
        network = nn.Sequential(nn.Conv2d(3, 6, 3, stride=4), nn.ReLU(), nn.AdaptiveAvgPool2d(1), nn.Flatten())
    return FaceModel(network, name="tiny", image_size=SIZE, device="cpu")


@pytest.fixture(scope="module")
def made(root, model, tmp_path_factory) -> dict:
    faces, out = load_faces("face_dictionary", root=root), tmp_path_factory.mktemp("result")
    found = dissect(model, faces, "1", quantile=0.05, mask_size=SIZE, top_images=20, **QUIET)
    ranked = rank_concepts(found)
    bias = global_bias(model, faces, "1", ["age", "gender", "ethnicity", "skin_tone"], permutations=20, **QUIET)
    write_dissection(out, found, ranked, bias, export="face_dissect", model=model, faces=faces)
    return {"faces": faces, "out": out, "found": found, "ranked": ranked, "bias": bias}


def maps_of(model: FaceModel, root: Path, paths: list[str]) -> np.ndarray:
    pixels = np.stack([np.asarray(Image.open(root / path).convert("RGB")) for path in paths])
    with torch.no_grad():
        return model.network[:2](torch.from_numpy(pixels).permute(0, 3, 1, 2).float() / 255).double().numpy()


def local_paths() -> list[str]:
    return [f"{folder}/{number:06}/original.png" for folder, every in LABELS.values() for number in range(len(every))]


def test_maps_and_thresholds_are_those_of_the_locally_labelled_faces_in_the_order_of_the_label_files(made, root, model):
    size = np.load(made["out"] / "1_feature_size.npy")[0]
    features = np.memmap(made["out"] / "1.mmap", dtype=float, mode="r", shape=tuple(size))
    maps = maps_of(model, root, local_paths())
    np.testing.assert_allclose(features, maps, atol=1e-5)
    by_unit = -np.sort(-maps.transpose(1, 0, 2, 3).reshape(6, -1))
    thresholds = by_unit[:, int(0.05 * by_unit.shape[1])]
    np.testing.assert_allclose(np.load(made["out"] / "1_quantile.npy"), thresholds, atol=1e-5)


def test_the_tally_has_all_38_concepts_in_its_order_and_minus_one_where_there_is_none(made):
    tally = np.load(made["out"] / "1_tally.npz")
    assert tally["tally"].shape == (6, 38) and tally["maps"].shape == tally["scores"].shape == (6, 38, 20)
    assert tally["concepts"].tolist() == list(CONCEPTS)
    found, there = made["found"], {str(name) for name in made["found"].concept.values}
    lacking = [name not in there for name in CONCEPTS]
    assert (tally["tally"][:, lacking] == -1).all() and (tally["maps"][:, lacking] == -1).all() and sum(lacking) == 27
    for unit in range(6):
        sub_cat = CONCEPTS[np.nanargmax(tally["tally"][unit])]
        assert sub_cat == found.best_concept.values[unit] == CONCEPTS[np.argsort(tally["tally"][unit])[-1]]
        place, own = CONCEPTS.index(sub_cat), found.sel(unit=unit, concept=sub_cat)
        fmap_idxs = [int(x) for x in tally["maps"][unit, place] if int(x) != -1]
        assert [local_paths()[x] for x in fmap_idxs] == [name for name in own.top_image.values if name]
        assert (tally["scores"][unit, place][len(fmap_idxs) :] == -1).all()


def test_the_hierarchy_is_that_of_its_formula_on_its_own_files(made):
    """As cluster_top.py goes: from tally, feature sizes and maps, rank by rank, image by image."""
    out, ranked = made["out"], made["ranked"]
    clusters = {
        "Eye_Region": ["AU_1", "AU_4", "left_eye", "right_eye"], "Cheek_Region": ["No_Beard"], "Chin_Region": ["AU_26"],
        "Nose_Region": ["nose", "Big_Nose"], "Mouth_Region": ["mouth", "Mustache", "Smiling"],
    }  # fmt: skip
    every = [labels.split(";") for _, rows in LABELS.values() for labels in rows]
    dm = {concept: [k for k, labels in enumerate(every) if concept in labels] for concept in CONCEPTS}
    tally = np.load(out / "1_tally.npz")["tally"]
    features = np.memmap(out / "1.mmap", dtype=float, mode="r", shape=tuple(np.load(out / "1_feature_size.npy")[0]))
    with open(out / "1_unit_concept_probs.pkl", "rb") as handle:
        data_og = pickle.load(handle)
    assert set(data_og) == set(np.flatnonzero(tally.max(1) > 0.04)) and len(data_og) >= 2
    for unit, probs_og in data_og.items():
        region = next(name for name, members in clusters.items() if CONCEPTS[np.argsort(tally[unit])[-1]] in members)
        assert list(probs_og) == clusters[region]
        images = [k for k in range(len(every)) if any(k in dm[c] for c in clusters[region])]
        maps = features[:, unit]
        order = sorted(images, key=lambda k: maps[k].max())
        scores = dict.fromkeys(clusters[region], 0.0)
        for rank, k in enumerate(order, 1):
            for concept in clusters[region]:
                strength = (maps[k].max() - maps.min()) / (maps.max() - maps.min())
                scores[concept] += rank / len(images) * strength if k in dm[concept] else 0
        scores = {c: score / len(dm[c]) * tally[unit, CONCEPTS.index(c)] for c, score in scores.items()}
        total = sum(scores.values())
        assert probs_og == pytest.approx({c: score / total for c, score in scores.items()}, abs=1e-9)
        own = ranked.probability.values[unit]
        assert {c: own[list(ranked.concept.values).index(c)] for c in probs_og} == pytest.approx(probs_og)


def blocks(text: str) -> list[dict[str, float]]:
    """Return the names and numbers between each pair of braces."""
    parts = [re.findall(r"\t\t (.+) : (.+)\n", part.split("}")[0]) for part in text.split("{")[1:]]
    return [{name: float(value) for name, value in part} for part in parts]


def test_the_texts_are_in_its_form(made):
    out, found = made["out"], made["found"]
    data = pickle.loads((out / "1_unit_concept_probs.pkl").read_bytes())
    text = (out / "1_top_concept_probs.txt").read_text()
    unit = next(iter(data))
    best = found.isel(unit=unit)
    area = str(made["ranked"].area.values[unit]).title()
    head = f"Concept: {best.best_concept.item()}, IoU : {best.best_iou.item():.4f}, Cluster : {area}_Region"
    assert text.startswith(f"Unit : {unit}\n\t {head}\n\t{{\n\t\t ") and [*blocks(text)] == [*data.values()]
    assert (out / "1_unit_concept_probs.txt").read_text() == text
    text = (out / "1_NL_concept_probs.txt").read_text()
    place = "localizable" if found.interpretable.values[0] else "unlocalizable"
    assert text.startswith(f"Unit : 0, spatially {place}\n\tAGE\n\t{{\n\t\t forty_to_sixty : ")
    heads = [line.strip() for line in text.splitlines() if line.strip().isupper()]
    assert heads == ["AGE", "GENDER", "ETHNIC", "SKIN"] * 6 and len(blocks(text)) == 24


@pytest.mark.parametrize(
    ("file", "attribute", "names"),
    [
        ("age", "age", dict(zip(("zero", "twenty", "forty", "sixty"), GROUPS["Age"], strict=True))),
        ("gender", "gender", {"male": "Male", "female": "Female"}),
        ("ethnic", "ethnicity", {name: name for name in GROUPS["Ethnicity"]}),
        ("skin_tone", "skin_tone", {"bright": "bright", "dark": "dark"}),
    ],
)
def test_the_files_on_groups_hold_its_maps_under_its_names(made, root, model, file, attribute, names):
    features = np.load(made["out"] / f"1_model_bias({file}).npz")
    folder = {"age": "Age", "gender": "Gender", "ethnicity": "Ethnicity"}.get(attribute, attribute)
    assert set(features) == set(names)
    for name, group in names.items():
        paths = [f"non_localizable/{folder}/{group}/{number}.png" for number in range(4)]
        np.testing.assert_allclose(features[name], maps_of(model, root, paths), atol=1e-5)


def test_its_comparison_reads_the_pickle_of_groups(made):
    """As nl_bias.py counts: at least 0.3 of four groups, 0.55 of two."""
    with open(made["out"] / "1_nl_probs.pkl", "rb") as handle:
        data = pickle.load(handle)
    assert list(data) == [*range(6)] and set(data[0]) == {"age", "gender", "ethnic", "skin"}
    read = read_face_dissect(made["out"], "1", trust=True)
    for short, attribute, least in (("age", "age", 0.3), ("gender", "gender", 0.55), ("skin", "skin_tone", 0.55)):
        counts = {group: sum(data[unit][short][group] >= least for unit in data) for group in data[0][short]}
        counts["unbiased"] = sum(max(data[unit][short].values()) < least for unit in data)
        for bias in (made["bias"], read["bias"]):
            assert count_biased({"tiny": bias}, attribute).loc["tiny"].to_dict() == counts
    assert sum(counts.values()) >= 6


def test_what_its_scripts_left_is_read_with_trust_alone(made):
    with pytest.raises(FacexkitError, match=r"1_unit_concept_probs\.pkl is a pickle.*trust=True"):
        read_face_dissect(made["out"], "1")
    read, ranked = read_face_dissect(made["out"], "1", trust=True)["ranked"], made["ranked"]
    assert read.interpretable.values.tolist() == ranked.interpretable.values.tolist()
    known = ranked.interpretable.values
    own = read.is_concept.sel(concept=ranked.concept.values).values[known]
    assert np.array_equal(own, ranked.is_concept.values[known])
    for by in ("area", "type"):
        counts = count_concepts({"a": ranked, "b": read}, by)
        assert counts.loc["a"].to_dict() == counts.loc["b"].to_dict() and counts.unlocalizable["a"] == (~known).sum()


def test_the_figures_say_unlocalizable_and_unbiased(made):
    ranked, bias = made["ranked"], made["bias"]
    none = int((~ranked.interpretable.values).sum())
    affinity = plot_affinity({"one": ranked, "two": ranked})
    assert affinity.get_suptitle() == f"Unlocalizable: {none} of 6 units of one, {none} of 6 units of two"
    assert affinity.axes[0].get_legend().get_texts()[-1].get_text() == "unlocalizable"
    counts = count_biased({"one": bias}, "age")
    biased = plot_biased_units({"one": bias})
    assert biased.get_suptitle().startswith(f"Unbiased units of one: Age {counts.unbiased['one']}; Gender ")
    heights = [bar.get_height() for container in biased.axes[0].containers for bar in container]
    assert heights == counts.loc["one"].tolist()
    stacked = plot_probabilities(bias, "gender").axes[0]
    top = stacked.collections[-1].get_paths()[0].vertices[:, 1].max()
    assert len(stacked.collections) == 2 and top == pytest.approx(1)


def test_a_layer_may_be_dissected_on_cropped_faces(made, model):
    found = dissect(model, made["faces"], "1", mask_size=SIZE, crop="mtcnn", **QUIET)
    assert found.sizes["image"] == 21 and found.attrs["uncropped"] == 21  # no face in noise: all are used whole


@pytest.mark.parametrize(("task", "size", "outputs"), [("age", 128, 1), ("gender", 128, 2), ("smile", 200, 2)])
def test_its_networks_load(tmp_path, task, size, outputs):
    from torchvision.models import resnet50

    network = resnet50(num_classes=outputs)
    if task == "smile":
        network.fc = nn.Sequential(nn.Linear(2048, 2))
    else:
        head = [nn.Linear(32768, 2048), nn.ReLU(), nn.Linear(2048, 512), nn.ReLU(), nn.Linear(512, 64), nn.ReLU()]
        network.avgpool = nn.Sequential(nn.Identity(), *head)
        network.fc = nn.Linear(64, 1) if task == "age" else nn.Sequential(nn.Linear(64, 2))
    file = {"age": "age_3_val_loss_6.6400", "gender": "gender_1_val_acc_0.9082", "smile": "smile_nonsmile_0.912"}[task]
    torch.save(network.state_dict(), tmp_path / f"{file}.pth")
    model = load_model(f"face_dissect:{task}", weights=tmp_path, device="cpu")
    assert model.image_size == size and len(model.class_names) == outputs and "layer4.2.conv1" in model.layers.index
    assert torch.equal(model.network.state_dict()["layer4.2.conv1.weight"], network.layer4[2].conv1.weight)


def test_its_beauty_network_loads_and_answers_as_its_own_code(tmp_path):
    from torchvision.models import resnet18

    with torch.random.fork_rng():
        torch.manual_seed(0)
        network = resnet18(num_classes=1).eval()

    def theirs(key: str) -> str:
        key = re.sub(r"^((layer\d\.\d\.)?(conv|bn)\d\.)", lambda m: (m[2] or "") + "group1." + m[0][len(m[2] or "") :], key)
        return key.replace("fc.", "group2.fullyconnected.")

    weights = {theirs(key): value for key, value in network.state_dict().items()}
    assert {"group1.conv1.weight", "layer4.1.group1.conv2.weight", "layer2.0.downsample.0.weight"} <= weights.keys()
    torch.save({"state_dict": weights}, tmp_path / "resnet18.pth")
    model = load_model("face_dissect:beauty", weights=tmp_path / "resnet18.pth", device="cpu")
    x = torch.rand(2, 3, 224, 224)
    with torch.no_grad():
        torch.testing.assert_close(model(x), network(x), atol=1e-5, rtol=1e-5)


def test_crop_and_export_are_asked_for_on_the_command_line(root, tmp_path):
    file = tmp_path / "tiny.py"
    file.write_text(
        "from torch import nn\n"
        "rest = nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(6, 2)\n"
        "net = nn.Sequential(nn.Conv2d(3, 6, 3, stride=4), nn.ReLU(), *rest)\n"
    )
    chosen = f"-p data face_dictionary -p data_root {root} -p model {file}:net -p image_size {SIZE} -p layer 1 --trust"
    chosen += " -p mask_size 24 -p quantile 0.05 -p protected gender -p crop mtcnn -p export face_dissect"
    with pytest.raises(SystemExit) as ended:
        main(["run", "dissect", "global_bias", *chosen.split(), "--out", str(tmp_path / "run")])
    assert not ended.value.code
    found = read_result(tmp_path / "run" / "1" / "dissection.zarr")
    assert found.attrs["crop"] == "mtcnn" and found.sizes["image"] == 21 and found.sizes["top"] == 20
    written = {path.name for path in (tmp_path / "run" / "1").iterdir()}
    assert {"1.mmap", "1_feature_size.npy", "1_quantile.npy", "1_tally.npz", "1_conv.pdf", "1_top_concept_probs.txt",
            "1_model_bias(gender).npz", "1_NL_concept_probs.txt"} <= written  # fmt: skip
