"""Explore as people use it: its notebook in JupyterLab, by mouse and keyboard."""

import pytest
import yaml
from in_browser import SECONDS, assert_accessible, opened, part, quiet
from playwright.sync_api import expect

from facexkit.faces.formats import load_faces
from facexkit.parameters import Parameters
from facexkit.stages.notebooks import notebook_folder


@pytest.fixture(scope="module")
def place(tmp_path_factory, demo_models):
    """A folder with a run's choices, the notebook on that run, and a picture to upload."""
    place = tmp_path_factory.mktemp("explore")
    (place / "runs" / "one").mkdir(parents=True)
    choices = Parameters(limit=60, layer="layer4").model_dump(exclude={"out"})
    (place / "runs" / "one" / "params.yaml").write_text(yaml.safe_dump(choices))
    text = (notebook_folder() / "explore.ipynb").read_text()
    assert "../runs/demo" in text
    (place / "explore.ipynb").write_text(text.replace("../runs/demo", "runs/one"))
    faces = load_faces("synthetic", limit=1)
    faces.images.read(faces.table.path[0]).save(place / "me.png")
    (place / "me.txt").write_text("no picture")
    return place


@pytest.fixture(scope="module")
def lab(browser, served, place):
    """JupyterLab with the notebook run to its end."""
    command = [
        "jupyterlab",
        "--no-browser",
        "--allow-root",
        "--IdentityProvider.token=",
        f"--ServerApp.root_dir={place}",
    ]
    address, _ = served([*command, "--LabApp.check_for_updates_class=jupyterlab.NeverCheckForUpdate"])
    pages = opened(browser, f"{address}/doc/tree/explore.ipynb", 1440)
    page = next(pages)
    news = page.get_by_text("Would you like to get notified about official")
    page.add_locator_handler(news, lambda: page.get_by_role("button", name="No", exact=True).click())
    page.locator(".jp-CodeCell").first.wait_for()
    kernel = page.locator('.jp-Notebook-ExecutionIndicator[data-status="idle"]')
    kernel.first.wait_for(state="attached", timeout=4 * SECONDS)  # what is run before the kernel is there is lost
    page.locator(".lm-MenuBar-itemLabel", has_text="Run").click()
    page.get_by_text("Run All Cells", exact=True).click()
    page.locator(".fx .card").first.wait_for(timeout=4 * SECONDS)
    quiet(page)
    yield page
    next(pages, None)


def test_a_click_on_a_region_shows_what_lies_behind_it(lab):
    part(lab, "Which regions").locator(".view .region[data-region=nose]").click()
    expect(part(lab, "What lies behind").locator(".behind h2")).to_have_text("nose")
    expect(part(lab, "What lies behind").locator(".patches img").first).to_be_visible()
    expect(part(lab, "Which regions").locator(".readout")).to_contain_text("nose: ")


def test_the_numbers_stay_beside_the_map_at_every_width(lab):
    regions = part(lab, "Which regions")
    for width in (390, 700, 1100, 1440):
        lab.set_viewport_size({"width": width, "height": 900})
        expect(regions.locator(".view .labels:visible, .numbers-below:visible")).to_have_count(1)


def test_an_example_opens_large_with_map_outlines_and_prediction(lab):
    gallery = part(lab, "What lies behind")
    gallery.locator(".examples .opener").first.click()
    expect(gallery.locator(".opened")).to_contain_text("demo:biased says")
    expect(gallery.locator(".opened .face img")).to_have_count(3)
    gallery.get_by_role("checkbox", name="Outlines of the regions").uncheck()
    expect(gallery.locator(".opened .outlines")).to_be_hidden()
    gallery.get_by_role("button", name="Close").click()
    expect(gallery.locator(".opened")).to_be_empty()


def test_another_class_and_a_comparison_are_drawn(lab):
    classes = part(lab, "Which regions")
    classes.get_by_label("Class", exact=True).select_option("female")
    classes.get_by_label("Compare with").select_option("model: demo:fair")
    expect(classes.locator(".compared svg")).to_have_count(3)
    expect(part(lab, "demo:biased on").locator(".findings")).to_contain_text("“female” of demo:biased")
    quiet(lab)


def test_another_layer_is_found_by_search_and_dissected(lab):
    layers = part(lab, "Layers of")
    layers.get_by_label("Search").fill("layer2")
    expect(layers.locator(".layer", has_text="layer4")).to_have_count(0)
    layers.get_by_role("radio").first.check()
    expect(layers.locator(".note")).to_contain_text("layer2 (Block")
    expect(part(lab, "Units of layer2").locator(".card").first).to_be_visible()
    quiet(lab)


def test_units_are_filtered_and_one_is_switched_off(lab):
    units = part(lab, "Units of")
    every = units.locator(".pager span").text_content()
    units.get_by_label("IoU at least").fill("0.05")
    expect(units.locator(".pager span")).not_to_have_text(every)
    units.get_by_label("IoU at least").fill("0")
    expect(units.locator(".pager span")).to_have_text(every)
    units.get_by_label("Order").select_option("unit")
    units.locator(".card[value='3']").click()
    expect(units.locator(".detail h3").first).to_have_text("Unit 3")
    units.get_by_role("checkbox").check()
    expect(units.locator(".detail figcaption").first).to_contain_text("→")
    expect(units.locator(".detail")).to_contain_text("Without unit 3, accuracy on")
    expect(part(lab, "demo:biased on").locator(".findings")).to_contain_text("Unit 3 of")
    quiet(lab)


def test_a_face_of_ones_own_is_uploaded_and_what_is_no_picture_is_told(lab, place):
    face = part(lab, "One face")
    face.get_by_label("Your own picture").set_input_files(place / "me.png")
    expect(face.locator(".detail h3").first).to_have_text("me.png")
    expect(face.locator(".detail")).to_contain_text("demo:biased says")
    face.get_by_label("Your own picture").set_input_files(place / "me.txt")
    expect(face.get_by_role("alert")).to_contain_text("is no picture")
    face.get_by_role("button", name="A face at random").click()
    expect(face.get_by_role("alert")).to_be_hidden()


def test_a_report_is_saved_and_is_whole(lab, tmp_path):
    quiet(lab)
    with lab.expect_download() as download:
        part(lab, "demo:biased on").get_by_role("button", name="Save report").click()
    download.value.save_as(tmp_path / "report.html")
    assert "</html>" in (tmp_path / "report.html").read_text()[-200:]


def test_controls_have_names_and_the_map_is_reached_by_keyboard(lab):
    nameless = """() => [...document.querySelectorAll('.fx button, .fx input, .fx select')].filter(e =>
        !(e.ariaLabel || e.labels?.length || e.textContent.trim() || e.title)).map(e => e.outerHTML)"""
    assert lab.evaluate(nameless) == []
    region = part(lab, "Which regions").locator(".view .region[data-region=hair]")
    region.focus()
    lab.keyboard.press("Enter")
    expect(part(lab, "What lies behind").locator(".behind h2")).to_have_text("hair")


def test_the_notebook_is_accessible(lab):
    assert_accessible(lab, ".fx")
