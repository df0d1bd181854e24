"""Models of timm and of the Hugging Face hub: their own sizes, crops, normalisation and class names."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from importlib import import_module
from pathlib import Path
from types import ModuleType

from torch import Tensor

from facexkit.errors import FacexkitError, told
from facexkit.models.sources import Made, Wish, register_source
from facexkit.models.weights import load_weights, seeded


def extra(module: str, name: str) -> ModuleType:
    """Import the package of an extra of the kit; an error that says how it is installed."""
    with told(f"{module} is not installed", f"pip install 'facexkit[{name}]'", ImportError):
        return import_module(module)


@register_source("timm")
def _from_timm(name: str, wish: Wish) -> Made:
    timm = extra("timm", "timm")
    published = wish.weights in ("imagenet", "pretrained")
    with told(f"timm cannot make {name!r}", "timm.list_models() has the names"), seeded(wish.seed):
        settings = timm.get_pretrained_cfg(name.partition(":")[2].partition("/")[2] or name, allow_unregistered=True)
        own = {"num_classes": wish.num_classes} if wish.num_classes is not None else {}
        own |= {"img_size": wish.image_size} if wish.image_size and getattr(settings, "fixed_input_size", False) else {}
        network = timm.create_model(name, pretrained=published, **own)
    if wish.weights is not None and not published:
        load_weights(network, wish.weights, wish.trust)
    size = {"input_size": (3, wish.image_size, wish.image_size)} if wish.image_size else {}
    settings = timm.data.resolve_data_config(size, model=network)
    shown = timm.data.create_transform(**settings, is_training=False)
    names = network.pretrained_cfg.get("label_names") if not wish.num_classes else None
    return Made(network, class_names=names, preprocess=shown, outputs=None if network.num_classes else "embedding")


@register_source("hf")
def _from_hub(name: str, wish: Wish) -> Made:
    hub = extra("transformers", "hf")
    with from_hub(name):
        config = read_from_hub(hub.AutoConfig, name)
        classifies = any(each.endswith("ForImageClassification") for each in config.architectures or ())
        kind = hub.AutoModelForImageClassification if classifies else hub.AutoModel
        network = read_from_hub(kind, name, use_safetensors=True)
        shown = read_from_hub(hub.AutoImageProcessor, name)
    if wish.weights is not None:
        load_weights(network, wish.weights, wish.trust)
    if not classifies:
        return Made(network, output=_pooled, outputs="embedding", preprocess=shown)
    names = [str(config.id2label[place]) for place in range(len(config.id2label))]
    names = None if all(each == f"LABEL_{place}" for place, each in enumerate(names)) else names
    several = "labels" if config.problem_type == "multi_label_classification" else None
    return Made(network, class_names=names, output="logits", outputs=several, preprocess=shown)


@contextmanager
def from_hub(name: str) -> Iterator[None]:
    """Tell what went wrong with a model of the hub, or of a folder, in one sentence."""
    where = f"the folder {name}" if Path(name).is_dir() else f"{name!r}, no folder, on the Hugging Face hub"
    with told(f"hf: no model can be read from {where}", "it takes config.json, preprocessor_config.json and model.safetensors"):
        yield


def read_from_hub(kind: type, name: str, **how: object) -> object:
    """Read one part of a model from a folder, from what was downloaded earlier, or else from the hub; it runs no code."""
    how |= {"trust_remote_code": False}
    try:
        return kind.from_pretrained(name, local_files_only=True, **how)
    except OSError:
        if Path(name).is_dir():
            raise
        return kind.from_pretrained(name, **how)


def _pooled(returned: object) -> Tensor:
    """Return a backbone's embedding: as it pools it, else the mean over its tokens or places."""
    if (pooled := getattr(returned, "pooler_output", None)) is not None:
        return pooled
    last = returned.last_hidden_state
    return last.mean(1) if last.ndim == 3 else last.mean((2, 3))
