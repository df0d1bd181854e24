"""The first page of a run: three findings on one screen, the rest folded, at a desk and on a phone."""

import pytest
from axe_playwright_python.sync_playwright import Axe
from PIL import Image

from facexkit.show.index import write_index

LONG = "a_very_long_name_of_a_file_that_has_no_space_in_it_and_does_not_end_before_the_screen_does.csv"


@pytest.fixture(scope="module")
def index(tmp_path_factory):
    """A page of three findings with a wide, a tall and a flat picture, and of stages that found much."""
    folder, stages = tmp_path_factory.mktemp("run"), []
    sizes = {"regions": (1776, 778), "audit": (880, 4000), "repair": (1100, 396)}
    for place, (name, size) in enumerate(sizes.items(), 1):
        Image.new("RGB", size, "#0a539a").save(folder / f"{name}.png")
        said = [f"Finding {place} of the stage {name} takes as many words as those of a run, 41 % of them long."] * 9
        picture, file = {"path": f"{name}.png", "alt": name}, {"path": LONG, "what": "a row a face"}
        stage = {"name": name, "title": f"{name}: what it is about", "notebook": f"0{place}_{name}.ipynb"}
        stages.append({**stage, "html": "x.html", "findings": said, "pictures": [picture], "files": [file]})
    facts = {"title": "run", "model": "demo:biased " * 9, "faces": "synthetic", "created": "2026-01-02"}
    (folder / "explore.html").touch()
    return write_index(folder, {**facts, "headline": [stage["findings"][0] for stage in stages], "stages": stages})


@pytest.fixture(params=[1440, 390])
def page(request, browser, index):
    page = browser.new_page(viewport={"width": request.param, "height": 900})
    page.goto(index.as_uri())
    yield page
    page.close()


def test_three_findings_with_their_pictures_are_on_the_first_screen_and_lead_on(page):
    ends = page.locator("h1, .story").evaluate_all("all => all.map(one => one.getBoundingClientRect().bottom)")
    assert page.viewport_size["width"] == 390 or max(ends) <= 900
    assert page.locator(".story img").count() == 3
    page.get_by_role("link", name="Explore everything that was measured").focus()
    assert page.locator("details[open]").count() == 0


def test_a_stage_unfolds_by_keyboard_and_nothing_is_cut(page):
    page.locator("summary", has_text="audit: what").focus()
    page.keyboard.press("Enter")
    assert page.get_by_role("link", name=LONG).is_visible()
    assert page.evaluate("document.documentElement.scrollWidth <= window.innerWidth")
    cut = "all => all.filter(one => one.scrollWidth > one.clientWidth + 1).map(one => one.outerHTML.slice(0, 90))"
    assert page.locator("main *:visible").evaluate_all(cut) == []
    found = Axe().run(page, options={"resultTypes": ["violations"]}).response["violations"]
    assert [(rule["id"], [node["html"][:120] for node in rule["nodes"][:3]]) for rule in found] == []
