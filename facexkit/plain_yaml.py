"""YAML as people mean it: `no`, `12:30`, `010` and dates are text; no aliases, tags or doubled keys."""

from __future__ import annotations

import re
from collections.abc import Mapping
from pathlib import Path

import yaml

from facexkit.errors import FacexkitError, told

MOST_BYTES, DEEPEST = 1 << 18, 8
NULL, BOOL, INT, FLOAT, STR = (f"tag:yaml.org,2002:{kind}" for kind in ("null", "bool", "int", "float", "str"))
_SCALARS = {
    NULL: r"~|null|Null|NULL|",
    BOOL: r"true|True|TRUE|false|False|FALSE",
    INT: r"-?(0|[1-9]\d{0,99})",
    FLOAT: r"-?((0|[1-9]\d{0,99})(\.\d*)?|\.\d+)([eE][-+]?\d{1,3})?",
}
"""What a plain scalar must be, whole, to be anything but text: YAML 1.2, without its octal and hexadecimal numbers."""


class _Reader(yaml.SafeLoader):
    yaml_implicit_resolvers: dict = {}
    depth = 0

    def compose_node(self, parent: yaml.Node | None, index: object) -> yaml.Node:
        event = self.peek_event()
        if getattr(event, "anchor", None) or isinstance(event, yaml.AliasEvent):
            raise _refused("an anchor (&) or alias (*); quote a text that begins so", event)
        if getattr(event, "tag", None):
            raise _refused("a tag (!); quote a text that begins so", event)
        if self.depth > DEEPEST:
            raise _refused(f"more than {DEEPEST} lists or mappings in each other", event)
        self.depth += 1
        node = super().compose_node(parent, index)
        self.depth -= 1
        return node

    def construct_mapping(self, node: yaml.MappingNode, deep: bool = False) -> dict:
        seen: set[str] = set()
        for key, _ in node.value:
            if not isinstance(key, yaml.ScalarNode) or key.value in seen:
                what = f"{key.value!r} twice" if isinstance(key, yaml.ScalarNode) else "a key that is no name"
                raise _refused(what, key)
            seen.add(key.value)
        return super().construct_mapping(node, deep)


class _Writer(yaml.SafeDumper):
    """Quotes what this reader, or one of YAML 1.1, would take for something else than text."""


for _tag, _form in _SCALARS.items():
    for _each in (_Reader, _Writer):
        _each.add_implicit_resolver(_tag, re.compile(rf"(?:{_form})\Z"), None)


def read_yaml(text: str, kept: Mapping[str, tuple[str, ...]] | None = None) -> object:
    """Return what a YAML text holds; `yaml.YAMLError` where it is none, or holds what is refused here.

    Parameters
    ----------
    kept : of keys of the outermost mapping, or of "", the whole, what a plain scalar there may be (`INT`, `NULL`, …)
        beside text; anything by default.
    """
    reader = _Reader(text)
    try:
        root = reader.get_single_node()
        if root is None:
            return None
        places = [(key.value, value) for key, value in root.value] if isinstance(root, yaml.MappingNode) else []
        for name, node in [("", root), *places]:
            if kept and isinstance(name, str) and name in kept:
                _keep(node, kept[name])
        return reader.construct_document(root)
    finally:
        reader.dispose()


def read_yaml_file(path: str | Path, what: str, kept: Mapping[str, tuple[str, ...]] | None = None) -> dict[str, object]:
    """Return the mapping in a YAML file, empty for an empty file; `what` the file is stands in the errors."""
    path = Path(path)
    if path.exists() and not path.is_file():
        raise FacexkitError(f"{what} {path} is no file")
    try:
        with told(f"{what} {path} cannot be read", kinds=(OSError, ValueError)):
            with path.open(encoding="utf-8-sig") as file:
                text = file.read(MOST_BYTES + 1)
            if len(text) > MOST_BYTES:
                most = f"{MOST_BYTES >> 10} KB"
                raise FacexkitError(f"{what} {path} is larger than {most}; it holds one NAME: VALUE a line")
            content = read_yaml(text, kept)
    except yaml.YAMLError as error:
        mark = getattr(error, "problem_mark", None)
        place = f", line {mark.line + 1}" if mark else ""
        reason = getattr(error, "problem", None) or str(error).partition("\n")[0]
        raise FacexkitError(f"{what} {path} is not YAML that can be read{place}: {reason}") from error
    if not isinstance(content, dict | None):
        raise FacexkitError(f"{what} {path} holds a {type(content).__name__}; write one NAME: VALUE a line")
    return content or {}


def write_yaml(content: Mapping[str, object]) -> str:
    """Return YAML that `read_yaml` reads as the same."""
    return yaml.dump(dict(content), Dumper=_Writer, sort_keys=False, allow_unicode=True)


def _keep(node: yaml.Node, tags: tuple[str, ...], inside: bool = False) -> None:
    if isinstance(node, yaml.SequenceNode):
        for item in node.value:
            _keep(item, tags, True)
    elif isinstance(node, yaml.ScalarNode) and (node.tag not in tags or inside and node.tag == NULL):
        node.tag = STR


def _refused(what: str, at: yaml.Event | yaml.Node) -> yaml.YAMLError:
    return yaml.constructor.ConstructorError(None, None, f"it has {what}", at.start_mark)
