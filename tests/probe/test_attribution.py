import pytest
import torch
from torch import nn

from facexkit.errors import FacexkitError
from facexkit.models.face_model import FaceModel
from facexkit.models.loading import load_model
from facexkit.probe.attribution import attribute
from facexkit.probe.hooks import capture


def slow_grad_cam(model, layer, image, target, grid=lambda out: out):
    """Grad-CAM of one image by autograd, the formula of Selvaraju et al. written out."""
    kept = {}

    def keep(_module, _inputs, out):
        kept["out"] = out.detach().clone().requires_grad_()
        return kept["out"].clone()

    handle = model.network.get_submodule(layer).register_forward_hook(keep)
    with torch.enable_grad():
        model.network(image[None])[0, target].backward()
    handle.remove()
    activation, gradient = grid(kept["out"].detach())[0], grid(kept["out"].grad)[0]
    total = torch.zeros(activation.shape[1:])
    for unit in range(len(activation)):
        total += gradient[unit].mean() * activation[unit]
    return total.clamp(min=0)


def tokens(out):
    side = int(out.shape[1] ** 0.5)
    return out[:, out.shape[1] - side * side :].reshape(len(out), side, side, -1).permute(0, 3, 1, 2)


@pytest.mark.parametrize(
    ("model", "layer", "grid"),
    [
        ("chain", "second", lambda out: out),
        ("chain", "third", lambda out: out),
        ("resnet", "layer4", lambda out: out),
        ("resnet", "layer2.1.bn2", lambda out: out),
        ("resnet", "avgpool", lambda out: out),
        ("vit", "encoder.layers.encoder_layer_0", tokens),
        ("vit", "conv_proj", lambda out: out),
    ],
)
def test_grad_cam_is_the_formula_image_by_image(model, layer, grid, images, request):
    model = request.getfixturevalue(model)
    inputs = model.prepare(images(3, model.image_size))
    maps, outputs = attribute(model, layer, inputs, [0, 2])
    with torch.no_grad():
        torch.testing.assert_close(outputs, model(inputs))
    for target in (0, 2):
        expected = torch.stack([slow_grad_cam(model, layer, image, target, grid) for image in inputs])
        assert expected.max() > 0
        torch.testing.assert_close(maps[target], expected, rtol=1e-3, atol=1e-5 * expected.max().item())
        assert not maps[target].requires_grad and maps[target].dtype == torch.float32


def test_gradient_x_activation_is_its_formula(chain, images):
    inputs = chain.prepare(images(2, 12))
    maps, _ = attribute(chain, "second", inputs, [1], "gradient_x_activation")
    with torch.enable_grad(), capture(chain, ["second"], gradients=True) as kept:
        outputs = chain(inputs)
    gradient = torch.autograd.grad(outputs[:, 1].sum(), kept["second"])[0]
    torch.testing.assert_close(maps[1], (gradient * kept["second"]).sum(1).clamp(min=0).detach())


def test_all_targets_come_from_one_forward_pass(chain, images, ran):
    inputs = chain.prepare(images(2, 12))
    chain.layers  # noqa: B018
    names = ran(chain)
    maps, _ = attribute(chain, "second", inputs, [0, 1, 2])
    assert set(maps) == {0, 1, 2} and names.count("first") == 1
    assert not torch.equal(maps[0], maps[1])


def test_an_attribution_may_be_any_function_even_captum_on_the_network(chain, images):
    from captum.attr import LayerGradCam

    def by_captum(model, layer, inputs, target):
        return LayerGradCam(model.network, model.layer(layer)).attribute(inputs, target, relu_attributions=True)

    inputs = chain.prepare(images(2, 12))
    with torch.no_grad():
        found, outputs = attribute(chain, "second", inputs, [0, 1], by_captum)
    expected, same = attribute(chain, "second", inputs, [0, 1])
    torch.testing.assert_close(outputs, same)
    for target in (0, 1):
        torch.testing.assert_close(found[target], expected[target])


def test_a_function_may_differentiate(chain, images):
    def gradient_size(model, layer, inputs, target):
        with capture(model, [layer], gradients=True) as maps:
            output = model(inputs)
        return torch.autograd.grad(output[:, target].sum(), maps[layer])[0].abs().sum(1)

    with torch.no_grad():
        maps, _ = attribute(chain, "second", chain.prepare(images(2, 12)), [1], gradient_size)
    assert maps[1].shape == (2, 6, 6) and maps[1].sum() > 0


def test_a_function_that_runs_the_model_leaves_the_captured_maps_of_the_true_images(chain, images):
    inputs = chain.prepare(images(2, 12))

    def by_occlusion(model, layer, inputs, target):
        return (model(inputs)[:, target] - model(inputs * 0)[:, target])[:, None, None].expand(-1, 2, 2)

    with torch.no_grad(), capture(chain, ["third"]) as maps:
        attribute(chain, "second", inputs, [1], by_occlusion)
        found = maps["third"]
        chain(inputs)
    assert torch.equal(found, maps["third"])


@pytest.mark.parametrize(
    ("returned", "said"),
    [
        (lambda x: torch.zeros(len(x), 2, 4, 4), r"\(2, h, w\); it returned \(2, 2, 4, 4\)"),
        (lambda x: torch.zeros(1, 4, 4), r"it returned \(1, 4, 4\)"),
        (lambda x: torch.zeros(4, 4), r"it returned \(4, 4\)"),
        (lambda x: [1, 2], "it returned list"),
        (lambda x: None, "it returned NoneType"),
    ],
)
def test_wrong_shapes_from_a_function_are_refused(chain, images, returned, said):
    with pytest.raises(FacexkitError, match=said):
        attribute(chain, "second", chain.prepare(images(2, 12)), [1], lambda m, layer, x, t: returned(x))


def test_an_unknown_attribution_names_the_known(chain, images):
    with pytest.raises(FacexkitError, match="did you mean 'gradcam'"):
        attribute(chain, "second", chain.prepare(images(1, 12)), [1], "grad_cam")


def test_a_layer_that_the_output_does_not_depend_on_is_an_error(images):
    class Aside(nn.Module):
        def __init__(self):
            super().__init__()
            self.used, self.unused = nn.Conv2d(3, 2, 3), nn.Conv2d(3, 2, 3)

        def forward(self, x):
            self.unused(x)
            return self.used(x).mean((2, 3))

    model = FaceModel(Aside(), name="aside", image_size=8, device="cpu")
    inputs = model.prepare(images(2, 8))
    with pytest.raises(FacexkitError, match="does not depend on layer 'unused'"):
        attribute(model, "unused", inputs, [1])
    assert attribute(model, "used", inputs, [1])[0][1].shape == (2, 6, 6)


def test_a_layer_of_one_place_gives_maps_of_one_place(images):
    model = load_model("torchvision:mobilenet_v3_small", num_classes=2, image_size=32, device="cpu")
    inputs = model.prepare(images(2, 32))
    for layer in ("avgpool", "classifier.0"):
        maps, _ = attribute(model, layer, inputs, [1])
        one_by_one = [slow_grad_cam(model, layer, image, 1, lambda out: out.reshape(1, -1, 1, 1)) for image in inputs]
        expected = torch.stack(one_by_one)
        torch.testing.assert_close(maps[1], expected, rtol=1e-4, atol=1e-6)
        assert maps[1].shape == (2, 1, 1)
