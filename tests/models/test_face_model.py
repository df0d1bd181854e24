import pytest
import torch
from torch import nn

from facexkit.errors import FacexkitError
from facexkit.models.face_model import FaceModel, pick_device
from facexkit.models.loading import load_model
from facexkit.models.preprocess import Preprocess


def linear_model(**options):
    torch.manual_seed(0)
    network = nn.Sequential(nn.Flatten(), nn.Linear(3 * 4 * 4, 3))
    return FaceModel(network, name="lin", image_size=4, device="cpu", **options)


IMAGES = torch.randint(256, (5, 3, 4, 4), dtype=torch.uint8, generator=torch.Generator().manual_seed(0))


def test_an_image_gets_the_same_output_alone_and_in_a_batch():
    model = linear_model(normalize={"mean": [0.1, 0.2, 0.3], "std": [0.5, 0.6, 0.7]})
    together = model(model.prepare(IMAGES))
    alone = torch.cat([model(model.prepare(image[None])) for image in IMAGES])
    torch.testing.assert_close(together, alone)


def test_prepared_images_are_channels_last_floats_of_the_slow_formula():
    model = linear_model(normalize={"mean": [0.1, 0.2, 0.3], "std": [0.5, 0.6, 0.7]})
    x = model.prepare(IMAGES)
    assert x.dtype == torch.float32 and x.is_contiguous(memory_format=torch.channels_last)
    slow = (IMAGES[2, 1, 3, 0].item() / 255 - 0.2) / 0.6
    assert x[2, 1, 3, 0].item() == pytest.approx(slow, abs=1e-6)


def test_classes_are_found_by_name_and_by_position():
    model = linear_model(class_names=["female", "male", "2"])
    assert [model.class_index(c) for c in ("male", 1, "1", "2")] == [1, 1, 1, 2]
    assert linear_model().class_names == ["class 0", "class 1", "class 2"]


@pytest.mark.parametrize(
    ("target", "says"),
    [
        ("mael", "unknown class 'mael'; did you mean 'male'"),
        (3, "3 is out of range.*has 3 outputs"),
        (-1, "out of range"),
        (0.5, "unknown class"),
        (None, "unknown class"),
    ],
)
def test_a_wrong_class_is_refused(target, says):
    with pytest.raises(FacexkitError, match=says):
        linear_model(class_names=["female", "male", "other"]).class_index(target)


class Returns(nn.Module):
    def __init__(self, what):
        super().__init__()
        self.what = what

    def forward(self, x):
        return self.what(x)


def test_outputs_that_are_no_rows_of_classes_are_told():
    cases = {
        "returns a tuple": lambda x: (x, x),
        "returns a dict with 'a', 'b'": lambda x: {"a": x, "b": x},
        "returns one number": lambda x: x.mean(),
        "returns int64 numbers, no scores": lambda x: x.flatten(1).argmax(1),
        "returns complex64 numbers, no scores": lambda x: x.flatten(1).to(torch.complex64),
        "gives 1 rows of outputs for 2 images": lambda x: x.mean((2, 3)).mean(0, keepdim=True),
        "returns 3×8×8 numbers for each image, not a row": lambda x: x,
        "does not run on two 8×8 RGB images: ZeroDivisionError": lambda x: 1 / 0,
    }
    for says, what in cases.items():
        with pytest.raises(FacexkitError, match=says):
            FaceModel(Returns(what), name="odd", image_size=8, device="cpu").try_out()


def test_one_output_an_image_is_a_yes_or_no():
    model = FaceModel(Returns(lambda x: x.mean((1, 2, 3))), name="score", image_size=8, device="cpu")
    no, yes = model.try_out().T
    assert model.class_names == ["class 0", "class 1"] and torch.equal(no, -yes)


def test_the_fingerprint_changes_with_weights_input_and_modules_and_with_nothing_else():
    first = linear_model()
    prints = {first.fingerprint(), linear_model(normalize="half").fingerprint()}
    assert first.fingerprint() == linear_model(class_names=["a", "b", "c"]).fingerprint()
    bigger, other = linear_model(), linear_model()
    bigger.preprocess = Preprocess(5)
    with torch.no_grad():
        other.network[1].bias[2] += 1e-3
    sequence = FaceModel(nn.Sequential(*first.network, nn.ReLU()), name="lin", image_size=4, device="cpu")
    prints |= {bigger.fingerprint(), other.fingerprint(), sequence.fingerprint()}
    assert len(prints) == 5


def test_the_weights_are_read_anew_where_somebody_wrote_into_them():
    model = linear_model()
    before = model.fingerprint()
    with torch.no_grad():
        model.network[1].weight[2, 3] += 1e-3
    written = model.fingerprint()
    model.network[1].weight = nn.Parameter(torch.ones(3, 48))
    assert len({before, written, model.fingerprint(), model.but(_read=([], b"")).fingerprint()}) == 3


def test_a_device_that_is_not_there_is_told():
    for device in ("cuda:99", "gpu", "cpu:x"):
        with pytest.raises(FacexkitError, match=f"device '{device}' cannot be used"):
            pick_device(device)
    assert pick_device("cpu").type == "cpu"


def test_a_model_moves_to_another_device_and_stays_where_it_was():
    model = load_model("torchvision:squeezenet1_1", num_classes=2, image_size=64, device="cpu")
    away = model.on("meta")
    assert {p.device.type for p in away.network.parameters()} == {away.device.type} == {"meta"}
    assert {p.device.type for p in model.network.parameters()} == {"cpu"} and model.on("cpu") is model


class Leaves(nn.Module):
    """Ends Python at its call number `at`."""

    def __init__(self, at):
        super().__init__()
        self.at, self.calls = at, 0

    def forward(self, x):
        self.calls += 1
        if self.calls == self.at:
            raise SystemExit(3)
        return x.flatten(1)[:, :2]


@pytest.mark.parametrize("at", [1, 2])
def test_a_forward_that_ends_python_is_told(at):
    model = FaceModel(Leaves(at), name="leaver", image_size=4, device="cpu")
    with pytest.raises(FacexkitError, match="model 'leaver' ends Python instead of answering"):
        model.try_out()
        model(model.prepare(IMAGES))


def test_a_model_and_a_face_set_say_what_they_are(demo_models, drawn_faces):
    assert repr(demo_models["fair"]).startswith("<demo:fair: input 128×128") and "outputs female, male>" in repr(demo_models["fair"])
    assert repr(drawn_faces) == "<synthetic: 24 faces; target gender; masks>"
