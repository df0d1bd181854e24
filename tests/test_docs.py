"""What the documentation shows is parsed: configurations as YAML, code as Python that names what is there."""

import ast
import inspect
import re
from pathlib import Path

import pytest
import yaml

import facexkit as fx
from facexkit.probe.options import PassOptions

ROOT = Path(__file__).parents[1]
DOCS = sorted(ROOT.glob("docs/*.md"))
BLOCKS = [(file.name, *found) for file in DOCS for found in re.findall(r"```(yaml|python)\n(.*?)```", file.read_text(), re.DOTALL)]


@pytest.mark.parametrize(("file", "kind", "text"), BLOCKS)
def test_a_block_is_what_it_says(file, kind, text):
    if kind == "yaml":
        assert isinstance(yaml.safe_load(text), dict)
        return
    options = set(PassOptions.__dataclass_fields__)
    for node in ast.walk(ast.parse(text)):
        if isinstance(node, ast.Attribute) and isinstance(node.value, ast.Name) and node.value.id == "fx":
            assert node.attr in dir(fx)
        if isinstance(node, ast.Call) and ast.unparse(node.func) in ("fx.score_regions", "fx.dissect"):
            own = inspect.signature(getattr(fx, node.func.attr)).parameters
            assert {keyword.arg for keyword in node.keywords} <= {*options, *own, "quick"}


def test_a_cluster_of_the_operator_has_a_scheduler_that_its_service_finds():
    (text,) = [text for file, kind, text in BLOCKS if file == "cluster.md" and "kind: DaskCluster" in text]
    spec = yaml.safe_load(text)["spec"]
    (scheduler,), (worker,) = (spec[part]["spec"]["containers"] for part in ("scheduler", "worker"))
    assert spec["scheduler"]["service"]["ports"][0]["targetPort"] == scheduler["ports"][0]["name"]
    assert worker["args"][0] == "dask-worker" and worker["image"] == scheduler["image"]


@pytest.mark.parametrize("page", [*ROOT.glob("*.md"), *DOCS], ids=lambda page: page.name)
def test_what_a_page_links_to_is_there(page):
    links = re.findall(r"\]\(([^)#\s]+)", page.read_text())
    assert not [link for link in links if ":" not in link and not (page.parent / link).exists()]


def test_the_guide_runs_from_photographs_to_two_data_sets(tmp_path, monkeypatch, drawn_faces, demo_models):
    monkeypatch.chdir(tmp_path)
    Path("photos").mkdir()
    table = drawn_faces.table[["path", "gender", "age"]].assign(path=[f"{row}.png" for row in range(len(drawn_faces))])
    table.rename(columns={"path": "photo"}).to_csv("labels.csv", index=False)
    for row, path in enumerate(drawn_faces.table.path):
        drawn_faces.images.read(path).save(f"photos/{row}.png")
    said = {"network": demo_models["biased"].network}
    for _, _, text in [block for block in BLOCKS if block[:2] == ("guide.md", "python")]:
        exec(compile(text, "docs/guide.md", "exec"), said)
    assert Path("fiftyone/samples.json").exists() and Path("spotlight/faces.parquet").exists()
    assert any("decision" in sentence for sentence in fx.region_findings(said["share"]))
