"""What is told and drawn of a repair, and the button in Explore that makes one."""

import numpy as np
import pytest

import facexkit as fx

HOW = {"epochs": 5, "rate": 1e-2, "protected": ["agrees"], "progress": False}


@pytest.fixture(scope="module")
def found(tiny_model, tiny_faces):
    return fx.repair(tiny_model, tiny_faces, "lips", **HOW).result


def test_the_findings_give_the_numbers_of_the_result_and_offer_another_round(found):
    said = fx.repair_findings(found)
    worst = found.value.sel(metric="accuracy", group="agrees: contradict")
    before, control, after = (f"{100 * float(worst.sel(model=state)):.0f} %" for state in ("before", "control", "after"))
    assert said[0].startswith(f"tiny, trained on with the lips exchanged, is right for {after} (95 % interval ")
    assert f"(agrees: contradict), instead of {before}; the control for {control}." in said[0]
    assert "Of all 300 held-out faces" in said[1] and said[2].startswith("The share of the lips: ")
    assert said[3].startswith("More rests now on the hair (") and "regions=['lips', 'hair'], or rounds=2" in said[3]


def test_a_model_that_knows_nothing_else_is_told_instead_of_a_repair(found):
    (said,) = fx.repair_findings(found.assign_attrs(nothing_else=True))
    assert said.startswith("Without the lips tiny knows nothing of the class that 300 held-out faces could show: ")


def test_the_picture_has_accuracy_and_shares_of_the_three(found):
    left, right = fx.plot_repair(found).axes
    assert [label.get_text() for label in left.get_yticklabels()] == ["all faces", "agrees: agree", "agrees: contradict"]
    assert {"hair", "lips"} <= {label.get_text() for label in right.get_yticklabels()}
    assert [text.get_text() for text in right.get_legend().get_texts()] == ["before", "control", "after"]


def test_a_button_in_explore_asks_what_if_the_model_could_not_use_the_region(tiny_model, tiny_faces, tmp_path):
    explorer = fx.explore(tiny_model, tiny_faces[np.r_[100:200, 400:500]], "1")  # half to train on, half to measure on
    explorer.folder, explorer.classes.region = tmp_path, "l_lip"
    explorer.summary.set_state({"pressed": "without", "presses": 1})
    explorer.wait()
    assert not explorer.summary.error and "the lips" in explorer.summary.note and "right for" in explorer.summary.note
    assert (tmp_path / "explore" / "repair" / "model.safetensors").is_file()
