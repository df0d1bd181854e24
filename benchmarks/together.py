"""Whether two regions that decide only together are found: small models that were taught the AND or the XOR of two looks."""

from __future__ import annotations

import argparse

import facexkit as fx
from benchmarks.small_faces import QUIET, right, small_faces, taught

SIDE, TAUGHT, EXAMINED = 48, 4000, 600
PLANTED = [("hair", "cloth"), ("lips", "hair"), ("cloth", "background"), ("lips", "background"), ("hair", "background")]
LOOKS = {"hair": "light_hair", "cloth": "warm_clothes", "lips": "lipstick", "background": "warm_background"}
LEARNED = 0.9


def main(arguments: list[str] | None = None) -> None:
    """Parse the command line, teach ten models, and print the place of the planted two among all two of four regions."""
    parser = argparse.ArgumentParser(prog="facexkit benchmark together", description=__doc__)
    parser.add_argument("--walks", type=int, default=512)
    parser.add_argument("--epochs", type=int, default=6)
    parser.add_argument("--first", type=int, default=0, help="the planting to begin with")
    how = parser.parse_args(arguments)
    lesson, exam = small_faces(TAUGHT, SIDE, seed=3), small_faces(EXAMINED, SIDE, seed=4)
    places = []
    for seed, (planted, kind) in list(enumerate((two, kind) for two in PLANTED for kind in ("and", "xor")))[how.first :]:
        looks = [[faces.table[LOOKS[name]] for name in planted] for faces in (lesson, exam)]
        taught_labels, labels = (a & b if kind == "and" else a ^ b for a, b in looks)
        model = taught(lesson, taught_labels.to_numpy(), seed, how.epochs)
        known = right(model, exam, labels.to_numpy())
        found = fx.score_regions(model, exam, method="share", walks=how.walks, interactions=4, **QUIET).isel(target_class=0)
        order = found.sortby("interaction", ascending=False)
        names = [set(str(name).split(" × ")) for name in order.together.values]
        place = names.index(set(planted)) + 1 if set(planted) in names else 0
        places += [place] if known >= LEARNED else []
        first = order.isel(together=0)
        print(
            f"{kind:4}{planted[0]:>6} × {planted[1]:<12} right {100 * known:3.0f} %   place {place or 'none'}   first "
            f"{first.together.item():22} {first.interaction.item():.2f} ({first.interaction_low.item():.2f} to "
            f"{first.interaction_high.item():.2f})   next {order.interaction.values[1]:.2f}",
            flush=True,
        )
    print(f"\nfirst in {places.count(1)} of {len(places)} plantings that were learned ({LEARNED:.0%} right or more)")


if __name__ == "__main__":
    main()
