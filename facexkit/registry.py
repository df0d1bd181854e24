"""What can be added to the kit by name: formats, model sources, region methods, attributions, stages."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from importlib import import_module
from importlib.metadata import EntryPoint, entry_points
from typing import TypeVar

from facexkit.errors import FacexkitError, check_known, told

T = TypeVar("T")


class Registry(Mapping[str, T]):
    """Things of one kind by name.

    The kit's own register themselves when their module is imported, which is when the first of them is looked for;
    another package's are entry points of the `group`, loaded when they are asked for.

    Parameters
    ----------
    kind : what one of them is called in errors.
    group : of the entry points.
    modules : the kit's modules that register some.
    """

    def __init__(self, kind: str, group: str, *modules: str) -> None:
        self.kind, self.group, self.modules = kind, group, modules
        self.found: dict[str, T | EntryPoint] = {}
        self.filled = False

    def register(self, name: str) -> Callable[[T], T]:
        """Register what is decorated; a name that another module has taken is an error."""

        def take(thing: T) -> T:
            if getattr(self.found.get(name, thing), "__module__", None) != getattr(thing, "__module__", None):
                raise FacexkitError(f"there is a {self.kind} {name!r} already; register yours under another name")
            self.found[name] = thing
            return thing

        return take

    def find(self, name: object, advice: str = "") -> T:
        """Return the one of this name; an unknown name is an error that lists the known ones."""
        check_known(self.kind, [name], self, advice)
        return self[name]

    def __getitem__(self, name: str) -> T:
        thing = self.all[name]
        if isinstance(thing, EntryPoint):
            with told(f"{self.kind} {name!r} of {thing.dist.name} cannot be loaded"):
                self.found[name] = thing = thing.load()
        return thing

    def __contains__(self, name: object) -> bool:
        return name in self.all

    def __iter__(self) -> Iterator[str]:
        return iter(self.all)

    def __len__(self) -> int:
        return len(self.all)

    @property
    def all(self) -> dict[str, T | EntryPoint]:
        """Everything that is registered, entry points as they are."""
        if not self.filled:
            self.filled = True
            for module in self.modules:
                import_module(module)
            for point in entry_points(group=self.group):
                self.found.setdefault(point.name, point)
        return self.found
