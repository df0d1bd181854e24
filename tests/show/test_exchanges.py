import numpy as np
import pytest

import facexkit as fx
from facexkit.faces.mask_view import MaskView
from facexkit.faces.regions import REGIONS
from facexkit.show.exchanges import exchange_pictures, show_exchanges


def with_exchanges(scores, paths, part="lips"):
    said = np.array([[0.02, 0.97, 0.91], [0.9, 0.1, 0.3], [np.nan] * 3])
    values = {"turned_image": [paths[0], paths[1], ""], "turned_other": [paths[2], paths[3], ""], "turned_region": [part] * 3}
    return scores.assign({n: ("turn", own) for n, own in values.items()} | {"turned_output": (("turn", "shown"), said)})


def test_the_picture_is_the_first_face_but_for_the_region(drawn_faces):
    paths = drawn_faces.table.path[:2].tolist()
    first, second, exchanged = (np.asarray(p).astype(int) for p in exchange_pictures(drawn_faces, paths, "lips", 64))
    (batch,) = drawn_faces[:2].batches(64, masks=[(view := MaskView(REGIONS, 64))], workers=0)
    lips = batch.masks[view][:, [REGIONS.index("u_lip"), REGIONS.index("l_lip")]].any(1).any(0).numpy()
    changed = (exchanged != first).any(2)
    assert changed.any() and not (changed & ~lips).any()
    assert (exchanged[changed] == second[changed]).all()


def test_the_exchange_is_shown_with_the_three_outputs(make_scores, odd_faces):
    paths = odd_faces.table.path.tolist()
    scores = with_exchanges(make_scores(), paths)
    shown = show_exchanges(scores, odd_faces)
    assert shown.count("<img") == 6 and "face with the other&#39;s lips: <b>0.91</b>" in shown
    assert "onmouseover=alert(1)>" not in shown
    with pytest.raises(fx.FacexkitError, match='of a result of method="share"'):
        show_exchanges(make_scores("facex"), odd_faces)


def test_the_report_has_the_exchange(make_scores, odd_faces, tmp_path):
    scores = with_exchanges(make_scores(), odd_faces.table.path.tolist())
    page = fx.write_region_report([make_scores("facex"), scores], odd_faces, tmp_path / "report.html").read_text()
    assert "The exchange itself" in page and page.count("face with the other&#39;s lips") == 2


def test_two_that_decide_together_are_said_and_plotted(make_scores):
    names = {"together": ["lips × hair", "lips × skin"]}
    ends = {"": [0.5, 0.1], "_low": [0.4, 0.05], "_high": [0.6, 0.14]}
    scores = make_scores().assign({f"interaction{k}": ("together", v) for k, v in ends.items()}).assign_coords(names)
    assert any(
        "The lips and the hair decide together: what they do only together is 50 % of the way from one face's decision to "
        "another's (95 % interval 40–60 %)." in sentence for sentence in fx.region_findings(scores)
    )  # fmt: skip
    figure = fx.plot_interactions(scores)
    assert [label.get_text() for label in figure.axes[0].get_yticklabels()] == ["lips × hair", "lips × skin"]
    alone = scores.isel(together=[1])
    assert "No two of the largest can be shown to do much only together." in fx.region_findings(alone)


@pytest.mark.parametrize(("high", "warned"), [(-0.11, True), (-0.09, False), (0.3, False)])
def test_a_placebo_that_does_something_is_warned_of(make_scores, high, warned):
    scores = make_scores().assign(placebo=high - 0.03, placebo_low=high - 0.06, placebo_high=high)
    assert any("faces of one decision take 14 % of the way" in said for said in fx.region_findings(scores)) == warned
