"""Times all rows in turn, again and again, and prints the medians beside the bare model's."""

from __future__ import annotations

import argparse
import statistics
import time
from pathlib import Path

import torch

from benchmarks.explore import waits
from benchmarks.rows import ROWS, Row, setting


def measure(rows: list[Row], faces: int, batch_size: int, rounds: int) -> dict[str, list[float]]:
    """Return milliseconds an image by row, one for each round; the rounds interleave the rows, so that what else the
    machine does falls on all of them."""
    shared = setting(faces, batch_size)
    works = {row.name: row.prepare(shared) for row in rows}
    for work in works.values():
        work()
    times: dict[str, list[float]] = {name: [] for name in works}
    for _ in range(rounds):
        for name, work in works.items():
            start = time.perf_counter()
            shown = work()
            shown = shown if isinstance(shown, int) else faces
            times[name].append(1000 * (time.perf_counter() - start) / shown)
    return times


def table(rows: list[Row], times: dict[str, list[float]]) -> str:
    """Return the table: medians, spread, and the median of the ratios within each round."""
    lines = [f"{'':40}{'ms an image':>12}{'fastest':>10}{'ratio':>8}{'limit':>8}"]
    for row in rows:
        ratios = [own / bare for own, bare in zip(times[row.name], times[row.beside], strict=True)]
        limit = "" if row.limit is None else f"≤ {row.limit:g}"
        median, fastest = statistics.median(times[row.name]), min(times[row.name])
        lines.append(f"{row.name:40}{median:12.1f}{fastest:10.1f}{statistics.median(ratios):8.2f}{limit:>8}")
    return "\n".join(lines)


def main() -> None:
    """Parse the command line and print the table."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks", description=__doc__)
    parser.add_argument("--faces", type=int, default=64)
    parser.add_argument("--batch-size", type=int, default=16)
    parser.add_argument("--rounds", type=int, default=7)
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--run", type=Path, default=Path("runs/demo"), help="the run that is explored in a browser")
    how = parser.parse_args()
    torch.set_num_threads(how.threads)
    print(
        f"{how.faces} faces at 224×224, batches of {how.batch_size}, float32, {how.threads} threads, decoding apart; "
        f"medians of {how.rounds} rounds; ratio: to the bare model in the same round\n"
    )
    print(table(ROWS, measure(ROWS, how.faces, how.batch_size, how.rounds)))
    if how.run.is_dir():
        print("\n" + waits(how.run))


if __name__ == "__main__":
    main()
