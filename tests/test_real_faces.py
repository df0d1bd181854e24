"""One `facexkit run` command from real photographs to the region report, for a public model and a torchvision one."""

from __future__ import annotations

from pathlib import Path

import pandas as pd
import pytest

from facexkit.cli import main
from facexkit.faces.regions import REGIONS, UNIONS

GENDER = ["-p", "image_size", "32", "-p", "normalize", '{"mean": [122.782, 117.001, 104.298], "scale": 256}']


def run(shared: Path, out: Path, *more: str) -> pd.DataFrame:
    data = ["-p", "data", "celebamask_hq", "-p", "data_root", str(shared / "data" / "celebamask"), "-p", "target", "gender"]
    with pytest.raises(SystemExit) as left:
        main(["run", "regions", *data, *more, "-p", "device", "cpu", "--out", str(out)])
    assert left.value.code == 0
    report = (out / "regions" / "report.html").read_text(encoding="utf-8")
    assert "http://" not in report.replace("http://www.w3.org", "") and len(report) < 10_000_000
    assert "regions/report.html" in (out / "index.html").read_text(encoding="utf-8")
    return pd.read_csv(out / "regions" / "scores.csv")


def test_the_public_gender_model_goes_through_the_whole_chain(shared, gender_file, tmp_path, capsys):
    layer = ["-p", "layer", "layer_7_relu", "-p", "target_class", "[0, 1]"]
    scores = run(shared, tmp_path / "gender", "-p", "model", f"onnx:{gender_file}", *GENDER, *layer, "-p", "limit", "60")
    assert len(scores) == 2 * 2 * (len(REGIONS) + len(UNIONS))
    peer = pd.read_csv(shared / "expected" / "facextool_gender_layer_7_relu.csv").set_index("img")
    ours = scores[(scores.method == "facex") & (scores.target_class == 1)].set_index("region")
    assert (ours.score - peer[peer > 0].mean()).abs()[["nose", "skin", "hair", "background"]].max() < 0.08
    share = scores[(scores.method == "share") & (scores.target_class == 1)].set_index("region").score[list(REGIONS)]
    assert set(share.nlargest(2).index) == {"hair", "skin"}
    assert share.sum() == pytest.approx(1, abs=1e-6)
    assert "rests most on the skin" in capsys.readouterr().out


def test_a_torchvision_resnet_goes_through_the_whole_chain(shared, tmp_path):
    model = ["-p", "model", "torchvision:resnet18", "-p", "num_classes", "2", "-p", "layer", "layer4", "-p", "limit", "6"]
    scores = run(shared, tmp_path / "resnet", *model, "-p", "image_size", "96")
    assert len(scores) == 2 * (len(REGIONS) + len(UNIONS))
    assert scores.score.notna().sum() > 20
