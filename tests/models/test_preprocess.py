"""A photograph comes to the network as it came in training, and its masks come along."""

import numpy as np
import pandas as pd
import pytest
import torch
import torchvision.transforms as T
import torchvision.transforms.v2 as v2
from PIL import Image
from torch import nn
from torchvision.transforms._presets import ImageClassification

import facexkit as fx
from facexkit.errors import FacexkitError
from facexkit.faces.mask_view import IndexMask, MaskView
from facexkit.faces.regions import REGIONS
from facexkit.models.preprocess import Preprocess, preprocess_of

MEAN, STD = [0.48, 0.46, 0.41], [0.27, 0.26, 0.28]
TO_TENSOR = [v2.PILToTensor(), v2.ToDtype(torch.float32, scale=True)]
TRANSFORMS = {
    "preset": (lambda: ImageClassification(crop_size=56, resize_size=64), 56, 64),
    "bicubic preset": (lambda: ImageClassification(crop_size=48, resize_size=48, interpolation=T.InterpolationMode.BICUBIC), 48, 48),
    "compose": (lambda: T.Compose([T.Resize(72), T.CenterCrop((64, 48)), T.ToTensor(), T.Normalize(MEAN, STD)]), (64, 48), 72),
    "stretched": (lambda: v2.Compose([v2.Resize((40, 60)), *TO_TENSOR]), (40, 60), None),
    "stretched and cut": (lambda: T.Compose([T.Resize((80, 90)), T.CenterCrop(64), T.ToTensor()]), 64, (80, 90)),
    "grey": (lambda: T.Compose([T.Grayscale(), T.Resize((32, 24)), T.ToTensor(), T.Normalize([0.5], [0.5])]), (32, 24), None),
}  # fmt: skip


@pytest.mark.parametrize("name", TRANSFORMS)
def test_a_transform_of_torchvision_is_read_and_gives_the_same_pixels(name):
    make, size, resize = TRANSFORMS[name]
    own = preprocess_of(make())
    assert (own.size, own.resize) == (size, resize)
    image = Image.fromarray(np.random.default_rng(4).integers(0, 256, (90, 70, 3), np.uint8))
    mean, std = (torch.tensor(part)[:, None, None] for part in own.mean_and_std)
    assert (make()(image) * std + mean - own.shown(image)).abs().max() < 1.5 / 255


STRANGE = {
    "flip": T.Compose([T.Resize((32, 32)), v2.RandomHorizontalFlip(1), T.ToTensor()]),
    "size": T.Compose([T.Resize(32), T.ToTensor()]),
    "padding": T.Compose([T.Resize((32, 32)), T.Pad(2), T.ToTensor()]),
}


@pytest.mark.parametrize(("name", "said"), [("flip", "with RandomHorizontalFlip differs by up to [0-9]+ of 255"),
                                            ("size", "gives 3×32×48 numbers, and the kit 3×32×32"),
                                            ("padding", "with Pad gives 3×36×36 numbers")])  # fmt: skip
def test_a_transform_that_does_something_else_is_told_with_what_differs(name, said):
    with pytest.raises(FacexkitError, match=said):
        preprocess_of(STRANGE[name])


@pytest.mark.parametrize(("given", "said"), [
    ({"size": 0}, "size is a number of pixels"), ({"size": 32, "resize": 24}, "32 pixels cannot be cut out of resize=24"),
    ({"channels": "RBG"}, "did you mean 'RGB'"), ({"interpolation": "cubic"}, "did you mean 'bicubic'"),
    ({"channels": "grey", "normalize": "imagenet"}, "one mean and one std"), ({"crop": 3}, "unknown part of preprocess 'crop'"),
    (5, "not a int"),
])  # fmt: skip
def test_what_is_no_preprocessing_is_told(given, said):
    with pytest.raises(FacexkitError, match=said):
        preprocess_of(given)


class Sources:
    names = REGIONS

    def __init__(self, read):
        self.read = read

    def digest(self, path):
        return b""


@pytest.mark.parametrize("seen", [Preprocess(32), Preprocess((40, 24)), Preprocess(32, 48), Preprocess((24, 40), (64, 64))])
@pytest.mark.parametrize("of_size", [1, 2])
def test_masks_follow_the_photograph(seen, of_size):
    region = np.zeros((120, 90), bool)
    region[30:70, 20:60] = True
    picture = Image.fromarray(region.astype(np.uint8) * 255).convert("RGB")
    index = np.where(region, 2, 1)[::of_size, ::of_size]
    table = pd.DataFrame({"path": ["a.png"]})
    faces = fx.FaceSet(table, Sources(lambda _: picture), Sources(lambda _: IndexMask(index, REGIONS)), name="one")
    view = MaskView(("nose",), seen.size)
    batch = next(faces.batches(seen, 1, [view], workers=0))
    lit, nose = batch.images[0, 0] > 127, batch.masks[view][0, 0]
    assert lit.shape == nose.shape and 0 < lit.sum() < lit.numel()
    assert (lit != nose).sum() <= (lit.shape[0] + lit.shape[1]) / (4 if of_size == 1 else 1.5)


class Mean(nn.Module):
    def forward(self, x):
        return x.mean((2, 3))


@pytest.mark.parametrize("channels", ["RGB", "BGR", "grey"])
def test_the_channels_are_as_the_network_takes_them(channels):
    own = Preprocess((4, 6), channels=channels, normalize={"mean": 0.25, "std": 0.5})
    model = fx.load_model(nn.Sequential(Mean(), nn.Identity()), preprocess=own, outputs=None if channels == "grey" else "embedding", device="cpu")
    colour = torch.tensor([200, 100, 50], dtype=torch.uint8)[None, :, None, None].expand(2, 3, 4, 6)
    values = {"RGB": [200, 100, 50], "BGR": [50, 100, 200], "grey": [0.299 * 200 + 0.587 * 100 + 0.114 * 50]}[channels]
    expected = (torch.tensor(values) / 255 - 0.25) / 0.5
    torch.testing.assert_close(model.raw(model.prepare(colour))[0], expected)


class OfCentre(nn.Module):
    def forward(self, x):
        centre = 9 * x[:, :, 12:20, 12:20].mean((1, 2, 3))
        return torch.stack([torch.zeros_like(centre), centre], 1)


def test_a_region_is_found_in_photographs_whose_centre_is_cut_out():
    """A model that looks at the nose, of photographs whose centre is cut out: all of the share is the nose's."""
    rng, masks, pictures = np.random.default_rng(0), {}, {}
    for k in range(6):
        index = np.ones((60, 90), np.uint8)
        index[20:40, 35:55] = 2
        pixels = rng.integers(0, 90, (60, 90, 3), np.uint8)
        pixels[index == 2] = rng.integers(0, 256)
        masks[f"{k}"], pictures[f"{k}"] = IndexMask(index, REGIONS), Image.fromarray(pixels)
    faces = fx.FaceSet(pd.DataFrame({"path": [*masks]}), Sources(pictures.get), Sources(masks.get), name="noses")
    centre = fx.load_model(OfCentre(), preprocess=Preprocess(32, 40), device="cpu")
    scores = fx.score_regions(centre, faces, method="share", images=6, progress=False)
    assert float(scores.sel(region="nose").score.squeeze()) > 0.97
    assert scores.attrs["preprocess"].startswith("32×32 pixels, the shorter side to 40, the centre cut out")


def test_short_forms_change_the_sources_own():
    model = fx.load_model("torchvision:squeezenet1_1", num_classes=2, preprocess=Preprocess((64, 48), 80), device="cpu")
    assert model.image_size == (64, 48) and tuple(model.test_images().shape) == (2, 3, 64, 48)
    with pytest.raises(FacexkitError, match="preprocess= alone"):
        fx.load_model("torchvision:squeezenet1_1", preprocess=Preprocess(64), image_size=32)
