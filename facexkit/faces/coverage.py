"""How much of the pictures each region covers."""

from __future__ import annotations

import numpy as np
import pandas as pd

from facexkit.faces.faceset import FaceSet, MaskView
from facexkit.faces.regions import REGIONS

_VIEW = MaskView(REGIONS, 128)


def region_coverage(faces: FaceSet) -> pd.DataFrame:
    """Return, by region, `images`, the share of the faces that have it, and `area`, the mean share of the picture there."""
    masks = np.concatenate([batch.masks[_VIEW].numpy() for batch in faces.batches(16, 64, [_VIEW])])
    area = masks.mean((2, 3))
    have = area > 0
    mean = np.divide(area.sum(0), have.sum(0), out=np.full(len(REGIONS), np.nan), where=have.any(0))
    return pd.DataFrame({"images": have.mean(0), "area": mean}, index=pd.Index(REGIONS, name="region"))
