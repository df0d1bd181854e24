"""One law for every accumulator of the kit: neither the cut into shards, nor their order, nor writing them down can be seen."""

import importlib
import pkgutil

import numpy as np
import pandas as pd
import pytest
import torch
import xarray as xr
from hypothesis import given, settings
from hypothesis import strategies as st

import facexkit
from facexkit.faces.mask_view import MaskView
from facexkit.faces.regions import REGIONS
from facexkit.measure.attribution_maps import AttributionMaps
from facexkit.measure.candidates import Candidates
from facexkit.measure.decision_share import MaskedOutputs, Walks
from facexkit.measure.facex import HighImpactPatches, RegionScores
from facexkit.measure.found_faces import FacesFound
from facexkit.measure.global_bias import UnitRange
from facexkit.measure.interactions import Exchanged
from facexkit.measure.iou_tally import IoUTally
from facexkit.measure.made_masks import MasksParsed
from facexkit.measure.mask_exchange import MaskExchange
from facexkit.measure.per_image import Outputs, PerImage
from facexkit.measure.photographs import Pictures
from facexkit.measure.recording import UnitSummary
from facexkit.measure.tail_quantile import LowerBits, TailQuantile
from facexkit.measure.unit_effects import UnitEffects
from facexkit.models.outputs import Meaning
from facexkit.probe.accumulator import Accumulator, Attributed, ProbedBatch, Walk
from facexkit.probe.shards import Shard, ShardFiles, states_of, take_states
from facexkit.probe.work import Skipped
from facexkit.systems.face_dissect_files import MapFile
from facexkit.systems.fairface import Activations

BATCHES, SIZE, UNITS = 6, 3, 5
CLASSES = 15**2  # a square of pixels, and fifteen faces of fifteen values
ROWS = BATCHES * SIZE
PATHS = np.array([f"{row}.png" for row in range(ROWS)], object)
TABLE = pd.DataFrame({"path": PATHS, "kind": np.arange(ROWS) % 3})
KEY = Attributed("layer", 1)
REGION_VIEW = MaskView(REGIONS, 16)
VIEW = MaskView(("skin", "nose", "hair"), 16)
THRESHOLDS = np.linspace(0.2, 1, UNITS).astype(np.float32)


def batch_of(place):
    """Three rows of everything that an accumulator can ask for, with values of which some are equal."""
    rng = np.random.default_rng(place)
    rows = np.arange(place * SIZE, (place + 1) * SIZE)
    number = lambda *shape: torch.from_numpy(rng.integers(-20, 20, shape).astype(np.float32) / 10)  # noqa: E731
    regions = np.stack([rng.permutation(len(REGIONS)) for _ in rows])
    steps = rng.integers(2, 6, SIZE)
    regions = np.where(np.arange(len(REGIONS)) < steps[:, None], regions, -1)
    views = (RegionScores(KEY, PATHS, 16).view, HighImpactPatches(KEY, PATHS, 16).view, REGION_VIEW, VIEW)
    masks = {view: torch.from_numpy(rng.random((SIZE, len(view.names), view.size, view.size)) < 0.3) for view in views}
    return ProbedBatch(
        rows, torch.zeros(SIZE, 3, 16, 16, dtype=torch.uint8), masks,
        {view: mask.flatten(2).any(2) for view, mask in masks.items()},
        [(place * SIZE + 1, f"{place}.png", "truncated" * place)] if place % 2 else [],
        activations={"layer": number(SIZE, UNITS, 4, 4)}, attributions={KEY: number(SIZE, 4, 4).relu()},
        outputs=number(SIZE, CLASSES), edited={"layer": number(2, SIZE, CLASSES)},
        walk=Walk(torch.from_numpy(regions), number(SIZE, len(REGIONS), CLASSES).double()),
    )  # fmt: skip


PARTNER = np.where(np.arange(ROWS)[:, None] % 4 < 3, (np.arange(ROWS)[:, None] + [1, 2, 3]) % 7, -1)
EXCHANGE = MaskExchange(PARTNER, np.random.default_rng(0).integers(0, 256, (3, 7, 32), np.uint8), 16, 5)
SEEN = [batch_of(place) for place in range(BATCHES)]


def written(folder):
    """FairFace's activations, as they are handed on."""
    kept = []
    accumulator = Activations("layer", PATHS, True, lambda paths, values: kept.append((paths, values)))
    accumulator.result = lambda: [np.concatenate(part) for part in zip(*kept, strict=True)]
    return accumulator


def map_file(folder):
    accumulator = MapFile("layer", folder / "maps.mmap", ROWS)
    accumulator.result = lambda: np.fromfile(folder / "maps.mmap")
    return accumulator


def margins(seed):
    return np.random.default_rng(seed).normal(size=(ROWS, 2))


KINDS = {
    Skipped: lambda _: Skipped(),
    RegionScores: lambda _: RegionScores(KEY, PATHS, 16),
    AttributionMaps: lambda _: AttributionMaps(KEY),
    HighImpactPatches: lambda _: HighImpactPatches(KEY, PATHS, 16),
    TailQuantile: lambda _: TailQuantile("layer", PATHS, 0.07),
    LowerBits: lambda _: LowerBits("layer", THRESHOLDS - 1, THRESHOLDS),
    Candidates: lambda _: Candidates("layer", PATHS, 0.07, VIEW, 1 << 20),
    IoUTally: lambda _: IoUTally("layer", THRESHOLDS, VIEW, PATHS, "labelled", 4, EXCHANGE),
    Outputs: lambda _: Outputs(),
    MaskedOutputs: lambda _: MaskedOutputs(VIEW),
    Exchanged: lambda _: Exchanged(REGION_VIEW),
    Walks: lambda _: Walks(REGION_VIEW, [0, 2], Meaning(likely=False), margins(1), margins(2)),
    UnitSummary: lambda _: UnitSummary("layer", TABLE),
    UnitRange: lambda _: UnitRange("layer", TABLE),
    UnitEffects: lambda _: UnitEffects("layer", [torch.relu] * 2, np.arange(ROWS) % 3, np.arange(ROWS) % 2),
    FacesFound: lambda _: FacesFound(),
    MasksParsed: lambda _: MasksParsed(),
    Pictures: lambda _: Pictures(),
    Activations: written,
    MapFile: map_file,
}
IN_ROW_ORDER = {Activations}
"""What is written as it comes: the pass merges in row order."""


def every_subclass(kind):
    return {kind}.union(*(every_subclass(sub) for sub in kind.__subclasses__()))


def test_every_accumulator_is_here():
    for module in pkgutil.walk_packages(facexkit.__path__, "facexkit."):
        if not module.name.endswith("__main__"):
            importlib.import_module(module.name)
    own = {kind for kind in every_subclass(Accumulator) if kind.__module__.startswith("facexkit")}
    assert own - {Accumulator, PerImage} == set(KINDS)


def summed_up(kind, folder, shards, write):
    total = KINDS[kind](folder)
    files = ShardFiles(folder, ["made by this"])
    for place, batches in enumerate(shards):
        part = total.fresh()
        for batch in batches:
            part.update(SEEN[batch])
        part.finish()
        states, own = states_of([part]), total.fresh()
        if write:
            files.write(Shard(place, ()), states)
            states = files.read(Shard(place, ()))
        take_states([own], states)
        total.merge(own)
    if isinstance(total, Candidates):
        tally = IoUTally("layer", total.result().threshold.to_numpy(), VIEW, PATHS, "active", 3, total.exchange())
        total.replay(tally)
        return total.result(), tally.result()
    return total.result()


def assert_identical(one, other):
    if isinstance(one, xr.Dataset):
        xr.testing.assert_identical(one, other)
    elif isinstance(one, (tuple, list)):
        assert len(one) == len(other)
        for first, second in zip(one, other, strict=True):
            assert_identical(first, second)
    else:
        np.testing.assert_array_equal(one, other)


@settings(deadline=None, max_examples=8)
@given(data=st.data())
@pytest.mark.parametrize("kind", KINDS, ids=lambda kind: kind.__name__)
def test_shards_their_order_and_their_files_cannot_be_seen(kind, data, tmp_path_factory):
    order = data.draw(st.just(list(range(BATCHES))) if kind in IN_ROW_ORDER else st.permutations(range(BATCHES)))
    cuts = sorted(data.draw(st.sets(st.integers(1, BATCHES - 1), max_size=3)))
    shards = [order[start:end] for start, end in zip([0, *cuts], [*cuts, BATCHES], strict=True)]
    whole = summed_up(kind, tmp_path_factory.mktemp("whole"), [range(BATCHES)], write=False)
    assert_identical(summed_up(kind, tmp_path_factory.mktemp("cut"), shards, data.draw(st.booleans())), whole)


@pytest.mark.parametrize("kind", KINDS, ids=lambda kind: kind.__name__)
def test_a_fingerprint_changes_with_parameters_and_not_with_what_was_seen(kind, tmp_path):
    one, same = KINDS[kind](tmp_path), KINDS[kind](tmp_path)
    one.update(SEEN[0])
    assert one.fingerprint() == same.fingerprint()
    for name in {name for name in vars(same) if name not in same.states() and not name.startswith("_")}:
        other = KINDS[kind](tmp_path)
        setattr(other, name, "something else")
        assert other.fingerprint() != same.fingerprint()
