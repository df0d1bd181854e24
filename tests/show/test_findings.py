"""Numbers in words, and findings that rest on the right method."""

import numpy as np
import pytest
import xarray as xr

from facexkit.errors import FacexkitError
from facexkit.faces.regions import REGIONS, UNIONS
from facexkit.show.readings import METHODS, each_class, ranked, read_parts, read_regions, subjects
from facexkit.show.regions import plot_regions, region_findings
from tests.show.conftest import SHARES

SHARE, FACEX = METHODS["share"], METHODS["facex"]


@pytest.mark.parametrize(
    ("said", "words"),
    [
        (SHARE.say(0.412), "41 %"), (SHARE.say(0.0041), "0.4 %"), (SHARE.say(-0.0123), "−1.2 %"),
        (SHARE.say(0), "0 %"), (SHARE.say(-0.0001), "0.0 %"),
        (SHARE.say(0.12, signed=True), "+12 points"), (SHARE.say(np.nan), "no data"), (FACEX.say(0.6249), "0.62"),
        (SHARE.interval(0.37, 0.452), "37–45 %"), (SHARE.interval(-0.01, 0.02), "−1.0 % to 2.0 %"),
        (FACEX.interval(0.5, 0.625), "0.50–0.62"), (SHARE.interval(np.nan, 0.1), ""),
    ],
)  # fmt: skip
def test_numbers_in_words(said, words):
    assert said == words


def test_the_finding_names_the_first_region_with_its_numbers(make_scores):
    first, following = region_findings(make_scores())
    assert first == (
        "The decision “female” of demo:biased rests most on the lips: of the way from one face's decision to another's, "
        "they carry 65 % (95 % interval 59–71 %, 24 images)."
    )
    assert following == "Next comes the hair (9.0 %); with the first, their shares add up to 74 %."  # not the skin: 6 ± 4 %


def test_findings_rest_on_the_decision_share_and_say_where_facex_disagrees(make_scores):
    said = region_findings([make_scores("facex"), make_scores("share")])
    assert "the lips" in said[0] and "65 %" in said[0]
    assert said[-1].startswith("The methods disagree: FaceX scores the nose highest (0.87; the lips have 0.39)")
    agreeing = dict.fromkeys(REGIONS, 0.2) | {"l_lip": 0.7}
    assert region_findings([make_scores("facex", agreeing), make_scores("share")])[-1] == (
        "FaceX agrees on the first place: the lips score 0.45 (95 % interval 0.41–0.49, 24 images)."
    )


def test_a_result_without_unions_names_single_regions(make_scores):
    alone = make_scores().drop_dims("union")
    assert "rests most on the lower lip: of the way from one face's decision to another's, it carries 41 %" in region_findings(alone)[0]


def test_facex_alone_claims_no_more_than_where_the_map_is_high(make_scores):
    (said,) = region_findings(make_scores("facex"))
    assert "nose" in said and "0.87" in said and "need not be what moves the decision" in said


def test_maps_without_a_positive_value_are_no_finding(make_scores):
    (said,) = region_findings(make_scores("facex", dict.fromkeys(REGIONS, 0.0)))
    assert said == "FaceX says nothing of “female” of demo:biased: no attribution map rises above its threshold anywhere."


def test_a_share_that_may_be_zero_is_no_finding(make_scores):
    said = region_findings(make_scores(values=dict.fromkeys(REGIONS, 0.01) | {"hair": 0.03}))
    assert said == [
        "No single region can be shown to carry the decision “female” of demo:biased: the largest share is "
        "that of the hair, 3.0 % (95 % interval −1.0 % to 7.0 %, 24 images)."
    ]


def test_the_largest_difference_between_two_models_is_said(four_results):
    assert region_findings(four_results)[-1] == (
        "The largest difference is in the lips: of the way from one face's decision to another's, they carry “female” of "
        "demo:biased 65 % and “female” of demo:fair 3.0 %."
    )


def test_the_opposite_class_is_not_told_twice(make_scores):
    said = region_findings([make_scores(), make_scores(class_name="male", target_class=1)])
    assert said[-1].startswith("“male” of demo:biased has the same decision shares as “female”")
    assert sum("rests most" in sentence for sentence in said) == 1


def test_a_result_of_several_classes_is_read_class_by_class(make_scores):
    one, two = make_scores(), make_scores(values=dict.fromkeys(REGIONS, 0.3))
    parts = [one.drop_vars(["target_class", "class_name"]) for one in (one, two)]
    both = xr.concat(parts, dim=xr.Variable("target_class", [3, 5]), combine_attrs="override")
    both = both.assign_coords(class_name=("target_class", ["old", "young"]))
    first, second = each_class(both)
    assert (first.class_name, second.target_class) == ("old", 5)
    np.testing.assert_array_equal(second.score, two.score)
    assert [subject.class_name for subject in subjects(both)] == ["old", "young"]
    with pytest.raises(FacexkitError, match=r"2 classes; take one with scores.sel\(target_class=3\)"):
        read_regions(both)


def test_results_are_grouped_by_model_and_class_with_the_share_first(four_results):
    grouped = subjects(four_results)
    assert [(s.model, [r.attrs["method"] for r in s.results]) for s in grouped] == [
        ("demo:biased", ["share", "facex"]), ("demo:fair", ["share", "facex"]),
    ]  # fmt: skip


def test_regions_rank_by_value_or_by_size_with_the_missing_last(make_scores):
    scores = make_scores(values=dict.fromkeys(REGIONS, 0.01) | {"nose": -0.5})
    assert ranked(scores)[-1].region == "nose" and ranked(scores, by="size")[0].region == "nose"
    assert [r.region for r in ranked(scores, missing=True)][-1] == "hat"


UNTOLD = ["eye_g", "hair", "hat", "ear_r", "neck_l", "cloth"]


def test_a_background_that_hides_regions_is_never_called_the_background(make_scores):
    scores = make_scores(values=SHARES | {"background": 0.87}, missing=UNTOLD).assign_attrs(untold=UNTOLD)
    first, *_, last = region_findings(scores)
    assert "rests most on everything else (background, hair, clothes …): of the way" in first and "it carries 87 %" in first
    assert last.startswith("The masks cannot tell glasses, hair, hat, earring, necklace, clothes: all of that counts as everything else.")
    assert not {*UNTOLD} & read_parts(scores).keys() and read_parts(scores)["background"].members == ("background", *UNTOLD)
    figure = plot_regions(scores)
    assert figure.axes[0].get_yticklabels()[0].get_text() == "everything else" and not figure.axes[0].texts


def test_unions_stand_everywhere_in_the_place_of_their_regions(make_scores):
    parts = read_parts(make_scores())
    assert {*UNIONS} <= parts.keys() and not {region for pair in UNIONS.values() for region in pair} & parts.keys()
    assert parts["lips"].value == pytest.approx(0.65) and parts["lips"].members == ("u_lip", "l_lip")
    assert [reading.region for reading in ranked(make_scores())][:2] == ["lips", "hair"]
    assert {*REGIONS, *UNIONS} == read_regions(make_scores()).keys()


def test_nothing_to_show_is_an_error():
    with pytest.raises(FacexkitError, match="no results"):
        region_findings([])
