"""Verification against a plain loop over pairs, and error rates against counting."""


import numpy as np
import pandas as pd
import pytest
import torch
import torch.nn.functional as F
from hypothesis import given, settings
from hypothesis import strategies as st

from facexkit.drawn.demo import demo_faces
from facexkit.errors import FacexkitError
from facexkit.faces.faceset import FaceSet
from facexkit.faces.formats import load_faces
from facexkit.faces.mask_view import MaskView
from facexkit.faces.regions import REGIONS
from facexkit.measure.facex import RegionScores, above_mean, scaled
from facexkit.measure.verification import (
    Comparison,
    embed,
    error_rate_gaps,
    error_rates,
    explain_verification,
    group_scores,
    similarities,
    split_scores,
)  # fmt: skip
from facexkit.models.face_model import FaceModel
from facexkit.models.loading import load_model
from facexkit.probe.accumulator import Attributed
from facexkit.probe.options import PassOptions
from facexkit.probe.run import run
from facexkit.show.regions import region_findings, write_score_tables
from facexkit.show.report import show_examples, write_region_report

QUIET = {"progress": False, "workers": 0}


@pytest.fixture(scope="module")
def pairs(small_faces):
    """14 pairs of the small pictures; probes and references come in several of them."""
    rng = np.random.default_rng(1)
    probe, reference = rng.integers(0, 8, 14), rng.integers(5, 20, 14)
    table = pd.DataFrame({"path": [f"{n}.png" for n in probe], "reference": [f"{n}.png" for n in reference]})
    table = table.assign(same=np.arange(14) % 2, group=np.where(probe < 4, "low", "high"))
    return FaceSet(table, small_faces.images, small_faces.masks, name="small pairs", protected=["group"])


def one_picture(model, faces, path):
    image = faces.images.read(path).resize((model.image_size,) * 2, 2)
    return model.prepare(torch.from_numpy(np.array(image)).permute(2, 0, 1)[None])


@pytest.fixture(scope="module")
def embedder(small_model, small_faces):
    """The small network as an embedding whose mean over the small pictures is 0, so that cosines spread."""
    mean = torch.from_numpy(embed(small_model, small_faces, **QUIET).values).mean(0)
    how = {"image_size": 32, "normalize": "half", "device": "cpu"}
    return FaceModel(small_model.network, name="small embedder", output=lambda returned: returned - mean, **how)


def plain_grad_cam(model, pairs, row, column):
    """Grad-CAM of one pair at conv2 by hand: one forward pass each, autograd, cosine."""
    kept = {}
    reference = model(one_picture(model, pairs, pairs.table.reference[row]))[0].detach()
    hook = model.network.conv2.register_forward_hook(lambda m, i, out: kept.update(a=out.requires_grad_()))
    probe = model(one_picture(model, pairs, pairs.table.path[row]))[0]
    hook.remove()
    cosine = (probe @ reference) / (probe.norm() * reference.norm())
    (gradient,) = torch.autograd.grad(cosine if column else 1 - cosine, kept["a"])
    alpha = gradient.mean((2, 3), keepdim=True)
    return (alpha * kept["a"]).sum(1).relu()[0].detach(), float(cosine.detach())


class Maps(RegionScores):
    """Region scores that keep the maps."""

    maps = {}

    def update(self, batch):
        super().update(batch)
        self.maps.update(zip(batch.rows.tolist(), batch.attributions[self.key], strict=True))


@pytest.mark.parametrize("column", [0, 1])
def test_maps_scores_and_similarities_are_those_of_a_plain_loop(embedder, pairs, column):
    found = explain_verification(embedder, pairs, "conv2", target=("difference", "similarity")[column], batch_size=4, **QUIET).isel(target_class=0)
    paths, view = pairs.table.path.to_numpy(object), MaskView(REGIONS, 64, "antialias", through=32)
    with torch.no_grad():
        own = torch.cat([embedder(one_picture(embedder, pairs, name)) for name in pairs.table.reference])
    bound, key = embedder.asked(Comparison(own.numpy()), ("different", "same")), Attributed("conv2", column)
    run(bound, pairs, [kept := Maps(key, paths, 32)], PassOptions(batch_size=5, **QUIET))
    plain = [plain_grad_cam(embedder, pairs, row, column) for row in range(len(pairs))]
    assert np.ptp([cosine for _, cosine in plain]) > 0.5 and sum(bool(map_.any()) for map_, _ in plain) > 5
    for row, (map_, cosine) in enumerate(plain):
        assert torch.allclose(kept.maps[row], map_, rtol=0, atol=min(1e-5, 2e-4 * float(map_.max()) or 1))
        assert found.similarity[row] == pytest.approx(cosine, abs=1e-5)
        assert found.output[row] == pytest.approx(cosine if column else 1 - cosine, abs=1e-5)
        lit = above_mean(F.interpolate(scaled(map_[None])[:, None], (64, 64), mode="bilinear")[:, 0])[0].numpy()
        masks = view.of(pairs.masks.read(paths[row]))
        shares = [lit[mask].mean() if mask.any() else np.nan for mask in masks]
        np.testing.assert_allclose(found.per_image[row], shares, atol=1e-5)


def test_both_targets_come_from_one_pass_and_are_opposite_in_value(embedder, pairs):
    both = explain_verification(embedder, pairs, "conv2", target=["difference", "similarity"], **QUIET)
    assert both.class_name.values.tolist() == ["different", "same"]
    np.testing.assert_allclose(both.output.sum("target_class"), 1, atol=1e-6)
    alone = explain_verification(embedder, pairs, "conv2", **QUIET).sel(target_class=1)
    np.testing.assert_allclose(both.sel(target_class=1).per_image, alone.per_image)
    np.testing.assert_allclose(both.similarity, alone.output, atol=1e-6)


def test_each_distinct_reference_is_read_once(embedder, pairs, monkeypatch):
    read = []
    monkeypatch.setattr(type(pairs.images), "read", lambda self, path, plain=type(pairs.images).read: (
        self is pairs.images and read.append(path), plain(self, path))[1])  # fmt: skip
    similarities(embedder, pairs, **QUIET)
    assert read[: pairs.table.reference.nunique()] == list(pairs.table.reference.unique())
    assert len(read) == pairs.table.reference.nunique() + len(pairs)


def test_similarities_need_no_masks_and_do_not_depend_on_batches(embedder, pairs):
    bare = FaceSet(pairs.table, pairs.images, name="bare")
    one, all_ = (similarities(embedder, bare, batch_size=n, **QUIET).similarity for n in (1, 32))
    np.testing.assert_allclose(one, all_, atol=1e-5)
    np.testing.assert_allclose(one, explain_verification(embedder, pairs, "conv2", **QUIET).similarity, atol=1e-5)


def test_a_pair_whose_reference_is_broken_is_told_and_left_out(embedder, pairs):
    content = dict(pairs.images.content) | {pairs.table.reference[0]: None}
    broken = FaceSet(pairs.table, type(pairs.images)(content), pairs.masks, name="broken")
    hit = (pairs.table.reference == pairs.table.reference[0]) | (pairs.table.path == pairs.table.reference[0])
    found = explain_verification(embedder, broken, "conv2", max_skipped=0.5, **QUIET)
    assert found.sizes["image"] == len(pairs) - hit.sum()
    assert found.attrs["skipped"][0].startswith(pairs.table.reference[0])
    with pytest.raises(FacexkitError, match="cannot be decoded"):
        explain_verification(embedder, broken, "conv2", **QUIET)


def test_reports_tables_and_findings_take_images_that_come_twice(embedder, pairs, tmp_path):
    found = [explain_verification(embedder, pairs, "conv2", **QUIET)]
    found.append(explain_verification(embedder, pairs, method="share", images=14, **QUIET))
    assert write_region_report(found, pairs, tmp_path / "report.html").stat().st_size > 10_000
    images = pd.read_csv(write_score_tables(found, tmp_path)[1])
    assert (images.method == "facex").sum() == len(pairs)
    assert "same" in region_findings(found)[0]
    assert show_examples(found[0], pairs, "skin")
    shown = found[0].sel(region="skin", target_class=1)
    np.testing.assert_allclose(shown.example_score[0], shown.per_image.max())


def test_share_is_one_where_a_single_region_makes_the_embedding(faces_of, model_of):
    rng = np.random.default_rng(0)
    index = np.zeros((12, 16, 16), int)
    index[:, 4:8, 4:12] = REGIONS.index("l_brow")
    faces = faces_of(rng.integers(0, 256, (12, 16, 16, 3), np.uint8), index)
    table = faces.table.assign(reference=faces.table.path.to_numpy()[::-1], same=1)
    model = model_of(lambda x: x[:, 0, 4:8, 4:12].mean((1, 2)) - 0.5, 16)
    model.output = lambda logits: torch.cat([torch.ones_like(logits[:, :1]), logits[:, 1:]], 1)
    found = explain_verification(model, FaceSet(table, faces.images, faces.masks, name="brows"), method="share", **QUIET)
    assert found.score.sel(region="l_brow") == pytest.approx(1, abs=1e-4)
    assert found.score.sel(region="background") == pytest.approx(0, abs=1e-4)


def test_groups_are_scored_by_their_own_images(embedder, pairs):
    found = explain_verification(embedder, pairs, "conv2", **QUIET)
    parts = split_scores(found, "same")
    for value, part in ((value, part.sel(target_class=1)) for value, part in parts.items()):
        own = found.per_image[0].values[pairs.table.same == value]
        np.testing.assert_allclose(part.score, [c[np.isfinite(c)].mean() if np.isfinite(c).any() else np.nan for c in own.T])
        assert (part.images == np.isfinite(own).sum(0)).all() and part.class_name == f"same, same {value}"
    table = group_scores(found, ["same", "group"])
    assert set(table.index.droplevel(["target_class", "region"])) == {("same", 0), ("same", 1), ("group", "low"), ("group", "high")}
    assert table.loc[("same", 1, 1, "skin"), "score"] == pytest.approx(parts[1].score.sel(region="skin").item())
    with pytest.raises(FacexkitError, match="are no means over images"):
        split_scores(explain_verification(embedder, pairs, method="share", images=14, **QUIET), "same")
    with pytest.raises(FacexkitError, match="unknown column of the images 'sane'; did you mean 'same'"):
        split_scores(found, "sane")


def test_what_cannot_be_verified(embedder, small_faces, pairs, model_of):
    with pytest.raises(FacexkitError, match="has no pairs"):
        explain_verification(embedder, small_faces, "conv2", **QUIET)
    with pytest.raises(FacexkitError, match="unknown target of a verification 'similar'"):
        explain_verification(embedder, pairs, "conv2", target="similar", **QUIET)
    one = model_of(lambda x: x.mean((1, 2, 3)), 16)
    one.output = lambda logits: logits[:, :1]
    with pytest.raises(FacexkitError, match="gives one number a face"):
        similarities(one, pairs, **QUIET)


@settings(max_examples=15, deadline=None)
@given(st.lists(st.tuples(st.integers(-9, 9), st.booleans()), min_size=2, max_size=30), st.integers(-9, 9))
def test_error_rates_are_counts(pairs_of, limit):
    similarity, same = np.array([s / 9 for s, _ in pairs_of]), np.array([int(k) for _, k in pairs_of])
    if set(same) != {0, 1}:
        return
    groups = pd.DataFrame({"half": np.arange(len(same)) % 2})
    found = error_rates(similarity, same, groups, threshold=limit / 9)
    for (_, value), row in found.iterrows():
        inside = [n for n in range(len(same)) if value == "all" or n % 2 == value]
        for kind, name in ((0, "fmr"), (1, "fnmr")):
            of_kind = [similarity[n] >= limit / 9 for n in inside if same[n] == kind]
            wrong = sum(accepted != bool(kind) for accepted in of_kind)
            expected = wrong / len(of_kind) if of_kind else np.nan
            assert row[name] == pytest.approx(expected, nan_ok=True)
            assert row[("different", "same")[kind]] == len(of_kind)
    t = error_rates(similarity, same).attrs["threshold"]
    gap = lambda t: abs((similarity[same == 0] >= t).mean() - (similarity[same == 1] < t).mean())  # noqa: E731
    assert gap(t) == pytest.approx(min(gap(s) for s in similarity))


def test_intervals_hold_the_rate_and_bad_input_is_told():
    rng = np.random.default_rng(0)
    same = np.arange(400) % 2
    found = error_rates(rng.normal(same * 1.5, 1), same)
    row = found.loc[("all", "all")]
    assert row.fmr_low < row.fmr < row.fmr_high and row.fnmr_low < row.fnmr < row.fnmr_high
    assert abs(row.fmr - row.fnmr) < 0.02 and 0.15 < row.fmr < 0.3  # normal distributions: EER = Φ(−0.75) = 0.227
    one, two = (error_rates([0.1, 0.9], [0, 1], groups) for groups in (pd.Series([0, 1], name="g"), pd.DataFrame({"g": [0, 1]})))
    assert one.index.tolist() == two.index.tolist() == [("all", "all"), ("g", 0), ("g", 1)]
    for bad in ({"same": [1, 1]}, {"similarity": [0.5, np.nan]}, {"same": [1]}):
        with pytest.raises(FacexkitError):
            error_rates(**({"similarity": [0.5, 0.2], "same": [0, 1]} | bad))


@pytest.mark.parametrize(("rate", "allowed"), [(0, 0), (0.1, 20), (0.29, 58), (0.5, 100)])
def test_a_false_match_rate_sets_the_least_threshold_that_keeps_it(rate, allowed):
    similarity, same = np.round(np.random.default_rng(0).normal(size=400), 2), np.arange(400) % 2
    others = similarity[same == 0]
    t = error_rates(similarity, same, false_match_rate=rate).attrs["threshold"]
    lower = np.unique(similarity)[np.unique(similarity) < t][-1:]
    assert (others >= t).sum() <= allowed and all((others >= s).sum() > allowed for s in lower)
    with pytest.raises(FacexkitError, match="threshold must be None"):
        error_rates(similarity, same, threshold=0.5, false_match_rate=rate)


def test_gaps_between_error_rates_know_chance_and_name_small_groups():
    rng = np.random.default_rng(1)
    groups = pd.DataFrame({"worse": rng.choice(["a", "b"], 2000), "alike": rng.choice([*"cdefgh"], 2000), "few": "i"})
    groups.loc[:19, "few"] = "j"
    same = np.arange(2000) % 2
    similarity = rng.normal(2 * same - 1 + (groups.worse == "b") * (same == 0))
    rates = error_rates(similarity, same, groups, threshold=0)
    gaps = error_rate_gaps(rates, replicates=200)
    row = gaps.loc[("worse", "fmr")]
    fmr = rates.loc["worse"].fmr
    assert row.difference == pytest.approx(np.ptp(fmr)) and row.over_geomean == pytest.approx(fmr.max() / np.sqrt(fmr.prod()))
    assert row.difference_low < 0.341 < row.difference_high and row.q_value < 0.05  # Φ(0) − Φ(−1) = 0.341
    assert gaps.loc[("alike", "fmr")].q_value > 0.05 and gaps.loc[("alike", "fmr")].difference_low == 0
    few = gaps.loc[("few", "fnmr")]
    assert few.too_small == "j (10)" and np.isnan(few.difference) and np.isnan(few.q_value)


@pytest.fixture(scope="module")
def demo_embedder():
    return load_model("demo:embedder", device="cpu")


def test_unseen_persons_are_told_apart_and_the_exchange_finds_the_brows_that_tell_them(demo_embedder):
    pairs = load_faces("pairs")
    learned = set(demo_faces("embedder").table.identity)
    assert not learned & {int(path[:6]) for path in (*pairs.table.path, *pairs.table.reference)}
    pairs = pairs[:240]
    told = similarities(demo_embedder, pairs, progress=False)
    overall = error_rates(told.similarity, told.same).loc[("all", "all")]
    assert overall.fmr < 0.25 and overall.fnmr < 0.25
    share = explain_verification(demo_embedder, pairs, method="share", images=96, partners=2, progress=False)
    others = share.score.drop_sel(region=["l_brow", "r_brow"])
    assert share.union_score_low.sel(union="brows") > 2 * others.max()
