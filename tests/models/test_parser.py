"""Any network that gives class maps makes masks; the presets say what they need."""

import sys
from types import SimpleNamespace

import numpy as np
import pandas as pd
import pytest
import torch
from PIL import Image
from torch import nn

from facexkit.errors import FacexkitError
from facexkit.faces.faceset import FaceSet
from facexkit.faces.formats import load_faces
from facexkit.faces.regions import FARL_CLASSES, REGIONS
from facexkit.measure.made_masks import MasksParsed
from facexkit.models.face_model import FaceModel
from facexkit.models.parser import FaceParser
from facexkit.probe.options import PassOptions
from facexkit.probe.run import run

UNET_CLASSES = (
    "background u_lip l_brow skin r_ear r_eye nose neck_l l_ear eye_g "
    "l_lip r_brow hat hair mouth neck cloth l_eye ear_r"
).split()


def twice(before: int, after: int) -> nn.Sequential:
    layers = [nn.Conv2d(before, after, 3, padding=1), nn.ReLU(), nn.Conv2d(after, after, 3, padding=1), nn.ReLU()]
    return nn.Sequential(*layers)


class UNet(nn.Module):
    """The small face parser of the shared data."""

    def __init__(self):
        super().__init__()
        self.enc1, self.enc2, self.bottleneck = twice(3, 32), twice(32, 64), twice(64, 128)
        self.up1, self.dec1 = nn.ConvTranspose2d(128, 64, 2, 2), twice(128, 64)
        self.up2, self.dec2 = nn.ConvTranspose2d(64, 32, 2, 2), twice(64, 32)
        self.out = nn.Conv2d(32, 19, 1)

    def forward(self, x):
        first = self.enc1(x)
        second = self.enc2(nn.functional.max_pool2d(first, 2))
        deep = self.bottleneck(nn.functional.max_pool2d(second, 2))
        second = self.dec1(torch.cat([self.up1(deep), second], 1))
        return self.out(self.dec2(torch.cat([self.up2(second), first], 1)))


class Colours(nn.Module):
    """Takes the strongest colour for the class, at a quarter of the size; red is background."""

    def forward(self, x):
        return nn.functional.avg_pool2d(x, 4)


def flag() -> Image.Image:
    pixels = np.zeros((40, 30, 3), np.uint8)
    pixels[:, :10, 0] = pixels[:, 10:20, 1] = pixels[:, 20:, 2] = 200
    return Image.fromarray(pixels)


def parse(parser, *images):
    """What a parser says of pictures in memory, in one pass: uint8 (S, S) each."""
    source = SimpleNamespace(read=lambda path: images[int(path)], digest=lambda path: path.encode())
    faces = FaceSet(pd.DataFrame({"path": list(map(str, range(len(images))))}), source, name="flags")
    run(parser.pixels, faces, [parsed := MasksParsed()], PassOptions(workers=0, progress=False))
    return list(parsed.result()[1])


def test_the_shared_parser_finds_the_regions(shared, shared_faces):
    network = UNet()
    weights = torch.load(shared / "data" / "face_parser" / "unet_small.pth", weights_only=True)
    network.load_state_dict(weights)
    parser = FaceParser(network, classes=UNET_CLASSES, image_size=256, normalize="half")
    faces = load_faces("celebamask_hq", root=shared / "data" / "celebamask", masks=parser, limit=60)
    both, either = np.zeros(19), np.zeros(19)
    for path in faces.table.path:
        found, drawn = faces.masks.read(path), shared_faces.masks.read(path)
        none = np.zeros((256, 256), bool)
        for k, name in enumerate(REGIONS):
            a, b = found.get(name, none), drawn.get(name, np.zeros((512, 512), bool))[::2, ::2]
            both[k], either[k] = both[k] + (a & b).sum(), either[k] + (a | b).sum()
    assert not faces.notes and (both / either).mean() >= 0.55


@pytest.mark.parametrize("wrap", [
    lambda logits: logits, lambda logits: (logits, "more"), lambda logits: {"out": logits},
    lambda logits: {"logits": logits}, lambda logits: SimpleNamespace(logits=logits),
])  # fmt: skip
def test_logits_of_any_size_and_in_any_wrapping_become_class_maps(wrap):
    network = Colours()
    network.register_forward_hook(lambda module, inputs, output: wrap(output))
    parser = FaceParser(network, ["background", "skin", "hair"], image_size=48, normalize="unit", device="cpu")
    (found,) = parse(parser, flag())
    assert found.shape == (48, 48) and found.dtype == np.uint8
    assert (found[:, 2:14] == 0).all() and (found[:, 18:30] == 1).all() and (found[:, 34:46] == 2).all()


def test_output_picks_the_logits():
    network = Colours()
    network.register_forward_hook(lambda module, inputs, output: {"a": [output]})
    classes = ["background", "skin", "hair"]
    assert parse(FaceParser(network, classes, 16, "unit", "cpu", output=lambda r: r["a"][0]), flag())[0].any()
    with pytest.raises(FacexkitError, match="its output has type NoneType.*output="):
        parse(FaceParser(network, classes, 16, "unit", "cpu"), flag())


def test_a_number_of_classes_that_does_not_fit_is_refused():
    with pytest.raises(FacexkitError, match=r"the shape \(1, 3, 4, 4\), not \(images, 2 classes, height, width\)"):
        parse(FaceParser(Colours(), ["background", "skin"], 16, "unit", "cpu"), flag())


def test_an_unknown_class_is_named_with_the_nearest():
    with pytest.raises(FacexkitError, match="unknown face region 'upper_lip'"):
        FaceParser(Colours(), ["background", "upper_lip", "hair"])
    with pytest.raises(FacexkitError, match="did you mean 'l_eye'"):
        FaceParser(Colours(), ["background", "leye", "hair"])


def test_a_face_model_brings_its_own_input():
    model = FaceModel(Colours(), name="colours", image_size=20, device="cpu")
    parser = FaceParser(model, ["background", "skin", "hair"])
    assert parse(parser, flag())[0].shape == (20, 20)


def test_the_fingerprint_follows_weights_input_and_classes():
    def parser(size=16, normalize="unit", classes=("background", "skin"), seed=0):
        torch.manual_seed(seed)
        return FaceParser(nn.Conv2d(3, 2, 1), classes, size, normalize, "cpu").fingerprint()

    others = [parser(size=32), parser(normalize="half"), parser(classes=("background", "hair")), parser(seed=1)]
    assert parser() == parser() and len({parser(), *others}) == 5


@pytest.mark.parametrize(
    "preset, module, package", [("farl", "facer", "pyfacer"), ("hf", "transformers", r"'facexkit\[hf\]'")]
)
def test_a_preset_says_what_to_install(monkeypatch, preset, module, package):
    monkeypatch.setitem(sys.modules, module, None)
    with pytest.raises(FacexkitError, match=f"pip install {package}"):
        getattr(FaceParser, preset)()


@pytest.fixture
def segformer(tmp_path):
    """Save a tiny SegFormer with these labels, and return its folder."""
    hub = pytest.importorskip("transformers")

    def save(labels):
        torch.manual_seed(0)
        config = hub.SegformerConfig(depths=[1] * 4, hidden_sizes=[8] * 4, num_attention_heads=[1] * 4, decoder_hidden_size=8,
                                     id2label=dict(enumerate(labels)))  # fmt: skip
        hub.SegformerForSemanticSegmentation(config).save_pretrained(tmp_path)
        hub.SegformerImageProcessor(size={"height": 64, "width": 64}).save_pretrained(tmp_path)
        return tmp_path

    return save


def test_a_parser_of_the_hub_takes_regions_from_its_labels_and_lists_the_others(segformer):
    parser = FaceParser.hf(str(segformer(["background", "Face skin", "left_eye", "Upper lip", "glasses", "hair", "tree"])), "cpu")
    assert parser.classes == ("background", "background", "l_eye", "u_lip", "eye_g", "hair", "background")
    assert "2 labels are no regions and count as background: Face skin, tree" in parser.notes[0]


def test_masks_of_a_face_set_come_from_the_hub_by_name(segformer):
    folder = segformer(["background", "hair", "skin", "nose", "mouth", "sky"])
    faces = load_faces("synthetic", limit=3, masks=f"hf:{folder}")
    classes = FaceParser.hf(str(folder)).pixels
    for batch in faces.batches(classes.preprocess, 3, workers=0):
        said = classes(classes.prepare(batch.images)).long()
    for path, own in zip(faces.table.path, said, strict=True):
        masks, index = faces.masks.read(path), own.view(64, 64).numpy()
        assert {*masks} <= {"background", "hair", "skin", "nose", "mouth"}
        assert not masks or all((masks[name] == (index == k)).all() for k, name in enumerate(["hair", "skin"], 1) if name in masks)
    assert any("labels are no regions" in note and "sky" in note for note in faces.notes)


def test_a_segmentation_of_something_else_is_no_face_parser(segformer):
    with pytest.raises(FacexkitError, match=r"none of its labels is a region \(wall, tree\)"):
        FaceParser.hf(str(segformer(["wall", "tree"])))


def test_the_farl_preset_keeps_the_surest_face_of_each_picture(monkeypatch):
    def detect(images):
        assert images.dtype == torch.uint8 and images.max() == 200
        return {"image_ids": torch.tensor([1, 1]), "scores": torch.tensor([0.9, 0.4])}

    def regions(images, faces):
        logits = torch.zeros(2, 19, *images.shape[-2:])
        logits[0, FARL_CLASSES.index("nose")], logits[1, FARL_CLASSES.index("hat")] = 5, 9
        return faces | {"seg": {"logits": logits}}

    facer = SimpleNamespace(face_detector=lambda name, device: detect, face_parser=lambda name, device: regions)
    monkeypatch.setitem(sys.modules, "facer", facer)
    nobody, somebody = parse(FaceParser.farl(device="cpu"), flag(), flag())
    assert not nobody.any() and set(np.unique(somebody)) == {FARL_CLASSES.index("nose")}
    assert sorted(FARL_CLASSES) == sorted(REGIONS)
