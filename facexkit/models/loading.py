"""Loading a model: one in memory, or by the name of its source, asked before anything is measured."""

from __future__ import annotations

import re
import warnings
from collections.abc import Callable, Mapping, Sequence
from copy import deepcopy
from dataclasses import replace
from pathlib import Path

from torch import nn

from facexkit.arguments import checked
from facexkit.errors import FacexkitError, check_known, told, unknown
from facexkit.faces.mask_view import sides
from facexkit.models import python_files
from facexkit.models.check import settle
from facexkit.models.face_model import FaceModel
from facexkit.models.outputs import default_names, meaning_of
from facexkit.models.preprocess import Preprocess, preprocess_of
from facexkit.models.sources import SOURCES, Made, Wish, register_source
from facexkit.models.weights import give_outputs, load_weights, seeded


@checked
def load_model(
    source: str | nn.Module,
    weights: str | Path | None = None,
    num_classes: int | None = None,
    image_size: int | None = None,
    normalize: str | Mapping[str, object] | None = None,
    seed: int = 0,
    device: str = "auto",
    class_names: Sequence[str] | None = None,
    output: int | str | Callable | None = None,
    outputs: object = None,
    preprocess: object = None,
    trust: bool = False,
) -> FaceModel:
    """Load a model, frozen and in eval mode.

    Parameters
    ----------
    source : an `nn.Module`, of which a copy is taken; `torchvision:NAME`; `timm:NAME`; `hf:FOLDER_OR_NAME`;
        `path/to/file.py:NAME`, where NAME is a module, or a class or function that makes one (needs `trust`);
        `path/to/network.pt`, a whole pickled network (needs `trust`); `onnx:PATH`; `fairface:7` or `fairface:4`;
        `face_dissect:age`; `facenet`; `demo:biased`, `demo:fair` or `demo:embedder`.
    weights : a state dict; for torchvision and timm also the name of published weights ("imagenet" for the default ones),
        which are downloaded. None: random, by `seed` (torchvision, timm), as the file makes them, or the source's own.
    num_classes : number of outputs. Torchvision and timm models get a new head; a class or function that has this
        parameter gets it.
    image_size : side length in pixels. Default: the source's own, or 224.
    normalize : see `mean_and_std`. Default: the source's own, "imagenet" for torchvision, else "unit".
    seed : of random weights; the global random state stays as it is.
    device : "auto", "cpu", "cuda", "cuda:1", "mps".
    class_names : one for each class; two for a yes or no, or one, what yes means.
    output : which part of a tuple or dict is the output: a position, a key, or a function.
    outputs : what the output's columns mean: "classes", "binary" (one logit or probability), "labels" (attributes with a
        sigmoid each), "embedding"; {"binary": t} with the probability t from which on it is yes; or blocks of classes,
        {NAME: class names or their number}. Default: what the source says, or the values allow.
    preprocess : what stands between a photograph and the network, see `preprocess_of`;
        or where that stands in a Python file, `path/to/file.py:NAME` (needs `trust`). Default: the source's own.
        `image_size` and `normalize` are its short forms, and change the source's own.
    trust : whether code in a Python file or a pickle may run.

    Raises
    ------
    FacexkitError
        if the source, a file or a parameter is wrong, or the model does not run, or not as it did before it was wrapped.
    """
    made, name = _made(source, Wish(weights, num_classes, seed, trust, image_size))
    shown = _preprocess(made, preprocess, image_size, normalize, trust)
    output = made.output if output is None else output
    model = FaceModel(made.network, name=name, preprocess=shown, output=output, device=device, as_given=True)
    model.home, model.notes = made.home, [*made.notes]
    answers, end = settle(model)
    said, columns = made.outputs if outputs is None else outputs, answers.shape[1]
    if num_classes not in (None, columns):
        raise FacexkitError(f"model {name!r} gives {columns} outputs, not num_classes={num_classes}")
    model._meaning = meaning_of(said, answers, end, name)
    columns = 2 if model._meaning.kind == "binary" else columns
    names = default_names(columns, said, class_names or made.class_names)
    if names and len(names) != columns:
        raise FacexkitError(f"model {name!r} gives {columns} outputs, but class_names has {len(names)} names")
    model._class_names = [str(each) for each in names] if names else None
    if isinstance(source, nn.Module) and weights is None:  # else two of one class would have one name
        model.name = f"{name} {model.fingerprint()[:6]}"
    return model


def _made(source: str | nn.Module, wish: Wish) -> tuple[Made, str]:
    """Return what the source makes, and what the model is called: source and weights, without the folders above them."""
    if isinstance(source, nn.Module):
        inner = getattr(source, "_orig_mod", source)
        name = getattr(inner, "original_name", type(inner).__name__)
        with told(f"model {name!r} cannot be copied", "give its class in a file, path/to/file.py:NAME, and weights="):
            made = Made(deepcopy(source))
        if wish.weights is not None:
            load_weights(made.network, wish.weights, wish.trust)
    else:
        source = str(source)
        prefix, _, rest = source.partition(":")
        if prefix in SOURCES:
            made = SOURCES[prefix](rest, wish)
        elif ".py" in source:
            made = python_files.from_file(source, wish)
        elif source.endswith(python_files.PICKLES):
            made = python_files.from_pickle(source, wish)
        else:
            raise unknown("model source", source, [f"{name}:…" for name in SOURCES] + ["path/to/file.py:NAME"])
        name = re.sub(r"[^:]*/", "", source.rstrip("/"))
    return made, name + (f" ({'/'.join(Path(wish.weights).parts[-2:])})" if wish.weights is not None else "")


def _preprocess(made: Made, asked: object, image_size: int | None, normalize: object, trust: bool) -> Preprocess:
    """Return the user's preprocessing, or the source's own with what the user changes of it."""
    if asked is not None and (image_size or normalize is not None):
        raise FacexkitError("give preprocess= alone, or its short forms image_size= and normalize=")
    if isinstance(asked, str):
        asked = python_files.from_own_file(asked, trust)
    if asked is not None or made.preprocess is not None:
        own = preprocess_of(made.preprocess if asked is None else asked)
    else:
        first = next((m for m in made.network.modules() if isinstance(m, nn.Conv2d)), None)
        channels = "grey" if getattr(first, "in_channels", 3) == 1 else "RGB"
        own = Preprocess(made.image_size, channels=channels, normalize=made.normalize)
    changed = {} if normalize is None else {"normalize": normalize}
    if image_size:
        share, whole = image_size / sides(own.size)[0], own.resize
        larger = tuple(round(side * share) for side in whole) if isinstance(whole, tuple) else whole and round(whole * share)
        changed |= {"size": image_size, "resize": larger}
    return replace(own, **changed)


@register_source("torchvision")
def _from_torchvision(name: str, wish: Wish) -> Made:
    from torchvision import models  # here, as its import takes seconds

    known = models.list_models(module=models)
    check_known("torchvision model", [name], known)
    image_size, notes = 299 if name.startswith("inception") else 224, []
    published = models.get_model_weights(name)
    chosen = published.__members__.get("DEFAULT" if wish.weights == "imagenet" else str(wish.weights))
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
        if hasattr(network, "transform_input"):
            network.transform_input = True
            notes = [f"{name}: trained on from ImageNet's weights, it is taken to have transform_input=True, as those have; "
                     "for one that was trained from scratch give path/to/file.py:NAME."]  # fmt: skip
    names = chosen.meta["categories"] if chosen is not None and not wish.num_classes else None
    shown = chosen.transforms() if chosen is not None else None
    return Made(network, image_size, "imagenet", names, preprocess=shown, notes=notes)


def replace_head(network: nn.Module, num_classes: int) -> None:
    """Put a new last layer, Linear or 1×1 Conv2d, of `num_classes` outputs in the place of the old one."""
    heads = [name for name, module in network.named_modules() if isinstance(module, (nn.Linear, nn.Conv2d))]
    give_outputs(network, heads[-1], num_classes)


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
    return Made(network, 160, {"mean": [127.5] * 3, "scale": 128}, outputs="embedding")
