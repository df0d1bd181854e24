"""Exchanged regions, the erased group and the refitted last layer, beside slow and direct computations."""

import numpy as np
import pandas as pd
import torch

import facexkit as fx
from facexkit.faces.regions import REGIONS, TOP_TO_BOTTOM
from facexkit.mend.lessons import Decoded, DecodedMasks, Lessons, decoded
from facexkit.mend.methods import Task, head_of, leace
from facexkit.probe.options import PassOptions
from tests.mend.conftest import SIDE


def lessons_of(count, side, seed=0):
    """Return lessons of random pixels and random owners."""
    rng = np.random.default_rng(seed)
    images, owners = rng.integers(0, 256, (count, 3, side, side), np.uint8), rng.integers(0, 19, (count, side, side)).astype(np.uint8)
    paths = {f"{row}": row for row in range(count)}
    faces = fx.FaceSet(pd.DataFrame({"path": list(paths)}), Decoded(images, paths, None), DecodedMasks(owners, paths, None), name="")
    return Lessons(faces, np.arange(count) % 2)


def test_nothing_of_an_exchanged_region_is_a_faces_own():
    lessons, regions = lessons_of(6, 5), ("u_lip", "skin", "hair")
    rows, others = torch.tensor([0, 3]), torch.tensor([4, 2])
    found, asked = lessons.exchanged(rows, others, regions), [REGIONS.index(name) for name in regions]
    depth = [TOP_TO_BOTTOM.index(name) for name in REGIONS]
    for k, (row, other) in enumerate(zip(rows, others, strict=True)):
        for y, x in np.ndindex(5, 5):
            mine, theirs = int(lessons.owners[row, y, x]), int(lessons.owners[other, y, x])
            from_other = mine in asked or (theirs in asked and depth[theirs] < depth[mine])
            assert torch.equal(found[k, :, y, x], lessons.images[other if from_other else row, :, y, x])


def test_an_epoch_shows_each_face_once_with_another_one_as_seed_and_number_fix_it():
    lessons = lessons_of(12, 4)
    first = [(images, classes) for images, classes in lessons.epoch(0, ("nose",), 4, seed=1)]
    again, other = list(lessons.epoch(0, ("nose",), 4, seed=1)), list(lessons.epoch(1, ("nose",), 4, seed=1))
    assert all(torch.equal(a[0], b[0]) for a, b in zip(first, again, strict=True))
    assert not torch.equal(first[0][0], other[0][0])
    plain = torch.cat([images for images, _ in lessons.epoch(0, (), 4, seed=1)])
    known = {face.numpy().tobytes() for face in torch.cat([lessons.images, lessons.images.flip(3)])}
    assert len({face.numpy().tobytes() for face in plain} & known) == 12


def test_decoded_faces_are_those_of_the_set_and_broken_ones_are_left_out(tiny_faces):
    found = decoded(tiny_faces[:30], SIDE, PassOptions(progress=False))
    ours, theirs = (next(each.batches(SIDE, 30)) for each in (found, tiny_faces[:30]))
    assert torch.equal(ours.images, theirs.images) and found.fingerprint() == tiny_faces[:30].fingerprint()
    assert found.masks.read("0.png")["u_lip"].sum() == tiny_faces.masks.read("0.png")["u_lip"].sum()


def test_after_leace_group_and_units_are_uncorrelated_where_class_and_group_are_independent():
    rng = np.random.default_rng(0)
    classes = rng.integers(0, 2, 500)
    groups = np.where(rng.random(500) < 0.9, classes, rng.integers(0, 3, 500))
    units = rng.normal(size=(500, 7)) @ rng.normal(size=(7, 7)) + groups[:, None] * rng.normal(size=7) + classes[:, None]
    matrix, offset = leace(units, groups, classes)
    joint = pd.crosstab(groups, classes, normalize=True).to_numpy()
    weights = joint.sum(1)[groups] * joint.sum(0)[classes] / joint[groups, classes]
    changed, weights = units @ matrix.T + offset, weights / weights.sum()
    means = np.stack([np.average(changed[groups == g], axis=0, weights=weights[groups == g]) for g in range(3)])
    assert abs(means - means[0]).max() < 1e-9  # what no linear classifier can tell apart (Belrose et al., theorem 3.1)
    assert np.linalg.matrix_rank(np.eye(7) - matrix) == 2  # and no more than that goes
    assert np.allclose(np.average(changed, axis=0, weights=weights), np.average(units, axis=0, weights=weights))


def probe(units, groups, asked):
    """Return how often least squares on units, told class-balanced groups, finds the group of others."""
    design = lambda x: np.column_stack([x, np.ones(len(x))])  # noqa: E731
    solved = np.linalg.lstsq(design(units[0]), groups[0] * 2.0 - 1, rcond=None)[0]
    return ((design(units[1]) @ solved > 0) == asked).mean()


def test_after_erase_a_linear_probe_finds_the_group_no_better_than_the_commonest(tiny_model, tiny_faces):
    found = fx.repair(tiny_model, tiny_faces, "lips", "erase", protected="look", progress=False)
    sides = [tiny_faces[tiny_faces.table.split == name] for name in ("train", "test")]
    sides[0] = sides[0].balanced(["kind", "look"])
    groups = [(side.table["look"] == "red").to_numpy() for side in sides]
    told = {}
    for name, model in (("before", tiny_model), ("after", found.model)):
        tasks = [Task(model, side, np.zeros(len(side), int), (), None, "", 1, 1, 0, None, PassOptions(progress=False)) for side in sides]
        told[name] = probe([task.units(model) for task in tasks], groups, groups[1])
    commonest = max(groups[1].mean(), 1 - groups[1].mean())
    assert told["before"] > commonest + 0.2 and told["after"] <= commonest + 0.02


def test_a_refitted_last_layer_alone_changes_and_the_worst_group_gains(tiny_model, tiny_faces):
    found = fx.repair(tiny_model, tiny_faces, "lips", "last_layer", protected="agrees", progress=False)
    before, after = tiny_model.network.state_dict(), found.model.network.state_dict()
    name = head_of(tiny_model)[0]
    assert {key for key in before if not torch.equal(before[key], after[key])} == {f"{name}.weight", f"{name}.bias"}
    assert found.result.worst.sel(model="after") > found.result.worst.sel(model="control") + 0.1
