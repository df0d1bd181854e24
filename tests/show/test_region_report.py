"""The report holds everything it shows, tells the result's numbers, and lets no name become markup."""

import json
import re
from html.parser import HTMLParser

import pandas as pd
import pytest

from facexkit.faces.regions import REGIONS, TITLES, UNIONS
from facexkit.show import report
from facexkit.show.pages import templates
from facexkit.show.readings import read_regions
from facexkit.show.regions import plot_regions, write_score_tables
from facexkit.show.report import write_region_report


class Page(HTMLParser):
    """Tags with attributes, and the text of each table cell."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.tags, self.rows, self.cell = [], [], False
        self.feed(text)

    def handle_starttag(self, tag, attributes):
        self.tags.append((tag, dict(attributes)))
        if tag == "tr":
            self.rows.append([])
        if tag in ("td", "th"):
            self.rows[-1].append("")
        self.cell = tag in ("td", "th") or (self.cell and tag in ("b", "span", "button", "i"))

    def handle_endtag(self, tag):
        self.cell = self.cell and tag not in ("td", "th")

    def handle_data(self, data):
        if self.cell:
            self.rows[-1][-1] += data


@pytest.fixture(scope="module")
def page(four_results, odd_faces, tmp_path_factory):
    path = write_region_report(four_results, odd_faces, tmp_path_factory.mktemp("report") / "regions" / "report.html")
    return path.read_text(encoding="utf-8")


def test_the_report_loads_nothing_from_anywhere(page):
    for tag, attributes in Page(page).tags:
        for name in ("src", "href", "srcset", "data", "action", "xlink:href"):
            assert attributes.get(name, "data:").startswith(("data:", "#")), (tag, attributes)
    assert not re.search(r"@import|url\((?!#)|fetch\(|XMLHttpRequest|import\(", page)
    assert set(re.findall(r"https?://[^\"' ]*", page)) == {"http://www.w3.org/2000/svg"}
    assert "default-src 'none'" in page


def test_names_from_data_stay_text(make_scores, odd_faces, tmp_path):
    nasty = "</script><img src=x onerror=alert(1)>"
    results = [make_scores(m, model=nasty, class_name=nasty) for m in ("share", "facex")]
    text = write_region_report(results, odd_faces, tmp_path / "report.html").read_text(encoding="utf-8")
    assert "<img src=x" not in text and "<script>broken" not in text and "<i>faces" not in text
    assert [tag for tag, _ in Page(text).tags].count("script") == 2
    assert not any(name.startswith("on") for _, attributes in Page(text).tags for name in attributes)
    data = json.loads(text.split('id="data">')[1].split("</script>")[0])
    assert any("<b onmouseover" in p["name"] for r in data["subjects"][0]["regions"].values() for p in r["patches"])


def test_the_table_tells_every_number_with_interval_and_images(page, make_scores):
    rows = {row[0]: row[1:] for row in Page(page).rows[: 1 + len(REGIONS) + len(UNIONS)]}
    share, facex = (read_regions(make_scores(method)) for method in ("share", "facex"))
    assert [*rows][1:4] == ["lips", "upper lip", "lower lip"]
    for region in {*REGIONS, *UNIONS} - {"hat"}:
        told = [" ".join(cell.split()) for cell in rows[TITLES[region]]]
        assert told == [f"{one[region].text} {one[region].interval}" for one in (share, facex)] + ["24"]
    assert rows["hat"] == ["no data", "no data", "0"]


def test_the_report_says_what_was_run_on_what(page):
    for said in ("0123456789abcdef", "demo:fair", "layer4", "0.1.0", "cannot identify image", "The methods disagree"):
        assert said in page


def test_every_method_is_explained_and_the_share_comes_first(page):
    shown = [attributes for tag, attributes in Page(page).tags if attributes.get("class") == "view"]
    assert [v["data-method"] for v in shown] == ["share", "facex layer4"] * 2
    assert ["hidden" in v for v in shown] == [False, True, True, True]
    assert "rests on it" in page and "need not be what moves the decision" in page


def test_side_by_side_shows_every_method_and_one_number_has_one_colour(page):
    one = r'<section data-method="([^"]*)" aria-label="Side by side"( hidden)?>(.*?)</section>'
    sections = {method: (hidden, inside) for method, hidden, inside in re.findall(one, page, re.DOTALL)}
    assert {method: bool(hidden) for method, (hidden, _) in sections.items()} == {"share": False, "facex layer4": True}
    painted = re.findall(r'data-region="hair" data-value="0.09".*?<path [^>]*fill="(#\w+)"', page, re.DOTALL)
    assert len(painted) == 2 and len({*painted}) == 1


def test_a_report_that_would_be_too_large_shows_fewer_pictures(make_scores, odd_faces, tmp_path, monkeypatch):
    scores = make_scores("facex")
    full = write_region_report(scores, odd_faces, tmp_path / "full.html").stat().st_size
    monkeypatch.setattr(report, "LARGEST", full - 1)
    text = write_region_report(scores, odd_faces, tmp_path / "less.html").read_text(encoding="utf-8")
    data = json.loads(text.split('id="data">')[1].split("</script>")[0])
    assert full < 10e6 and len(text) < full
    assert len(data["subjects"][0]["regions"]["skin"]["patches"]) == 10


def test_patches_and_examples_of_the_page_are_the_results(page, make_scores):
    data = json.loads(page.split('id="data">')[1].split("</script>")[0])
    region = data["subjects"][0]["regions"]["l_lip"]
    images = make_scores("facex").patch_image.sel(region="l_lip").values.tolist()
    assert [p["name"] for p in region["patches"]] == images
    assert all(data["uris"][p["picture"]].startswith("data:image/jpeg") for p in region["patches"])
    assert data["subjects"][0]["first"] == "lips" and len(region["examples"]) == 4


def luminance(colour):
    rgb = [int(colour[k : k + 2], 16) / 255 for k in (1, 3, 5)]
    linear = [c / 12.92 if c <= 0.03928 else ((c + 0.055) / 1.055) ** 2.4 for c in rgb]
    return 0.2126 * linear[0] + 0.7152 * linear[1] + 0.0722 * linear[2]


@pytest.mark.parametrize("text", ["ink", "soft", "blue", "mark"])
@pytest.mark.parametrize("ground", ["paper", "card", "pale"])
def test_text_stands_out_from_its_ground(text, ground):
    colours = dict(re.findall(r"--(\w+): (#[0-9a-f]{6})", templates().globals["style_css"]))
    light, dark = sorted((luminance(colours[text]), luminance(colours[ground])), reverse=True)
    assert (light + 0.05) / (dark + 0.05) >= 4.5


def test_a_plot_has_a_panel_a_method_and_dots_at_the_scores(four_results):
    figure = plot_regions(four_results)
    share, facex = figure.axes
    assert (share.get_title(), facex.get_title()) == ("Decision share", "FaceX score")
    assert [t.get_text() for t in share.get_yticklabels()][:2] == ["lips", "hair"]
    dots = {line.get_label(): line.get_xdata() for line in share.lines}
    assert dots["demo:biased"][:2] == pytest.approx([0.65, 0.09]) and dots["demo:fair"][0] == pytest.approx(0.03)
    (lacking,) = share.texts  # at the right edge, not on the axis
    assert share.get_xlabel() and lacking.get_text() == "no data" and lacking.get_transform() == share.get_yaxis_transform()
    assert lacking.get_position()[0] == 1 and lacking.get_ha() == "right"
    assert figure.get_suptitle() == "Lips first: 65 %"


def test_what_a_method_does_not_give_is_an_empty_column(make_scores, tmp_path):
    bare = make_scores().drop_dims("union")[["score", "images"]].assign_attrs(method="mean_area")
    scores, images = (pd.read_csv(path) for path in write_score_tables([bare, make_scores()], tmp_path))
    own = scores[scores.method == "mean_area"]
    assert len(own) == len(REGIONS) and own.score_low.isna().all() and own.images.notna().all()
    assert set(images.method) == {"share"} and images.output.notna().all()
