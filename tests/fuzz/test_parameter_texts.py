"""Any text as a parameter, any mapping, any YAML: a result that runs as it was checked, or an error in words."""

import pytest
import yaml
from hypothesis import given, settings
from hypothesis import strategies as st

from facexkit.errors import FacexkitError
from facexkit.parameters import Parameters, check, parse, read_parameter_file
from facexkit.plain_yaml import read_yaml, write_yaml

FUZZ = settings(settings.get_profile("fuzz"), max_examples=200)
NAMES = st.sampled_from(sorted(Parameters.model_fields))
ODD = ["no", "12:30", "010", "1e3", "null", "~", "*a", "&a x", "!!int 3", "[", "{", "[no, yes]", "a,,b", ".nan", "- - 1", "? x"]
TEXTS = st.one_of(st.text(), st.sampled_from(ODD), st.text(alphabet="[]{}:,-&*!#?|>%@`'\" \n\tan01.e~", max_size=60))
SCALARS = st.one_of(st.none(), st.booleans(), st.integers(), st.floats(), TEXTS, st.binary(max_size=5))
VALUES = st.recursive(
    SCALARS, lambda inner: st.lists(inner, max_size=4) | st.dictionaries(TEXTS, inner, max_size=3), max_leaves=12
)


def checked(values):
    """Return the values as they are checked, None where they are refused in words."""
    try:
        found = check(values).model_dump()
    except FacexkitError as error:
        assert 10 < len(str(error)) < 1500
        return None
    return {name: found[name] for name in values}


@FUZZ
@given(NAMES, TEXTS)
def test_any_text_on_the_command_line_is_a_value_or_an_error(name, text):
    found = checked({name: parse(name, text)})
    if found is not None:
        assert checked({name: found[name]}) == found


@FUZZ
@given(st.dictionaries(st.one_of(NAMES, TEXTS), VALUES, max_size=5))
def test_any_mapping_is_checked_or_an_error(values):
    checked(values)


@FUZZ
@given(st.dictionaries(NAMES, st.one_of(VALUES, TEXTS.map(lambda text: [text, text + "x"])), min_size=1, max_size=4))
def test_what_was_checked_is_read_back_from_a_file_as_it_was(tmp_path_factory, values):
    found = checked(values)
    if found is not None:
        path = tmp_path_factory.getbasetemp() / "p.yaml"
        path.write_text(write_yaml(found), encoding="utf-8")
        assert checked(read_parameter_file(path)) == found


@FUZZ
@given(st.one_of(st.binary(max_size=300), TEXTS.map(lambda text: text.encode("utf-8", "replace"))))
def test_any_bytes_as_a_file_are_a_mapping_or_an_error(tmp_path_factory, content):
    path = tmp_path_factory.getbasetemp() / "any.yaml"
    path.write_bytes(content)
    try:
        found = read_parameter_file(path)
    except FacexkitError as error:
        assert "any.yaml" in str(error)
    else:
        assert isinstance(found, dict)
        checked(found)


@FUZZ
@given(VALUES)
def test_what_a_reader_of_yaml_gives_is_plain_or_refused(value):
    text = yaml.dump(value)
    try:
        found = read_yaml(text)
    except (yaml.YAMLError, ValueError):
        return
    assert not _kinds(found) - {dict, list, str, int, float, bool, type(None)}


def _kinds(value):
    inner = [*value, *value.values()] if isinstance(value, dict) else value if isinstance(value, list) else []
    return {type(value)}.union(*map(_kinds, inner))


@pytest.mark.parametrize("open_, close", ["[]", "{}"])
@settings(FUZZ, max_examples=20)
@given(depth=st.integers(1, 3000))
def test_nesting_ends_in_a_value_or_an_error(open_, close, depth):
    text = f"{open_}a: " * depth if open_ == "{" else open_ * depth
    for whole in (text, text + close * depth):
        checked({"normalize": parse("normalize", whole)})
