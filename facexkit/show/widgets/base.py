"""What the widgets share: what a browser may set, their look, work that can be stopped, errors, a still picture."""

from __future__ import annotations

import os
import re
import time
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Future
from contextlib import contextmanager
from functools import partial
from html import escape
from pathlib import Path
from threading import Thread, main_thread
from types import SimpleNamespace

import anywidget
import ipywidgets
import traitlets as t
from IPython import get_ipython
from ipywidgets.widgets.trait_types import InstanceDict
from ipywidgets.widgets.widget import _put_buffers

from facexkit.errors import FacexkitError
from facexkit.show.widgets.session import Cancelled, Session, finish

HERE = Path(__file__).parent
PAGE = 24
SESSION = Session()
FIGURE = '<figure style="margin:0;width:110px"><img src="{}" alt="" width="110"><figcaption>{}</figcaption></figure>'
Fits = Callable[["Guarded", object], bool]
"""Whether a browser may set a trait of a widget to a value; a trait without one is set by Python alone."""
LARGEST = 5_000_000
"""Bytes that a file from a browser may have."""
LONGEST, UNFIT = 2000, re.compile("[\x00-\x1f\x7f\ud800-\udfff]")
"""How long a text from a browser may be, and the characters that no text from a browser has."""


def a_line(_: Guarded, value: object) -> bool:
    """Whether it is a line of text."""
    return isinstance(value, str) and len(value) <= LONGEST and not UNFIT.search(value)


def count(_: Guarded, value: object) -> bool:
    """Whether it is a whole number that fits everywhere."""
    return type(value) is int and abs(value) < 2**31


def share(_: Guarded, value: object) -> bool:
    """Whether it is a number from 0 to 1."""
    return type(value) in (int, float) and 0 <= value <= 1


def yes_or_no(_: Guarded, value: object) -> bool:
    """Whether it is a truth value."""
    return type(value) is bool


def among(offers: str) -> Fits:
    """Return whether a value is one of those that the widget offers in another trait, as [value, text] pairs."""
    return lambda widget, value: isinstance(value, str) and value in [one[0] for one in getattr(widget, offers)]


def a_face(widget: Guarded, value: object) -> bool:
    """Whether it is the path of a face of the widget's set, or "" for none."""
    return isinstance(value, str) and (not value or bool(widget.faces.table.path.eq(value).any()))


def _trait(kind: type[t.TraitType], *first: object, fits: Fits | None = None) -> t.TraitType:
    return kind(*first).tag(sync=True, fits=fits)


text, number, whole, flag, rows, table = (
    partial(_trait, kind) for kind in (t.Unicode, t.Float, t.Int, t.Bool, t.List, t.Dict)
)
"""Synchronized traits of each kind: the first value, and what a browser may set."""


def script(draw: str, *more: Path) -> str:
    """Return the module that draws one kind of widget: the face map's script, the widgets', `more`, and which one it is."""
    parts = [path.read_text("utf-8") for path in (HERE.parent / "face_map.js", HERE / "widgets.js", *more)]
    return "\n".join([*parts, f"export default widget({draw});\n"])


def look() -> str:
    """Return the widgets' style: the report's, kept inside them, and their own."""
    report = (HERE.parent / "style.css").read_text("utf-8").replace(":root {", "& {", 1)
    return f".fx {{\n{report}\n}}\n" + (HERE / "widgets.css").read_text("utf-8")


class Guarded(ipywidgets.Widget):
    """A widget to which what a browser sends is data: a trait is set where its `fits` says so, and by nobody else."""

    error = t.Unicode()

    def set_state(self, sync_data: dict) -> None:
        """Take from a browser what fits; the rest goes back to it as it was."""
        asks = self.trait_metadata
        fit = {n: v for n, v in sync_data.items() if n in self.keys and (fits := asks(n, "fits")) and fits(self, v)}
        super().set_state(fit)
        left = [name for name in sync_data if name in self.keys and name not in fit]
        self.send_state(left)
        if wrong := [name for name in left if asks(name, "fits")]:
            self.error = f"{wrong[0].replace('_', ' ')}: that is not among what is offered here; choose again."

    def _handle_msg(self, msg: dict) -> None:
        with self.in_words(anew=False):
            data = msg["content"]["data"]
            if data["method"] == "update":
                _put_buffers(data["state"], data.get("buffer_paths", []), msg.get("buffers", []))
                self.set_state(data["state"])
            elif data["method"] == "request_state":
                self.send_state()
            elif data["method"] == "custom":
                self._handle_custom_msg(data["content"], msg.get("buffers", []))

    @contextmanager
    def in_words(self, anew: bool = True) -> Iterator[None]:
        """Tell an error of the block in words."""
        if anew:
            self.error = ""
        try:
            yield
        except Cancelled:
            pass
        except FacexkitError as error:
            self.error = str(error)
        except Exception as error:  # whatever a stranger's network or file raises: there is nobody else to tell it
            self.error = f"{type(error).__name__}: {error}"


class Layout(Guarded, ipywidgets.Layout):
    """Where a widget lies on the page, which a browser is told."""


def laid_out() -> InstanceDict:
    """Return the trait of a widget that holds its layout."""
    return InstanceDict(Layout).tag(sync=True, **ipywidgets.widget_serialization)


class Box(Guarded, ipywidgets.VBox):
    """Widgets one below the other, which a browser cannot arrange anew."""

    layout = laid_out()


class Widget(Guarded, anywidget.AnyWidget):
    """A widget of the kit; `error` tells in words what went wrong, `busy` what goes on, `stop` ends it."""

    _css, layout = look(), laid_out()
    title, error, busy, progress, stop = text(), text(), text(), number(), flag(fits=yes_or_no)
    arrived = whole()
    """Counts how often the eye should go here; 0 where it should be no more."""
    job: Future | None = None
    measures = False
    """Whether the work under way measures, which may take long."""
    shows = "title"
    """The trait that is empty until there is something to see."""

    @property
    def ended(self) -> bool:
        """Whether the work under way should end: somebody pressed Stop, or Python is about to leave."""
        return self.stop or not main_thread().is_alive()

    @contextmanager
    def bar(self, total: int, **_about: object) -> Iterator[SimpleNamespace]:
        """Show how far work has come that takes `progress=`; it ends where somebody presses Stop or chooses anew."""
        self.measures, job, done = True, self.job, 0

        def update(n: int) -> None:
            nonlocal done
            done += n
            if self.job is job and self.ended:
                self.error = "Stopped; choose again to start anew."
            if self.job is not job or self.ended:
                raise Cancelled
            self.progress = done / total
            SESSION.give_way()

        yield SimpleNamespace(update=update)

    def work(self, what: str, do: Callable[[], object], alone: bool = True) -> None:
        """Do something long in the background; what was under way for this widget ends, that `alone` waits for others."""
        self.stop, self.progress, self.busy, self.measures = False, 0.0, what, False
        job = self.job = Future()

        def run() -> None:
            if self.job is job and not self.ended:
                with self.in_words():
                    do()
            if self.job is job:
                self.busy = ""

        SESSION.put(job, run) if alone else Thread(target=finish, args=(job, run)).start()

    def wait(self) -> None:
        """Wait for the work in the background."""
        if self.job is not None:
            self.job.exception()

    def still(self) -> str:
        """Return the widget's state as HTML, for where nobody draws it."""
        return ""

    def _repr_mimebundle_(self, **how: object) -> tuple[dict, dict]:
        settle([self])
        data, metadata = super()._repr_mimebundle_(**how)
        return {**data, "text/html": f"<h3>{escape(self.title)}</h3>{self.still()}"}, metadata


def settle(widgets: Sequence[Widget]) -> None:
    """Wait until there is something to see, and for what must be measured first where nobody watches it.

    A page of Voilà needs no still picture.
    """
    if "VOILA_BASE_URL" in os.environ:
        return
    kernel = getattr(get_ipython(), "kernel", None)
    if kernel is not None and not kernel._allow_stdin:  # a notebook that is run without a screen: nobody can be asked
        for widget in widgets:
            widget.wait()
    while not any(widget.measures for widget in widgets):
        if not any(widget.job and not widget.job.done() and not getattr(widget, widget.shows) for widget in widgets):
            break
        time.sleep(0.02)


class Paged(Widget):
    """A widget that shows small pictures to choose from, a page at a time: {key, picture, title, text} in `cards`."""

    page, pages, told, cards = whole(fits=count), whole(1), text(), rows()
    shows = "cards"

    def turn(self, found: Sequence, card: Callable[[object], dict], told: str) -> None:
        """Show the page of what was found, and say what that is."""
        self.told, self.pages = told, max(1, -(-len(found) // PAGE))
        self.page = min(max(self.page, 0), self.pages - 1)
        self.cards = [card(one) for one in found[self.page * PAGE : (self.page + 1) * PAGE]]

    def still(self) -> str:
        shown = "".join(FIGURE.format(c["picture"], escape(f"{c['title']} {c['text']}")) for c in self.cards[:12])
        return f'<p>{escape(self.told)}</p><div style="display:flex;flex-wrap:wrap;gap:8px">{shown}</div>'
