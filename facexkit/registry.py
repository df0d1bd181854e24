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
        self.found: dict[str, T] = {}
        self.points: dict[str, EntryPoint] | None = None

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
        if name in self.names and name not in self.found:
            with told(f"{self.kind} {name!r} of {self.points[name].dist.name} cannot be loaded"):
                self.found[name] = self.points[name].load()
        return self.found[name]

    def __iter__(self) -> Iterator[str]:
        return iter(self.names)

    def __contains__(self, name: object) -> bool:
        return name in self.names

    def __len__(self) -> int:
        return len(self.names)

    @property
    def names(self) -> dict[str, object]:
        """Everything that is registered, entry points as they are."""
        if self.points is None:
            self.points = {}
            for module in self.modules:
                import_module(module)
            self.points = {point.name: point for point in entry_points(group=self.group)}
        return {**self.found, **self.points}
