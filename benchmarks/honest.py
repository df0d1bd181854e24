"""Whether pasting a region is an honest exchange: drawn faces drawn again with the other's part, and softer seams."""

from __future__ import annotations

import argparse
from collections import Counter
from dataclasses import replace

import numpy as np
import torch

import facexkit as fx
from facexkit.drawn.demo import demo_faces
from facexkit.drawn.drawing import Layer, draw, light_of
from facexkit.drawn.people import Face
from facexkit.faces.mask_view import MaskView
from facexkit.faces.regions import REGIONS
from facexkit.measure.decision_share import draw_pairs
from facexkit.measure.share_interval import share_interval
from facexkit.models.face_model import FaceModel
from facexkit.probe.exchange import composed

STACK = (
    "background cloth hair neck neck_l r_ear l_ear skin nose r_brow r_eye l_brow l_eye l_lip mouth u_lip hair+ r_ear+ l_ear+ ear_r "
    "hat eye_g"
).split()
"""The layers of a face, lowest first; those that come twice, in front of the face too, have a +."""


def stacked(face: Face, size: int) -> dict[str, Layer]:
    """Return a face's layers by name, under its own light and grain."""
    seen: Counter[str] = Counter()
    layers = {}
    gain, more = light_of(face, size)
    for layer in draw(face, size):
        colour = layer.colour * gain[layer.box] + more[layer.box]
        layers[layer.region + "+" * seen[layer.region]] = replace(layer, colour=colour)
        seen[layer.region] += 1
    return layers


def drawn_again(first: dict[str, Layer], second: dict[str, Layer], regions: set[str]) -> np.ndarray:
    """Return the first face drawn with the second one's layers of some regions, uint8 (S, S, 3)."""
    canvas = None
    for name in STACK:
        layer = (second if name.rstrip("+") in regions else first).get(name)
        if canvas is None:
            canvas = layer.colour.copy()
        elif layer is not None:
            canvas[layer.box] += layer.alpha[..., None] * (layer.colour - canvas[layer.box])
    return np.clip(canvas, 0, 255).astype(np.uint8)


def both_shares(model: FaceModel, faces: fx.FaceSet, pairs: np.ndarray, orders: np.ndarray) -> np.ndarray:
    """Return the decision shares of every region by pasting and by drawing again, (2, regions)."""
    view, size, moved = MaskView(REGIONS, model.image_size), model.image_size, np.zeros((2, len(pairs), len(REGIONS)))
    for number, (two, order) in enumerate(zip(pairs, orders, strict=True)):
        (batch,) = faces.batches(size, 2, [view], workers=0, rows=[two])
        layers = [stacked(faces.images.recipe.face(faces.table.path[row]), size) for row in two]
        taken = [{REGIONS[r] for r in order[:k]} for k in range(len(order) + 1)]
        pasted = torch.cat([composed(batch, view, own) for own in taken])
        again = torch.from_numpy(np.stack([drawn_again(*layers, own) for own in taken])).permute(0, 3, 1, 2)
        for way, images in enumerate((pasted, again)):
            with torch.no_grad():
                moved[way, number, order] = np.diff(model.meaning.margin(model(model.prepare(images)).double(), 1).numpy())
    way = moved.sum(2)
    return np.stack([share_interval(pairs, own * d[:, None], d**2)[0] for own, d in zip(moved, way, strict=True)])


def main(arguments: list[str] | None = None) -> None:
    """Parse the command line and print both comparisons."""
    parser = argparse.ArgumentParser(prog="facexkit benchmark honest", description=__doc__)
    parser.add_argument("--model", default="demo:biased")
    parser.add_argument("--pairs", type=int, default=200)
    how = parser.parse_args(arguments)
    torch.set_num_threads(1)
    model = fx.load_model(how.model, device="cpu")
    faces = demo_faces("biased", split="test")
    pairs, orders = (part[: how.pairs] for part in draw_pairs(len(faces), 1, seed=0))
    pasted, again = both_shares(model, faces, pairs, orders)
    for place in np.argsort(-pasted):
        print(f"  {REGIONS[place]:12} pasted {100 * pasted[place]:6.1f} %   drawn again {100 * again[place]:6.1f} %")
    apart = abs(pasted - again)
    print(
        f"{how.model}, {how.pairs} pairs: correlation {np.corrcoef(pasted, again)[0, 1]:.3f}, mean difference {apart.mean():.3f}, "
        f"largest {apart.max():.3f} ({REGIONS[apart.argmax()]})"
    )
    for seam in (2, 4):
        hard, soft = (
            fx.score_regions(model, faces, method="share", walks=256, half_width=0.0, seam=s, progress=False).score.values[0]
            for s in (0, seam)
        )
        print(f"a seam of {seam} pixels: shares differ by {np.nanmean(abs(hard - soft)):.3f}, at most {np.nanmax(abs(hard - soft)):.3f}")


if __name__ == "__main__":
    main()
