"""The page of a run that stands alone, as people use it: by mouse and by keyboard, at a desk and on a phone."""

import pandas as pd
import pytest
import torch
from axe_playwright_python.sync_playwright import Axe
from playwright.sync_api import expect
from torch import nn

import facexkit as fx
from facexkit.models.face_model import FaceModel
from facexkit.parameters import Parameters
from facexkit.show.standalone import write_explorer
from facexkit.stages.run_folder import write_manifest

EVIL = "</script><img src=x onerror=alert(1)>"


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """A run of a small untrained model and of one of another name; names that come from data are markup."""
    torch.manual_seed(1)
    head = nn.Sequential(nn.AdaptiveAvgPool2d(4), nn.Flatten(), nn.Linear(128, 2))
    network = nn.Sequential(nn.Conv2d(3, 8, 5, 4), nn.ReLU(), nn.Conv2d(8, 8, 3, 2), nn.ReLU(), head)
    folder, chosen = tmp_path_factory.mktemp("alone"), Parameters(limit=24).model_dump(mode="json")
    write_manifest(folder, {"title": EVIL, "parameters": chosen, "stages": []})
    faces = fx.Run.of(folder).every_face
    for name in ("first", EVIL):
        model = FaceModel(network, name=name, image_size=64, class_names=["a", f"b {EVIL}"])
        how = {"target_class": [0, 1], "progress": False}
        fx.write_scores(fx.score_regions(model, faces, method="share", images=8, partners=1, **how), folder / "regions")
        fx.write_scores(fx.score_regions(model, faces, layer="3", **how), folder / "regions")
    found = fx.dissect(model, faces, "3", mask_size=32, progress=False)
    bias = fx.global_bias(model, faces, "3", ["gender"], found=found, progress=False)
    fx.write_dissection(folder / "3", found, bias=bias)
    gender = faces.table.gender
    said = pd.DataFrame({"truth": gender, "prediction": gender.iloc[::-1].values, "group": [EVIL, "c"] * 12})
    fx.write_audit(folder / "audit", fx.audit(said, min_images=5, replicates=50))
    write_explorer(folder)
    return folder


@pytest.fixture
def page(alone, folder):
    return alone(folder / "explore.html")


def shown(page):
    return page.locator("main > section:visible")


def go(page, part):
    link = page.get_by_role("navigation").get_by_role("link", name=part, exact=True)
    link.click()
    expect(link).to_have_attribute("aria-current", "page")
    return shown(page)


def test_model_class_and_method_are_switched_and_the_map_with_them(page, folder):
    kept = [fx.read_result(folder / "regions" / f"first_{method}_a.zarr") for method in ("share", "facex")]
    share, facex = (one.isel(target_class=0) for one in kept)
    regions = go(page, "Regions")
    regions.get_by_label("Model").select_option("first")
    regions.get_by_label("Class").select_option("a")
    for method, scores in (("FaceX score · 3 · all faces", facex), ("Decision share", share)):
        regions.get_by_label("Method").select_option(method)
        drawn = regions.locator(".region[data-region=nose]").get_attribute("data-value")
        assert float(drawn) == pytest.approx(float(scores.score.sel(region="nose")), rel=1e-4)
    assert regions.get_by_text("The same by Decision share").is_visible()
    assert regions.locator(".exchange").count() == (share.turned_image != "").sum() > 0


def test_a_region_is_reached_by_keyboard_and_its_faces_lead_to_single_ones(page):
    regions = go(page, "Regions")
    regions.locator(".region[data-region=nose]").focus()
    page.keyboard.press("Enter")
    assert regions.locator(".behind h2").text_content() == "nose"
    opener = regions.locator(".examples .opener").first
    name = opener.get_attribute("aria-label").removeprefix("open ").removesuffix(" large")
    opener.focus()
    page.keyboard.press("Enter")
    assert shown(page).locator(".detail h3").first.text_content() == name
    shown(page).get_by_label("Model").select_option("first")
    shown(page).get_by_label("Method").select_option("FaceX score · 3 · all faces")
    assert "What first gives" in shown(page).locator(".detail p").first.text_content()
    assert shown(page).locator(".detail .bars tr").count() == 8


def test_every_picture_is_there(page):
    for part in ("Regions", "Units", "Faces"):
        pictures = go(page, part).locator("img[src^='data:image']")
        assert pictures.count() > 0
        pictures.evaluate_all("all => Promise.all(all.map(one => one.decode()))")


def test_units_are_chosen_and_tell_what_they_detect(page, folder):
    found = fx.read_result(folder / "3" / "dissection.zarr")
    units = go(page, "Units")
    units.get_by_label("Order").select_option("unit")
    units.locator(".card[value='3']").click()
    assert units.locator(".detail h3").first.text_content() == "Unit 3"
    assert f"IoU {float(found.best_iou[3]):.3f}" in units.locator(".detail p").first.text_content()
    assert units.get_by_text("Gender: ").is_visible() and units.get_by_role("checkbox").count() == 0
    units.get_by_label("IoU at least").fill("0.99")
    expect(units.locator(".pager span")).to_contain_text("0 of 8 units")


def test_groups_show_each_metric_with_its_interval(page, folder):
    table = pd.read_csv(folder / "audit" / "groups.csv")
    groups = go(page, "Groups")
    groups.get_by_label("Number").select_option("accuracy")
    own = table[(table.metric == "accuracy") & (table.label == "c")].iloc[0]
    row = groups.locator(".bars tr", has_text="c ·").first.text_content()
    assert f"{100 * own.value:.0f} % (95 % interval" in row and "12 images" in row
    assert groups.locator(".bars tr", has_text=EVIL).count() == 1


def test_faces_are_found_by_name_and_group(page, folder):
    women = (fx.Run.of(folder).every_face.table.gender == "female").sum()
    faces = go(page, "Faces")
    faces.get_by_label("Faces", exact=True).select_option("gender: female")
    assert faces.locator(".card").count() == women
    faces.get_by_label("Name").fill("no such face")
    expect(faces.locator(".pager span")).to_contain_text("0 of 24 faces")


def test_names_from_data_are_words_and_every_part_is_accessible_and_fits_the_screen(page):
    assert page.locator("img[src=x]").count() == 0 and EVIL in page.title()
    for part in ("Regions", "Units", "Groups", "Faces"):
        go(page, part)
        assert page.evaluate("document.documentElement.scrollWidth <= window.innerWidth")
        found = Axe().run(page, options={"resultTypes": ["violations"]}).response["violations"]
        assert [(rule["id"], [node["html"][:120] for node in rule["nodes"][:3]]) for rule in found] == []
