"""How pixel values become a network's input: named normalizations, and a user's own."""

from __future__ import annotations

import math
from collections.abc import Mapping

from facexkit.errors import FacexkitError, check_known

NORMALIZATIONS = {
    "imagenet": ([0.485, 0.456, 0.406], [0.229, 0.224, 0.225]),
    "half": ([0.5] * 3, [0.5] * 3),
    "unit": ([0.0] * 3, [1.0] * 3),
    "none": ([0.0] * 3, [1 / 255] * 3),
}
"""Name → (mean, std) on values x in 0–1: (x − mean) / std.

`unit` gives 0–1, `half` −1…1, `none` the bytes of the image file, 0–255, as they are.
"""

FORMS = "a name, {'mean': [r, g, b], 'std': [r, g, b]} on values in 0–1, or {'mean': [r, g, b], 'scale': s} on bytes"


def mean_and_std(normalize: str | Mapping[str, object]) -> tuple[list[float], list[float]]:
    """Return the mean and standard deviation, per channel and on values in 0–1, that a normalization stands for.

    Parameters
    ----------
    normalize : a name of `NORMALIZATIONS`; `{"mean": m, "std": s}` for (x/255 − m)/s; or `{"mean": m, "scale": s}`
        for (x − m)/s, with x the byte. Each is three numbers (red, green, blue) or one for all.

    Raises
    ------
    FacexkitError
        if the name or a key is unknown, a value is no number, or `std` or `scale` is not above 0.
    """
    if isinstance(normalize, str):
        check_known("normalization", [normalize], NORMALIZATIONS, f"(normalize is {FORMS}; for BGR or grey give preprocess=)")
        mean, std = NORMALIZATIONS[normalize]
        return list(mean), list(std)
    if not isinstance(normalize, Mapping):
        raise FacexkitError(f"normalize is {FORMS}, not a {type(normalize).__name__}")
    keys = set(normalize)
    if keys not in ({"mean", "std"}, {"mean", "scale"}):
        raise FacexkitError(f"normalize has the keys {', '.join(sorted(map(str, keys))) or 'none'}; it is {FORMS}")
    mean = _three(normalize, "mean")
    spread = _three(normalize, "std" if "std" in keys else "scale")
    if min(spread) <= 0:
        raise FacexkitError(f"normalize: std and scale must be above 0, not {min(spread):g}")
    if "scale" in keys:
        return [m / 255 for m in mean], [s / 255 for s in spread]
    if max(map(abs, mean)) > 2 or max(spread) > 2:
        raise FacexkitError("normalize: mean and std are on values in 0–1; for bytes give {'mean': …, 'scale': …}")
    return mean, spread


def _three(normalize: Mapping[str, object], key: str) -> list[float]:
    value = normalize[key]
    values = list(value) if isinstance(value, (list, tuple)) else [value]
    wrong = [v for v in values if not isinstance(v, (int, float)) or isinstance(v, bool) or not math.isfinite(v)]
    if wrong or len(values) not in (1, 3):
        raise FacexkitError(f"normalize: {key} is one number or three (red, green, blue), not {value!r}")
    return [float(v) for v in values] * (3 // len(values))
