"""What the arguments of the public functions must be: one table, for calls, the command line and files alike."""

from __future__ import annotations

import functools
import inspect
import operator
import re
import unicodedata
import warnings
from collections.abc import Callable, Iterable, Mapping
from numbers import Integral, Real
from pathlib import Path
from typing import Annotated, Any, Optional, Union

from pydantic import AfterValidator, BeforeValidator, ConfigDict, Field, TypeAdapter, ValidationError

from facexkit.errors import FacexkitError, check_known, unknown

SHOWN = 80


def _number(value: object) -> object:
    """Return numpy's numbers as Python's; all else as it is."""
    if isinstance(value, bool) or not isinstance(value, Real):
        return value
    return operator.index(value) if isinstance(value, Integral) else float(value)


def _printable(text: str) -> str:
    bad = next((character for character in text if unicodedata.category(character) in ("Cc", "Cs")), None)
    if bad is not None:
        raise ValueError(f"it must be text that can be printed, without {bad!r}")
    return text


def _listed(value: object) -> object:
    """Return one name, or any row of names, as a list; whole numbers among them as text."""
    if isinstance(value, str) or not isinstance(value, Iterable):
        return [value] if isinstance(value, str) else value
    whole = lambda item: isinstance(item, Integral) and not isinstance(item, bool)  # noqa: E731
    return value if isinstance(value, Mapping) else [str(item) if whole(item) else item for item in value]


def _row(value: object) -> object:
    """Return a tuple or an array as a list."""
    return value.tolist() if hasattr(value, "tolist") else list(value) if isinstance(value, tuple) else value


def _iterable(value: object) -> object:
    if not isinstance(value, Iterable) or isinstance(value, (str, bytes)):
        raise ValueError("it must be a row of them, as a list")
    return value


def _split(value: object) -> object:
    """Return the names in a text with commas between them."""
    return [name.strip() for name in value.split(",")] if isinstance(value, str) else value


def _distinct(names: list[str]) -> list[str]:
    if twice := [name for place, name in enumerate(names) if name in names[:place]]:
        raise ValueError(f"it must name each once; {twice[0]!r} stands there twice")
    return names


def _of(kind: str, words: str) -> Any:
    """Return the type of the objects of a class, known by its name, so that it need not be imported."""

    def look(value: object) -> object:
        if kind not in [parent.__name__ for parent in type(value).__mro__]:
            raise ValueError(f"it must be {words}")
        return value

    return Annotated[Any, BeforeValidator(look)]


Whole = Annotated[int, BeforeValidator(_number)]
Count = Annotated[Whole, Field(ge=1, le=2**63 - 1)]
Number = Annotated[float, BeforeValidator(_number), Field(allow_inf_nan=False)]
Side = Annotated[Whole, Field(ge=1, le=4096)]
BatchSize = Annotated[Whole, Field(ge=1, le=65536)]
Outputs = Annotated[Whole, Field(ge=1, le=2**20)]
Seed = Annotated[Whole, Field(ge=0, le=2**63 - 1)]
Share = Annotated[Number, Field(ge=0, le=1)]
Quantile = Annotated[Number, Field(gt=0, lt=1)]
Text = Annotated[str, Field(min_length=1, max_length=4096), AfterValidator(_printable)]
Names = Annotated[list[Text], BeforeValidator(_listed)]
EachOnce = Annotated[Names, BeforeValidator(_split), AfterValidator(_distinct)]
File = Annotated[Text, BeforeValidator(lambda value: str(value) if isinstance(value, Path) else value)]
ClassName = Union[Annotated[Whole, Field(ge=0, le=2**20)], Text]
TargetClass = Union[ClassName, Annotated[list[ClassName], Field(min_length=1), BeforeValidator(_row)]]
Rows = Annotated[Any, BeforeValidator(_iterable)]

ARGUMENTS: dict[str, dict[str, Any]] = {
    "int": {
        "": Whole, "batch_size": BatchSize, "seed": Seed, "limit": Count, "num_classes": Outputs, "image_size": Side,
        "mask_size": Side, "permutations": Count, "replicates": Count, "epochs": Count, "chunk": Count,
        "min_images": Count, "images": Count, "partners": Count, "walks": Count, "count": Count, "size": Side,
        "workers": Optional[Annotated[Whole, Field(ge=0, le=1024)]],
        **dict.fromkeys(("seam", "interactions"), Annotated[Whole, Field(ge=0, le=64)]),
    },
    "float": {
        "": Number, "quantile": Quantile, "alpha": Quantile, "held_out": Quantile,
        **dict.fromkeys(("max_skipped", "strength", "test_share", "half_width"), Share),
    },
    "str": {"": str, "device": Text, "layer": Text, "source": File, "target": Text},
    "bool": {"": bool, "quick": bool},
    "str | Path": {"": File},
    "Path": {"": _of("Path", "a path")},
    "Sequence[str]": {"": Names, "class_names": EachOnce, "protected": EachOnce, "findings": Rows},  # NotMeasured stays one
    "str | Sequence[str]": {"": Names, "protected": EachOnce},
    "int | str": {"target_class": ClassName},
    "int | str | Sequence[int | str]": {"target_class": TargetClass},
    **dict.fromkeys(("Mapping[str, object]", "Mapping[str, xr.Dataset]", "dict[str, xr.Dataset]"), {"": Mapping}),
    **dict.fromkeys(("xr.Dataset | Iterable[xr.Dataset]", "Sequence[xr.Dataset]", "Sequence[float]"), {"": Rows}),
    "str | nn.Module": {"": Union[File, _of("Module", "a torch.nn.Module")]},
    "pd.DataFrame": {"": _of("DataFrame", "a table, a pandas.DataFrame")},
    "torch.dtype": {"autocast": Optional[_of("dtype", "torch.float16 or torch.bfloat16")]},
    "FaceModel": {"": _of("FaceModel", "a model that fx.load_model returned")},
    "FaceSet": {"": _of("FaceSet", "a face set that fx.load_faces returned")},
    "xr.Dataset": {"": _of("Dataset", "a result, an xarray.Dataset")},
}  # fmt: skip
"""Annotation → name → type; "" is every other name."""

PASSED = ("batch_size", "workers", "autocast", "max_skipped", "progress", "client", "folder")
OPTIONS = {name: kind for names in ARGUMENTS.values() for name, kind in names.items() if name}
"""Of the arguments that a function hands on without naming them."""


def renamed(**keywords: str) -> Callable[[Callable], Callable]:
    """Mark a public function whose arguments OLD="NEW" got new names: at the door the old ones work in this version."""

    def mark(function: Callable) -> Callable:
        function.renamed = keywords
        return function

    return mark


@functools.lru_cache(None)
def checked(function: Callable) -> Callable:
    """Return a public function behind a door: a wrong argument or an unknown keyword is a `FacexkitError`."""
    if hasattr(function, "behind_door"):
        return function
    signature, name = inspect.signature(function), f"fx.{function.__name__}"
    known = [p.name for p in signature.parameters.values() if p.kind is not p.VAR_KEYWORD]
    more = next((p.name for p in signature.parameters.values() if p.kind is p.VAR_KEYWORD), None)

    @functools.wraps(function)
    def door(*args: object, **named: object) -> object:
        for old, new in getattr(function, "renamed", {}).items():
            if old in named and new not in named:
                named[new] = named.pop(old)
                told = f"{name}: {old}= is called {new}= now; the old name works in this version and goes with the next"
                warnings.warn(told, DeprecationWarning, stacklevel=2)
        check_known(f"argument of {name}", () if more else named, known)
        try:
            call = signature.bind(*args, **named)
        except TypeError as error:
            raise FacexkitError(f"{name}: {error}; it takes {', '.join(known)}") from None
        for argument, value in call.arguments.items():
            if argument == more:
                value = {key: check_argument(name, key, OPTIONS.get(key), each) for key, each in value.items()}
            elif value is not signature.parameters[argument].default:
                value = check_argument(name, argument, kind_of(signature.parameters[argument]), value)
            call.arguments[argument] = value
        try:
            return function(*call.args, **call.kwargs)
        except TypeError as error:  # an option that nobody behind the function takes
            wrong = re.search(r"unexpected keyword argument '(\w+)'", str(error))
            if more and wrong and wrong[1] in call.arguments.get(more, {}):
                raise unknown(f"argument of {name}", wrong[1], [*known, *PASSED]) from error
            raise

    door.behind_door = True
    return door


def check_argument(where: str, name: str, kind: object, value: object) -> object:
    """Return the value as its type has it; an error that names `where`, the argument and what is right."""
    if kind is None:
        return value
    try:
        return _adapter(kind).validate_python(value)
    except ValidationError as error:
        raise FacexkitError(f"{where}: {name} cannot be {shown(value)}: {wanted(error)}") from None


def wanted(error: ValidationError, name: str | None = None) -> str:
    """Return in words what would have been right, of the argument `name` where several were checked."""
    mine = [each for each in error.errors(include_url=False) if name is None or each["loc"][0] == name]
    said = (each["msg"].removeprefix("Value error, ") for each in mine)
    return " or ".join(dict.fromkeys(re.sub("^(Input|String|List|Value) should", "it must", each) for each in said))


def shown(value: object) -> str:
    """Return a value as an error shows it, shortened."""
    if isinstance(value, int) and value.bit_length() > 4 * SHOWN:
        return f"a number of {value.bit_length()} bits"
    text = " ".join(repr(value).split())
    return text if len(text) <= SHOWN else f"{text[:SHOWN]}…"


def kind_of(parameter: inspect.Parameter) -> object:
    """Return the type of a parameter by its annotation and name, None where the table has none."""
    annotation = str(parameter.annotation)
    plain = annotation.removesuffix(" | None")
    parts = [plain] if plain in ARGUMENTS else plain.split(" | ")
    kinds = [ARGUMENTS.get(part, {}).get(parameter.name, ARGUMENTS.get(part, {}).get("")) for part in parts]
    if None in kinds:
        return None
    return Union[tuple([*kinds, *([None] if annotation != plain else [])])]


@functools.lru_cache(None)
def _adapter(kind: object) -> TypeAdapter:
    return TypeAdapter(kind, config=ConfigDict(strict=True))
