"""Drawn faces and made-up results in the shape that fx.score_regions gives, with known numbers."""

import hashlib

import numpy as np
import pandas as pd
import pytest
import xarray as xr
from PIL import Image, ImageDraw

from facexkit.faces.faceset import FaceSet
from facexkit.faces.regions import REGIONS
from facexkit.faces.template import POLYGONS

SHARES = dict.fromkeys(REGIONS, 0.01) | {"u_lip": 0.24, "l_lip": 0.41, "hair": 0.09, "skin": 0.06, "nose": -0.02}
FACEX = {region: 0.05 + 0.03 * place for place, region in enumerate(REGIONS)} | {"nose": 0.87}


class DrawnFaces:
    """Faces filled from the template, a colour set each, drawn when read."""

    def read(self, path: str) -> Image.Image:
        colours = np.random.default_rng(list(path.encode())).integers(60, 220, (len(REGIONS), 3))
        colours[REGIONS.index("skin")] = colours[REGIONS.index("neck")] = (200, 160, 130)
        image = Image.new("RGB", (128, 128), tuple(colours[0].tolist()))
        for region in POLYGONS:
            for polygon in POLYGONS[region] if region not in ("hat", "eye_g") else ():
                points = [tuple(point) for point in (polygon * 128).tolist()]
                ImageDraw.Draw(image).polygon(points, fill=tuple(colours[REGIONS.index(region)].tolist()))
        return image

    def digest(self, path: str) -> bytes:
        return hashlib.sha256(path.encode()).digest()


@pytest.fixture(scope="session")
def drawn_faces() -> FaceSet:
    table = pd.DataFrame({"path": [f"faces/{n:03}.png" for n in range(23)] + ["faces/<b>&\"quoted'.png"]})
    return FaceSet(table, DrawnFaces(), name="drawn")


@pytest.fixture(scope="session")
def make_scores(drawn_faces):
    """Return a function that makes a one-class result with patches and examples on the drawn faces."""

    def make(
        method="share", scores=None, model="demo:biased", class_name="female", target_class=0, missing=("hat",), width=0.04
    ) -> xr.Dataset:
        values = np.array([{"share": SHARES, "facex": FACEX}[method][r] if scores is None else scores[r] for r in REGIONS])
        gone = np.isin(REGIONS, missing)
        values = np.where(gone, np.nan, values)
        paths, rng = drawn_faces.table.path.to_numpy(object), np.random.default_rng(0)
        found = {
            "score": ("region", values),
            "score_low": ("region", values - width),
            "score_high": ("region", values + width),
            "images": ("region", np.where(gone, 0, len(paths))),
            "per_image": (("image", "region"), np.where(gone, np.nan, rng.random((len(paths), len(REGIONS))))),
            "output": ("image", rng.normal(size=len(paths))),
        }
        attrs = {
            "method": method, "layer": "layer4" if method == "facex" else "", "model": model, "class_name": class_name,
            "target_class": target_class, "model_fingerprint": f"{model:*^16}"[:16], "faces": "drawn", "seed": 0,
            "faces_fingerprint": drawn_faces.fingerprint(), "image_size": 128, "version": "0.1.0",
            "skipped": ["faces/broken.png: cannot identify image file"],
        }  # fmt: skip
        if method == "share":
            found |= {"total": 0.97, "total_low": 0.93, "total_high": 1.01}
        else:
            attrs["tile"] = 16
            picks = rng.integers(0, len(paths), (len(REGIONS), 20))
            value = np.sort(rng.random((len(REGIONS), 20)))[:, ::-1] * 9
            y, x = np.mgrid[:7, :7]
            lit = np.exp(-((y - rng.uniform(1, 6, (len(REGIONS), 4, 1, 1))) ** 2 + (x - 3) ** 2) / 3)
            found |= {
                "patch_value": (("region", "patch"), np.where(gone[:, None], np.nan, value)),
                "patch_image": (("region", "patch"), np.where(gone[:, None], "", paths[picks]).astype(object)),
                "patch_y": (("region", "patch"), rng.integers(0, 8, (len(REGIONS), 20)) * 16),
                "patch_x": (("region", "patch"), rng.integers(0, 8, (len(REGIONS), 20)) * 16),
                "example_image": (("region", "example"), np.where(gone[:, None], "", paths[picks[:, :4]]).astype(object)),
                "example_map": (("region", "example", "y", "x"), lit),
            }
        return xr.Dataset(found, {"region": list(REGIONS), "image": paths}, attrs)

    return make


@pytest.fixture(scope="session")
def four_results(make_scores):
    """Both methods on a biased and a fair model."""
    fair = dict.fromkeys(REGIONS, 0.01) | {"hair": 0.33, "skin": 0.28, "l_lip": 0.02}
    return [
        make_scores("share"), make_scores("facex"), make_scores("share", fair, model="demo:fair"),
        make_scores("facex", model="demo:fair"),
    ]  # fmt: skip
