"""Weights from a seed, or from a file, strictly, with a readable account of what does not fit."""

from __future__ import annotations

import contextlib
import pickle
import re
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from types import SimpleNamespace

import torch
from safetensors import safe_open
from safetensors.torch import load_file, save
from torch import Tensor, nn

from facexkit.errors import FacexkitError, listed
from facexkit.models.unit_map import put_saved_maps

WRAPPERS = ("state_dict", "model_state_dict", "model_state", "model", "net", "network", "module", "weights", "params",
            "backbone", "ema", "model_ema", "ema_state_dict", "state_dict_ema")  # fmt: skip
"""Under what keys people save a state dict, in each other in any order; of several in one place the first counts."""
PUT_BETWEEN = re.compile(r"(^|\.)(_orig_mod|_fsdp_wrapped_module|_checkpoint_wrapped_module)(?=\.)")
"""What torch.compile and others put into the names of weights, anywhere."""
SHOWN = 4


@contextlib.contextmanager
def seeded(seed: int, cuda: bool = False) -> Iterator[None]:
    """Draw random numbers from `seed` on the CPU, or everywhere, and leave the global random states as they were."""
    with torch.random.fork_rng(devices=range(torch.cuda.device_count()) if cuda else []):
        (torch.manual_seed if cuda else torch.default_generator.manual_seed)(seed)
        yield


def load_weights(
    network: nn.Module, path: str | Path, trust: bool = False, beside: tuple[str, ...] = (),
    rename: Callable[[str], str] = str,
) -> None:  # fmt: skip
    """Load a state dict into a network; every key and every shape must fit.

    Parameters
    ----------
    path : a state dict (.pt, .pth, .safetensors, …), also under the keys `WRAPPERS`, or with names before those of its
        weights, as DataParallel, torch.compile and Lightning put there.
    trust : whether code in a pickle may run.
    beside : beginnings of keys that the file may hold and the network does without.
    rename : the file's key → the network's, where they differ.
    """
    found = {rename(key): value for key, value in read_weights(path, trust).items()}
    found = _under_names_of(found, network.state_dict())
    found = {key: value for key, value in found.items() if not key.startswith(beside)}
    put_saved_maps(network, found)
    _fit_auxiliary(network, found)
    if misfit := _misfit(found, network.state_dict()):
        raise FacexkitError(f"the weights in {path} do not fit the network: {misfit}")
    broken = [key for key, value in found.items() if value.is_floating_point() and not value.float().isfinite().all()]
    if broken:
        raise FacexkitError(f"{path}: {len(broken)} weights hold NaN or infinity, {broken[0]} first")
    network.load_state_dict(found, strict=False)


def read_weights(path: str | Path, trust: bool = False) -> dict[str, Tensor]:
    """Return the state dict in a file, unwrapped; see `load_weights`."""
    path = Path(path).expanduser()
    if not path.is_file():
        what = "is a folder; name a file in it" if path.is_dir() else "is no file" if path.exists() else "does not exist"
        raise FacexkitError(f"weights: {path} {what}")
    with path.open("rb") as file:
        start = file.read(64).lstrip()
    if start.startswith((b"<", b"version https://git-lfs")):
        what = "a web page" if start.startswith(b"<") else "a Git LFS pointer"
        raise FacexkitError(f"weights: {path} is {what}, not weights; download the file itself")
    try:
        if path.suffix == ".safetensors":
            loaded = load_file(path)
        else:
            how = {"weights_only": False, "pickle_module": _ANY_MODULE} if trust else {"weights_only": True}
            loaded = torch.load(path, map_location="cpu", **how)
    except Exception as error:  # a damaged file fails in as many ways as there are readers
        if re.search("unsupported (global|class)", str(error), re.IGNORECASE):
            raise FacexkitError(
                f"weights: {path} holds pickled objects, which can run somebody's code when opened; if you know who "
                "made it, give trust=True, or save network.state_dict() instead"
            ) from error
        said = str(error).partition("\n")[0]
        reason = f": {said}" if said and not isinstance(error, pickle.UnpicklingError) else ""
        raise FacexkitError(f"weights: {path} cannot be read; it is damaged or no file of weights{reason}") from error
    return _unwrap(loaded, path)


class _Reader(pickle.Unpickler):
    """Opens a network that was saved whole although its classes are not here; its weights are all that is wanted."""

    def find_class(self, module: str, name: str) -> object:
        try:
            return super().find_class(module, name)
        except (ImportError, AttributeError):
            return type(name, (nn.Module,), {})


_ANY_MODULE = SimpleNamespace(**{**vars(pickle), "Unpickler": _Reader, "load": lambda file, **how: _Reader(file, **how).load()})


def weights_file(network: nn.Module, **metadata: str) -> bytes:
    """Return the bytes of a safetensors file of a network's weights, and of metadata."""
    return save({name: value.detach().cpu().contiguous() for name, value in network.state_dict().items()}, metadata)


def metadata_of(path: Path) -> dict[str, str]:
    """Return the metadata of a safetensors file; nothing where it is another kind of file, or none."""
    if path.suffix != ".safetensors" or not path.is_file() or not read_weights(path):
        return {}
    with safe_open(path, "pt") as file:
        return file.metadata() or {}


def _unwrap(loaded: object, path: Path) -> dict[str, Tensor]:
    while isinstance(loaded, Mapping):
        inner = (loaded[key] for key in WRAPPERS if isinstance(loaded.get(key), (Mapping, nn.Module)))
        if (found := next(inner, None)) is None:
            break
        loaded = found
    if isinstance(loaded, nn.Module):
        loaded = loaded.state_dict()
    if not isinstance(loaded, Mapping):
        raise FacexkitError(f"weights: {path} holds a {type(loaded).__name__}, not a state dict")
    tensors = {key: value for key, value in loaded.items() if isinstance(key, str) and isinstance(value, Tensor)}
    if not tensors:
        raise FacexkitError(f"weights: {path} holds no tensors; its keys are {listed([*loaded], SHOWN)}")
    return tensors


def _under_names_of(found: dict[str, Tensor], wanted: dict[str, Tensor]) -> dict[str, Tensor]:
    """Return a file's tensors under the network's names: without what all of them begin with, or with what all of it do."""
    found = {PUT_BETWEEN.sub("", key).lstrip("."): value for key, value in found.items()}
    roots = {key.partition(".")[0] for key in wanted}
    while len(first := {key.partition(".")[0] for key in found}) == 1 and not first & roots:
        if not all("." in key for key in found):
            break
        found = {key.partition(".")[2]: value for key, value in found.items()}
    if len(roots) == 1 and not roots & {key.partition(".")[0] for key in found}:
        (root,) = roots
        found = {f"{root}.{key}": value for key, value in found.items()}
    return found


def _fit_auxiliary(network: nn.Module, found: dict[str, Tensor]) -> None:
    """Give a network's auxiliary heads, which help a training and say nothing after it, as many classes as a file's have."""
    for name, head in network.named_children():
        if "aux" not in name.lower():
            continue
        if not any(key.startswith(f"{name}.") for key in found):
            setattr(network, name, None)
            continue
        for key, module in head.named_modules():
            theirs = found.get(f"{name}.{key}.weight")
            if isinstance(module, nn.Linear) and theirs is not None and theirs.shape[1:] == module.weight.shape[1:]:
                give_outputs(head, key, len(theirs))


def give_outputs(network: nn.Module, layer: str, count: int) -> None:
    """Put a new Linear or Conv2d of `count` outputs in a layer's place."""
    old = network.get_submodule(layer)
    how = {"bias": old.bias is not None, "dtype": old.weight.dtype}
    linear = isinstance(old, nn.Linear)
    new = nn.Linear(old.in_features, count, **how) if linear else nn.Conv2d(old.in_channels, count, old.kernel_size, **how)
    parent, _, attribute = layer.rpartition(".")
    setattr(network.get_submodule(parent), attribute, new)


def _misfit(found: dict[str, Tensor], wanted: dict[str, Tensor]) -> str:
    """Say which keys and shapes of a file differ from the network's; nothing where all fit."""
    both = [key for key in found if key in wanted and found[key].shape != wanted[key].shape]
    other = [key for key in found if key in wanted and _kind(found[key]) != _kind(wanted[key])]
    groups = {
        "missing": [key for key in wanted if key not in found and not key.endswith("num_batches_tracked")],
        "unexpected": [key for key in found if key not in wanted],
        "of another type": [f"{k} {_type(found[k])} in the file, {_type(wanted[k])} in the network" for k in other],
        "of another shape": [f"{k} {_shape(found[k])} in the file, {_shape(wanted[k])} in the network" for k in both],
    }
    parts = [f"{len(keys)} {title}: {listed(keys, SHOWN)}" for title, keys in groups.items() if keys]
    heads = [key for key in both if key.endswith("weight") and found[key].shape[1:] == wanted[key].shape[1:]]
    if heads and len(parts) == 1 and len(both) <= 2:
        theirs, ours = len(found[heads[0]]), len(wanted[heads[0]])
        parts.append(f"num_classes of the file is {theirs}, of the network {ours}: give num_classes={theirs}")
    return "; ".join(parts)


def _kind(tensor: Tensor) -> tuple[object, ...]:
    """Return what a file's tensor must have in common with the network's to be copied into it without a change."""
    return tensor.is_floating_point(), tensor.is_complex(), tensor.is_quantized, tensor.layout, tensor.is_meta


def _type(tensor: Tensor) -> str:
    kept = "" if _kind(tensor)[2:] == (False, torch.strided, False) else " (sparse, quantized or without values)"
    return f"{str(tensor.dtype).removeprefix('torch.')}{kept}"


def _shape(tensor: Tensor) -> str:
    return "×".join(map(str, tensor.shape)) or "a number"
