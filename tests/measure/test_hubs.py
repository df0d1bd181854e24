"""Models of timm and of transformers, with random weights, go through every measure."""

import logging

import numpy as np
import pytest
import torch

import facexkit as fx
from facexkit.errors import FacexkitError
from facexkit.models.loading import load_model
from facexkit.models.preprocess import Preprocess
from facexkit.probe.attribution import unreached

timm = pytest.importorskip("timm")
transformers = pytest.importorskip("transformers")

CONVOLUTIONAL = """resnet10t regnetx_002 mobilenetv3_small_050 mnasnet_small ghostnet_050 dla46x_c regnety_002 tinynet_e resnest14d
convnext_atto convnextv2_atto test_byobnet test_nfnet inception_next_atto mambaout_femto""".split()
TRANSFORMERS = """vit_tiny_patch16_224 deit_tiny_distilled_patch16_224 test_vit2 eva02_tiny_patch14_224 swin_tiny_patch4_window7_224
xcit_nano_12_p16_224 pit_ti_224""".split()
HYBRID = ["mobilevit_xxs", "edgenext_xx_small", "efficientvit_b0"]
SIZES = {"eva02_tiny_patch14_224": 56, "swin_tiny_patch4_window7_224": 56, "pit_ti_224": 64}


def small_hub_models():
    """Tiny networks of five architectures, each with an image processor."""
    t, common = transformers, {"num_labels": 3, "image_size": 32}
    small = {"hidden_size": 24, "num_hidden_layers": 2, "num_attention_heads": 2, "intermediate_size": 32, "patch_size": 8}
    stages = {"embed_dim": 12, "depths": [1, 1], "num_heads": [1, 2], "window_size": 4, "patch_size": 4}
    return {
        "vit": t.ViTForImageClassification(t.ViTConfig(**small, **common)),
        "dinov2": t.Dinov2ForImageClassification(t.Dinov2Config(**{k: v for k, v in small.items() if k != "intermediate_size"}, **common)),
        "swin": t.SwinForImageClassification(t.SwinConfig(**stages, **common)),
        "convnext": t.ConvNextForImageClassification(t.ConvNextConfig(hidden_sizes=[8, 12, 16, 24], depths=[1] * 4, **common)),
        "resnet": t.ResNetForImageClassification(t.ResNetConfig(
            embedding_size=8, hidden_sizes=[8, 16], depths=[1, 1], layer_type="basic", num_labels=3)),
    }  # fmt: skip


@pytest.fixture(scope="module")
def hub_folder(tmp_path_factory):
    """Save a network as the hub has it, and return its folder."""

    def save(name, network, **processor):
        folder = tmp_path_factory.mktemp(name)
        with torch.random.fork_rng():
            network.save_pretrained(folder)
        size = {"height": 32, "width": 32}
        transformers.ViTImageProcessor(**{"size": size, "resample": 3, **processor}).save_pretrained(folder)
        return folder

    logging.getLogger("transformers").setLevel(logging.ERROR)
    return save


def goes_through_everything(model, faces):
    layers = model.layers
    good = layers.index[(layers.problem == "") & (layers.height * layers.width > 1)]
    assert len(good) > 3
    layer = next(name for name in good[::-1] if not unreached(model, name, model.test_images(), [0, 1, 2]))
    how = {"progress": False, "workers": 0}
    units = int(layers.units[layer])
    assert (fx.score_regions(model, faces, layer, target_class=[0, 1, 2], **how).score > 0).any()
    share = fx.score_regions(model, faces, target_class=1, method="share", images=4, partners=1, **how)
    assert float(share.score.sum()) == pytest.approx(1, abs=1e-3)
    assert fx.record(model, faces, [layer], **how)[layer].sizes["unit"] == units
    found = fx.dissect(model, faces, layer, quantile=0.05, mask_size=16, **how)
    assert found.sizes["unit"] == units and found.iou.notnull().any()
    effects = fx.unit_effects(model, faces, layer, protected="side", units=[0], **how)
    assert np.isfinite(effects.accuracy_before)


@pytest.fixture(scope="module")
def few(small_faces):
    faces = small_faces[:6]
    faces.table = faces.table.assign(kind=[0, 1, 2] * 2, side=["a", "a", "a", "b", "b", "b"])
    faces.target = "kind"
    return faces


@pytest.mark.parametrize("name", [*CONVOLUTIONAL, *TRANSFORMERS, *HYBRID])
def test_an_architecture_of_timm(name, few):
    model = load_model(f"timm:{name}", num_classes=3, image_size=SIZES.get(name, 64), device="cpu")
    assert model.name == f"timm:{name}" and model.at_once is None
    goes_through_everything(model, few)


@pytest.mark.parametrize("name", ["vit", "dinov2", "swin", "convnext", "resnet"])
def test_an_architecture_of_transformers(name, few, hub_folder):
    torch.manual_seed(0)
    folder = hub_folder(name, small_hub_models()[name])
    model = load_model(f"hf:{folder}", device="cpu")
    assert model.name == f"hf:{folder.name}" and model.at_once is None
    goes_through_everything(model, few)


def test_timm_brings_its_preprocessing_and_gives_what_it_gives():
    own = timm.create_model("convnext_atto", num_classes=5)
    torch.nn.init.normal_(own.head.fc.weight)
    model = load_model(own, preprocess=timm.data.create_transform(**timm.data.resolve_data_config(model=own)), device="cpu")
    by_name = load_model("timm:convnext_atto", num_classes=5, device="cpu")
    assert model.preprocess == by_name.preprocess == Preprocess(224, 256, "bicubic", "RGB", by_name.preprocess.normalize)
    with torch.no_grad():
        torch.testing.assert_close(model(model.test_images()), own.eval()(model.test_images()), rtol=1e-3, atol=1e-3)
    assert load_model("timm:test_vit2", num_classes=None, image_size=64, device="cpu").meaning.kind == "classes"
    assert load_model("timm:resnet10t", num_classes=2, seed=1, image_size=64, device="cpu").fingerprint() != by_name.fingerprint()


def test_a_folder_of_the_hub_brings_its_classes_size_and_channels(hub_folder):
    config = transformers.ViTConfig(hidden_size=24, num_hidden_layers=1, num_attention_heads=2, intermediate_size=32, patch_size=8,
                                    image_size=32, id2label={0: "female", 1: "male"}, problem_type="multi_label_classification")  # fmt: skip
    folder = hub_folder("two", transformers.ViTForImageClassification(config), image_mean=[0.4] * 3, image_std=[0.3] * 3)
    model = load_model(f"hf:{folder}", device="cpu")
    assert model.class_names == ["female", "male"] and model.meaning.kind == "labels"
    assert model.preprocess == Preprocess(32, None, "bicubic", "RGB", {"mean": [0.4] * 3, "std": [0.3] * 3})
    backbone = hub_folder("backbone", transformers.ViTModel(config))
    embedder = load_model(f"hf:{backbone}", device="cpu")
    assert embedder.meaning.kind == "embedding" and embedder.try_out().shape == (2, 24)


def test_what_is_no_model_of_a_hub_is_told(tmp_path, hub_folder):
    with pytest.raises(FacexkitError, match="hf: no model can be read from the folder"):
        load_model(f"hf:{tmp_path}")
    with pytest.raises(FacexkitError, match="timm cannot make 'resnet18x'"):
        load_model("timm:resnet18x")
    folder = hub_folder("unsafe", small_hub_models()["vit"])
    weights = {name: value + 0.5 for name, value in load_model(f"hf:{folder}", device="cpu").network.state_dict().items()}
    torch.save(weights, tmp_path / "better.pt")
    again = load_model(f"hf:{folder}", weights=tmp_path / "better.pt", device="cpu").network.state_dict()
    assert all(torch.equal(again[name], value) for name, value in weights.items())
    torch.save({}, folder / "pytorch_model.bin")
    (folder / "model.safetensors").unlink()
    with pytest.raises(FacexkitError, match="model.safetensors"):
        load_model(f"hf:{folder}")
