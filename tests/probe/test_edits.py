"""What a layer gives, changed while the network runs, beside the same change made by hand."""

import pytest
import torch

import facexkit as fx
from facexkit.errors import FacexkitError
from facexkit.probe import edits
from facexkit.probe.edits import ablation, run_changes
from facexkit.probe.hooks import capture


def hooks_on(model):
    return sum(len(module._forward_hooks) for module in model.network.modules())


@torch.no_grad()
def by_hand(chain, inputs, second=lambda y: y, third=lambda y: y):
    net = chain.network
    x = net.first(inputs).relu()
    y = second(net.second(x)) + x
    return net.head(third(net.third(y)).relu().mean((2, 3)))


def test_edits_of_several_layers_are_those_made_by_hand(chain, images):
    inputs = chain.prepare(images(3, 12))
    mask = torch.rand(5, 3, 3)
    with torch.no_grad(), fx.edit(chain, "second", lambda maps: maps.flip(3) ** 2), fx.edit(chain, "third", mask):
        changed = chain(inputs)
    expected = by_hand(chain, inputs, second=lambda y: y.flip(3) ** 2, third=lambda y: y * mask)
    torch.testing.assert_close(changed, expected)
    torch.testing.assert_close(chain(inputs), by_hand(chain, inputs))


def test_units_are_set_to_a_number_or_to_their_mean(chain, images):
    inputs = chain.prepare(images(3, 12))

    def holding(values):
        def third(y):
            y = y.clone()
            for unit, value in values.items():
                y[:, unit] = y[:, unit].mean((1, 2), keepdim=True) if value == "mean" else value
            return y

        return by_hand(chain, inputs, third=third)

    for value, expected in ((0, {1: 0, 4: 0}), ("mean", {1: "mean", 4: "mean"}), ([0.5, -2], {1: 0.5, 4: -2})):
        with torch.no_grad(), fx.ablate(chain, "third", [1, 4], value):
            torch.testing.assert_close(chain(inputs), holding(expected))


def test_several_layers_are_ablated_at_once_and_capture_sees_it(chain, images):
    inputs = chain.prepare(images(2, 12))
    with torch.no_grad(), fx.ablate(chain, {"first": [0], "third": [2, 3]}), capture(chain, ["first", "third"]) as maps:
        chain(inputs)
    assert not maps["first"][:, 0].any() and maps["first"][:, 1:].any()
    assert not maps["third"][:, 2:4].any() and maps["third"][:, [0, 1, 4]].any()


def test_tokens_are_edited_as_maps_and_the_class_token_stays(vit, images):
    inputs, name = vit.prepare(images(2, 32)), "encoder.layers.encoder_layer_0"
    layer, given = vit.network.get_submodule(name), {}
    handle = layer.register_forward_hook(lambda _m, _i, output: given.update(tokens=output.clone()))
    with torch.no_grad():
        vit(inputs)
    handle.remove()
    tokens = given["tokens"]
    tokens[:, 1:, 5] = 0  # the 16 tokens after the class token
    handle = layer.register_forward_hook(lambda *_: tokens)
    with torch.no_grad():
        expected = vit(inputs)
    handle.remove()
    with torch.no_grad(), fx.ablate(vit, name, [5]):
        torch.testing.assert_close(vit(inputs), expected)


def test_any_exit_restores_the_model(chain, images):
    inputs = chain.prepare(images(1, 12))
    before = chain(inputs)
    with pytest.raises(ZeroDivisionError), fx.ablate(chain, {"first": [0], "third": [1]}):
        assert hooks_on(chain) == 2
        1 / 0
    with pytest.raises(FacexkitError, match="did you mean 'third'"), fx.ablate(chain, {"first": [0], "thrid": [1]}):
        pass
    with pytest.raises(FacexkitError, match=r"must return maps \(1, 5, 3, 3\)"), fx.edit(chain, "third", lambda m: m[0]):
        chain(inputs)
    assert hooks_on(chain) == 0 and torch.equal(chain(inputs), before)


@pytest.mark.parametrize(
    ("units", "value", "said"),
    [
        ([5], 0, "units \\[5\\].*0 to 4"), ([-1], 0, "units \\[-1\\]"), ([1.5], 0, "units \\[1.5\\]"), ([], 0, "name some"),
        ([1], "median", "'mean'"), ([1, 2], [1, 2, 3], "3 numbers for 2 units"),
    ],
)  # fmt: skip
def test_units_that_are_not_there_are_refused(chain, units, value, said):
    with pytest.raises(FacexkitError, match=said):
        ablation(chain, "third", units, value)


@pytest.mark.parametrize(
    ("model", "layer", "above_only"),
    [
        ("chain", "third", True), ("chain", "second", False), ("resnet", "layer3", True), ("resnet", "layer2.0.conv1", False),
        ("vit", "encoder.layers.encoder_layer_0", True),
    ],
)  # fmt: skip
def test_the_part_above_the_layer_gives_what_the_whole_network_gives(model, layer, above_only, images, request, monkeypatch):
    model = request.getfixturevalue(model)
    monkeypatch.setattr(edits, "AT_ONCE", 6)  # several changes at once, in several steps
    inputs = model.prepare(images(3, model.image_size))
    changes = [ablation(model, layer, [unit]) for unit in range(3)] + [lambda maps: maps]
    whole = []
    run_whole = edits._whole
    monkeypatch.setattr(edits, "_whole", lambda *how: whole.append(1) or run_whole(*how))
    outputs, changed = run_changes(model, layer, inputs, changes)
    assert bool(whole) != above_only
    torch.testing.assert_close(outputs, model(inputs))
    torch.testing.assert_close(changed[3], outputs)
    for unit in range(3):
        with torch.no_grad(), fx.ablate(model, layer, [unit]):
            torch.testing.assert_close(changed[unit], model(inputs))
    assert not torch.allclose(changed[:3], outputs.expand(3, -1, -1))
