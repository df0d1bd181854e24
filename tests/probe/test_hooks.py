import gc
import weakref

import pytest
import torch

from facexkit.errors import FacexkitError
from facexkit.models.face_model import FaceModel
from facexkit.models.loading import load_model
from facexkit.probe.hooks import capture


def hooks_on(model):
    return sum(len(module._forward_hooks) for module in model.network.modules())


@torch.no_grad()
def plain_outputs(model, inputs, names):
    """What the layers give, copied the moment they give it."""
    given = {}
    handles = [
        model.network.get_submodule(name).register_forward_hook(
            lambda _module, _inputs, output, name=name: given.update({name: output.clone()})
        )
        for name in names
    ]
    output = model(inputs)
    for handle in handles:
        handle.remove()
    return given, output


def test_hooks_are_removed_on_every_exit(chain, images):
    inputs = chain.prepare(images(2, 12))
    with capture(chain, ["first", "third"]):
        chain(inputs)
        assert hooks_on(chain) == 2
    assert hooks_on(chain) == 0
    with capture(chain, ["first"], stop=True):
        chain(inputs)
    assert hooks_on(chain) == 0
    with pytest.raises(ZeroDivisionError), capture(chain, ["first", "second"]):
        1 / 0
    assert hooks_on(chain) == 0
    with pytest.raises(FacexkitError, match="did you mean 'third'"), capture(chain, ["first", "thrid"]):
        pass
    assert hooks_on(chain) == 0
    with pytest.raises(RuntimeError), capture(chain, ["second"], stop=True):
        chain(inputs[:, :2])  # the network itself fails
    assert hooks_on(chain) == 0


def test_several_layers_at_once_are_what_the_layers_gave(chain, images):
    inputs = chain.prepare(images(3, 12))
    expected, output = plain_outputs(chain, inputs, ["first", "second", "third", "head"])
    with torch.no_grad(), capture(chain, ["third", "first", "second", "head"]) as maps:
        seen = chain(inputs)
    assert torch.equal(seen, output)
    for name in expected:
        assert torch.equal(maps[name], chain.layers.attrs["forms"][name].maps(expected[name])), name


def test_a_sum_in_place_does_not_change_what_was_captured(resnet, images):
    inputs = resnet.prepare(images(2, 64))
    names = ["conv1", "bn1", "relu", "layer1.0.bn2", "layer3.0.downsample.1", "layer4.1.bn2", "layer4"]
    expected, output = plain_outputs(resnet, inputs, names)
    with torch.no_grad(), capture(resnet, names) as maps:
        seen = resnet(inputs)
    assert torch.equal(seen, output)
    for name in names:
        assert torch.equal(maps[name], expected[name]), name


def test_the_pass_ends_after_the_deepest_layer(chain, images, ran):
    inputs = chain.prepare(images(1, 12))
    chain.layers  # noqa: B018  its own run is not to be counted
    names = ran(chain)
    with capture(chain, ["second", "first"], stop=True) as maps:
        chain(inputs)
    assert names == ["first", "second"]
    assert set(maps) == {"first", "second"}
    names.clear()
    with capture(chain, ["first"]):
        chain(inputs)
    assert names == ["first", "second", "third", "head", ""]


def test_a_pass_that_was_ended_holds_on_to_nothing(chain, images):
    def look():
        with capture(chain, ["first"], stop=True) as maps:
            chain(chain.prepare(images(1, 12)))
        return weakref.ref(maps["first"])

    gc.disable()  # what it leaves in a circle would wait, and be met again in the next decoding process
    try:
        assert look()() is None
    finally:
        gc.enable()


def test_nested_blocks_end_each_their_own_pass(chain, images):
    inputs = chain.prepare(images(2, 12))
    expected, _ = plain_outputs(chain, inputs, ["first", "third"])
    with torch.no_grad(), capture(chain, ["third"]) as deep:
        with capture(chain, ["first"], stop=True) as shallow:
            chain(inputs)
        assert not deep and hooks_on(chain) == 1
        chain(inputs)
    assert torch.equal(shallow["first"], expected["first"]) and torch.equal(deep["third"], expected["third"])

    after_inner = False
    with torch.no_grad(), capture(chain, ["first"], stop=True):
        with capture(chain, ["third"]) as deep:
            chain(inputs)
        after_inner = True
    assert not after_inner and not deep and hooks_on(chain) == 0


def test_tokens_become_a_grid_and_go_on_unchanged(vit, images):
    inputs = vit.prepare(images(2, 32))
    name = "encoder.layers.encoder_layer_0"
    expected, output = plain_outputs(vit, inputs, [name])
    with torch.no_grad(), capture(vit, [name]) as maps:
        seen = vit(inputs)
    assert torch.equal(seen, output)
    for y in range(4):
        for x in range(4):
            assert torch.equal(maps[name][:, :, y, x], expected[name][:, 1 + 4 * y + x])


def test_swin_maps_are_channels_first():
    swin = load_model("torchvision:swin_t", num_classes=2, image_size=64, device="cpu")
    inputs = swin.prepare(torch.randint(0, 256, (2, 3, 64, 64), dtype=torch.uint8))
    expected, output = plain_outputs(swin, inputs, ["features.3"])
    with torch.no_grad(), capture(swin, ["features.3"]) as maps:
        seen = swin(inputs)
    assert torch.equal(seen, output) and maps["features.3"].shape == (2, 192, 8, 8)
    assert torch.equal(maps["features.3"], expected["features.3"].permute(0, 3, 1, 2))


@pytest.mark.parametrize(("model", "layer"), [("resnet", "layer3"), ("vit", "encoder.layers.encoder_layer_0")])
def test_gradients_exist_from_the_layer_up_only(model, layer, images, request):
    model: FaceModel = request.getfixturevalue(model)
    inputs = model.prepare(images(2, model.image_size))
    graph = {}
    handles = [
        module.register_forward_hook(
            lambda _m, _i, out, name=name: graph.update({name: getattr(out, "requires_grad", None)})
        )
        for name, module in model.network.named_modules()
    ]
    with torch.enable_grad(), capture(model, [layer], gradients=True) as maps:
        output = model(inputs)
    for handle in handles:
        handle.remove()
    order = list(graph)
    below = order[: next(k for k, name in enumerate(order) if name == layer)]
    assert below and not any(graph[name] for name in below)
    assert output.requires_grad and maps[layer].is_leaf
    assert not any(p.requires_grad for p in model.network.parameters())
    gradient = torch.autograd.grad(output[:, 1].sum(), maps[layer])[0]
    assert gradient.shape == maps[layer].shape and gradient.abs().sum() > 0
    assert all(p.grad is None for p in model.network.parameters())


def test_gradients_of_several_layers_reach_the_shallowest(chain, images):
    inputs = chain.prepare(images(2, 12))
    with torch.enable_grad(), capture(chain, ["second", "third"], gradients=True) as maps:
        output = chain(inputs)
    second, third = torch.autograd.grad(output[:, 0].sum(), [maps["second"], maps["third"]])
    assert second.abs().sum() > 0 and third.abs().sum() > 0
