"""A user's own file: a module in Python code, or a whole pickled network."""

from __future__ import annotations

import contextlib
import importlib.util
import inspect
import sys
import traceback
from collections.abc import Iterator
from pathlib import Path
from types import ModuleType

import torch
from torch import nn

from facexkit.errors import FacexkitError, told, unknown
from facexkit.models.sources import Made, Wish
from facexkit.models.weights import load_weights, seeded

PICKLES = (".pt", ".pth", ".bin", ".ckpt")


def from_pickle(source: str, wish: Wish) -> Made:
    """Return the whole network that somebody pickled."""
    path = Path(source).expanduser()
    if not path.is_file():
        raise FacexkitError(f"model {source!r}: there is no file {path}")
    if not wish.trust:
        raise FacexkitError(f"loading {source!r} as a model can run the code that is pickled in it; if you trust it give trust=True")
    with told(f"model {source!r} cannot be opened as a pickled network"):
        network = torch.load(path, map_location="cpu", weights_only=False)
    if not isinstance(network, nn.Module):
        raise FacexkitError(
            f"model {source!r} holds a {type(network).__name__}, not a network; name the network (torchvision:NAME, "
            "timm:NAME or path/to/file.py:NAME) and give this file as weights="
        )
    return Made(network)


def from_file(source: str, wish: Wish) -> Made:
    """Return the module of a Python file, or what a class or function in it makes."""
    with seeded(wish.seed), _running(f"model {source!r}", source, wish.trust) as (home, network):
        if callable(network) and not isinstance(network, nn.Module):
            takes_classes = wish.num_classes is not None and "num_classes" in inspect.signature(network).parameters
            network = network(num_classes=wish.num_classes) if takes_classes else network()
    if not isinstance(network, nn.Module):
        raise FacexkitError(f"model {source!r} is a {type(network).__name__}, not a torch.nn.Module or what makes one")
    if wish.weights is not None:
        load_weights(network, wish.weights, wish.trust)
    return Made(network, home=home)


def from_own_file(source: str, trust: bool) -> object:
    """Return the object called NAME of `path/to/file.py:NAME`, such as a transform."""
    with _running(repr(source), source, trust) as (_, found):
        return found


@contextlib.contextmanager
def _running(called: str, source: str, trust: bool) -> Iterator[tuple[Home, object]]:
    """Give what `path/to/file.py:NAME` names to a block that may run its code; an error in the code names the line."""
    path, name = _named(source, trust)
    home = Home(path)
    try:
        with home:
            yield home, _found(path, home.name, name)
    except FacexkitError:
        raise
    except (Exception, SystemExit) as error:
        lines = [frame.lineno for frame in traceback.extract_tb(error.__traceback__) if frame.filename == str(path)]
        if isinstance(error, SyntaxError) and error.filename == str(path):
            lines.append(error.lineno)
        where = f", line {lines[-1]}" if lines else ""
        raise FacexkitError(f"{called}, {path}{where}: {type(error).__name__}: {error}") from error


def _named(source: str, trust: bool) -> tuple[Path, str]:
    """Return the Python file, whose code is trusted, and the name in `path/to/file.py:NAME`."""
    file, _, name = source.rpartition(":")
    path = Path(file).expanduser().resolve()
    if path.suffix != ".py":
        raise FacexkitError(f"{source!r}: name what to take from the file, as in path/to/file.py:NAME")
    if not path.is_file():
        raise FacexkitError(f"{source!r}: there is no file {path}")
    if not trust:
        raise FacexkitError(f"loading {source!r} runs the code in {path}; read it, and if you trust it give trust=True")
    return path, name


def _found(path: Path, own: str, name: str) -> object:
    """Run the file as the module `own` and return what it calls `name`."""
    if "." in own:
        importlib.import_module(own.rpartition(".")[0])
    spec = importlib.util.spec_from_file_location(own, path)
    module = importlib.util.module_from_spec(spec)
    sys.modules[own] = module
    spec.loader.exec_module(module)
    if name not in vars(module):
        raise unknown(f"name in {path}", name, [key for key, value in vars(module).items() if callable(value)])
    return getattr(module, name)


class Home(contextlib.AbstractContextManager):
    """Lets a file import its neighbours, or of its package, rather than namesakes that are loaded; and hides them after.

    What was imported there is kept for the next time, so that a forward pass may import too.
    """

    def __init__(self, path: Path) -> None:
        root, parts = path.parent, [path.stem]
        while (root / "__init__.py").is_file():
            root, parts = root.parent, [root.name, *parts]
        self.name, self.folders = ".".join(parts), [str(root)] + [str(path.parent)] * (root != path.parent)
        near = (p for folder in self.folders for p in Path(folder).iterdir())
        self.near = {parts[0]} | {p.stem for p in near if p.suffix == ".py" or (p / "__init__.py").is_file()}
        self.own: dict[str, ModuleType] = {}

    def __enter__(self) -> None:
        self.before = self._loaded()
        for name, module in self.before.items():
            file = Path(getattr(module, "__file__", None) or "")
            if not any(Path(folder) in file.parents for folder in self.folders):
                del sys.modules[name]
        sys.modules.update(self.own)
        sys.path[:0] = self.folders
        importlib.invalidate_caches()

    def __exit__(self, *_: object) -> None:
        for folder in self.folders:
            sys.path.remove(folder)
        self.own = self._loaded()
        for name in self.own:
            del sys.modules[name]
        sys.modules.update(self.before)

    def __getstate__(self) -> dict[str, object]:
        return vars(self) | {"own": {}, "before": {}}

    def _loaded(self) -> dict[str, ModuleType]:
        return {name: module for name, module in sys.modules.items() if name.partition(".")[0] in self.near}
