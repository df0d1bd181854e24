"""Loading a model: from torchvision, from a user's Python file, from ONNX, or one of the kit's own."""

from __future__ import annotations

import contextlib
import importlib.util
import inspect
import re
import sys
import traceback
import warnings
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import torch
from torch import Tensor, nn

from facexkit.arguments import checked
from facexkit.errors import FacexkitError, check_known, told, unknown
from facexkit.models.face_model import FaceModel
from facexkit.models.normalization import mean_and_std
from facexkit.models.weights import load_weights, seeded
from facexkit.registry import Registry

if TYPE_CHECKING:
    from onnx import ModelProto


@dataclass(frozen=True)
class Wish:
    """What the user asked of a source: the arguments of `load_model` that concern the network itself."""

    weights: str | Path | None
    num_classes: int | None
    seed: int
    trust: bool


@dataclass
class Made:
    """A network as its source gives it, with what to assume unless the user says otherwise."""

    network: nn.Module
    image_size: int = 224
    normalize: str | Mapping[str, object] = "unit"
    class_names: Sequence[str] | None = None
    output: int | str | Callable | None = None


SOURCES: Registry[Callable[[str, Wish], Made]] = Registry(
    "model source", "facexkit.sources", "facexkit.drawn.demo", "facexkit.systems.fairface_networks",
    "facexkit.systems.fineface", "facexkit.systems.face_dissect_networks",
)  # fmt: skip


def register_source(prefix: str) -> Callable:
    """Register a function (what stands after `PREFIX:`, wish) → `Made` as a source of `load_model`."""

    return SOURCES.register(prefix)


@checked
def load_model(
    source: str,
    weights: str | Path | None = None,
    num_classes: int | None = None,
    image_size: int | None = None,
    normalize: str | Mapping[str, object] | None = None,
    seed: int = 0,
    device: str = "auto",
    class_names: Sequence[str] | None = None,
    output: int | str | Callable | None = None,
    trust: bool = False,
) -> FaceModel:
    """Load a model, frozen and in eval mode.

    Parameters
    ----------
    source : `torchvision:NAME`; `path/to/file.py:NAME`, where NAME is a module, or a class or function that makes one
        (needs `trust`); `onnx:PATH`; `fairface:7` or `fairface:4`; `face_dissect:age`; `facenet`; `demo:biased`, `demo:fair` or
        `demo:embedder`.
    weights : a state dict; for torchvision also the name of its published weights ("imagenet" for the default ones),
        which it downloads. None: random, by `seed` (torchvision), as the file makes them, or the source's own.
    num_classes : number of outputs. Torchvision models get a new head; a class or function that has this parameter
        gets it.
    image_size : side length in pixels. Default: 224 (299 for Inception), the ONNX file's own, the demo models' own.
    normalize : see `mean_and_std`. Default: "imagenet" for torchvision, else "unit" (the demo models have their own).
    seed : of random weights; the global random state stays as it is.
    device : "auto", "cpu", "cuda", "cuda:1", "mps".
    class_names : one for each output.
    output : which part of a tuple or dict is the output: a position, a key, or a function.
    trust : whether code in a Python file or a pickle may run.

    Raises
    ------
    FacexkitError
        if the source, a file or a parameter is wrong, or the model does not run at `image_size`.
    """
    prefix, _, rest = str(source).partition(":")
    wish = Wish(weights, num_classes, seed, trust)
    if prefix in SOURCES:
        made = SOURCES[prefix](rest, wish)
    elif ".py" in str(source):
        made = _from_file(str(source), wish)
    else:
        raise unknown("model source", source, [f"{name}:…" for name in SOURCES] + ["path/to/file.py:NAME"])
    mean, std = mean_and_std(made.normalize if normalize is None else normalize)
    model = FaceModel(
        made.network,
        name=re.sub(r"[^:]*/", "", str(source)),  # without the folders of its file
        image_size=image_size or made.image_size,
        mean=mean,
        std=std,
        class_names=class_names or made.class_names,
        output=made.output if output is None else output,
        device=device,
    )
    columns = model.try_out().shape[1]
    if num_classes not in (None, columns):
        raise FacexkitError(f"model {source!r} gives {columns} outputs, not num_classes={num_classes}")
    if class_names and len(class_names) != columns:
        raise FacexkitError(f"model {source!r} gives {columns} outputs, but class_names has {len(class_names)} names")
    return model


@register_source("torchvision")
def _from_torchvision(name: str, wish: Wish) -> Made:
    from torchvision import models  # here, as its import takes seconds

    known = models.list_models(module=models)
    check_known("torchvision model", [name], known)
    image_size = 299 if name.startswith("inception") else 224
    published = models.get_model_weights(name)
    wanted = "DEFAULT" if wish.weights == "imagenet" else str(wish.weights)
    chosen = getattr(published, wanted, None) if wanted == "DEFAULT" or wanted in published.__members__ else None
    lacking = f"torchvision's weights {chosen} could not be downloaded"
    with told(lacking, "without internet give weights=FILE", (OSError, RuntimeError)), seeded(wish.seed):
        network = models.get_model(name, weights=chosen)
        if wish.num_classes:
            replace_head(network, wish.num_classes)
    if chosen is None and wish.weights is not None:
        if not Path(wish.weights).exists():
            known = ["imagenet", *published.__members__]
            raise FacexkitError(f"weights {wish.weights} is no file, and of {name} torchvision has {', '.join(known)}")
        load_weights(network, wish.weights, wish.trust)
    names = chosen.meta["categories"] if chosen is not None and not wish.num_classes else None
    return Made(network, image_size, "imagenet", names)


def replace_head(network: nn.Module, num_classes: int) -> None:
    """Put a new last layer, Linear or 1×1 Conv2d, of `num_classes` outputs in the place of the old one."""
    heads = [name for name, module in network.named_modules() if isinstance(module, (nn.Linear, nn.Conv2d))]
    old = network.get_submodule(heads[-1])
    if isinstance(old, nn.Linear):
        new = nn.Linear(old.in_features, num_classes, bias=old.bias is not None)
    else:
        new = nn.Conv2d(old.in_channels, num_classes, old.kernel_size, bias=old.bias is not None)
    parent, _, attribute = heads[-1].rpartition(".")
    setattr(network.get_submodule(parent), attribute, new)


@register_source("onnx")
def _from_onnx(path: str, wish: Wish) -> Made:
    with told("ONNX models need the extra 'onnx'", "pip install 'facexkit[onnx]'", ImportError):
        import onnx
        from onnx2torch import convert
    if wish.weights is not None:
        raise FacexkitError("an ONNX file holds its own weights; leave weights out")
    if not Path(path).is_file():
        raise FacexkitError(f"onnx: there is no file {path}")
    with told(f"{path} cannot be read as ONNX"):
        whole = onnx.load(path)
        network = convert(whole)
    weights = {tensor.name for tensor in whole.graph.initializer}
    sizes = [[d.dim_value for d in i.type.tensor_type.shape.dim] for i in whole.graph.input if i.name not in weights]
    if len(sizes) != 1 or len(sizes[0]) != 4:
        shapes = ", ".join("×".join(map(str, size)) or "a number" for size in sizes) or "nothing"
        raise FacexkitError(f"{path} takes {shapes}, not one batch of images (batch, 3, height, width)")
    count, _, height, width = sizes[0]
    if height != width:
        raise FacexkitError(f"{path} is for {height}×{width} pixels (height×width); only square images can be shown")
    if count == 1:
        network = _for_batches(whole, network, height or 224, path)
    return Made(network, height or 224)


def _for_batches(whole: ModelProto, network: nn.Module, side: int, path: str) -> nn.Module:
    """Return a network that was exported for one image as one for batches with the same answers, or say that none is."""
    from onnx import numpy_helper
    from onnx2torch import convert

    values = {tensor.name: numpy_helper.to_array(tensor) for tensor in whole.graph.initializer}
    for node in (node for node in whole.graph.node if node.op_type == "Constant"):
        values |= {node.output[0]: numpy_helper.to_array(given.t) for given in node.attribute if given.name == "value"}
    for place, node in enumerate(whole.graph.node):
        shape = values.get(node.input[1]) if node.op_type == "Reshape" and node.input[0] not in values else None
        if shape is not None and len(shape) > 1 and shape[0] == 1:
            node.input[1] = f"shape of any batch {place}"
            whole.graph.initializer.append(numpy_helper.from_array(np.array([0, *shape[1:]], np.int64), node.input[1]))
    images = torch.rand(2, 3, side, side, generator=torch.Generator().manual_seed(0))
    try:
        alone = [torch.cat(pair) for pair in zip(*(_answers(network, image[None]) for image in images), strict=True)]
    except Exception:  # whatever keeps it from running at all is told where it is tried out
        return network
    for each in (network, convert(whole)):
        try:
            together = _answers(each, images)
        except (RuntimeError, ValueError, IndexError):  # it is not for two images
            continue
        if all(a.shape == b.shape and torch.allclose(a, b, 1e-3, 1e-4) for a, b in zip(alone, together, strict=True)):
            return each
    raise FacexkitError(f"{path} takes one image at a time; export it again for a batch of any size (dynamic_shapes)")


@torch.no_grad()
def _answers(network: nn.Module, images: Tensor) -> Sequence[Tensor]:
    returned = network.eval()(images)
    return returned if isinstance(returned, (tuple, list)) else [returned]


@register_source("facenet")
def _from_facenet(_: str, wish: Wish) -> Made:
    """FaceNet's embedding of 512 numbers (Schroff et al. 2015), as facenet-pytorch's InceptionResnetV1."""
    if wish.weights is None:
        raise FacexkitError(
            "model 'facenet' needs weights=FILE: get 20180402-114759-vggface2.pt or 20180408-102900-casia-webface.pt "
            "from the release v2.2.9 of timesler/facenet-pytorch on GitHub"
        )
    with warnings.catch_warnings(), seeded(wish.seed):
        warnings.simplefilter("ignore")
        from facenet_pytorch import InceptionResnetV1

        network = InceptionResnetV1()
    load_weights(network, wish.weights, wish.trust, beside=("logits.",))
    return Made(network, 160, {"mean": [127.5] * 3, "scale": 128})


def _from_file(source: str, wish: Wish) -> Made:
    file, _, name = source.rpartition(":")
    path = Path(file).expanduser().resolve()
    if path.suffix != ".py":
        raise FacexkitError(f"model {source!r}: name what to take from the file, as in path/to/file.py:NAME")
    if not path.is_file():
        raise FacexkitError(f"model {source!r}: there is no file {path}")
    if not wish.trust:
        raise FacexkitError(f"loading {source!r} runs the code in {path}; read it, and if you trust it give trust=True")
    with _at_home(path), seeded(wish.seed):
        try:
            network = _take(path, name, wish.num_classes)
        except FacexkitError:
            raise
        except (Exception, SystemExit) as error:
            lines = [frame.lineno for frame in traceback.extract_tb(error.__traceback__) if frame.filename == str(path)]
            line = error.lineno if isinstance(error, SyntaxError) and error.filename == str(path) else lines[-1:]
            where = f", line {line if isinstance(line, int) else line[0]}" if line else ""
            raise FacexkitError(f"model {source!r}, {path}{where}: {type(error).__name__}: {error}") from error
    if not isinstance(network, nn.Module):
        raise FacexkitError(f"model {source!r} is a {type(network).__name__}, not a torch.nn.Module or what makes one")
    if wish.weights is not None:
        load_weights(network, wish.weights, wish.trust)
    return Made(network)


def _take(path: Path, name: str, num_classes: int | None) -> object:
    """Run the file and return the network called `name`, or what the class or function of that name makes."""
    spec = importlib.util.spec_from_file_location(path.stem, path)
    module = importlib.util.module_from_spec(spec)
    sys.modules[path.stem] = module
    spec.loader.exec_module(module)
    if name not in vars(module):
        raise unknown(f"name in {path}", name, [key for key, value in vars(module).items() if callable(value)])
    thing = getattr(module, name)
    if isinstance(thing, nn.Module) or not callable(thing):
        return thing
    wants_classes = num_classes is not None and "num_classes" in inspect.signature(thing).parameters
    return thing(num_classes=num_classes) if wants_classes else thing()


@contextlib.contextmanager
def _at_home(path: Path) -> Iterator[None]:
    """Let a file import its neighbours rather than namesakes that are loaded, and forget what it imported of them."""
    home = path.parent
    near = {p.stem for p in home.iterdir() if p.suffix == ".py" or (p / "__init__.py").is_file()}
    before = {name: module for name, module in sys.modules.items() if name.partition(".")[0] in near}
    for name, module in before.items():
        if home not in Path(getattr(module, "__file__", None) or "").parents:
            del sys.modules[name]
    sys.path.insert(0, str(home))
    importlib.invalidate_caches()
    try:
        yield
    finally:
        sys.path.remove(str(home))
        for name in [name for name in sys.modules if name.partition(".")[0] in near]:
            del sys.modules[name]
        sys.modules.update(before)
