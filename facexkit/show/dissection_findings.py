"""A dissection and the leaning of units in words."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np
import xarray as xr

from facexkit.measure.iou_tally import INTERPRETABLE
from facexkit.show.words import group_title, headed, model_name, title_of


def dissection_findings(found: Mapping[str, xr.Dataset], concepts: Sequence[str] = ()) -> list[str]:
    """Say of each dissection how many units detect what.

    Parameters
    ----------
    found : what `dissect` gave, by the model's name; "" where there is one only.
    concepts : concepts whose detectors to count and name, as one: ("u_lip", "l_lip", "lips").
    """
    said = []
    for name, result in found.items():
        known, best = result.interpretable.to_numpy(), result.best_concept.to_numpy()
        of = f" of {model_name(name)}" if name else ""
        detect = "detects" if known.sum() == 1 else "detect"
        units = f"{known.sum()} of {len(known)} units of {result.attrs['layer']}{of}"
        sentence = f"{units} {detect} a concept (IoU above {INTERPRETABLE:g})"
        values, counts = np.unique(best[known].astype(str), return_counts=True)
        most = [f"{title_of(values[k])} ({counts[k]})" for k in np.argsort(-counts, kind="stable")[:4]]
        said.append(sentence + (f": {', '.join(most)}." if most else "."))
        if concepts:
            own = np.flatnonzero(known & np.isin(best, concepts))
            listed = ", ".join(map(str, result.unit.to_numpy()[own][:12])) + (", …" if len(own) > 12 else "")
            what = " or ".join(title_of(concept) for concept in concepts)
            said.append(f"Units{of} that detect {what}: {len(own)}" + (f" (unit {listed})." if len(own) else "."))
    return said


def bias_findings(biases: Mapping[str, xr.Dataset]) -> list[str]:
    """Say of each attribute and model how many units lean, to whom, how strongly, with the images behind it.

    Parameters
    ----------
    biases : what `global_bias` gave, by the model's name; "" where there is one only.
    """
    said = []
    for attribute in dict.fromkeys(str(a) for bias in biases.values() for a in bias.attribute.to_numpy()):
        for name, bias in biases.items():
            part = bias.sel(attribute=attribute)
            leans, effect = part.leans_to.to_numpy(), part.effect.to_numpy()
            groups = [g for g, n in zip(part.group.to_numpy(), part.images.to_numpy(), strict=True) if n]
            titles = {group: group_title(attribute, group) for group in groups}
            images = ", ".join(f"{int(part.images.sel(group=g)):,} {titles[g]}" for g in groups)
            own = {group: (leans == group).sum() for group in groups}
            to = ", ".join(f"{count} to {titles[group]}" for group, count in own.items() if count)
            sentence = f"{headed(attribute)}: {(leans != '').sum()} of {len(leans)} units"
            sentence += f"{f' of {model_name(name)}' if name else ''} lean to a group"
            if to:
                first = int(np.argmax(np.where(leans != "", effect, -1)))
                unit, probability = part.unit.to_numpy()[first], float(part.probability[first].max())
                sentence += (
                    f" ({to}); the strongest is unit {unit}, to {titles[leans[first]]}: probability {probability:.2f}, "
                    f"and {effect[first]:.0%} of the variance of its response"
                )
            said.append(f"{sentence} (q < {bias.attrs['alpha']:g}; {images} images).")
    return said
