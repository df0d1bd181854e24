"""Text from data is never markup: in figures, pictures, pages, sentences and tables it stands as it was written."""

import csv
import io
import json
import warnings
from html.parser import HTMLParser
from pathlib import Path
from xml.etree import ElementTree

import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
import pytest
import torch
import xarray as xr
from matplotlib import font_manager, get_data_path
from matplotlib.text import Text
from PIL import Image

import facexkit as fx
from facexkit.faces.label_files import read_table
from facexkit.faces.regions import REGIONS
from facexkit.faces.spreadsheet import as_text, as_written, write_csv
from facexkit.measure.saved import write_table
from facexkit.models.face_model import FaceModel
from facexkit.models.small_network import SmallNetwork
from facexkit.show import figures
from facexkit.show.face_map import face_map, face_maps
from facexkit.show.index import write_index
from facexkit.show.report import write_region_report
from facexkit.show.words import NotMeasured, group_title, label_of, legible, model_name, words
from facexkit.stages import headlines, save_findings
from facexkit.systems.fairface import ActivationFiles, write_predictions

LABELS = {  # what the data say → what a figure shows
    "$\\frac{$": "$\\frac{$",
    "$a$ and $b$": "$a$ and $b$",
    "5$_{": "5$_{",
    "x^2_^": "x^2_^",
    "\\frac{1}{": "\\frac{1}{",
    "\\$": "\\$",
    "<script>alert(1)</script>": "<script>alert(1)</script>",
    "a & b": "a & b",
    "*bold* | cell |": "*bold* | cell |",
    "{0} %s {x}": "{0} %s {x}",
    "=1+1": "=1+1",
    "_hidden": "_hidden",
    "twenty_to_forty": "twenty to forty",
    "nul\0x": "nul[U+0000]x",
    "esc\x1b[31m": "esc[U+001B][31m",
    "turned\u202eback": "turned[U+202E]back",
    "tab\there": "tab[U+0009]here",
    "女": "[U+5973]",
}
GROUP = pytest.mark.parametrize(("label", "shown"), LABELS.items(), ids=map(ascii, LABELS))


@pytest.fixture(autouse=True)
def no_other_fonts(monkeypatch):
    """Only matplotlib's own fonts, whatever this machine has."""
    monkeypatch.setattr(figures, "_family_with", lambda letter: None)


def texts_of(figure, kind="png"):
    """Draw a figure, letters that no font has being an error, and return all that stands in it."""
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        figure.savefig(io.BytesIO(), format=kind)
    return "\n".join(text.get_text().replace("\n", " ") for text in figure.findobj(Text))


def audited(label, model="old", column="group"):
    """A hundred images of two groups, one called `label`, whose classes are called `label` and "no"."""
    truth = np.tile([label, "no"], 50)
    groups = np.repeat([label, "other"], 50)
    said = np.where(np.arange(100) % 9 == 0, "no", truth)
    table = pd.DataFrame({"truth": truth, "prediction": said, column: groups})
    return fx.audit({model: table}, protected=[column], replicates=20)


@GROUP
def test_a_group_and_a_class_are_drawn_as_they_are_written(label, shown):
    found = audited(label)
    assert f"{shown} (50)" in texts_of(fx.plot_audit(found))
    assert f"{shown} (50)" in (drawn := texts_of(fx.plot_confusion(found, "group"))) and {shown, shown.replace(" ", "_")} & {*drawn.split("\n")}


def test_labels_stand_at_every_mark_of_an_axis_that_panels_share():
    panels = fx.plot_confusion(audited("女"), "group").axes
    assert [label.get_text() for label in panels[0].get_yticklabels()] == ["no", "[U+5973]"]
    assert [[label.get_text() for label in ax.get_xticklabels()] for ax in panels] == [["no", "[U+5973]"]] * 2


def bias_of(label, attribute):
    values = {"probability": (("unit", "group"), [[0.4, 0.6], [0.7, 0.3]]), "effect": ("unit", [0.2, 0.1])}
    values |= {"leans_to": ("unit", np.array([label, ""], object)), "images": ("group", [9, 9])}
    one = xr.Dataset(values, {"unit": [0, 1], "group": np.array(["other", label], object)}, {"alpha": 0.05})
    return xr.concat([one], pd.Index([attribute], name="attribute"))


def ranked_of(label):
    values = {name: ("unit", [True, True]) for name in ("interpretable", "supported")}
    values |= {"best_concept": ("unit", np.array([label, "nose"], object))}
    kinds = {"concept_area": ("concept", np.array([label, "nose"], object)), "concept_type": ("concept", np.array(["part"] * 2, object))}
    return xr.Dataset(values, {"unit": [0, 1], "concept": np.array([label, "nose"], object), **kinds})


def effects_of(label):
    changes = {f"{name}_change{end}": ("unit", [0.1]) for name in ("accuracy", "gap") for end in ("", "_low", "_high")}
    return xr.Dataset(changes, {"unit": np.array([label], object)}, {"by": label, "layer": "layer1", "model": "m"})


def scores_of(label):
    values = np.linspace(0.1, 0.9, len(REGIONS))
    numbers = {name: ("region", values) for name in ("score", "score_low", "score_high")} | {"images": ("region", [9] * len(REGIONS))}
    attrs = {"method": "facex", "layer": "layer4", "model": f"folder/{label}", "faces": label, "image_size": 64}
    per_image = {"per_image": (("image", "region"), [values]), "output": ("image", [1.0])}
    coords = {"region": list(REGIONS), "image": np.array([label], object), "target_class": 1, "class_name": label}
    return xr.Dataset(numbers | per_image, coords, attrs)


FORMULA = "$\\frac{x_1$"
PLOTS = {
    "bias": lambda: fx.plot_bias({FORMULA: bias_of(FORMULA, FORMULA)}, FORMULA),
    "counts": lambda: fx.plot_counts({FORMULA: ranked_of(FORMULA), "m": ranked_of(FORMULA)}),
    "effects": lambda: fx.plot_effects(effects_of(FORMULA), [FORMULA]),
    "regions": lambda: fx.plot_regions([scores_of(FORMULA), scores_of("other")]),
    "title": lambda: fx.plot_regions(scores_of("x"), title=f"{FORMULA}\ud800"),
    "history": lambda: fx.plot_history({FORMULA: pd.DataFrame({"epoch": [1, 2], "accuracy": [0.1, 0.5], "val": [0.2, 0.4]})}),
    "audit": lambda: fx.plot_audit(audited("a", FORMULA, FORMULA)),
}


@pytest.mark.parametrize("kind", ["png", "pdf", "svg"])
@pytest.mark.parametrize("plot", PLOTS)
def test_no_text_of_a_plot_is_a_formula(plot, kind):
    assert FORMULA in texts_of(PLOTS[plot](), kind)


@pytest.fixture(scope="module")
def dissected(drawn_faces):
    """A dissection of an untaught network whose concepts, model and layer have awful names."""
    torch.manual_seed(0)
    model = FaceModel(SmallNetwork(), name=f"nets/{FORMULA}", image_size=64, device="cpu")
    found = fx.dissect(model, drawn_faces, "layer2", quantile=0.02, mask_size=32, progress=False, workers=0)
    awful = {concept: f"{concept}{FORMULA}女\x1b" for concept in found.concept.to_numpy()}
    best = [awful[concept] for concept in found.best_concept.to_numpy()]
    found = found.assign_coords(concept=np.array([*awful.values()], object))
    return found.assign(best_concept=("unit", np.array(best, object))).assign_attrs(layer=FORMULA)


def test_units_and_the_report_of_a_dissection_have_their_names_as_text(dissected, drawn_faces, tmp_path):
    shown = texts_of(fx.plot_units(dissected, drawn_faces, 3))
    assert FORMULA in shown and "[U+5973]" in shown and "nets/" not in shown
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert fx.write_dissection_report(dissected, drawn_faces, tmp_path / "r.pdf").read_bytes().startswith(b"%PDF")
    assert FORMULA in fx.dissection_findings({f"x/{FORMULA}": dissected})[0]


def test_a_figure_keeps_its_texts_when_a_notebook_draws_it_later():
    figure = fx.plot_audit(audited(FORMULA))
    with plt.rc_context({"text.parse_math": True}):
        assert FORMULA in texts_of(figure)


def test_what_a_user_set_for_formulas_does_not_reach_the_kits_plots():
    with plt.rc_context({"text.usetex": True, "axes.formatter.use_mathtext": True}):
        figure = fx.plot_audit(audited(FORMULA))
    assert not any(text.get_usetex() or text.get_parse_math() for text in figure.findobj(Text))


def test_letters_that_no_font_has_are_numbers_and_the_plot_says_so_once():
    table = pd.DataFrame({"truth": list("ab") * 20, "prediction": list("aabb") * 10, "sex": ["男"] * 20 + ["女"] * 20})
    shown = texts_of(fx.plot_audit(fx.audit(table, replicates=20, min_images=5)))
    assert "[U+7537] (20)" in shown and "[U+5973] (20)" in shown and shown.count("no font here has") == 1


def test_letters_are_drawn_by_an_installed_font_that_has_them(monkeypatch, tmp_path):
    file = tmp_path / "every.ttf"
    file.write_bytes(next(Path(get_data_path(), "fonts", "ttf").glob("LastResort*")).read_bytes())
    every = [*font_manager.fontManager.ttflist, font_manager.FontEntry(str(file), name="Last Resort High-Efficiency")]
    monkeypatch.undo()
    monkeypatch.setattr(font_manager.fontManager, "ttflist", every)
    figures._family_with.cache_clear()
    shown = texts_of(fx.plot_audit(audited("男")))
    figures._family_with.cache_clear()
    assert "男 (50)" in shown and "U+" not in shown


class Page(HTMLParser):
    """The tags of a page, and its text."""

    def __init__(self, page):
        super().__init__()
        self.tags, self.text, self.values = [], "", []
        self.feed(page)

    def handle_starttag(self, tag, attrs):
        self.tags.append(tag)
        self.values += [value for name, value in attrs if name in ("title", "aria-label", "alt")]

    def handle_data(self, data):
        self.text += data


MARKUP = {
    "<script>alert(1)</script>": "<script>alert(1)</script>",
    "</text><rect/>": "</text><rect/>",
    "\"><img src=x onerror=alert(1)>": "\"><img src=x onerror=alert(1)>",
    "a & b &amp; c": "a & b &amp; c",
    "<!-- --><![CDATA[": "<!-- --><![CDATA[",
    "nul\0\x0b!": "nul[U+0000][U+000B]!",
    "not\uffff": "not[U+FFFF]",
    "turned\u2067back": "turned[U+2067]back",
}
NAME = pytest.mark.parametrize(("name", "shown"), MARKUP.items(), ids=map(ascii, MARKUP))


@NAME
def test_a_face_map_is_xml_with_the_names_in_it_as_text(name, shown, tmp_path):
    plain, scores = face_map(scores_of("class")), scores_of(name)
    for drawing in (face_map(scores, title=name), face_map(scores, title=name, interactive=True), face_maps([scores, scores_of("b")])):
        kept = ElementTree.fromstring(drawing.save(tmp_path / "map.svg").read_bytes())
        assert any(shown[:20] in (text.text or "") for text in kept.iter("{http://www.w3.org/2000/svg}text"))
        assert not kept.findall(".//{*}script") and not kept.findall(".//{*}img")
    assert sorted(e.tag for e in ElementTree.fromstring(plain).iter()) == sorted(
        e.tag for e in ElementTree.fromstring(face_map(scores)).iter()
    )


@NAME
def test_a_name_on_a_report_is_text(name, shown, tmp_path, drawn_faces):
    pages = []
    for each in (name, "class"):
        file = write_region_report(scores_of(each).drop_vars("output").assign(output=("image", [1.0])), drawn_faces, tmp_path / "report.html")
        pages.append(Page(file.read_text(encoding="utf-8")))
    assert pages[0].tags == pages[1].tags and shown in pages[0].text


@NAME
def test_a_name_on_the_page_of_a_run_is_text(name, shown, tmp_path):
    stage = {"name": "alpha", "title": name, "findings": [name], "files": [{"path": "x.csv", "what": name}]}
    page = Page(write_index(tmp_path, {"title": name, "headline": [name], "stages": [stage]}).read_text(encoding="utf-8"))
    assert page.text.count(shown) >= 5 and "script" not in page.tags and "img" not in page.tags


@NAME
def test_a_finding_that_a_notebook_lists_is_text_and_survives_the_manifest(name, shown, tmp_path):
    listed = Page(save_findings("alpha", tmp_path, [f"{name} is best"])._repr_html_())
    assert listed.tags == ["ul", "li"] and listed.text == f"{shown} is best"
    assert json.loads((tmp_path / ".alpha.json").read_text())["findings"] == [f"{shown} is best"]


def test_no_page_in_a_notebook_is_read_for_formulas(tmp_path):
    assert 'class="mathjax_ignore"' in save_findings("alpha", tmp_path, ["$x$"])._repr_html_()
    assert 'class="mathjax_ignore"' in face_map(scores_of("$x$"))._repr_html_()


CELLS = {  # what a table holds → the cell in the file
    "=1+1": "'=1+1",
    "=HYPERLINK(\"http://x\",\"y\")": "'=HYPERLINK(\"http://x\",\"y\")",
    "+cmd|' /C calc'!A0": "'+cmd|' /C calc'!A0",
    "-2+3": "'-2+3",
    "-a.jpg": "'-a.jpg",
    "@SUM(1)": "'@SUM(1)",
    "\t=1": "'\t=1",
    "\r=1": "'\r=1",
    "\n=1": "'\n=1",
    "＝1": "'＝1",
    "'=1": "''=1",
    "''@": "'''@",
    "-": "'-",
    "-1": "-1",
    "+2.5e-3": "+2.5e-3",
    "'tis": "'tis",
    "a=b": "a=b",
    "a,\"b\"": "a,\"b\"",
    "": "",
}


@pytest.mark.parametrize(("cell", "kept"), CELLS.items(), ids=map(ascii, CELLS))
def test_a_cell_is_no_formula_and_is_read_back_as_it_was(cell, kept, tmp_path):
    assert as_text(cell) == kept and as_written(kept) == cell
    file = write_csv(pd.DataFrame({"name": [cell], "next": ["x"]}), tmp_path / "t.csv")
    with open(file, newline="", encoding="utf-8") as lines:
        assert list(csv.reader(lines)) == [["name", "next"], [kept, "x"]]
    back = read_table(file).iloc[0].fillna("")
    assert str(back["name"]) == cell and back["next"] == "x"


def test_faces_that_are_listed_with_odd_names_are_found_again(tmp_path):
    for name in ("-a.png", "=b.png"):
        Image.new("RGB", (8, 8)).save(tmp_path / name)
    write_csv(pd.DataFrame({"img": ["-a.png", "=b.png"], "label": ["@x", "-1"]}), tmp_path / "labels.csv")
    faces = fx.load_faces("csv", root=tmp_path, annotations=tmp_path / "labels.csv")
    assert faces.table.path.tolist() == ["-a.png", "=b.png"] and faces.table.label.tolist() == ["@x", "-1"]


def test_numbers_stay_numbers_and_headers_are_texts(tmp_path):
    file = write_csv(pd.DataFrame({"=x": [-1.5, 2.0], "kind": pd.Categorical(["=a", "b"])}), tmp_path / "t.csv")
    assert file.read_text().splitlines() == ["'=x,kind", "-1.5,'=a", "2.0,b"]
    assert list(read_table(file)) == ["=x", "kind"]


EVIL = "=cmd|' /C calc'!A0"


def audit_files(folder):
    return fx.write_audit(folder, audited(EVIL, EVIL, EVIL))


def score_files(folder):
    return fx.write_score_tables(scores_of(EVIL), folder)


def bias_files(folder):
    return [path for path in fx.write_dissection(folder, bias=bias_of(EVIL, EVIL)) if path.suffix == ".csv"]


def fairface_files(folder):
    files = ActivationFiles(folder / "activations")
    files.write(np.array([EVIL], object), np.ones((1, 3), np.float32))
    files.close()
    write_predictions(pd.DataFrame({"face_name_align": [EVIL], "race": [EVIL], "race White": [0.5]}), folder / "outputs")
    return [folder / "activations.csv", folder / "outputs.csv"]


def any_table(folder):
    return write_table(pd.DataFrame({"image": [EVIL], EVIL: [-1]}), folder / "t")[:1]


@pytest.mark.parametrize("write", [audit_files, score_files, bias_files, fairface_files, any_table])
def test_no_file_has_a_cell_that_a_spreadsheet_runs(write, tmp_path):
    for file in write(tmp_path):
        with open(file, newline="", encoding="utf-8") as lines:
            cells = [cell for row in csv.reader(lines) for cell in row]
        assert any(EVIL in cell for cell in cells)
        assert not [cell for cell in cells if cell[:1] in "=+@\t\r" and cell or cell[:1] == "-" and not cell[1:2].isdigit()]
    parquet = tmp_path / "t.parquet"
    assert not parquet.exists() or pd.read_parquet(parquet).image.tolist() == [EVIL]


@pytest.mark.parametrize("pair", [("skin_tone", "skin tone"), ("Wearing_Lipstick", "Wearing Lipstick"), ("a.b-c_d", "a.b-c d"), ("$x_1$", "$x_1$"), ("_", "_")])
def test_names_of_columns_are_shown_in_words(pair):
    assert words(pair[0]) == pair[1]
    figure = fx.plot_audit(audited("x", column=pair[0]))
    assert pair[1] in [ax.get_title("left") for ax in figure.axes]


@pytest.mark.parametrize(
    ("attribute", "group", "title"),
    [("skin_tone", "0", "no skin tone"), ("skin_tone", 1, "skin tone"), ("age", "sixty_plus", "sixty plus"), ("g", "01", "01"), ("a", "$_1$", "$_1$")],
)
def test_groups_are_shown_in_words(attribute, group, title):
    assert group_title(attribute, group) == title == label_of(attribute, str(group))


@pytest.mark.parametrize(
    ("name", "short"),
    [("/home/me/nets/mine.py:Net", "mine.py:Net"), ("C:\\nets\\m.onnx", "m.onnx"), ("demo:biased", "demo:biased"), ("x/\u202ey", "[U+202E]y"),
     ("torchvision:resnet18 (mine/model.pt)", "torchvision:resnet18 (mine/model.pt)"), ("a (b)/n.py:Net (w/m.pt)", "n.py:Net (w/m.pt)")],
)
def test_a_model_is_named_without_its_folder_wherever_people_read(name, short):
    assert model_name(name) == short
    found = audited("x", name)
    assert f"accuracy of {short} is" in fx.audit_findings(found)[0]
    scores = scores_of("class").assign_attrs(model=name)
    said = [*fx.region_findings(scores), *fx.bias_findings({name: bias_of("a", "b")}), face_map(scores)]
    assert all(short in sentence and name not in sentence for sentence in said) or name == short
    assert short in fx.plot_confusion(found, "group").get_suptitle()


def test_what_could_not_be_measured_follows_the_findings_and_heads_no_page(tmp_path):
    save_findings("alpha", tmp_path, [NotMeasured("Hat: fewer than two groups."), "A gap of 20 points."], headline=True)
    found = json.loads((tmp_path / ".alpha.json").read_text())
    assert found["findings"] == ["A gap of 20 points.", "Hat: fewer than two groups."] and found["measured"] == 1
    fx.save_findings("beta", tmp_path, [NotMeasured("No groups.")], headline=True)  # as a notebook calls it
    stages = [{"name": name, **json.loads((tmp_path / f".{name}.json").read_text())} for name in ("alpha", "beta")]
    assert headlines({"stages": stages}) == ["A gap of 20 points."] and headlines({"stages": stages[1:]}) == []


def test_a_sentence_that_says_only_what_is_missing_is_marked_so():
    tiny = fx.audit(pd.DataFrame({"truth": list("ab") * 4, "prediction": list("ab") * 4, "protected": list("xxxyxyyx")}), replicates=5)
    said, small = fx.audit_findings(tiny)
    assert isinstance(small, NotMeasured) and small.endswith("with fewer than 30 images: x (5), y (3).")
    assert isinstance(said, NotMeasured) and said.startswith("Protected: fewer than two groups have 30 images")
    page = fx.region_findings(scores_of("x").map(lambda values: values * 0))
    assert isinstance(page[0], NotMeasured) and page[0].startswith("FaceX says nothing")


def test_a_page_without_a_finding_is_headed_by_its_subject(tmp_path, drawn_faces):
    nothing = scores_of("male").map(lambda values: values * 0).assign_attrs(scores_of("male").attrs)
    page = write_region_report(nothing, drawn_faces, tmp_path / "report.html").read_text()
    assert "<h1>Face regions behind male</h1>" in page and "<li>FaceX says nothing" in page


def test_legible_text_is_what_xml_may_hold():
    every = "".join(map(chr, range(0x3000))) + "\ud800\udfff\ufffe\uffff\ufffd\U0001f600"
    ElementTree.fromstring(f"<a>{legible(every).replace('&', '').replace('<', '')}</a>")
    assert legible("ordinary ü 男 😀\nline") == "ordinary ü 男 😀\nline"
