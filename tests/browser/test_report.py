"""The region report as people use it, by mouse and by keyboard, at a desk and on a phone."""

import re

import numpy as np
import pytest
import torch
from torch import nn

import facexkit as fx
from facexkit.measure.share_interval import PARTS
from facexkit.models.face_model import FaceModel
from facexkit.show.readings import METHODS, ranked, read_regions


@pytest.fixture(scope="module")
def report(drawn_faces, tmp_path_factory):
    """The report of both methods and two classes of a small untrained model with a name that is markup."""
    torch.manual_seed(1)
    head = nn.Sequential(nn.AdaptiveAvgPool2d(4), nn.Flatten(), nn.Linear(128, 3))
    network = nn.Sequential(nn.Conv2d(3, 8, 5, 4), nn.ReLU(), nn.Conv2d(8, 8, 3, 2), nn.ReLU(), head)
    model = FaceModel(network, name="<img src=x onerror=alert(1)>", image_size=64, class_names=["a", "b <i>", "c"])
    faces = drawn_faces[:8]
    share = fx.score_regions(model, faces, target_class=[0, 1], method="share", images=8, partners=1, progress=False)
    facex = fx.score_regions(model, faces, layer="3", target_class=[0, 1], progress=False)
    return share, facex, fx.write_region_report([share, facex], faces, tmp_path_factory.mktemp("report") / "report.html")


@pytest.fixture
def page(alone, report):
    return alone(report[2])


def region(page, name):
    return page.locator(f".view:not([hidden]) .region[data-region={name}]")


def button(page, name):
    return page.locator(f".view:not([hidden]) .region[data-members][data-region={name}]")


def heading(page):
    return page.locator(".panel h2").text_content()


def test_pointing_at_a_region_tells_its_number(page, report):
    region(page, "nose").hover()
    score = float(report[0].score.sel(region="nose", target_class=0))
    assert page.locator(".readout").text_content().startswith(f"nose: {METHODS['share'].say(score)} (95 % interval")
    page.locator("h1").hover()


def test_a_click_shows_the_regions_patches_and_examples(page, report):
    region(page, "eyes").last.click()
    region(page, "nose").click()
    assert heading(page) == "nose"
    expected = [name for name in report[1].patch_image.sel(region="nose", target_class=0).values if name]
    assert page.locator(".patches img").count() == len(expected) > 0
    assert page.locator(".patches img").first.get_attribute("alt") == f"patch of {expected[0]}"
    assert page.locator(".examples .veil").count() == 4
    assert page.locator(".panel img").evaluate_all("all => all.every(one => one.complete && one.naturalWidth > 0)")
    assert region(page, "nose").get_attribute("aria-pressed") == "true"


def test_the_keyboard_reaches_every_region_and_opens_it(page):
    page.locator(".switches input:checked").last.focus()
    seen = set()
    for _ in PARTS:
        page.keyboard.press("Tab")
        seen.add(page.evaluate("document.activeElement.dataset.region"))
    assert seen == {*PARTS}
    button(page, "eyes").focus()
    assert page.locator(".readout").text_content().startswith("eyes: ")
    page.keyboard.press("Enter")
    assert heading(page) == "eyes"
    button(page, "lips").focus()
    page.keyboard.press(" ")
    assert heading(page) == "lips"


def test_arrow_keys_walk_from_the_highest_region_down(page, report):
    region(page, "hair").focus()
    page.keyboard.press("Home")
    order = [reading.region for reading in ranked(report[0].isel(target_class=0))]
    assert page.evaluate("document.activeElement.dataset.region") == order[0]
    page.keyboard.press("ArrowDown")
    assert page.evaluate("document.activeElement.dataset.region") == order[1]
    page.keyboard.press("ArrowUp")
    page.keyboard.press("Enter")
    assert page.locator(".ring.selected >> visible=true").count() == 1


def test_switches_change_class_and_method(page, report):
    page.get_by_role("radio", name="b <i>").check(force=True)
    page.get_by_role("radio", name="FaceX score · 3").check(force=True)
    region(page, "hair").focus()
    score = float(report[1].score.sel(region="hair", target_class=1))
    assert page.locator(".readout").text_content().startswith(f"hair: {score:.2f} (95 % interval")
    assert page.locator("table:not([hidden]) caption").text_content().startswith("b <i> ·")
    assert page.locator("p.method:visible").text_content().startswith("FaceX score")


def test_the_line_above_the_map_tells_the_number_of_the_method_that_is_shown(page, report):
    button(page, "lips").focus()
    page.keyboard.press("Enter")
    for name, scores in (("FaceX score · 3", report[1]), ("Decision share", report[0])):
        page.get_by_role("radio", name=name).check(force=True)
        reading = read_regions(scores.isel(target_class=0))["lips"]
        assert page.locator(".readout").text_content() == f"lips: {reading.sentence}"
        assert page.locator(".panel .numbers").text_content().count(reading.text)
        (beside,) = page.get_by_role("heading", name="Side by side").all_text_contents()
        assert beside.startswith(f"Side by side: {name}")


def test_every_row_of_the_table_has_its_zero_line_at_one_place(page):
    places = page.locator("table:not([hidden]) td:nth-child(2) .zero").evaluate_all("all => all.map(one => one.getBoundingClientRect().x)")
    assert len(places) > 10 and max(places) - min(places) < 1


def test_the_table_sorts_and_selects(page, report):
    table = page.locator("table:not([hidden])")
    table.get_by_role("button", name="FaceX score").click()
    first = table.locator("tbody tr").first
    best = max(read_regions(report[1].isel(target_class=0)).values(), key=lambda reading: np.nan_to_num(reading.value))
    assert first.get_attribute("data-row") == best.region
    first.get_by_role("button").click()
    assert "selected" in first.get_attribute("class")
    assert heading(page) == first.locator("th").text_content()


def test_nothing_is_wider_than_the_screen_and_text_is_legible(page):
    assert page.evaluate("document.documentElement.scrollWidth <= window.innerWidth")
    sizes = page.evaluate(
        """() => [...document.querySelectorAll('.view:not([hidden]) text')].filter(t => t.getClientRects().length)
        .map(t => parseFloat(getComputedStyle(t).fontSize) * t.getScreenCTM().a)"""
    )
    assert min(sizes) >= 10


def test_controls_have_names_and_the_veil_follows_the_slider(page):
    assert page.locator("svg.face-map").evaluate_all("all => all.every(one => one.getAttribute('aria-label'))")
    region(page, "hair").focus()
    page.keyboard.press("Enter")
    page.locator(".slider input").fill("10")
    veil = page.locator(".examples .veil").first
    assert veil.evaluate("one => getComputedStyle(one).opacity") == "0.1"


def test_names_from_data_are_words_on_the_page(page):
    assert re.search(r"<img src=x onerror=alert\(1\)>", page.locator("h1").text_content())
    assert page.locator("img[src='x']").count() == 0
