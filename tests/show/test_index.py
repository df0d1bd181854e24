"""A run's first page tells what was found and leads to every file."""

import re

import pytest

from facexkit.errors import FacexkitError
from facexkit.show.face_map import face_map
from facexkit.show.index import write_index


@pytest.fixture
def manifest():
    return {
        "title": "demo <run>", "created": "2026-01-02", "command": "facexkit run -p data 'a & <b>'",
        "model": "demo:biased", "faces": "synthetic, 24 faces", "parameters": {"layer": "<layer4>"},
        "versions": {"torch": "2.14.1"},
        "stages": [
            {"name": "faces", "title": "The faces", "notebook": "01_faces.ipynb", "html": "01_faces.html",
             "seconds": 1.4, "findings": ["24 faces <b>."]},
            {"name": "regions", "title": "Regions", "notebook": "03_regions.ipynb", "html": "03_regions.html",
             "seconds": 80.2, "findings": ["The lips carry 41 % of it.", "A second."],
             "pictures": [{"path": "regions/map.svg", "alt": "Face map of <female>", "wide": True}],
             "files": [{"path": "regions/report #1.html", "what": "the report"}]},
        ],
    }  # fmt: skip


def test_the_index_tells_findings_pictures_and_every_file(manifest, make_scores, tmp_path):
    (tmp_path / "regions").mkdir()
    face_map(make_scores()).save(tmp_path / "regions" / "map.svg")
    page = write_index(tmp_path, manifest | {"headline": ["The lips carry 41 % of it."]})
    text = page.read_text(encoding="utf-8")
    assert page == tmp_path / "index.html"
    links = set(re.findall(r'href="\./([^"]*)"', text))
    assert links == {
        "01_faces.ipynb", "01_faces.html", "03_regions.ipynb", "03_regions.html", "regions/map.svg",
        "regions/report%20%231.html",
    }  # fmt: skip
    assert "<h1>The lips carry 41\N{NO-BREAK SPACE}% of it.</h1>" in text and "A second." in text
    assert 'alt="Face map of &lt;female&gt;"' in text and 'src="data:image/svg+xml;base64,' in text
    assert "demo &lt;run&gt;" in text and "a &amp; &lt;b&gt;" in text and "&lt;layer4&gt;" in text
    assert "<b>." not in text
    assert "<dt>eye_g</dt><dd>glasses</dd>" in text
    assert not re.search(r'(src|href)="(https?:)?//', text)


def test_a_run_without_findings_still_has_a_page(tmp_path):
    assert "<h1>bare</h1>" in write_index(tmp_path, {"title": "bare"}).read_text(encoding="utf-8")


def test_a_picture_that_is_not_there_is_an_error(manifest, tmp_path):
    with pytest.raises(FacexkitError, match="regions/map.svg"):
        write_index(tmp_path, manifest)
