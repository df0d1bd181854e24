"""How a pass goes about it: the options that mean the same in every function that shows faces to a model."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Union

import torch

from facexkit.arguments import OPTIONS, check_argument
from facexkit.errors import FacexkitError
from facexkit.probe.progress import Progress

PRECISIONS = {"float16": torch.float16, "bfloat16": torch.bfloat16}


@dataclass(frozen=True)
class PassOptions:
    """The options of a pass; users give them as keywords.

    Attributes
    ----------
    batch_size : images that the model sees at a time.
    workers : decoding processes; None for as many as there are cores that this process may use, none for a small set.
    autocast : "float16" or "bfloat16" (or torch's own) for mixed precision; None for float32.
    max_skipped : largest share of images that may be undecodable.
    progress : whether a bar is shown, or what shows it, see `Progress`.
    client : where the shards run: None for here, "local" for a Dask worker a core on this machine, the address of a Dask
        scheduler, or a `distributed.Client`.
    folder : where finished shards are written down, so that the same call goes on after them; None for nowhere.
    """

    batch_size: int = 32
    workers: int | None = None
    autocast: Union[str, torch.dtype, None] = None
    max_skipped: float = 0.01
    progress: Progress = True
    client: object = None
    folder: Union[str, Path, None] = None

    def __post_init__(self) -> None:
        for name in ("batch_size", "workers", "max_skipped"):
            check_argument("a pass", name, OPTIONS[name], getattr(self, name))
        if self.autocast not in (None, *PRECISIONS, *PRECISIONS.values()):
            raise FacexkitError(f"autocast cannot be {self.autocast!r}; it is float16, bfloat16 or None")
        if not isinstance(self.folder, (str, Path, type(None))):
            raise FacexkitError(f"folder cannot be {self.folder!r}; it is a folder's path, or None")

    @property
    def precision(self) -> torch.dtype | None:
        """The dtype of mixed precision, None for float32."""
        return PRECISIONS.get(self.autocast, self.autocast)
