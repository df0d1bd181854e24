"""FaceNet from a weights file, as facenet-pytorch publishes it."""

import pytest
import torch
from facenet_pytorch import InceptionResnetV1, fixed_image_standardization

from facexkit.errors import FacexkitError
from facexkit.models.loading import load_model


@pytest.fixture(scope="module")
def published(tmp_path_factory):
    """A random network's state dict in the published form, which holds the classifier's logits, and the network."""
    torch.manual_seed(0)
    network = InceptionResnetV1(classify=True, num_classes=11).eval()
    path = tmp_path_factory.mktemp("weights") / "20180402-114759-vggface2.pt"
    torch.save(network.state_dict(), path)
    network.classify = False
    return path, network


def test_embeddings_are_those_of_facenet_pytorch(published):
    path, network = published
    model = load_model("facenet", weights=path, device="cpu")
    images = torch.randint(256, (2, 3, 160, 160), dtype=torch.uint8)
    with torch.no_grad():
        found = model(model.prepare(images))
        expected = network(fixed_image_standardization(images.float()))
    assert found.shape == (2, 512) and model.image_size == 160
    assert torch.allclose(found, expected, atol=1e-5)
    assert model.layers.loc["block8", "units"] == 1792 and not model.layers.problem["block8"]


def test_without_weights_the_error_names_the_file():
    with pytest.raises(FacexkitError, match="weights=FILE: get 20180402-114759-vggface2.pt or .*facenet-pytorch"):
        load_model("facenet")


def test_other_weights_do_not_fit(published, tmp_path):
    path, _ = published
    state = torch.load(path)
    del state["last_bn.bias"]
    torch.save(state, tmp_path / "cut.pt")
    with pytest.raises(FacexkitError, match="do not fit the network: 1 missing: last_bn.bias"):
        load_model("facenet", weights=tmp_path / "cut.pt")
