"""The app as people use it who do not program: on a phone by keyboard alone, on a desk by mouse, with real photographs."""

import re
import shutil
import time

import pytest
from in_browser import SECONDS, assert_accessible, opened, part, quiet
from playwright.sync_api import expect

FACES = 12
FOCUSED = "element => element === document.activeElement"


@pytest.fixture(scope="module")
def place(tmp_path_factory):
    """What the app may read: a folder in which there is an empty one."""
    place = tmp_path_factory.mktemp("app")
    (place / "mine" / "photographs").mkdir(parents=True)
    return place


@pytest.fixture(scope="module")
def address(served, place):
    """The address that the app prints."""
    _, log = served(["facexkit.cli", "app", "--data", str(place / "mine"), "--runs", str(place / "runs"), "--no-browser"])
    while not (address := re.search(r"http://\S+token=\S+", log.read_text())):
        time.sleep(0.1)
    return address[0]


@pytest.fixture
def page(request, browser, address):
    """The app in a window of a width."""
    pages = opened(browser, address, request.param)
    page = next(pages)
    part(page, "1 ·").wait_for()
    yield page
    next(pages, None)


def put_photographs(place, shared):
    """Fill the empty folder: a few photographs, and a table of what is known of them."""
    given, folder = shared / "data" / "celebamask", place / "mine" / "photographs"
    lines = (given / "annotations.csv").read_text().splitlines()[: FACES + 1]
    (folder / "labels.csv").write_text("\n".join(lines) + "\n")
    for line in lines[1:]:
        shutil.copy(given / "images" / line.partition(",")[0], folder)


def go(page, to):
    """Press Tab until the focus is there."""
    to.wait_for()
    for _ in range(500):
        if to.evaluate(FOCUSED):
            return to
        page.keyboard.press("Tab")
    raise AssertionError(f"not reached by Tab: {to}")


def press(page, to, key="Enter"):
    """Reach an element by Tab, and press a key there."""
    go(page, to)
    page.keyboard.press(key)


def arrived(page, title):
    """Assert that a step's heading has the focus and can be seen."""
    heading = part(page, title).get_by_role("heading", level=2).first
    expect(heading).to_be_focused()
    expect(heading).to_be_in_viewport()


@pytest.mark.parametrize("page", [390], indirect=True)
def test_by_keyboard_alone_on_a_phone_from_an_empty_folder_of_photographs_to_the_report(page, place, shared):
    where = page.get_by_role("group", name="Where are the photographs?")
    press(page, where.get_by_role("button", name="▸ mine"))
    press(page, where.get_by_role("button", name="▸ photographs"))
    expect(where.get_by_role("button", name="this folder: photographs")).to_be_focused()
    look = page.get_by_role("button", name="Look into the folder")
    press(page, look)
    expect(where.get_by_text("photographs lists no image")).to_be_visible()
    expect(where.get_by_role("button", name="this folder: photographs")).to_be_focused()

    put_photographs(place, shared)
    press(page, where.get_by_role("button", name="↑ mine"))
    press(page, where.get_by_role("button", name="▸ photographs"))
    expect(page.get_by_label("How are they stored?")).to_have_value("csv")
    file = page.get_by_role("group", name="Which file says what is known of them?")
    expect(file.get_by_role("button", name="labels.csv")).to_have_attribute("aria-pressed", "true")
    press(page, look)

    expect(part(page, "1 ·").get_by_text(f"✓ {FACES} photographs.")).to_be_visible()
    arrived(page, "2 ·")
    go(page, page.get_by_label("Which column says what the model should answer?"))
    page.keyboard.type("gender")
    press(page, page.get_by_role("checkbox", name=re.compile("^earrings: 0")), "Space")
    press(page, page.get_by_role("button", name="Read the faces"))

    arrived(page, "3 ·")
    expect(page.get_by_label("Which model?", exact=True)).to_have_value("demo:biased")
    press(page, page.get_by_role("button", name="Load the model"))

    arrived(page, "4 ·")
    go(page, page.get_by_label("What should this run be called?"))
    page.keyboard.press("Control+a")
    page.keyboard.type("two")
    page.keyboard.press("Enter")

    arrived(page, "demo:biased on csv")
    expect(part(page, "Which regions").get_by_label("Method")).to_have_value("share")
    expect(part(page, "Which regions").locator("svg.face-map").first).to_be_visible()
    quiet(page)
    expect(part(page, "demo:biased on csv").locator(".findings li").first).to_contain_text("“male”")
    assert page.evaluate("document.documentElement.scrollWidth <= window.innerWidth")
    assert_accessible(page, ".fx")

    report = part(page, "6 ·")
    for box in report.get_by_role("checkbox").all():
        go(page, box)
        if box.is_checked() != (box.get_attribute("value") == "faces"):
            page.keyboard.press("Space")
    press(page, report.get_by_role("button", name="Make the report"))
    title = page.frame_locator("iframe").locator("h1")
    expect(title).to_have_text(report.locator(".findings li").first.text_content(timeout=4 * SECONDS))
    expect(report.locator("iframe")).to_be_in_viewport()


@pytest.mark.parametrize("page", [1440], indirect=True)
def test_on_a_desk_an_earlier_run_opens_its_result_and_goes_on_from_there(page, place):
    if not (place / "runs" / "two" / "manifest.json").is_file():
        pytest.skip("there is no earlier run: the test before this one was skipped or failed")
    page.get_by_label("Which run?").select_option("two")
    page.get_by_role("button", name="Open its result").click()
    arrived(page, "demo:biased on csv")
    expect(page.frame_locator("iframe").locator("h1")).to_be_visible()
    quiet(page)
    expect(page.get_by_label("Which column says what the model should answer?")).to_have_value("gender")
    expect(page.get_by_role("checkbox", name=re.compile("^earrings: 0"))).to_be_checked()
    assert_accessible(page, ".fx")

    page.get_by_label("Which region should it do without?").select_option("nose")
    page.get_by_role("button", name="Train it on without").click()
    repair = part(page, "The repair: two-without-nose")
    expect(repair.get_by_role("alert")).to_contain_text("faces", timeout=4 * SECONDS)  # so few are told before any work

    model = page.get_by_label("Which model?", exact=True)
    model.select_option(label="another: write it …")
    page.get_by_label("Which model? Write it").fill("demo:nobody")
    page.get_by_role("button", name="Load the model").click()
    asked = page.locator(".control", has=model)
    expect(asked.locator(".error")).to_contain_text("nobody")
    expect(model).to_be_focused()
    page.get_by_label("How many faces?", exact=True).select_option(label="another: write it …")
    page.get_by_label("How many faces? Write it").fill("many")
    page.get_by_role("button", name="Read the faces").click()
    expect(page.locator(".control .error", has_text="“How many faces?” cannot be 'many'")).to_be_visible()
    expect(part(page, "2 ·").locator("p[role=alert]")).to_be_hidden()
