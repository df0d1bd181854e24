"""What its place alone gives a unit: the masks of a concept, exchanged between the images that have it."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from facexkit.measure.gaps import q_values
from facexkit.probe.state import TopK

SAMPLE = 512
"""So many images of a concept are exchanged, drawn at random where it has more."""
REPLICATES = 50
ALPHA = 0.05
TIGHT = 3.1786
"""P(Σ aε ≥ z·√Σa²) ≤ TIGHT·P(N(0,1) ≥ z) for random signs ε and any a (Bentkus & Dzindzalieta 2015)."""


@dataclass
class MaskExchange:
    """For each concept a sample of the images that have it, in a random circle: each is given the next one's mask.

    Attributes
    ----------
    partner : int64 (rows of the face set, C), the place of the next one's mask in `masks`; −1 outside the sample.
    masks : uint8 (C, SAMPLE, ⌈size²/8⌉), pixels as bits.
    seed : of the circles and of the images drawn again.
    """

    partner: np.ndarray
    masks: np.ndarray
    size: int
    seed: int

    @classmethod
    def among(cls, sample: TopK, images: int, size: int, seed: int) -> MaskExchange:
        """Lay the circles through the samples, whose payload are the masks, of a set of so many images."""
        partner = np.full((images, len(sample.rows)), -1)
        for c, rows in enumerate(sample.rows):
            drawn = rows[rows >= 0]
            if len(drawn) > 1:
                partner[drawn, c] = np.roll(np.arange(len(drawn)), -1)
        return cls(partner, sample.payload, size, seed)

    def given(self, rows: np.ndarray) -> tuple[np.ndarray, Tensor]:
        """Return which concepts' masks rows (B,) are given, bool (B, C), and those, bool (B, C, size, size)."""
        partner, concepts = self.partner[rows], len(self.masks)
        bits = self.masks[np.arange(concepts), partner] * (partner >= 0)[..., None].astype(np.uint8)
        pixels = np.unpackbits(bits, axis=2, count=self.size**2).view(bool)
        return partner >= 0, torch.from_numpy(pixels.reshape(*partner.shape, self.size, self.size))

    def weights(self, rows: np.ndarray) -> np.ndarray:
        """Return how often each row counts, int64 (1 + REPLICATES, B): once, and as often as it is drawn again."""
        drawn = [np.random.default_rng([self.seed, row]).poisson(1, REPLICATES) for row in rows.tolist()]
        return np.insert(np.reshape(drawn, (-1, REPLICATES)).T, 0, 1, axis=0)


def chances(rows: np.ndarray, seed: int) -> np.ndarray:
    """Return a random number in 0–1 of each row; those with the highest are the sample of a concept, in this order."""
    return np.array([np.random.default_rng([seed, row, 1]).random() for row in rows.tolist()])


def over_position(counted: np.ndarray, moved: np.ndarray, squares: np.ndarray) -> dict[str, np.ndarray]:
    """Return what units meet of concepts beyond what the exchanged masks give them, (U, C) each.

    With o = |active ∩ own mask| and x = |active ∩ given mask| of an image: if the unit knows a place only, own and given
    mask can change places, so the sign of o − x is random: z = Σ (o − x) / √Σ (o − x)², p ≤ TIGHT·P(N(0,1) ≥ z).

    Parameters
    ----------
    counted : int64 (1 + REPLICATES, 3, U, C), Σ o, Σ x and Σ (|active| + |mask|) of all images and as they are drawn again.
    moved, squares : int64 (U, C), Σ (o − x) and Σ (o − x)².
    """
    from scipy.stats import norm, t  # here, as its import takes a second

    own, given, both = np.moveaxis(counted, 1, 0)
    with np.errstate(invalid="ignore"):
        iou, position = own / (both - own), given / (both - given)
    gain = iou - position
    half = t.ppf(0.975, REPLICATES - 1) * gain[1:].std(0, ddof=1)
    z = moved / np.sqrt(np.maximum(squares, 1))
    p = np.where(squares > 0, np.minimum(1, TIGHT * norm.sf(z)), 1)
    met = np.nan_to_num(iou[1:])
    best = (met == met.max(2, keepdims=True)) & (met > 0)
    return {
        "position_iou": position[0], "gain": gain[0], "gain_low": gain[0] - half, "gain_high": gain[0] + half,
        "q_value": q_values(p)[0],
        "could_be_best": best.mean(0) >= ALPHA,
    }  # fmt: skip
