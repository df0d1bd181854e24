"""The command line: what people type, and what it answers when that is wrong."""

import subprocess
import sys

import pytest

from facexkit.cli import join_pairs, main
from facexkit.errors import FacexkitError


def run(*arguments):
    return subprocess.run([sys.executable, "-m", "facexkit.cli", *arguments], capture_output=True, text=True)


def test_pairs_are_joined_papermills_way_and_nothing_else_is_touched():
    assert join_pairs(["run", "regions", "-p", "limit", "5", "-p", "a=b", "--out", "x"]) == [
        "run", "regions", "-p", "limit=5", "-p", "a=b", "--out", "x"
    ]  # fmt: skip
    assert join_pairs(["-p", "normalize", "{mean: 1}"]) == ["-p", "normalize={mean: 1}"]
    assert join_pairs(["-p", "seed", "-p"]) == ["-p", "seed=-p"]


def test_a_pair_without_its_value_is_told():
    with pytest.raises(FacexkitError, match="-p limit VALUE"):
        join_pairs(["run", "-p", "limit"])


@pytest.mark.parametrize(
    ("arguments", "status", "told"),
    [
        (["run", "region"], 1, "facexkit: unknown stage 'region'; did you mean 'regions'"),
        (["run", "-p", "layr", "x"], 1, "facexkit: unknown parameter 'layr'; did you mean 'layer'"),
        (["run", "-p", "limit", "many"], 1, "facexkit: parameter 'limit' cannot be 'many'"),
        (["run", "-f", "no.yaml"], 1, "facexkit: parameter file no.yaml cannot be read"),
        (["run", "--no-such-option"], 2, "No such option"),
        (["benchmark", "shortcut"], 1, "facexkit: unknown benchmark 'shortcut'; did you mean 'shortcuts'"),
        (["benchmark", "together", "--walks", "many"], 2, "facexkit benchmark together: error: argument --walks"),
        (["layers", "torchvision:resnet"], 1, "facexkit: unknown torchvision model 'resnet'"),
    ],
)
def test_a_mistake_gets_one_message_and_no_traceback(arguments, status, told):
    answer = run(*arguments)
    assert answer.returncode == status and told in answer.stderr
    assert "Traceback" not in answer.stderr


def test_stages_lists_every_notebook_and_parameter(capsys):
    with pytest.raises(SystemExit) as leaving:
        main(["stages"])
    shown = capsys.readouterr().out
    assert not leaving.value.code
    for name in ("01_faces", "02_model", "03_regions", "target_class", "quantile", "out"):
        assert name in shown


def test_layers_tells_units_and_sizes_of_a_models_layers(capsys):
    with pytest.raises(SystemExit):
        main(["layers", "torchvision:resnet18", "--image-size", "64", "--num-classes", "2"])
    row = next(line.split() for line in capsys.readouterr().out.splitlines() if line.split()[:1] == ["layer4"])
    assert row == ["layer4", "Sequential", "512", "2", "2", "8393728"]
