import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import nn

from facexkit.errors import FacexkitError
from facexkit.models.face_model import FaceModel
from facexkit.models.layers import Chain, list_layers
from facexkit.models.loading import load_model


def table_of(network, **options):
    return list_layers(FaceModel(network, name="net", image_size=options.pop("image_size", 8), device="cpu", **options))


def form_of(output):
    """The form of an output of which nothing but its shape is known."""
    return Chain().form(nn.Identity(), (), output)


def shape(table, layer):
    return tuple(table.loc[layer, ["units", "height", "width"]])


KNOWN = {
    "resnet18": {"conv1": (64, 112, 112), "layer3": (256, 14, 14), "layer4": (512, 7, 7), "avgpool": (512, 1, 1),
                 "layer4.1.bn2": (512, 7, 7), "fc": (2, 1, 1)},
    "vgg11": {"features.18": (512, 14, 14), "features.20": (512, 7, 7), "classifier.6": (2, 1, 1)},
    "mobilenet_v3_small": {"features.1.block.1.fc1": (8, 1, 1), "features.12": (576, 7, 7), "classifier": (2, 1, 1)},
    "vit_b_16": {"conv_proj": (768, 14, 14), "encoder.layers.encoder_layer_11.mlp.0": (3072, 14, 14),
                 "encoder": (768, 14, 14), "heads.head": (2, 1, 1)},
    "swin_t": {"features.0": (96, 56, 56), "features.1.0.attn": (96, 56, 56), "features.7": (768, 7, 7),
               "permute": (768, 7, 7), "head": (2, 1, 1)},
}  # fmt: skip


@pytest.mark.parametrize("name", KNOWN)
def test_layers_of_torchvision_models(name):
    table = list_layers(load_model(f"torchvision:{name}", num_classes=2, device="cpu"))
    assert {layer: shape(table, layer) for layer in KNOWN[name]} == KNOWN[name]
    assert not table.loc[list(KNOWN[name]), "problem"].any()
    if name == "vit_b_16":
        assert "gives a tuple" in table.problem["encoder.layers.encoder_layer_0.self_attention"]


def test_the_resnet_table_is_in_the_order_of_execution_and_counts_parameters():
    table = list_layers(load_model("torchvision:resnet18", device="cpu"))
    assert [layer for layer in table.index if "." not in layer] == (
        "conv1 bn1 relu maxpool layer1 layer2 layer3 layer4 avgpool fc".split()
    )
    assert table.parameters["fc"] == 512 * 1000 + 1000
    assert table.parameters["layer1.0"] == 2 * (64 * 64 * 9 + 2 * 64)
    assert table.depth.is_monotonic_increasing and table.depth.between(0, 1, inclusive="left").all()


def test_a_module_that_runs_twice_says_so():
    model = load_model("torchvision:resnet18", device="cpu")
    assert not model.layers.problem["relu"]
    with pytest.raises(FacexkitError, match=r"'layer4.0.relu'.* runs 2 times .* take the block around it"):
        model.layer("layer4.0.relu")
    assert model.layer("layer4") is model.network.layer4


class Odd(nn.Module):
    """Layers that a stranger's network may have."""

    def __init__(self):
        super().__init__()
        self.conv, self.unused = nn.Conv2d(3, 4, 3), nn.Conv2d(3, 4, 3)
        self.sequence, self.rows, self.line = Give("sequence"), Give("rows"), Give("line")
        self.long, self.named, self.choice = Give("long"), Give("named"), nn.ModuleList([nn.ReLU()])
        self.fc = nn.Linear(144, 2)

    def forward(self, x):
        x = self.conv(x)
        for layer in (self.sequence, self.rows, self.line, self.long, self.named):
            layer(x)
        return self.fc(x.flatten(1))


class Give(nn.Module):
    def __init__(self, what):
        super().__init__()
        self.what = what

    def forward(self, x):
        return {
            "sequence": x.new_zeros(2, 60, 5),
            "rows": x.new_zeros(7, 3),
            "line": x.new_zeros(2),
            "long": torch.zeros(2, 3, dtype=torch.long),
            "named": {"maps": x},
        }[self.what]


def test_layers_that_cannot_be_maps_say_why():
    table = table_of(Odd())
    assert {layer: problem for layer, problem in table.problem.items() if not problem} == {"conv": "", "fc": ""}
    assert "60 tokens are no square grid" in table.problem["sequence"]
    assert "shape (7, 3)" in table.problem["rows"] and "shape (2,)" in table.problem["line"]
    assert "int64" in table.problem["long"] and "gives a dict" in table.problem["named"]
    assert (table.loc[table.problem != "", ["units", "height", "width"]] == 0).all(axis=None)


def test_a_layer_that_is_never_called_is_not_listed_and_says_why():
    model = FaceModel(Odd(), name="odd", image_size=8, device="cpu")
    assert "unused" not in model.layers.index and "choice" not in model.layers.index
    with pytest.raises(FacexkitError, match="'unused'.*does not call it"):
        model.layer("unused")
    with pytest.raises(FacexkitError, match="unknown layer 'cnov'; did you mean 'conv'"):
        model.layer("cnov")


def test_a_network_without_modules_has_an_empty_table():
    table = table_of(nn.Flatten())
    assert len(table) == 0
    assert list(table) == ["type", "units", "height", "width", "parameters", "depth", "problem"]


def test_a_network_that_does_not_run_at_the_size_says_so_and_keeps_no_hook():
    network = nn.Sequential(nn.Flatten(), nn.Linear(3 * 8 * 8, 2))
    with pytest.raises(FacexkitError, match="does not run on two 9×9 RGB images.*check image_size"):
        table_of(network, image_size=9)
    assert not any(module._forward_hooks for module in network.modules())
    assert list(table_of(network).index) == ["0", "1"]


def test_a_changed_table_does_not_change_the_models():
    model = FaceModel(nn.Sequential(nn.Flatten()), name="net", image_size=2, device="cpu")
    table = list_layers(model)
    table.loc["0", "problem"] = "mine"
    assert not model.layers.problem.any()


def test_tokens_become_a_grid_row_by_row_without_the_class_token():
    tokens = torch.arange(2 * 10 * 3.0).reshape(2, 10, 3)
    maps = form_of(tokens).maps(tokens)
    assert maps.shape == (2, 3, 3, 3)
    assert maps[1, 2, 1, 0] == tokens[1, 1 + 3, 2]


@st.composite
def outputs(draw):
    batch, units, side = (draw(st.integers(1, most)) for most in (3, 6, 5))
    leading = draw(st.integers(0, min(5, 2 * side)))
    form = draw(st.sampled_from(["vector", "tokens", "maps", "channels last"]))
    shapes = {
        "vector": (batch, units),
        "tokens": (batch, leading + side * side, units),
        "maps": (batch, units, side, side),
        "channels last": (batch, side, side, units),
    }
    return torch.randn(shapes[form], generator=torch.Generator().manual_seed(draw(st.integers(0, 99))))


@given(outputs())
def test_maps_go_back_to_where_they_came_from(output):
    form = form_of(output)
    maps = form.maps(output)
    assert maps.ndim == 4 and maps.numel() <= output.numel()
    again = form.back(maps, output)
    assert torch.equal(again, output) and again.stride() == output.stride()


@given(outputs())
def test_other_maps_are_read_back_as_they_were_put_in(output):
    form = form_of(output)
    maps = torch.randn_like(form.maps(output))
    assert torch.equal(form.maps(form.back(maps, output)), maps)
