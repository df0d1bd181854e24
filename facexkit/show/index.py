"""The manifest of a run and the page that tells it: what was run on what, what was found, where everything is."""

from __future__ import annotations

import json
import mimetypes
from collections.abc import Iterable, Mapping
from pathlib import Path
from urllib.parse import quote

from pydantic import BaseModel, ValidationError

from facexkit.errors import FacexkitError
from facexkit.faces.cache import write_whole
from facexkit.faces.regions import TITLES
from facexkit.show.pages import data_uri, templates


class _File(BaseModel):
    path: str


class _Stage(BaseModel):
    """What the page of a run needs of a stage."""

    name: str
    title: str
    notebook: str
    html: str
    seconds: float = 0
    parameters: dict[str, object] = {}
    findings: list[str] = []
    pictures: list[_File] = []
    files: list[_File] = []


class _Manifest(BaseModel):
    title: str
    headline: list[str] = []
    parameters: dict[str, object] = {}
    stages: list[_Stage] = []


def read_manifest(folder: Path) -> dict:
    """Return a run's manifest; empty where there is none."""
    path = folder / "manifest.json"
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
        _Manifest.model_validate(content, strict=True)
    except FileNotFoundError:
        return {}
    except ValidationError as error:
        first = error.errors(include_url=False)[0]
        where, wrong = " → ".join(map(str, first["loc"])) or "the whole", first["msg"].partition(" or instance")[0]
        raise FacexkitError(
            f"{path} is no manifest of a run ({where}: {wrong}); name another folder or remove that file"
        ) from error
    except (OSError, ValueError, RecursionError) as error:
        raise FacexkitError(f"{path} is no manifest ({error}); name another folder or remove that file") from error
    return content


def other_parameters(stage: Mapping, manifest: Mapping) -> dict[str, object]:
    """Return the parameters that a stage ran with earlier where the last run into the same folder had others."""
    last = manifest.get("parameters") or {}
    return {k: v for k, v in (stage.get("parameters") or {}).items() if k in last and k not in ("out", "client") and v != last[k]}


def write_index(folder: str | Path, manifest: Mapping) -> Path:
    """Write `index.html` of a run folder and return its path.

    Parameters
    ----------
    folder : the run folder; paths in the manifest are relative to it.
    manifest : `title`; and, where known, `headline` (sentences), `created`, `command`, `model`, `faces` (words), `parameters` and `versions` (name to value), and
        `stages`: a list of `name`, `title`, `notebook`, `html` (paths), `seconds`, `findings` (sentences), `pictures`
        (`path` of an SVG, PNG or JPEG, `alt`, `wide` if it needs the whole width), `files` (`path`, `what`).

    Raises
    ------
    FacexkitError if a picture is not there.
    """
    folder = Path(folder)
    stages = [
        {**stage, "shown": shown_pictures(folder, stage.get("pictures", ())), "other": other_parameters(stage, manifest)}
        for stage in manifest.get("stages", ())
    ]
    headline = list(manifest.get("headline") or [manifest["title"]])
    facts = {k: manifest[k] for k in ("model", "faces", "created") if manifest.get(k)}
    page = {"headline": headline, "facts": facts, "explore": (folder / "explore.html").is_file(), "legend": TITLES}
    text = templates().get_template("index.html").render(page, manifest=manifest, stages=stages, link=_link)
    write_whole(folder / "index.html", text.encode())
    return folder / "index.html"


def shown_pictures(folder: Path, pictures: Iterable[Mapping]) -> list[dict]:
    """Return the pictures of a stage with `uri`, what a page shows of them."""
    shown = []
    for picture in pictures:
        path = folder / picture["path"]
        if not path.is_file() or not path.resolve().is_relative_to(folder.resolve()):
            raise FacexkitError(f"the run's picture {picture['path']!r} is not in {folder}; write it before the index")
        kind = mimetypes.guess_type(path.name)[0] or "image/png"
        shown.append({**picture, "uri": data_uri(path.read_bytes(), kind)})
    return shown


def _link(path: str) -> str:
    """Return a relative link to a file of the run, safe for any name."""
    return "./" + quote(str(path).lstrip("/"))
