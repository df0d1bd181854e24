"""What a label means, and what an output means, is settled in one place, or asked."""

import numpy as np
import pandas as pd
import pytest
import torch
from torch import nn

import facexkit as fx
from facexkit.errors import FacexkitError
from facexkit.models.labels import answering
from facexkit.models.loading import load_model
from facexkit.models.outputs import are_probabilities


class Ends(nn.Module):
    """Outputs from a few pixels, ending in `last`."""

    def __init__(self, columns, last=lambda x: x):
        super().__init__()
        torch.manual_seed(0)
        self.fc, self.last = nn.Linear(3 * 8 * 8, columns), last

    def forward(self, x):
        return self.last(4 * self.fc(x.flatten(1)))


def model(columns=2, last=lambda x: x, **options):
    return load_model(Ends(columns, last), image_size=8, device="cpu", **options)


MEANT = [
    (["Male", "female ", None], 2, ["Female", "Male"], [1, 0, -1]),
    ([1.0, 0.0, np.nan], 2, None, [1, 0, -1]),
    ([1, 0], 2, ["1", "0"], [0, 1]),
    ([1.0, 0.0], 2, ["1", "0"], [0, 1]),
    ([True, False], 2, ["no", "yes"], [1, 0]),
    (["True", "False"], 2, None, [1, 0]),
    ([-1, 1], 2, None, [0, 1]),
    ([-1, -1], 2, None, [0, 0]),
    ([1, 2, 3], 3, None, [0, 1, 2]),
    ([1, 3], 3, None, [0, 2]),
    ([0, 2], 3, None, [0, 2]),
    (["None", "NA"], 2, ["NA", "None"], [1, 0]),
    (["a", "A"], 2, ["a", "A"], [0, 1]),
    ([0, 1], 1, ["no", "yes"], [0, 1]),
    ([0, 1], 1, None, [0, 1]),
    (["0", "1"], 1, ["smiling"], [0, 1]),
]


@pytest.mark.parametrize("kind", [None, "category"])
@pytest.mark.parametrize(("labels", "columns", "names", "expected"), MEANT)
def test_labels_mean_classes(labels, columns, names, expected, kind):
    own = model(columns, class_names=names)
    _, found = answering(own, pd.Series(labels, name="smiling", dtype=kind))
    assert found.tolist() == expected


ASKED = [
    ([1, 2], 3, None, "from 0 or from 1"),
    ([0, 1], 2, ["female", "male"], r"values of 'y' \(0, 1\) are neither the classes of 'Ends \w+' \(female, male\)"),
    (["male", "female", "?"], 2, ["female", "male"], "neither"),
    ([0, 5], 3, None, "neither"),
    (["x", "z"], 2, None, r"\(x, z\) are neither .* \(class 0, class 1\)"),
    ([0.5, 1], 2, None, "neither"),
]


@pytest.mark.parametrize(("labels", "columns", "names", "said"), ASKED)
def test_labels_that_may_mean_something_else_are_asked_about(labels, columns, names, said):
    with pytest.raises(FacexkitError, match=said):
        answering(model(columns, class_names=names), pd.Series(labels, name="y"))


def test_the_columns_name_says_which_of_two_classes_is_the_one():
    _, found = answering(model(class_names=["male", "female"]), pd.Series([-1, 1], name="Male"))
    assert found.tolist() == [1, 0]


SETTLED = [
    (3, lambda x: x, "classes", False), (3, lambda x: x.softmax(1), "classes", True), (1, lambda x: x, "binary", False),
    (1, lambda x: x.sigmoid(), "binary", True), (1, lambda x: x.sigmoid().squeeze(1), "binary", True),
    (5, lambda x: x.sigmoid(), "labels", True), (6, lambda x: x.reshape(-1, 3, 2), "labels", False),
    (6, lambda x: x.reshape(-1, 3, 2).softmax(2), "labels", True), (3, lambda x: x.log_softmax(1), "classes", False),
]  # fmt: skip


@pytest.mark.parametrize(("columns", "last", "kind", "likely"), SETTLED)
def test_what_outputs_mean_is_told_by_their_values_and_by_how_they_are_made(columns, last, kind, likely):
    own = model(columns, last)
    assert (own.meaning.kind, own.meaning.likely) == (kind, likely)
    outputs = own(own.test_images()).double()
    chances = own.meaning.probabilities(outputs)
    assert chances.shape == outputs.shape and ((chances >= 0) & (chances <= 1)).all()
    assert are_probabilities(chances) == (kind != "labels")


@pytest.mark.parametrize(("columns", "last", "outputs", "said"), [
    (3, lambda x: x.sigmoid(), "classes", "each output is a yes or no of its own"),
    (3, lambda x: x.softmax(1), "labels", "add up to 1"), (3, lambda x: x, "binary", "3 columns are no single yes or no"),
    (1, lambda x: x, "classes", "one column is no choice"), (3, lambda x: x, {"sex": 2, "age": 2}, "gives 3 outputs, and outputs= has 4"),
    (3, lambda x: x, "class", "did you mean 'classes'"), (1, lambda x: x, {"binary": 3}, "a probability between 0 and 1"),
])  # fmt: skip
def test_outputs_that_disagree_with_what_is_said_of_them_are_told(columns, last, outputs, said):
    with pytest.raises(FacexkitError, match=said):
        model(columns, last, outputs=outputs)


@pytest.fixture
def faces(faces_of):
    rng = np.random.default_rng(0)
    found = faces_of(rng.integers(0, 256, (40, 8, 8, 3), np.uint8))
    labels = {"smiling": rng.choice([-1, 1], 40), "gender": rng.choice(["Male", "Female"], 40), "side": rng.choice(["a", "b"], 40)}
    found.table = found.table.assign(**labels)
    found.target = "smiling"
    return found


def logits(own, faces):
    batch = next(faces.batches(8, 40))
    return own.raw(own.prepare(batch.images)).double().numpy()


def test_an_attribute_is_right_by_its_own_sigmoid(faces):
    names = ["young", "smiling", "glasses", "hat"]
    for options in ({"outputs": "labels"}, {}):
        own = model(4, class_names=names, **options)
        said, want = fx.predict(own, faces, progress=False), logits(own, faces)[:, 1] > 0
        assert (said.predicted == np.where(want, "smiling", "not smiling")).all()
        assert said.correct.mean() == pytest.approx((want == (faces.table.smiling == 1)).mean())
    faces.target = None
    text = fx.predict(model(4, class_names=names, outputs="labels"), faces, progress=False).predicted
    assert (text == [", ".join(np.array(names)[row > 0]) for row in logits(own, faces)]).all()


def test_a_threshold_of_ones_own_moves_the_decision(faces):
    chances = 1 / (1 + np.exp(-logits(model(1), faces)[:, 0]))
    own = model(1, outputs={"binary": float(np.quantile(chances, 0.3))}, class_names=["smiling"])
    said = fx.predict(own, faces, progress=False)
    assert (said.predicted == np.where(chances > np.quantile(chances, 0.3), "smiling", "not smiling")).all()
    assert {*said.predicted} == {"smiling", "not smiling"}
    effects = fx.unit_effects(own, faces, "fc", protected="side", units=[0], progress=False)
    assert effects.accuracy_before == pytest.approx(said.correct.mean())


def test_a_block_of_outputs_answers_the_column_of_its_name(faces):
    own = model(5, outputs={"smiling": ["no", "yes"], "sex": ["male", "female", "unknown"]})
    z = logits(own, faces)
    said = fx.predict(own, faces, progress=False)
    assert (said.predicted == np.where(z[:, 1] > z[:, 0], "yes", "no")).all() and said.correct.notna().all()
    faces.target = "gender"
    assert {*fx.predict(own, faces, progress=False).predicted} <= {"male", "female", "unknown"}
    found = fx.audit(own, faces, protected=["side"], replicates=5, min_images=1, progress=False)
    assert found.truth.to_numpy().tolist() == ["male", "female", "unknown"]
    assert [row[:2] for row in found.attrs["labels"]] == [["Female", "female"], ["Male", "male"]]


def test_an_embedding_has_no_classes(faces):
    own = model(5, outputs="embedding")
    with pytest.raises(FacexkitError, match="an embedding and no classes"):
        fx.predict(own, faces)
    assert fx.embed(own, faces, progress=False).shape == (40, 5)


def test_predictions_whose_labels_are_no_classes_say_why(faces):
    faces.target = "gender"
    said = fx.predict(model(2), faces, progress=False)
    assert "correct" not in said and "(class 0, class 1)" in said.attrs["unread"]
    with pytest.raises(FacexkitError, match="is not known: the values of 'gender'"):
        fx.accuracy_by(said, ["side"])


def test_tables_of_predictions_are_matched_by_path():
    rng = np.random.default_rng(0)
    table = pd.DataFrame({"path": [f"{k}.png" for k in range(30)], "truth": rng.choice(["a", "b"], 30), "g": ["x", "y"] * 15})
    table["prediction"] = rng.choice(["a", "b"], 30)
    how = {"replicates": 5, "min_images": 1}
    one = fx.audit({"first": table, "same": table.sample(frac=1, random_state=1)}, **how)
    assert (one.value[0].fillna(0) == one.value[1].fillna(0)).all()
    for other, said in [
        (table[:28], "2 are in 'first' alone \\(28.png, 29.png\\)"),
        (table.assign(path=table.path.replace("3.png", "z.png")), "'first' alone \\(3.png\\); 1 are in 'other' alone \\(z.png\\)"),
        (table.assign(truth=table.truth.where(table.index != 4, "b" if table.truth[4] == "a" else "a")), "row 5 first, the truth is"),
        (table[:28].drop(columns="path"), "28 rows, and 30; give both a column path"),
    ]:
        with pytest.raises(FacexkitError, match=said):
            fx.audit({"first": table, "other": other}, **how)


def test_training_faces_that_are_measured_are_said(faces):
    faces.table["split"] = ["train"] * 30 + ["test"] * 10
    found = fx.audit(model(2, class_names=["no", "yes"]), faces, protected=["side"], replicates=5, min_images=1, progress=False)
    assert found.attrs["training"] == 30
    assert any("30 of the faces are training faces" in sentence for sentence in fx.audit_findings(found))


def test_two_models_of_one_name_are_audited_apart(faces):
    first, second = model(2, class_names=["no", "yes"]), model(2, class_names=["no", "yes"])
    with torch.no_grad():
        second.network.fc.bias += 1
    found = fx.audit([first, second], faces, protected=["side"], replicates=5, min_images=1, progress=False)
    assert len({*found.model.to_numpy()}) == 2
