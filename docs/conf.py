"""The site: README and docs as pages, the notebooks as a run left them, and every public name with its docstring."""

import importlib.metadata
import shutil
from pathlib import Path

import facexkit as fx

HERE = Path(__file__).parent
RUN = HERE.parent / "runs" / "docs"
TITLES = {
    "faces": "Faces", "models": "Models", "probe": "Edits", "measure": "Measurements", "show": "Figures, sentences, widgets",
    "stages": "Runs", "systems": "Published systems",
}  # fmt: skip

project, author, release = "facexkit", "The facexkit authors", importlib.metadata.version("facexkit")
extensions = ["myst_nb", "sphinx.ext.autodoc", "sphinx.ext.napoleon"]
html_theme, html_title = "furo", "facexkit"
nb_execution_mode = "off"
myst_heading_anchors = 3
default_role = "code"
autodoc_typehints, python_maximum_signature_line_length = "none", 80
suppress_warnings = ["myst.header", "myst.xref_missing", "mystnb.unknown_mime_type"]


def write_pages(_app: object) -> None:
    """Put the executed notebooks and a page of the public names beside the other pages."""
    pages = HERE / "notebooks"
    shutil.rmtree(pages, ignore_errors=True)
    pages.mkdir()
    for notebook in sorted(RUN.glob("[0-9][0-9]_*.ipynb")):
        shutil.copy(notebook, pages)
    rooms = {room: [name for name in fx.__all__ if _room(name) == room] for room in TITLES}
    text = "# Public names\n\n`import facexkit as fx`; a name is imported when it is first used.\n"
    for room, names in rooms.items():
        kinds = [f".. auto{'class' if isinstance(getattr(fx, name), type) else 'function'}:: facexkit.{name}" for name in names]
        text += f"\n## {TITLES[room]}\n\n```{{eval-rst}}\n" + "\n".join(kinds) + "\n```\n"
    (HERE / "names.md").write_text(text)


def _room(name: str) -> str:
    return getattr(fx, name).__module__.split(".")[1] if name != "FacexkitError" else "faces"


def keep_bars(_app: object, _kind: str, _name: str, _thing: object, _options: object, lines: list[str]) -> None:
    """Keep |x| in a docstring from being read as a substitution."""
    lines[:] = [line.replace("|", r"\|") for line in lines]


def setup(app: object) -> None:
    app.connect("builder-inited", write_pages)
    app.connect("autodoc-process-docstring", keep_bars)
