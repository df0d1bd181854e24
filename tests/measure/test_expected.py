"""Agreement with facextool, the released code of FaceX, on real faces."""

from pathlib import Path

import pandas as pd
import pytest
from scipy.stats import spearmanr

from facexkit.measure.region_scores import score_regions
from facexkit.models.loading import load_model

BYTES = {"mean": [122.782, 117.001, 104.298], "scale": 256}


@pytest.mark.parametrize(
    ("file", "layer"),
    [("resnet18_layer4", "layer4"), ("gender_layer_7_relu", "layer_7_relu"), ("gender_layer_10_relu", "layer_10_relu")],
)
def test_region_scores_agree_with_facextool(shared, shared_faces, file, layer, request):
    if file.startswith("gender"):
        model = load_model(f"onnx:{request.getfixturevalue('gender_file')}", normalize=BYTES, device="cpu")
    else:
        model = load_model("torchvision:resnet18", num_classes=2, device="cpu")
    peer = pd.read_csv(shared / "expected" / f"facextool_{file}.csv").set_index("img")
    found = score_regions(model, shared_faces[:60], layer, 1, progress=False).sel(target_class=1)
    has = found.per_image.notnull().to_pandas()
    assert [Path(path).name for path in has.index] == peer.index.tolist()
    expected = peer[has.columns].where(has.to_numpy()).mean()
    ours = found.score.to_series()
    assert (ours.isna() == expected.isna()).all()
    known = ours.notna()
    worst = (ours - expected).abs()
    assert worst.max() <= 0.03, worst.nlargest(3)
    assert spearmanr(ours[known], expected[known])[0] >= 0.99
