"""Times all rows in turn, again and again, and prints the medians beside the bare model's."""

from __future__ import annotations

import argparse
import os
import time
from pathlib import Path

import numpy as np
import torch

from benchmarks import cluster
from benchmarks.explore import waits
from benchmarks.rows import ROWS, setting
from benchmarks.setting import Row


def measure(rows: list[Row], faces: int, batch_size: int, rounds: int) -> dict[str, np.ndarray]:
    """Return milliseconds an image by row, (rounds, 2): by the clock, and of processor time, with that of the decoding
    processes; the rounds interleave the rows, so that what else the machine does falls on all of them."""
    shared = setting(faces, batch_size)
    works = {row.name: row.prepare(shared) for row in rows}
    for work in works.values():
        work()
    times: dict[str, list[np.ndarray]] = {name: [] for name in works}
    for _ in range(rounds):
        for name, work in works.items():
            start = _clocks()
            shown = work()
            shown = shown if isinstance(shown, int) else faces
            times[name].append(1000 * (_clocks() - start) / shown)
    return {name: np.array(each) for name, each in times.items()}


def _clocks() -> np.ndarray:
    return np.array([time.perf_counter(), sum(os.times()[:4])])


def table(rows: list[Row], times: dict[str, np.ndarray]) -> str:
    """Return the table: medians, spread, and the median of the ratios within each round."""
    lines = [f"{'':42}{'ms an image':>12}{'fastest':>10}{'ratio':>8}{'limit':>8}{'processor':>11}{'ratio':>8}"]
    for row in rows:
        (clock, work), fastest = np.median(times[row.name], 0), times[row.name][:, 0].min()
        ratio, work_ratio = np.median(times[row.name] / times[row.beside], 0)
        limit = "" if row.limit is None else f"≤ {row.limit:g}"
        lines.append(f"{row.name:42}{clock:12.1f}{fastest:10.1f}{ratio:8.2f}{limit:>8}{work:11.1f}{work_ratio:8.2f}")
    return "\n".join(lines)


def main() -> None:
    """Parse the command line and print the table."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks", description=__doc__)
    parser.add_argument("--faces", type=int, default=64)
    parser.add_argument("--batch-size", type=int, default=16)
    parser.add_argument("--rounds", type=int, default=7)
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--run", type=Path, default=Path("runs/demo"), help="the run that is explored in a browser")
    parser.add_argument("--only", default="", help="the rows whose names hold this, and what they are compared with")
    how = parser.parse_args()
    chosen = [row for row in ROWS if how.only in row.name]
    beside = {row.beside for row in chosen}
    rows = [row for row in ROWS if row in chosen or row.name in beside]
    torch.set_num_threads(how.threads)
    print(
        f"{how.faces} faces at 224×224, batches of {how.batch_size}, float32, {how.threads} threads, decoding apart "
        f"unless it is named;\nmedians of {how.rounds} rounds, by the clock and of processor time; ratio: to the bare "
        "model, or what a row is beside, in the same round\n"
    )
    print(table(rows, measure(rows, how.faces, how.batch_size, how.rounds)))
    if how.run.is_dir() and not how.only:
        print("\n" + waits(how.run))
    if not how.only:
        print("\nShards:")
        cluster.main()


if __name__ == "__main__":
    main()
