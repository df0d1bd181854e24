"""What a run's parameters name, wherever they stand."""

import pytest

from facexkit.errors import FacexkitError
from facexkit.faces.formats import load_faces
from facexkit.show.run import Run

SMALL = {"model": "torchvision:resnet18", "num_classes": 2, "image_size": 64, "limit": 30, "device": "cpu"}


def test_a_run_takes_its_parameters_out_of_all_that_a_notebook_holds(tmp_path):
    run = Run({**SMALL, "out": str(tmp_path), "batch_size": 8, "faces": "not a parameter", "_i1": "nor this"})
    assert run.how == {"batch_size": 8, "client": None, "folder": tmp_path / "passes"}
    assert [model.name for model in run.models] == ["torchvision:resnet18"] and run.models is run.models
    assert run.models[0].image_size == 64 and "faces" not in run.choices and "out" not in run.choices


def test_the_faces_of_a_run_are_the_test_part_of_all_of_them():
    run, whole = Run(SMALL), load_faces("synthetic", limit=30, shortcut="u_lip")
    assert run.every_face.fingerprint() == whole.fingerprint()
    assert run.faces.table.path.tolist() == whole.table.path[whole.table.split == "test"].tolist() != []


def test_a_wrong_parameter_of_a_run_is_told():
    with pytest.raises(FacexkitError, match="parameter 'batch_size' cannot be 'many'"):
        Run({"batch_size": "many"})


def test_a_folders_run_has_the_parameters_that_were_kept_there(tmp_path):
    (tmp_path / "params.yaml").write_text("limit: 30\nlayer: layer2\nmasks:\n")
    run = Run.of(tmp_path)
    assert run.choices | {"limit": 30, "layer": "layer2", "data": "synthetic"} == run.choices
    assert run.out == tmp_path and not run.trust


def test_a_file_of_one_parameter_that_nobody_knows_is_told(tmp_path):
    (tmp_path / "params.yaml").write_text("layr: layer2\n")
    with pytest.raises(FacexkitError, match="unknown parameter 'layr'; did you mean 'layer'"):
        Run.of(tmp_path)
