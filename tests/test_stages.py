"""Running notebooks: parameters checked first, failures told, results gathered."""

import ast
import inspect
import json
import os
import re
import sys

import nbformat
import psutil
import pytest
from IPython.core.interactiveshell import InteractiveShell
from nbformat.v4 import new_code_cell, new_markdown_cell, new_notebook

import facexkit as fx
from facexkit.errors import FacexkitError
from facexkit.faces.formats import FORMATS
from facexkit.parameters import PASSES, UNTOLD, WITHOUT, Parameters, check, parse, read_parameter_file
from facexkit.show.index import write_index
from facexkit.show.run import Run
from facexkit.stages import headlines, run_stages
from facexkit.stages.notebooks import ThisPython, choose_stages, keep_static, list_stages, to_html
from facexkit.stages.run_folder import write_explorer, write_manifest

PARAMETERS = 'limit: int = 5  # images\nseed: int = 0  # of everything\nout: str = "x"  # folder'


def write_stage(folder, name, *code, title="A stage", after=()):
    cells = [new_markdown_cell(f"# {title}"), new_code_cell(PARAMETERS, metadata={"tags": ["parameters"]})]
    kernel = {"name": "python3", "display_name": "Python 3", "language": "python"}
    metadata = {"kernelspec": kernel, "facexkit": {"after": [*after]}}
    notebook = new_notebook(cells=[*cells, *map(new_code_cell, code)], metadata=metadata)
    folder.mkdir(exist_ok=True)
    nbformat.write(notebook, folder / name)


CONCLUDE = """import numpy as np, os, pathlib, facexkit as fx
value = float(np.random.default_rng(seed).random(limit).sum())
pathlib.Path(out, "numbers.csv").write_text(repr(value))
fx.save_findings("alpha", out, [f"the sum of {limit} is <{value}>"], files=[(f"{out}/numbers.csv", "the numbers")])"""


@pytest.fixture
def two_stages(tmp_path):
    write_stage(tmp_path / "nb", "01_alpha.ipynb", CONCLUDE, title="Alpha & co")
    write_stage(tmp_path / "nb", "04_beta.ipynb", "limit + 1")
    (tmp_path / "nb" / "notes.ipynb").write_text("no stage")
    return tmp_path / "nb"


def quiet(*names, nb, run, **parameters):
    return run_stages(names, parameters, run, jobs=1, notebooks=nb, say=lambda line: None)


def test_stages_are_found_in_running_order_by_either_name(two_stages):
    assert [stage.name for stage in list_stages(two_stages)] == ["alpha", "beta"]
    assert [stage.name for stage in choose_stages(["04_beta", "alpha"], two_stages)] == ["alpha", "beta"]
    assert [stage.name for stage in choose_stages([], two_stages)] == ["alpha", "beta"]


def test_an_unknown_stage_is_told_with_the_nearest(two_stages):
    with pytest.raises(FacexkitError, match="unknown stage 'alpa'; did you mean 'alpha'"):
        choose_stages(["alpa"], two_stages)


def test_a_run_leaves_notebooks_pages_manifest_and_index(two_stages, tmp_path):
    out = tmp_path / "run {1}"
    manifest = quiet(nb=two_stages, run=out, limit=3)
    for name in ("01_alpha.ipynb", "01_alpha.html", "04_beta.ipynb", "04_beta.html", "index.html"):
        assert (out / name).stat().st_size > 0
    assert json.loads((out / "manifest.json").read_text()) == manifest
    alpha, beta = manifest["stages"]
    assert (alpha["name"], alpha["title"], beta["findings"]) == ("alpha", "Alpha & co", [])
    assert alpha["files"] == [{"path": "numbers.csv", "what": "the numbers"}]
    assert manifest["headline"] == alpha["findings"]
    assert manifest["parameters"]["limit"] == 3 and manifest["parameters"]["quantile"] == 0.005
    assert nbformat.read(out / "04_beta.ipynb", 4).cells[-1].outputs[0].data["text/plain"] == "4"
    assert not [path.name for path in out.iterdir() if path.name.startswith(".") or "running" in path.name]


def test_a_stage_that_heads_the_page_comes_before_others():
    stages = [{"findings": []}, {"findings": ["b"]}, {"findings": ["a"], "headline": True}, {"findings": ["c", "d"], "pictures": ["p"]}]
    assert headlines({"stages": stages}) == ["a", "c", "b"] and headlines({"stages": stages}, most=1) == ["a"]
    ranks = [{"findings": [name], "headline": rank, "pictures": ["p"]} for name, rank in (("model", 3), ("regions", 4), ("bias", None))]
    assert headlines({"stages": ranks}) == ["regions", "model"]


def test_a_stage_that_ran_with_other_parameters_is_marked_and_its_finding_comes_last(tmp_path):
    limits = {"first": 60, "second": 40}
    stages = [
        {"name": name, "findings": [f"{name}.", "more."], "parameters": {"limit": limit, "out": name}, "headline": limit == 60}
        for name, limit in limits.items()
    ]
    manifest = {"title": "run", "parameters": {"limit": 40, "out": "x"}, "stages": stages}
    assert headlines(manifest) == ["second.", "first."]
    page = write_index(tmp_path, {**manifest, "headline": headlines(manifest)}).read_text()
    assert page.count("Made earlier with other parameters: limit = 60.") == 1
    assert page.count("⚠ Made earlier with other parameters.</span>") == 1, "nor does the top of the page hide it"


def test_what_a_finding_says_is_escaped_on_the_index_page(two_stages, tmp_path):
    quiet("alpha", nb=two_stages, run=tmp_path / "run")
    assert "&lt;" in (tmp_path / "run/index.html").read_text() and "<2." not in (tmp_path / "run/index.html").read_text()


def test_one_seed_gives_the_same_numbers_and_another_seed_others(two_stages, tmp_path):
    numbers = []
    for run, seed in enumerate((7, 7, 8)):
        quiet("alpha", nb=two_stages, run=tmp_path / str(run), seed=seed)
        numbers.append((tmp_path / str(run) / "numbers.csv").read_text())
    assert numbers[0] == numbers[1] != numbers[2]


def test_a_stage_run_later_into_the_same_folder_keeps_the_earlier_one(two_stages, tmp_path):
    quiet("beta", nb=two_stages, run=tmp_path / "run")
    manifest = quiet("alpha", nb=two_stages, run=tmp_path / "run")
    assert [stage["name"] for stage in manifest["stages"]] == ["alpha", "beta"]


def test_the_notebook_runs_on_this_python_whatever_kernels_the_home_has(two_stages, tmp_path, monkeypatch):
    for name in ("python3", "facexkit"):
        folder = tmp_path / "home/.local/share/jupyter/kernels" / name
        folder.mkdir(parents=True)
        spec = {"argv": ["/no/such/python", "{connection_file}"], "display_name": name, "language": "python"}
        (folder / "kernel.json").write_text(json.dumps(spec))
    monkeypatch.setenv("HOME", str(tmp_path / "home"))
    monkeypatch.setenv("JUPYTER_PATH", str(tmp_path / "home/.local/share/jupyter"))
    write_stage(two_stages, "05_which.ipynb", "import sys; sys.executable")
    quiet("which", nb=two_stages, run=tmp_path / "run")
    ran = nbformat.read(tmp_path / "run/05_which.ipynb", 4)
    assert ran.cells[-1].outputs[0].data["text/plain"] == repr(sys.executable)


def test_the_kernel_keeps_its_cache_in_the_run_and_trust_is_off_unless_given(two_stages, tmp_path, monkeypatch):
    monkeypatch.delenv("FACEXKIT_CACHE")
    write_stage(two_stages, "05_env.ipynb", "import os, facexkit as fx; (os.environ['FACEXKIT_CACHE'], fx.run_is_trusted())")
    for trust in (False, True):
        run_stages(["env"], {}, tmp_path / "run", trust=trust, notebooks=two_stages, say=lambda line: None)
        shown = nbformat.read(tmp_path / "run/05_env.ipynb", 4).cells[-1].outputs[0].data["text/plain"]
        assert ast.literal_eval(shown) == (str(tmp_path / "run/cache"), trust)
    assert "FACEXKIT_TRUST" not in os.environ


def test_a_cache_that_somebody_named_is_kept(two_stages, tmp_path, monkeypatch):
    monkeypatch.setenv("FACEXKIT_CACHE", str(tmp_path / "mine"))
    write_stage(two_stages, "05_env.ipynb", "import os; os.environ['FACEXKIT_CACHE']")
    quiet("env", nb=two_stages, run=tmp_path / "run")
    shown = nbformat.read(tmp_path / "run/05_env.ipynb", 4).cells[-1].outputs[0].data["text/plain"]
    assert ast.literal_eval(shown) == str(tmp_path / "mine")


def test_a_run_that_goes_on_keeps_what_is_finished_with_the_same_parameters(two_stages, tmp_path):
    out, said = tmp_path / "run", []
    shards = out / PASSES / "abc" / "000000.npz"

    def kept(*names, **how):
        shards.parent.mkdir(parents=True, exist_ok=True)
        shards.touch()
        said.clear()
        run_stages(names, how.pop("given", {}), out, notebooks=two_stages, say=said.append, **how)
        return [line.endswith("kept") for line in said if line.startswith("[")]

    assert kept() == [False, False] and not shards.exists()
    assert kept(resume=True, given={"client": None}) == [True, True] and shards.exists()
    (out / "04_beta.html").unlink()
    assert kept(resume=True) == [True, False] and not shards.exists()
    assert kept("beta", resume=True, given={"seed": 3}) == [False]


def test_a_run_that_begins_afresh_forgets_its_stages_and_shards_before_the_first_one_runs(two_stages, tmp_path):
    quiet(nb=two_stages, run=tmp_path / "run")
    write_stage(two_stages, "01_alpha.ipynb", "import pathlib\nassert pathlib.Path(out, 'passes').exists(), 'gone'")
    (tmp_path / "run" / PASSES).mkdir()
    with pytest.raises(FacexkitError, match="gone"):
        quiet("alpha", nb=two_stages, run=tmp_path / "run")
    assert [stage["name"] for stage in json.loads((tmp_path / "run/manifest.json").read_text())["stages"]] == ["beta"]


OF_A_USER = {"data": "csv", "model": "torchvision:resnet18"}
APPLY = {  # what is given → the stages that apply to it, of those that do not apply to everything
    "nothing": ({}, []),
    "a target": ({"target": "smiling"}, ["global_bias", "fineface", "repair"]),
    "groups": ({"protected": ["age"]}, ["global_bias"]),
    "both": ({"target": "smiling", "protected": ["age"]}, ["global_bias", "audit", "fineface", "repair"]),
    "a format with a target of its own": ({"data": "utkface"}, ["global_bias", "fineface", "repair"]),
    "pairs": ({"data": "pairs"}, ["verification"]),
    "published pairs": ({"data": "rfw"}, ["verification"]),
    "FairFace": ({"model": "fairface:7", "weights": "x.pt"}, ["fairface"]),
    "the built-in faces": ({"data": "synthetic"}, [*WITHOUT]),
    "a format of another package": ({"data": "brought"}, ["global_bias", "fineface", "repair"]),
}


@pytest.mark.parametrize(("given", "stages"), APPLY.values(), ids=APPLY)
def test_the_parameters_tell_which_stages_apply(given, stages):
    asked = Run({**OF_A_USER, **given})
    for stage in WITHOUT.keys() - stages:
        with pytest.raises(fx.StageDoesNotApply, match=re.escape(WITHOUT[stage])):
            asked.require(stage)
    for stage in (*stages, "faces", "model", "regions", "record", "dissect", "hierarchy", "trust"):
        asked.require(stage)


def test_the_formats_without_a_target_of_their_own_are_those_whose_readers_name_none():
    own = {name for name in FORMATS if "target=" in inspect.getsource(FORMATS[name])}
    assert own | {"synthetic", *UNTOLD} == {*FORMATS} and not own & {*UNTOLD}


def test_a_stage_that_does_not_apply_starts_no_python_and_is_told_in_one_line(tmp_path, monkeypatch):
    write_stage(tmp_path / "nb", "09_audit.ipynb", "1 / 0", title="The <audit>: whom")
    write_stage(tmp_path / "nb", "01_faces.ipynb", "1")
    monkeypatch.setattr(ThisPython, "start_kernel", lambda *_, **__: pytest.fail("a Python was started"))
    said, out = [], tmp_path / "run"
    manifest = run_stages(["audit"], OF_A_USER, out, notebooks=tmp_path / "nb", say=said.append)
    assert said == [f"The <audit>: whom: not run. {WITHOUT['audit']}"]
    assert manifest["not_run"] == [{"name": "audit", "title": "The <audit>: whom", "why": WITHOUT["audit"]}]
    assert manifest["stages"] == [] and json.loads((out / "manifest.json").read_text()) == manifest
    assert f"<li><b>The &lt;audit&gt;</b> {WITHOUT['audit']}</li>" in (out / "index.html").read_text()


@pytest.mark.parametrize("stage", WITHOUT)
def test_a_notebook_that_somebody_opens_says_the_same(stage):
    (notebook,) = [nbformat.read(each.path, 4) for each in list_stages() if each.name == stage]
    code = "".join(cell.source for cell in notebook.cells if cell.cell_type == "code")
    assert f'run.require("{stage}"' in code
    with pytest.raises(fx.StageDoesNotApply, match=re.escape(WITHOUT[stage])):
        Run({}).require(stage, given=[])


def test_a_stage_that_finds_that_it_does_not_apply_ends_there_and_is_told_in_one_line(tmp_path):
    write_stage(tmp_path / "nb", "01_alpha.ipynb", "import facexkit as fx\nraise fx.StageDoesNotApply('No <lips> here.')")
    write_stage(tmp_path / "nb", "02_beta.ipynb", "1")
    said, out = [], tmp_path / "run"
    manifest = run_stages((), {}, out, notebooks=tmp_path / "nb", say=said.append)
    assert "      alpha: not run. No <lips> here." in said
    assert manifest["not_run"] == [{"name": "alpha", "title": "A stage", "why": "No <lips> here."}]
    assert [stage["name"] for stage in manifest["stages"]] == ["beta"] and not list(out.glob("*alpha*"))
    assert "No &lt;lips&gt; here." in (out / "index.html").read_text()


def test_a_notebook_that_is_run_by_hand_says_why_it_stops_without_a_traceback(capsys):
    InteractiveShell().run_cell("import facexkit as fx\nfx.Run({}).require('audit', given=None)")
    assert capsys.readouterr().out.strip() == WITHOUT["audit"]


MEETS = """import pathlib, time
pathlib.Path(out, "{own}").touch()
while not pathlib.Path(out, "{other}").exists(): time.sleep(0.05)"""


def test_two_stages_run_side_by_side_and_one_that_takes_up_another_waits_for_it(tmp_path):
    write_stage(tmp_path / "nb", "01_gamma.ipynb", 'assert (pathlib := __import__("pathlib")).Path(out, "b").exists()', after=["beta"])
    write_stage(tmp_path / "nb", "02_alpha.ipynb", MEETS.format(own="a", other="b"))
    write_stage(tmp_path / "nb", "03_beta.ipynb", MEETS.format(own="b", other="a"))
    said = []
    run_stages((), {}, tmp_path / "run", jobs=2, notebooks=tmp_path / "nb", say=said.append)
    started = [line for line in said if line.startswith("[")]
    assert started == ["[2/3] A stage …", "[3/3] A stage …", "[1/3] A stage …"]
    assert said[3].startswith("      The page of this run, which grows with each stage: /")


def test_a_stage_that_fails_ends_the_one_beside_it_and_leaves_its_own_notebook_alone(tmp_path):
    write_stage(tmp_path / "nb", "01_alpha.ipynb", MEETS.format(own="a", other="never"))
    write_stage(tmp_path / "nb", "02_beta.ipynb", MEETS.format(own="b", other="a"), "1 / 0")
    with pytest.raises(FacexkitError, match="stage 'beta', cell"):
        run_stages((), {}, tmp_path / "run", jobs=2, notebooks=tmp_path / "nb", say=lambda line: None)
    assert [path.name for path in (tmp_path / "run").glob("*.ipynb")] == ["02_beta.failed.ipynb"]
    assert not [each for each in psutil.Process().children(recursive=True) if "ipykernel" in " ".join(each.cmdline())]


def test_a_failing_notebook_names_the_cell_the_error_and_the_half_run_notebook(two_stages, tmp_path):
    write_stage(two_stages, "02_fails.ipynb", "'first'", "\nfor k in [0]:\n    1 / k", "'never'")
    with pytest.raises(FacexkitError) as error:
        quiet(nb=two_stages, run=tmp_path / "run")
    told, half_run = str(error.value), tmp_path / "run/02_fails.failed.ipynb"
    assert "ZeroDivisionError: division by zero" in told and "for k in [0]:" in told and str(half_run) in told
    assert [cell.get("execution_count") for cell in nbformat.read(half_run, 4).cells if "1 / k" in cell.source] == [4]
    assert (tmp_path / "run/01_alpha.html").exists() and not (tmp_path / "run/04_beta.ipynb").exists()
    assert not (tmp_path / "run/02_fails.ipynb").exists()


def test_a_users_error_in_a_notebook_is_told_in_plain_words(two_stages, tmp_path):
    write_stage(two_stages, "02_fails.ipynb", "import facexkit as fx\nraise fx.FacexkitError('no faces in /tmp/x')")
    with pytest.raises(FacexkitError, match="^no faces in /tmp/x\n"):
        quiet("fails", nb=two_stages, run=tmp_path / "run")


def test_a_notebook_whose_python_dies_is_told(two_stages, tmp_path):
    write_stage(two_stages, "02_dies.ipynb", "import os\nos._exit(9)")
    with pytest.raises(FacexkitError, match="stage 'dies': the notebook's Python stopped"):
        quiet("dies", nb=two_stages, run=tmp_path / "run")


@pytest.mark.parametrize(
    ("given", "told"),
    [
        ({"limt": 3}, "unknown parameter 'limt'; did you mean 'limit'"),
        ({"limit": "ten"}, r"parameter 'limit' cannot be 'ten': it must be a valid integer"),
        ({"limit": 0}, "greater than or equal to 1"),
        ({"quantile": 2}, "less than 1"),
        ({"seed": 1.5}, "parameter 'seed' cannot be 1.5"),
        ({"target_class": []}, "parameter 'target_class' cannot be"),
        ({"data": 5}, "parameter 'data' cannot be 5"),
        ({"out": "elsewhere"}, "--out"),
        ({"data": "celeba"}, "needs a model of its own"),
    ],
)
def test_a_wrong_parameter_is_refused_before_anything_runs(two_stages, tmp_path, given, told):
    with pytest.raises(FacexkitError, match=told):
        quiet(nb=two_stages, run=tmp_path / "run", **given)
    assert not (tmp_path / "run").exists()


@pytest.mark.parametrize(
    ("name", "text", "value"),
    [
        ("limit", "12", 12),
        ("target_class", "no", "no"),
        ("target_class", "1", 1),
        ("target_class", "[0, female]", [0, "female"]),
        ("normalize", "{mean: [122.8, 117, 104.3], scale: 256}", {"mean": [122.8, 117, 104.3], "scale": 256}),
        ("normalize", "half", "half"),
        ("data_root", "2024", "2024"),
        ("data_root", "a: b", "a: b"),
        ("limit", "None", None),
        ("protected", "[age, gender]", ["age", "gender"]),
    ],
)
def test_a_value_from_the_command_line_is_read_as_what_it_stands_for(name, text, value):
    assert parse(name, text) == value
    assert getattr(check({name: value}), name) == value


def test_names_with_commas_between_are_a_list():
    assert check({"protected": "age, gender"}).protected == ["age", "gender"]


def test_a_parameter_file_that_is_missing_or_no_mapping_is_told_with_its_place(tmp_path):
    path = tmp_path / "p.yaml"
    with pytest.raises(FacexkitError, match="p.yaml cannot be read: No such file"):
        read_parameter_file(path)
    path.write_text("limit: 3\nseed: [1\n")
    with pytest.raises(FacexkitError, match="is not YAML that can be read, line 3"):
        read_parameter_file(path)
    path.write_text("- limit\n")
    with pytest.raises(FacexkitError, match="one NAME: VALUE a line"):
        read_parameter_file(path)
    path.write_text("limit: 3\ntarget_class: [0, 1]\n")
    assert read_parameter_file(path) == {"limit": 3, "target_class": [0, 1]}


def test_every_parameter_has_a_description():
    assert all(field.description for field in Parameters.model_fields.values())


def test_a_widget_leaves_its_picture_and_a_widget_without_one_leaves_nothing():
    widget = {"application/vnd.jupyter.widget-view+json": {"model_id": "1"}, "text/plain": "Widget()"}
    outputs = [nbformat.v4.new_output("display_data", data) for data in (widget | {"image/png": "iVBORw0="}, dict(widget))]
    notebook = new_notebook(cells=[new_code_cell("w", outputs=outputs)], metadata={"widgets": {"state": {}}})
    keep_static(notebook)
    assert [set(output.data) for output in notebook.cells[0].outputs] == [{"image/png", "text/plain"}]
    assert "widgets" not in notebook.metadata


def test_a_page_asks_no_other_host_for_anything():
    page = to_html(new_notebook(cells=[new_markdown_cell("# One\n$x^2$"), new_code_cell("1")]), "A <title>")
    assert "<script src" not in page and "cdnjs" not in page and "import(" not in page
    assert "A &lt;title&gt;" in page


def test_a_folder_that_cannot_be_made_is_told(two_stages, tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(FacexkitError, match="cannot be made"):
        quiet("beta", nb=two_stages, run=tmp_path / "file" / "run")


def test_a_damaged_result_is_told_and_the_run_keeps_its_page(tmp_path):
    (tmp_path / "regions" / "x.zarr").mkdir(parents=True)
    manifest, said = {"title": "run", "parameters": {"limit": 24}, "stages": []}, []
    write_manifest(tmp_path, manifest)
    write_explorer(tmp_path, manifest, os.environ, said.append)
    assert "explore.html was not written" in said[0] and "x.zarr holds no result" in said[0]
    assert (tmp_path / "index.html").is_file() and not (tmp_path / "explore.html").exists()
