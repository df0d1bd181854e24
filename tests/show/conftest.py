"""Made-up results in the shape that fx.score_regions gives, with known numbers, on the built-in faces."""

import dataclasses

import numpy as np
import pytest
import xarray as xr

from facexkit.faces.faceset import FaceSet
from facexkit.faces.regions import REGIONS, UNIONS

SHARES = dict.fromkeys(REGIONS, 0.01) | {"u_lip": 0.24, "l_lip": 0.41, "hair": 0.09, "skin": 0.06, "nose": -0.02}
FACEX = {region: 0.05 + 0.03 * place for place, region in enumerate(REGIONS)} | {"nose": 0.87}
FAIR = dict.fromkeys(REGIONS, 0.01) | {"hair": 0.33, "skin": 0.28, "l_lip": 0.02}
ODD = "faces/<b onmouseover=alert(1)>&\"it's.png"


@dataclasses.dataclass
class Renamed:
    """The images of another source, the first under an odd name."""

    source: object
    first: str

    def read(self, path: str):
        return self.source.read(self.first if path == ODD else path)

    def digest(self, path: str) -> bytes:
        return path.encode()


@pytest.fixture(scope="session")
def odd_faces(drawn_faces) -> FaceSet:
    """The drawn faces, one of them with a name that is markup."""
    first = drawn_faces.table.path[0]
    table = drawn_faces.table.assign(path=drawn_faces.table.path.replace(first, ODD))
    sources = (Renamed(source, first) for source in (drawn_faces.images, drawn_faces.masks))
    return FaceSet(table, *sources, name="drawn <i>faces</i>")


@pytest.fixture(scope="session")
def make_scores(odd_faces):
    """Return a function that makes a one-class result with patches and examples on the drawn faces."""
    paths = odd_faces.table.path.to_numpy(object)
    rng = np.random.default_rng(0)
    picks = rng.integers(0, len(paths), (len(REGIONS), 20))
    picks[:, 0] = 0

    def make(method="share", values=None, model="demo:biased", class_name="female", target_class=0, missing=("hat",)):
        values = values or {"share": SHARES, "facex": FACEX}[method]
        gone = np.isin(REGIONS, missing)
        score = np.where(gone, np.nan, [values[region] for region in REGIONS])
        found = {
            "score": ("region", score),
            "score_low": ("region", score - 0.04),
            "score_high": ("region", score + 0.04),
            "images": ("region", np.where(gone, 0, len(paths))),
            "per_image": (("image", "region"), np.where(gone, np.nan, rng.random((len(paths), len(REGIONS))))),
            "output": ("image", rng.normal(size=len(paths))),
        }
        attrs = {
            "method": method, "layer": "layer4" if method == "facex" else "", "model": model,
            "model_fingerprint": f"{model:*^16}"[:16], "faces": odd_faces.name,
            "faces_fingerprint": "0123456789abcdef", "image_size": 128, "version": "0.1.0", "seed": 0,
            "skipped": ["faces/<script>broken.png: cannot identify image file"],
        }  # fmt: skip
        sums = np.array([sum(values[region] for region in union) for union in UNIONS.values()])
        own, reach = (sums, 0.06) if method == "share" else (sums / 2, 0.04)
        for end, more in {"": 0, "_low": -reach, "_high": reach}.items():
            found[f"union_score{end}"] = ("union", own + more)
        found["union_images"] = ("union", np.full(len(UNIONS), len(paths)))
        if method == "facex":
            attrs["tile"] = 16
            names = np.where(gone[:, None], "", paths[picks]).astype(object)
            pictures = {
                "patch_value": (("region", "patch"), np.sort(rng.random((len(REGIONS), 20)))[:, ::-1] * 9),
                "patch_image": (("region", "patch"), names),
                "patch_y": (("region", "patch"), rng.integers(0, 8, (len(REGIONS), 20)) * 16),
                "patch_x": (("region", "patch"), rng.integers(0, 8, (len(REGIONS), 20)) * 16),
                "example_image": (("region", "example"), names[:, :4]),
                "example_score": (("region", "example"), np.take_along_axis(found["per_image"][1], picks[:, :4].T, 0).T),
                "example_map": (("region", "example", "y", "x"), rng.random((len(REGIONS), 4, 4, 4))),
            }
            firsts = [REGIONS.index(union[1]) for union in UNIONS.values()]
            of_unions = {f"union_{k}": (("union", *dims[1:]), v[firsts]) for k, (dims, v) in pictures.items()}
            found |= pictures | of_unions
        coords = {"region": list(REGIONS), "image": paths, "target_class": target_class, "class_name": class_name}
        return xr.Dataset(found, coords | {"union": list(UNIONS)}, attrs)

    return make


@pytest.fixture(scope="session")
def four_results(make_scores):
    """Both methods on a biased and a fair model."""
    return [
        make_scores("facex"), make_scores("share"),
        make_scores("share", FAIR, model="demo:fair"), make_scores("facex", model="demo:fair"),
    ]  # fmt: skip
