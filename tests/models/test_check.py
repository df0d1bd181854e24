"""A user's own network is taken as it is, or the reason why not is told."""

import pytest
import torch
import torch.nn.functional as F
from torch import nn

from facexkit.errors import FacexkitError
from facexkit.models.loading import load_model
from facexkit.probe.hooks import capture


class Net(nn.Module):
    """A small network that ends as `forward` says."""

    def __init__(self, outputs=3, last=None):
        super().__init__()
        torch.manual_seed(0)
        self.conv, self.relu, self.fc = nn.Conv2d(3, 4, 3, 2, 1), nn.ReLU(inplace=True), nn.Linear(4 * 64, outputs)
        self.last = last or (lambda self, x: self.fc(x.flatten(1)))

    def forward(self, x):
        return self.last(self, self.relu(self.conv(x)))


IMAGES = torch.rand(3, 3, 16, 16, generator=torch.Generator().manual_seed(1))


def load(network, **options):
    return load_model(network, image_size=16, device="cpu", **options)


def answers(network, images=IMAGES):
    with torch.no_grad():
        return network.eval()(images)


def byte_images():
    return (IMAGES * 255).round().to(torch.uint8)


class Shortcut(Net):
    """The activation works in place, and the shortcut around it sees what it did."""

    def forward(self, x):
        x = self.conv(x)
        return self.fc((self.relu(x) + x).flatten(1))


class Casts(Net):
    """Half weights, and a cast to half inside."""

    def forward(self, x):
        return self.fc(self.relu(self.conv(x.half())).flatten(1).half())


class AverageOfBatch(Net):
    def forward(self, x):
        return super().forward(x - x.mean(0))


class OneAtATime(Net):
    def forward(self, x):
        return super().forward(x).reshape(1, 3)


AS_THEY_ARE = {
    "view": lambda: Net(last=lambda self, x: self.fc(x.view(len(x), -1))),
    "shortcut": Shortcut,
    "half": lambda: Net().half(),
    "bfloat16": lambda: Net().bfloat16(),
    "double": lambda: Net().double(),
    "casts": lambda: Casts().half(),
    "squeezed": lambda: Net(last=lambda self, x: self.fc(x.flatten(1)).squeeze()),
    "compiled": lambda: torch.compile(Net(), backend="eager"),
    "five axes": lambda: FiveAxes(),
    "one at a time": OneAtATime,
}


class FiveAxes(Net):
    def __init__(self):
        super().__init__()
        self.weight = nn.Parameter(torch.rand(2, 2, 2, 2, 2))

    def forward(self, x):
        return super().forward(x) * self.weight.sum()


@pytest.mark.parametrize("name", AS_THEY_ARE)
def test_a_module_in_memory_answers_as_it_did(name):
    given = AS_THEY_ARE[name]()
    kind = next(given.parameters()).dtype
    images = (byte_images().double() / 255).to(kind)
    expected = torch.cat([answers(given, image[None]).reshape(1, 3) for image in images]).float()
    model = load(given)
    found = model(model.prepare(byte_images())).float()
    near = {torch.float16: 0.02, torch.bfloat16: 0.1}.get(kind, 1e-4) * expected.abs().max()
    torch.testing.assert_close(found, expected, rtol=0, atol=float(near))
    torch.testing.assert_close(model(model.prepare(byte_images()[:1])).float(), found[:1], rtol=1e-3, atol=1e-3)
    assert "conv" in model.layers.index and next(given.parameters()).dtype == kind
    with capture(model, ["conv"]) as maps:  # the maps are those before the activation that works in place
        model(model.prepare(byte_images()[:1]))
    assert (maps["conv"] < 0).any()


@pytest.mark.parametrize("make", [torch.jit.script, lambda network: torch.jit.trace(network, IMAGES[:1])])
def test_a_scripted_or_traced_network_answers_and_says_that_it_has_no_layers(make, tmp_path):
    plain = nn.Sequential(nn.Conv2d(3, 4, 3, 2), nn.ReLU(inplace=True), nn.Flatten(), nn.Linear(196, 3), nn.Sigmoid())
    given = make(plain.eval())
    given.save(tmp_path / "whole.pt")
    for model in (load(given), load(str(tmp_path / "whole.pt"), trust=True)):
        torch.testing.assert_close(model(model.prepare(byte_images())), answers(plain, byte_images() / 255))
        assert model.meaning.kind == "labels" and model.meaning.likely
        with pytest.raises(FacexkitError, match="scripted or traced network .*give the nn.Module that it was made from"):
            model.layer("0")
    prints = [load(given).fingerprint() for _ in range(2)]
    with torch.no_grad():
        plain[3].bias += 1
    assert len({*prints, load(make(plain)).fingerprint()}) == 2


def test_the_users_module_stays_as_it_was():
    given = Net().train()
    load(given)
    assert given.training and given.relu.inplace and given.conv.weight.requires_grad


def test_what_must_see_one_image_at_a_time_says_so():
    for network in (OneAtATime(), AverageOfBatch()):
        model = load(network)
        assert model.at_once == 1 and len(model.notes) == 1
        torch.testing.assert_close(model(model.prepare(byte_images())), torch.cat([
            answers(network, image[None] / 255) for image in byte_images()]))  # fmt: skip


class Counts(Net):
    def forward(self, x):
        self.conv.bias.data += 1
        return super().forward(x)


REFUSED = {
    "dropout": (lambda: Net(last=lambda self, x: self.fc(F.dropout(x.flatten(1)))), "another answer each time, from layer 'fc' on"),
    "batch norm": (lambda: Normed(), "batch norm 'norm' has no running statistics"),
    "rows": (lambda: Net(last=lambda self, x: x), "returns 4×8×8 numbers for each image"),
    "tuple": (lambda: Net(last=lambda self, x: (x, x)), "returns a tuple; say which part with output=KEY"),
    "other size": (lambda: nn.Sequential(nn.Flatten(), nn.Linear(3 * 16 * 12, 2)), "not square"),
}


class Normed(Net):
    def __init__(self):
        super().__init__()
        self.norm = nn.BatchNorm2d(3, track_running_stats=False)

    def forward(self, x):
        return super().forward(self.norm(x))


@pytest.mark.parametrize("name", REFUSED)
def test_what_cannot_be_mended_is_refused_by_name(name):
    make, said = REFUSED[name]
    with pytest.raises(FacexkitError, match=said):
        load(make())


def test_a_whole_pickled_network_needs_trust(tmp_path):
    torch.save(nn.Sequential(nn.Flatten(), nn.Linear(768, 2)), tmp_path / "whole.pt")
    with pytest.raises(FacexkitError, match="trust=True"):
        load(str(tmp_path / "whole.pt"))
    assert len(load(str(tmp_path / "whole.pt"), trust=True).class_names) == 2


def test_two_models_are_two_models(tmp_path):
    for seed, folder in enumerate(("one", "two")):
        (tmp_path / folder).mkdir()
        torch.manual_seed(seed)
        torch.save(nn.Linear(768, 2).state_dict(), tmp_path / folder / "best.pt")
    linear = nn.Sequential(nn.Flatten())
    linear.fc = nn.Linear(768, 2)
    models = [load(nn.Sequential(nn.Flatten(), nn.Linear(768, 2)), weights=tmp_path / f / "best.pt", seed=0) for f in ("one", "two")]
    assert [model.name for model in models] == ["Sequential (one/best.pt)", "Sequential (two/best.pt)"]
    one, other, again = (load(Net(outputs)) for outputs in (3, 4, 3))
    assert one.name == again.name == f"Net {one.fingerprint()[:6]}" != other.name


def test_everything_that_changes_a_number_is_in_the_fingerprint():
    two = lambda self, x: (self.fc(x.flatten(1)), -self.fc(x.flatten(1)))  # noqa: E731
    dropped = Net(last=two)
    dropped.relu.extra = 3
    models = [load(Net(last=two), output=0), load(Net(last=two), output=1), load(Net(last=two), output=lambda out: out[0] * 2),
              load(Net(last=two), output=0, outputs="labels"), load(dropped, output=0)]  # fmt: skip
    assert len({model.fingerprint() for model in models}) == len(models)
