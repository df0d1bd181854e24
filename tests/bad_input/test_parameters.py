"""Wrong parameters: of a call, of the command line, of a file; each is told in words, and none runs."""

from __future__ import annotations

import json
import os
from collections.abc import Sequence

import numpy as np
import pytest
import torch
from torch import nn

import facexkit as fx
from facexkit.arguments import ARGUMENTS, checked
from facexkit.cli import as_typed, main
from facexkit.errors import FacexkitError
from facexkit.models.face_model import FaceModel
from facexkit.parameters import Parameters, check, parse, read_parameter_file
from facexkit.plain_yaml import read_yaml, write_yaml
from facexkit.show.index import read_manifest
from facexkit.show.run import Run

INTEGER, NUMBER, TEXT = "it must be a valid integer", "it must be a valid number", "it must be a valid string"
ONE = "it must be greater than or equal to 1"


@pytest.mark.parametrize(
    ("name", "text", "told"),
    [
        ("limit", "12:30", f"cannot be '12:30': {INTEGER}"),
        ("limit", "010", f"cannot be '010': {INTEGER}"),
        ("limit", "0x10", f"cannot be '0x10': {INTEGER}"),
        ("limit", "1_000", f"cannot be '1_000': {INTEGER}"),
        ("limit", "1,000", f"cannot be '1,000': {INTEGER}"),
        ("limit", "1e3", f"cannot be 1000.0: {INTEGER}"),
        ("limit", "2020-01-01", f"cannot be '2020-01-01': {INTEGER}"),
        ("limit", "true", f"cannot be True: {INTEGER}"),
        ("limit", "'5'", f"cannot be '5': {INTEGER}"),
        ("limit", "0", f"cannot be 0: {ONE}"),
        ("limit", "*a", rf"cannot be '\*a': {INTEGER}"),
        ("limit", "!!int 3", f"cannot be '!!int 3': {INTEGER}"),
        ("limit", "9" * 30, "it must be less than or equal to 9223372036854775807"),
        ("limit", "9" * 5000, f"9…: {INTEGER}"),
        ("batch_size", "0", f"cannot be 0: {ONE}"),
        ("batch_size", "", f"cannot be None: {INTEGER}"),
        ("batch_size", "100000", "it must be less than or equal to 65536"),
        ("seed", "-1", "it must be greater than or equal to 0"),
        ("seed", "1.5", f"cannot be 1.5: {INTEGER}"),
        ("seed", "18446744073709551616", "it must be less than or equal to 9223372036854775807"),
        ("image_size", "100000", "it must be less than or equal to 4096"),
        ("num_classes", "9999999", "it must be less than or equal to 1048576"),
        ("mask_size", "[112]", rf"cannot be \[112\]: {INTEGER}"),
        ("quantile", "1", "it must be less than 1"),
        ("quantile", "0", "it must be greater than 0"),
        ("quantile", "1e999", "cannot be inf: it must be a finite number"),
        ("quantile", ".nan", f"cannot be '.nan': {NUMBER}"),
        ("quantile", "half", f"cannot be 'half': {NUMBER}"),
        ("device", "", f"cannot be None: {TEXT}"),
        ("data", "x" * 5000, "it must have at most 4096 characters"),
        ("data_root", "a\x1b[2Jb", r"it must be text that can be printed, without '\\x1b'"),
        ("out", "a\nb", r"it must be text that can be printed, without '\\n'"),
        ("weights", "\udcff", "parameter 'weights' cannot be"),
        ("class_names", "[a, b, a]", "it must name each once; 'a' stands there twice"),
        ("class_names", "a, b, a", "it must name each once; 'a' stands there twice"),
        ("class_names", "a,,b", "it must have at least 1 character"),
        ("class_names", "{a: b}", "it must be a valid list"),
        ("class_names", "[[a]]", TEXT),
        ("protected", "age, age", "'age' stands there twice"),
        ("target_class", "-1", "it must be greater than or equal to 0"),
        ("target_class", "[]", "it must have at least 1 item"),
        ("target_class", "[[0]]", rf"cannot be \[\[0\]\]: {INTEGER} or {TEXT}"),
        ("target_class", "{a: 1}", f"{INTEGER} or {TEXT} or it must be a valid list"),
        ("normalize", "[1, 2]", "it must be a valid string or it must be a valid dictionary"),
        ("normalize", "{mean: x, std: 1}", NUMBER),
        ("output", "[0]", f"{INTEGER} or {TEXT}"),
    ],
)
def test_a_wrong_value_from_the_command_line_is_told_with_what_is_right(name, text, told):
    with pytest.raises(FacexkitError, match=told) as error:
        check({name: parse(name, text)})
    assert f"parameter {name!r}" in str(error.value) and len(str(error.value)) < 500


@pytest.mark.parametrize(
    ("name", "text", "value"),
    [
        ("class_names", "[no, yes]", ["no", "yes"]),
        ("class_names", "no, yes", ["no", "yes"]),
        ("class_names", "[0, 1]", ["0", "1"]),
        ("class_names", "[0-2, 2020-01-01, 12:30, 010, 1e3, true]", ["0-2", "2020-01-01", "12:30", "010", "1e3", "true"]),
        ("class_names", '["a, b", c]', ["a, b", "c"]),
        ("protected", "g,y", ["g", "y"]),
        ("target_class", "[0, yes, 1.5]", [0, "yes", "1.5"]),
        ("target_class", "010", "010"),
        ("target_class", "true", "true"),
        ("output", "1", 1),
        ("output", "gender", "gender"),
        ("quantile", "1e-3", 0.001),
        ("data_root", "0042", "0042"),
        ("weights", "null", None),
    ],
)  # fmt: skip
def test_what_was_typed_is_what_runs(name, text, value):
    assert getattr(check({name: parse(name, text)}), name) == value


@pytest.mark.parametrize(
    ("text", "told"),
    [
        ("a: &x [1, 1]\nb: [*x, *x]\n", r"line 1: it has an anchor \(&\) or alias \(\*\); quote"),
        ("limit: 3\ntarget: *x\n", r"line 2: it has an anchor \(&\) or alias \(\*\); quote"),
        ("model: !!python/object/apply:os.system ['false']\n", r"line 1: it has a tag \(!\)"),
        ("limit: !!int '0x10'\n", r"line 1: it has a tag \(!\)"),
        ("limit: 3\nseed: 1\nlimit: 4\n", "line 3: it has 'limit' twice"),
        ("normalize: {mean: 1, mean: 2}\n", "line 1: it has 'mean' twice"),
        ("protected: " + "[" * 100_000, "line 1: it has more than 8 lists or mappings in each other"),
        ("a:\n" + "".join(" " * k + "- \n" for k in range(200)), "more than 8 lists"),
        ("? [a]\n: 1\n", "line 1: it has a key that is no name"),
        ("limit: 3\n---\nlimit: 4\n", "line 2: but found another document"),
        ("limit:\t3\n\tseed: 1", "line 1: found character"),
        ("limit: [1\n", "line 2: expected ',' or ']'"),
        ("limit: \x00", "unacceptable character #x0000"),
        ("- limit\n", "holds a list; write one NAME: VALUE a line"),
        ("limit\n", "holds a str; write one NAME: VALUE a line"),
        ("#" * (1 << 18) + "\nlimit: 3\n", "is larger than 256 KB"),
        (b"\xff\xfel\x00", "cannot be read: 'utf-8' codec"),
    ],
)
def test_a_file_of_parameters_that_is_not_plain_is_refused_with_its_line(tmp_path, text, told):
    path = tmp_path / "p.yaml"
    path.write_bytes(text if isinstance(text, bytes) else text.encode())
    with pytest.raises(FacexkitError, match=f"(?s)parameter file .*p.yaml.*{told}"):
        read_parameter_file(path)


def test_a_folder_or_a_pipe_is_no_file_of_parameters(tmp_path):
    os.mkfifo(tmp_path / "pipe")
    for path in (tmp_path, tmp_path / "pipe"):
        with pytest.raises(FacexkitError, match="is no file"):
            read_parameter_file(path)


def test_a_file_of_parameters_gives_what_its_words_mean(tmp_path):
    path = tmp_path / "p.yaml"
    path.write_text("\ufefflimit: 3\nclass_names: [no, 010, ~]\ndata_root: 2024\ntarget_class: 2020-01-01\nweights:\n")
    found = {"limit": 3, "class_names": ["no", "010", "~"], "data_root": "2024", "target_class": "2020-01-01"}
    assert read_parameter_file(path) == {**found, "weights": None}


def test_a_text_that_looks_like_something_else_is_written_in_quotes():
    texts = ["no", "12:30", "010", "1e3", "5.", "null", "~", "", "true", "*a", "&a", "!a", "a: b", "=", "é"]
    content = {"texts": texts, "n": 1e20, "m": 5, "k": None}
    assert read_yaml(write_yaml(content)) == content


class Net(nn.Module):
    def __init__(self):
        super().__init__()
        self.conv, self.fc = nn.Conv2d(3, 4, 3, padding=1), nn.Linear(4, 2)

    def forward(self, x):
        return self.fc(self.conv(x).mean((2, 3)))


@pytest.fixture(scope="module")
def model():
    return FaceModel(Net(), name="net", image_size=16, device="cpu")


@pytest.fixture(scope="module")
def faces():
    return fx.load_faces("synthetic", count=6, size=16)


LOAD = [
    ({"image_size": "64"}, f"fx.load_model: image_size cannot be '64': {INTEGER}"),
    ({"image_size": True}, f"image_size cannot be True: {INTEGER}"),
    ({"image_size": 1.5}, f"image_size cannot be 1.5: {INTEGER}"),
    ({"num_classes": "2"}, f"num_classes cannot be '2': {INTEGER}"),
    ({"num_classes": 0}, ONE),
    ({"weights": 5}, f"weights cannot be 5: {TEXT}"),
    ({"seed": -1}, "seed cannot be -1: it must be greater than or equal to 0"),
    ({"seed": 10**5000}, "seed cannot be a number of 16610 bits: it must be less than or equal to"),
    ({"device": 0}, f"device cannot be 0: {TEXT}"),
    ({"class_names": ["a", "a"]}, "it must name each once; 'a' stands there twice"),
    ({"class_names": "ab", "num_classes": 3}, "gives 3 outputs, but class_names has 1 names"),
    ({"class_names": 5}, "class_names cannot be 5: it must be a valid list"),
    ({"trust": "yes"}, "trust cannot be 'yes': it must be a valid boolean"),
    ({"weight": "x"}, "unknown argument of fx.load_model 'weight'; did you mean 'weights'"),
    ({"source": None}, f"source cannot be None: {TEXT}"),
    ({"normalize": 5}, "normalize cannot be 5: it must be a valid string or it must be a valid dictionary"),
]  # fmt: skip


@pytest.mark.parametrize(("given", "told"), LOAD)
def test_a_wrong_argument_of_load_model_is_told(given, told):
    with pytest.raises(FacexkitError, match=told):
        fx.load_model(**{"source": "torchvision:squeezenet1_1", "image_size": 32, "device": "cpu", **given})


CALLS = [
    ("predict", {"batch_size": 0}, ONE),
    ("predict", {"batch_size": "8"}, INTEGER),
    ("predict", {"batchsize": 8}, "unknown argument of fx.predict 'batchsize'; did you mean 'batch_size'"),
    ("predict", {"faces": "synthetic"}, "faces cannot be 'synthetic': it must be a face set that fx.load_faces"),
    ("predict", {"model": "demo:fair"}, "model cannot be 'demo:fair': it must be a model that fx.load_model returned"),
    ("score_regions", {"layer": "conv", "foo": 1}, "unknown argument of fx.score_regions 'foo'; known: model, faces"),
    ("score_regions", {"layer": "conv", "bach_size": 1}, "did you mean 'batch_size'"),
    ("score_regions", {"layer": "conv", "max_skipped": "a"}, f"fx.score_regions: max_skipped cannot be 'a': {NUMBER}"),
    ("score_regions", {"layer": "conv", "max_skipped": float("nan")}, "cannot be nan: it must be a finite number"),
    ("score_regions", {"layer": "conv", "max_skipped": 2}, "it must be less than or equal to 1"),
    ("score_regions", {"layer": "conv", "workers": -1}, "workers cannot be -1: it must be greater than or equal to 0"),
    ("score_regions", {"layer": "conv", "target_class": 1.0}, "target_class cannot be 1.0"),
    ("score_regions", {"layer": 5}, f"layer cannot be 5: {TEXT}"),
    ("score_regions", {"method": "share", "partners": "4"}, f"partners cannot be '4': {INTEGER}"),
    ("score_regions", {"layer": "fc"}, "'fc' of 'net' gives no places to look at, one number a unit; take one of conv"),
    ("dissect", {"layer": "conv", "mask_size": 16, "foo": 1}, "unknown argument of fx.dissect 'foo'"),
    ("dissect", {"layer": "conv", "quantile": 0}, "quantile cannot be 0: it must be greater than 0"),
    ("dissect", {"layer": "conv", "batch_size": None}, f"batch_size cannot be None: {INTEGER}"),
    ("record", {"layers": ["conv"], "batch_size": 0}, ONE),
    ("record", {"layers": 5}, "layers cannot be 5: it must be a valid list"),
    ("global_bias", {"layer": "conv", "attributes": ["gender"], "seed": -1}, "seed cannot be -1"),
    ("unit_effects", {"layer": "conv", "protected": "gender", "batch_size": 0}, ONE),
    ("audit", {"replicates": 0}, ONE),
    ("score_regions", {"layer": "conv", "autocast": "half"}, "autocast cannot be 'half': it must be torch.float16 or"),
    ("list_layers", {"faces": None}, "unknown argument of fx.list_layers 'faces'; known: model"),
]


@pytest.mark.parametrize(("function", "given", "told"), CALLS)
def test_a_wrong_argument_of_a_measure_is_told_with_the_functions_name(model, faces, function, given, told):
    first = {"models": model} if function == "audit" else {"model": model}
    if function != "list_layers":
        first["faces"] = faces
    with pytest.raises(FacexkitError, match=told):
        getattr(fx, function)(**{**first, **given})


@pytest.mark.parametrize(
    ("function", "given", "told"),
    [
        ("region_findings", [None], "fx.region_findings: results cannot be None: it must be a row of them, as a list"),
        ("plot_regions", [5], "results cannot be 5: it must be a row of them"),
        ("error_rates", [5, 5], "similarity cannot be 5: it must be a row of them"),
        ("accuracy_by", [None, "age"], "predictions cannot be None: it must be a table, a pandas.DataFrame"),
        ("count_units", [None], "ranked cannot be None: it must be a valid dictionary"),
        ("write_activations", [5, "out"], "recorded cannot be 5: it must be a valid dictionary"),
        ("face_map", [5], "scores cannot be 5: it must be a result, an xarray.Dataset"),
        ("run_stages", ["faces", 5], "parameters cannot be 5: it must be a valid dictionary"),
        ("read_result", [5], f"path cannot be 5: {TEXT}"),
    ],
)
def test_what_is_no_result_and_no_table_is_told(function, given, told):
    with pytest.raises(FacexkitError, match=told):
        getattr(fx, function)(*given)


def test_a_missing_or_a_surplus_argument_is_told():
    with pytest.raises(FacexkitError, match="fx.predict: missing a required argument: 'faces'; it takes model, faces"):
        fx.predict(FaceModel(Net(), name="net", image_size=16, device="cpu"))
    with pytest.raises(FacexkitError, match="fx.list_layers: too many positional arguments"):
        fx.list_layers(1, 2)


def test_numpy_numbers_tuples_and_none_are_taken_as_what_they_mean():
    @checked
    def take(batch_size: int = 1, quantile: float = 0.5, names: Sequence[str] = (), limit: int | None = 3):
        return batch_size, quantile, names, limit

    assert take(np.int64(4), np.float32(0.25), ("a", np.str_("b")), None) == (4, 0.25, ["a", "b"], None)
    assert take() == (1, 0.5, (), 3)


def test_a_type_error_of_the_function_itself_stays_one():
    @checked
    def fails(**how):
        raise TypeError("got an unexpected keyword argument 'inner'")

    with pytest.raises(TypeError, match="inner"):
        fails(outer=1)


def test_calls_and_the_command_line_share_their_types():
    shared = {name: kind for names in ARGUMENTS.values() for name, kind in names.items()}
    for name in ("batch_size", "seed", "mask_size", "quantile"):
        field = Parameters.model_fields[name]
        assert all(part in field.metadata for part in shared[name].__metadata__[-1].metadata), name


@pytest.mark.parametrize(
    ("manifest", "told"),
    [
        ([], r"\(the whole: Input should be a valid dictionary\)"),
        (None, r"\(the whole: "),
        ({"stages": []}, r"\(title: Field required\)"),
        ({"title": 1}, r"\(title: Input should be a valid string\)"),
        ({"title": "x", "stages": {}}, r"\(stages: Input should be a valid list\)"),
        ({"title": "x", "stages": [{"name": "a"}]}, r"\(stages → 0 → title: Field required\)"),
        ({"title": "x", "parameters": []}, r"\(parameters: Input should be a valid dictionary\)"),
        ("[" * 100_000, "is no manifest"),
        ("{", "is no manifest"),
    ],
)
def test_a_manifest_of_another_shape_is_told_with_the_place(tmp_path, manifest, told):
    (tmp_path / "manifest.json").write_text(manifest if isinstance(manifest, str) else json.dumps(manifest))
    with pytest.raises(FacexkitError, match=f"manifest.json is no manifest.*{told}|manifest.json {told}"):
        read_manifest(tmp_path)


@pytest.mark.parametrize(
    ("message", "run", "layers"),
    [
        ("give trust=True, or save", "give --trust, or save", "give --trust, or save"),
        ("offline give weights=FILE", "offline give -p weights FILE", "offline give --weights FILE"),
        ("check masks=; name it with target=COLUMN", "check -p masks; name it with -p target COLUMN", None),
        ("take device='auto' or 'cpu'", "take -p device 'auto' or 'cpu'", "take --device 'auto' or 'cpu'"),
        ("fx.load_model: image_size cannot be 0", "image_size cannot be 0", "image_size cannot be 0"),
        ("/data/weights=3/x.pt is no file", "/data/weights=3/x.pt is no file", "/data/weights=3/x.pt is no file"),
        ("name another folder: out=", "name another folder: --out", None),
    ],
)
def test_an_error_names_the_option_that_people_type(message, run, layers):
    assert as_typed(message) == run and layers in (None, as_typed(message, True))


@pytest.mark.parametrize(
    ("arguments", "told"),
    [
        (["layers", "torchvision:squeezenet1_1", "--num-classes", "0"], "facexkit: num_classes cannot be 0"),
        (["layers", __file__ + ":Net"], "if you trust it give --trust"),
        (["run", "-f", "/dev/zero"], "facexkit: parameter file /dev/zero is no file"),
    ],
)
def test_the_command_line_tells_in_one_line(capsys, arguments, told):
    with pytest.raises(SystemExit) as leaving:
        main(arguments)
    said = capsys.readouterr().err
    assert leaving.value.code == 1 and told in said and "fx." not in said


def test_scripted_networks_have_no_layers_and_compiled_or_parallel_ones_are_opened():
    with pytest.raises(FacexkitError, match="scripted or traced network .*give the nn.Module that it was made from"):
        fx.list_layers(FaceModel(torch.jit.script(Net()), name="net", image_size=16, device="cpu"))
    for wrapped in (torch.compile(Net(), backend="eager"), nn.DataParallel(Net())):
        assert list(FaceModel(wrapped, name="net", image_size=16, device="cpu").layers.index) == ["conv", "fc"]


def test_a_scheduler_is_named_by_who_runs_and_not_by_a_file(tmp_path):
    file = tmp_path / "params.yaml"
    file.write_text("data: synthetic\nclient: tcp://somewhere:8786\n")
    with pytest.raises(FacexkitError, match="names a Dask scheduler, and what that sends can run code here; name it with"):
        read_parameter_file(file)
    assert read_parameter_file(file, trust=True)["client"] == "tcp://somewhere:8786"
    assert Run.of(tmp_path).how["client"] is None
    file.write_text("client: local\n")
    assert read_parameter_file(file) == {"client": "local"}


@pytest.mark.parametrize("port", ["99999999", "0", "-1"])
def test_a_port_that_is_none_is_told(capsys, port):
    with pytest.raises(SystemExit):
        main(["app", "--port", port, "--data", "nowhere"])
    assert " than or equal to " in capsys.readouterr().err
