"""The pass, the only place where faces meet a model: each is shown to it once, and every accumulator gets what it needs."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence

import numpy as np

from facexkit.errors import FacexkitError
from facexkit.faces.faceset import FaceSet
from facexkit.models.face_model import FaceModel
from facexkit.probe.accumulator import Accumulator
from facexkit.probe.exchange import FacePairs
from facexkit.probe.options import PassOptions
from facexkit.probe.progress import progress_bar
from facexkit.probe.shards import SHARD, Shard, ShardFiles, cut
from facexkit.probe.state import Arrays
from facexkit.probe.work import Skipped, Work


def run(
    model: FaceModel,
    faces: FaceSet,
    accumulators: Sequence[Accumulator],
    how: PassOptions = PassOptions(),
    *,
    rows: np.ndarray | None = None,
    pairs: FacePairs | None = None,
    shard: int = SHARD,
    enough: Callable[[], bool] = lambda: False,
    note: str = "",
) -> list[str]:
    """Show every face to the model once and hand the batches to the accumulators.

    The set is cut into shards of consecutive rows. Each shard has fresh states, which are merged in row order; with a
    folder they are written down too, and the same call goes on after those that are there.

    Parameters
    ----------
    how : the options, see `PassOptions`.
    rows : the row numbers to show, ascending; all by default. Batches carry the numbers of `faces`.
    pairs : pairs of rows to exchange regions between, instead; batches carry the pairs' numbers.
    shard : rows in a shard.
    enough : asked after each shard, once its states are merged; the pass ends where it says so.
    note : what else the bar says.

    Returns
    -------
    list of "path: reason" of the images that could not be decoded, in order.

    Raises
    ------
    FacexkitError for an empty face set, missing masks, unknown layers, too many undecodable images, or attribution maps
    or outputs that are not finite.
    """
    rows = np.arange(len(faces) if pairs is None else len(pairs.rows)) if rows is None else np.asarray(rows, np.int64)
    if not len(rows):
        raise FacexkitError(f"the face set {faces.name!r} is empty; loosen its filter or limit")
    work = Work(model, faces, [Skipped(), *accumulators], how, pairs, len(rows))
    batch = min(how.batch_size, model.at_once or how.batch_size)
    shards = cut(rows, batch if pairs is None else max(1, batch // 4), shard)
    files = ShardFiles(how.folder, work.made_by(rows, shard)) if how.folder is not None else None
    about = {"total": len(rows), "unit": "face" if pairs is None else "pair", "desc": f"{model.name} on {faces.name}{note}"}
    with progress_bar(how.progress, **about) as bar:
        for states in _states(work, shards, files, bar):
            work.merge(states)
            if enough():
                break
    return work.skipped.result()


def _states(work: Work, shards: list[Shard], files: ShardFiles | None, bar: object) -> Iterator[Arrays]:
    """Yield each shard's states in row order: those that are written down, and the others as they are finished."""
    known = {shard.place for shard in shards if files and files.has(shard)}
    todo = [shard for shard in shards if shard.place not in known]
    if work.how.client is not None:
        from facexkit.probe.cluster import finished_elsewhere  # here, as distributed is an extra

        coming = finished_elsewhere(work, todo)
    else:
        batches = work.batches(todo)
        coming = (work.finished(shard, batches, bar.update) for shard in todo)
    for shard in shards:
        states = files.read(shard) if shard.place in known else next(coming)
        if files and shard.place not in known:
            files.write(shard, states)
        if work.how.client is not None or shard.place in known:  # else it has been told batch by batch
            bar.update(shard.rows)
        yield states
