"""FineFACE's network beside a plain version of it: an image at a time, as the definition reads."""

import numpy as np
import pytest
import torch
import torchvision
from hypothesis import given, settings
from hypothesis import strategies as st
from safetensors.torch import save_file
from torch.nn import functional as F

from benchmarks.plain_fineface import PlainFineFace, attention_maps, box_of, cut
from facexkit.errors import FacexkitError
from facexkit.faces.regions import REGIONS
from facexkit.measure.audit import audit
from facexkit.measure.dissection import dissect
from facexkit.measure.region_scores import score_regions
from facexkit.models.layers import list_layers
from facexkit.models.loading import load_model
from facexkit.models.weights import seeded
from facexkit.systems.fineface import EXPERTS, PARTS, FineFace, boxes, crop, expert_attention, overall, with_all_outputs
from facexkit.systems.fineface_figures import plot_attention

NARROW = (8, 16, 12)


def small_network(classes=3):
    with seeded(4):
        network = FineFace(torchvision.models.resnet18(), classes, widths=NARROW)
        for module in network.modules():
            if isinstance(module, (torch.nn.BatchNorm2d, torch.nn.BatchNorm1d)):
                module.running_mean.normal_(0, 0.1)
                module.running_var.uniform_(0.5, 1.5)
    return network.double().eval()


def plain_twin(network, classes=3):
    plain = PlainFineFace("resnet18", classes, NARROW).double()
    plain.load_state_dict(network.state_dict())
    return plain.eval()


def some_images(count=4, size=64):
    return torch.randn(count, 3, size, size, dtype=torch.float64, generator=torch.Generator().manual_seed(1))


@pytest.fixture(scope="module")
def weights(tmp_path_factory):
    """A file of weights of a narrow network for 64×64 inputs, told apart by two class names."""
    path = tmp_path_factory.mktemp("weights") / "best.safetensors"
    state = {k: v.float() if v.is_floating_point() else v for k, v in small_network(2).state_dict().items()}
    save_file(state, path, {"image_size": "64", "class_names": "female\nmale"})
    return path


@pytest.fixture(scope="module")
def model(weights):
    return load_model("fineface:resnet18", weights=weights, device="cpu")


def test_logits_maps_boxes_and_crops_are_those_of_the_plain_version():
    network, images = small_network(), some_images()
    plain = plain_twin(network)
    with torch.no_grad():
        found = network(images, attend=True)
        logits, features = plain(images)
        maps = attention_maps(plain, features, logits)
    for part, expected in zip(PARTS, logits, strict=True):
        torch.testing.assert_close(found[part], expected, rtol=0, atol=1e-9)
    torch.testing.assert_close(found["sum"], sum(logits), rtol=0, atol=1e-9)
    for own, expected in zip(found["maps"], maps, strict=True):
        torch.testing.assert_close(own, expected, rtol=0, atol=1e-9)
    for sets in ([0], [1], [2], [0, 1, 2]):
        chosen = [found["maps"][k] for k in sets]
        expected = [box_of([maps[k][image] for k in sets], 64) for image in range(len(images))]
        assert boxes(chosen, 64).tolist() == [list(box) for box in expected]
        torch.testing.assert_close(crop(images, boxes(chosen, 64)), cut(images, [maps[k] for k in sets]), rtol=0, atol=1e-8)


@given(st.data())
@settings(max_examples=60, deadline=None)
def test_a_crop_is_the_box_cut_out_and_resized(data):
    size = data.draw(st.integers(4, 40))
    ends = [sorted(data.draw(st.lists(st.integers(0, size), min_size=2, max_size=2, unique=True))) for _ in range(2)]
    image = some_images(1, size)
    (top, bottom), (left, right) = ends
    expected = F.interpolate(image[:, :, top:bottom, left:right], (size, size), mode="bilinear")
    torch.testing.assert_close(crop(image, torch.tensor([[top, bottom, left, right]])), expected, rtol=0, atol=1e-6)


@given(st.integers(0, 10_000))
@settings(max_examples=40, deadline=None)
def test_a_box_holds_all_attention_of_half_and_more_with_a_tenth_around_it(seed):
    maps = [torch.randn(2, side, side, generator=torch.Generator().manual_seed(seed + side)) for side in (6, 3)]
    attention = overall(maps, 48)
    assert attention.amin((1, 2)).tolist() == [0, 0] and attention.amax((1, 2)).tolist() == [1, 1]
    for one, (top, bottom, left, right) in zip(attention, boxes(maps, 48).tolist(), strict=True):
        rows, columns = np.nonzero(one.numpy() >= 0.5)
        assert top == max(rows.min() - 5, 0) and bottom == min(rows.max() + 6, 48)
        assert left == max(columns.min() - 5, 0) and right == min(columns.max() + 6, 48)


def test_a_flat_map_keeps_the_whole_image():
    assert boxes([torch.zeros(2, 3, 3)], 32).tolist() == [[0, 32, 0, 32]] * 2


@pytest.mark.parametrize("parts", [("expert3",), ("expert2",), ("expert1",), ("concat",), PARTS])
def test_only_what_is_asked_for_runs_and_gets_gradients(parts):
    network, images, ran = small_network(), some_images(2), set()
    for name, module in network.named_children():
        module.register_forward_hook(lambda *_, name=name: ran.add(name))
    out = network(images, parts)
    assert set(out) == {*parts, *(["sum"] if parts == PARTS else [])}
    sum(out[part].sum() for part in parts).backward()
    needs = {"expert1": "layer2", "expert2": "layer3", "expert3": "layer4", "concat": "layer4"}
    deepest = max(needs[part] for part in parts)
    assert deepest == max(name for name in ran if name.startswith("layer"))
    trained = {name.split(".")[0] for name, p in network.named_parameters() if p.grad is not None}
    experts = set(EXPERTS) if "concat" in parts else set(parts)
    assert trained & set(PARTS) == experts | ({"concat"} & set(parts))
    if parts == ("concat",):
        assert network.expert1.classifier[1].weight.grad is None
        assert network.expert1.block[0].weight.grad is not None


def test_attention_beside_one_loss_costs_the_others_no_gradient():
    network = small_network()
    out = network(some_images(2), ("expert3",), attend=True)
    assert len(out["maps"]) == 3 and not any(one.requires_grad for one in out["maps"])
    out["expert3"].sum().backward()
    assert network.expert1.block[0].weight.grad is None and network.layer2[0].conv1.weight.grad is not None


def test_both_passes_add_up_eight_outputs(model):
    images = model.prepare(torch.randint(256, (3, 3, 64, 64), dtype=torch.uint8, generator=torch.Generator().manual_seed(2)))
    with torch.no_grad():
        raw = model.network(images, attend=True)
        again = model.network(cut(images, raw["maps"]))
        both = with_all_outputs(model)
        found = both(images)
    torch.testing.assert_close(found, sum(out[part] for out in (raw, again) for part in PARTS), rtol=1e-4, atol=1e-4)
    assert both.class_names == ["female", "male"]
    assert "runs 2 times" in list_layers(both).problem["network.layer4"]


def test_weights_say_how_wide_the_network_is_how_large_its_input_and_its_classes(model):
    assert (model.image_size, model.class_names) == (64, ["female", "male"])
    assert model.layers.units["expert2.block"] == NARROW[1]
    assert list_layers(model).problem[["layer4", "expert1.block", "expert3.block", "concat"]].eq("").all()


def test_the_papers_widths_are_the_default():
    model = load_model("fineface:resnet18", num_classes=4, image_size=64, device="cpu")
    assert model.class_names == [f"class {k}" for k in range(4)]
    shapes = {name: tuple(p.shape) for name, p in model.network.named_parameters()}
    assert shapes["expert1.block.0.weight"] == (512, 128, 1, 1) and shapes["expert3.block.3.weight"] == (1024, 512, 3, 3)
    assert shapes["concat.1.weight"] == (512, 3072) and shapes["expert2.classifier.4.weight"] == (4, 512)
    norm = model.network.expert1.block[1]
    assert (norm.eps, norm.momentum) == (1e-5, 0.01)


def test_region_scores_of_each_expert_and_of_the_sum(weights, drawn_faces):
    faces, found = drawn_faces[:6], {}
    for output in (*EXPERTS, "sum"):
        one = load_model("fineface:resnet18", weights=weights, device="cpu", output=output)
        layer = "expert3.block" if output == "sum" else f"{output}.block"
        found[output] = score_regions(one, faces, layer, target_class="male", progress=False)
        assert found[output].sizes["region"] == len(REGIONS)
    assert len({tuple(one.output.values[0].round(9)) for one in found.values()}) == 4
    share = score_regions(one, faces, method="share", images=6, partners=1, progress=False)
    assert np.isfinite(share.score.sel(region="skin"))


def test_dissection_of_each_experts_block_and_the_audit(model, drawn_faces):
    for expert in EXPERTS:
        assert dissect(model, drawn_faces, f"{expert}.block", mask_size=32).sizes["unit"] == NARROW[1]
    found = audit([model, with_all_outputs(model)], drawn_faces, "gender", ["skin_tone"], min_images=2)
    assert found.sizes["model"] == 2 and np.isfinite(found.value.sel(metric="accuracy")).all()


def test_attend_says_where_each_expert_looks(model, drawn_faces):
    seen = expert_attention(model, drawn_faces[:5])
    assert dict(seen.sizes) == {"image": 5, "y": 64, "x": 64, "channel": 3, "expert": 4, "edge": 4, "part": 5}
    one = seen.isel(image=3)
    summed = one.attention[:3].sum("expert")
    scaled = (summed - summed.min()) / (summed.max() - summed.min())
    np.testing.assert_allclose(one.attention.sel(expert="overall"), scaled, atol=1e-5)
    for expert in (*EXPERTS, "overall"):
        rows, columns = np.nonzero(one.attention.sel(expert=expert).to_numpy() >= 0.5)
        ends = [rows.min() - 6, rows.max() + 7, columns.min() - 6, columns.max() + 7]
        assert one.box.sel(expert=expert).values.tolist() == np.clip(ends, 0, 64).tolist()
    picture = next(drawn_faces[[3]].batches(64, 1)).images[0].permute(1, 2, 0)
    assert (one.picture.to_numpy() == picture.numpy()).all()
    assert set(one.predicted.to_numpy()) <= {"female", "male"}
    figure = plot_attention(seen)
    assert len(figure.axes) == 5 * 5
    for image, axes in enumerate(np.reshape(figure.axes, (5, 5))):
        drawn = [(p.get_y(), p.get_y() + p.get_height(), p.get_x(), p.get_x() + p.get_width()) for ax in axes for p in ax.patches]
        np.testing.assert_allclose(np.array(drawn) + 0.5, seen.box[image])


def test_any_network_whose_stages_are_named():
    mobile = torchvision.models.mobilenet_v3_small()
    network = FineFace(mobile.features, 2, ("3", "8", "12"), NARROW).eval()
    images, taken = some_images(2).float(), {}
    mobile.features[8].register_forward_hook(lambda _m, _i, out: taken.setdefault("8", []).append(out))
    with torch.no_grad():
        network(images)
        mobile.eval()(images)
    assert torch.equal(*taken["8"])


@pytest.mark.parametrize(
    ("source", "how", "said"),
    [
        ("fineface:resnet5", {}, "did you mean 'resnet50'"),
        ("fineface:resnet18", {"weights": "resnet"}, "no weights of a FineFACE network"),
        ("fineface:resnet34", {"weights": "own"}, "do not fit"),
        ("fineface:resnet18", {"weights": "own", "num_classes": 7}, "num_classes=7"),
    ],
)
def test_bad_input_is_told(source, how, said, weights, tmp_path):
    if how.get("weights") == "resnet":
        save_file(torchvision.models.resnet18().state_dict(), tmp_path / "resnet.safetensors")
        how = {"weights": tmp_path / "resnet.safetensors"}
    elif "weights" in how:
        how = {**how, "weights": weights}
    with pytest.raises(FacexkitError, match=said):
        load_model(source, device="cpu", **how)


def test_stages_that_are_not_there_are_told():
    with pytest.raises(FacexkitError, match="layer7"):
        FineFace(torchvision.models.resnet18(), 2, ("layer2", "layer3", "layer7"))


def test_another_model_has_no_experts(demo_models, drawn_faces):
    with pytest.raises(FacexkitError, match="has no experts"):
        expert_attention(demo_models["fair"], drawn_faces)
