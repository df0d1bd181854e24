import numpy as np
import pytest
import torch

from facexkit.errors import FacexkitError
from facexkit.faces.mask_view import MaskView
from facexkit.probe.accumulator import Accumulator, Attributed
from facexkit.probe.options import PassOptions
from facexkit.probe.run import run


class Everything(Accumulator):
    """Keeps what it is handed, by row."""

    def __init__(self, layers=(), attributions=(), masks=(), outputs=False):
        self.layers, self.attributions, self.masks, self.outputs = layers, attributions, masks, outputs
        self.batches = []

    def update(self, batch):
        self.batches.append(batch)

    def result(self):
        return self.batches


SKIN = MaskView(("skin",), 6)


def shown(model, faces, accumulators, progress=False, **how):
    return run(model, faces, accumulators, PassOptions(**{**how, "progress": progress}))


def test_every_accumulator_gets_what_it_asked_for_in_order(chain, noise):
    maps = Everything(layers=("first", "third"))
    scores = Everything(attributions=(Attributed("second", 0), Attributed("second", 2), Attributed("third", 1)), outputs=True)
    skins = Everything(masks=(SKIN,))
    assert shown(chain, noise(7), [maps, scores, skins], batch_size=3) == []
    for kept in (maps, scores, skins):
        assert np.concatenate([batch.rows for batch in kept.batches]).tolist() == list(range(7))
    batch = maps.batches[0]
    assert batch.activations["first"].shape == (3, 4, 6, 6) and batch.activations["third"].shape == (3, 5, 3, 3)
    assert set(batch.attributions) == {Attributed("second", 0), Attributed("second", 2), Attributed("third", 1)}
    assert batch.attributions[Attributed("second", 2)].shape == (3, 6, 6) and batch.attributions[Attributed("third", 1)].shape == (3, 3, 3)
    assert batch.masks[SKIN][:, 0, 0].tolist() == [[True] * 3 + [False] * 3] * 3
    with torch.no_grad():
        inputs = chain.prepare(batch.images)
        torch.testing.assert_close(batch.outputs, chain(inputs))
        torch.testing.assert_close(batch.activations["first"], chain.network.first(inputs))
    assert not any(t.requires_grad for t in [*batch.activations.values(), *batch.attributions.values(), batch.outputs])


def test_no_more_of_the_model_runs_than_was_asked_for(chain, noise, ran):
    chain.layers  # noqa: B018
    names = ran(chain)
    shown(chain, noise(2), [Everything(masks=(SKIN,))])
    assert names == []
    shown(chain, noise(2), [Everything(layers=("first",)), Everything(layers=("second",))])
    assert names == ["first", "second"]
    names.clear()
    shown(chain, noise(2), [Everything(layers=("first",), outputs=True)])
    assert names.count("first") == 1 and names.count("head") == 1
    names.clear()
    two_classes = Everything(layers=("third",), attributions=(Attributed("second", 0), Attributed("second", 1)))
    shown(chain, noise(2), [two_classes])
    assert names.count("first") == 1 and names.count("head") == 1


def test_activations_are_those_of_the_images_whatever_an_attribution_runs(chain, noise):
    def meddling(model, layer, inputs, target):
        return model(inputs * 0)[:, target, None, None].expand(-1, 2, 2)

    plain, beside = Everything(layers=("first",)), Everything(layers=("first",), attributions=(Attributed("second", 1, meddling),))
    shown(chain, noise(3), [plain])
    shown(chain, noise(3), [beside])
    assert torch.equal(plain.batches[0].activations["first"], beside.batches[0].activations["first"])


@pytest.mark.parametrize("workers", [0, 2])
def test_undecodable_images_are_listed_and_left_out(chain, noise, workers):
    kept = Everything(outputs=True)
    skipped = shown(chain, noise(200, broken=[4, 150]), [kept], workers=workers, batch_size=16)
    assert skipped == ["4: truncated", "150: truncated"]
    rows = np.concatenate([batch.rows for batch in kept.batches])
    assert rows.tolist() == [k for k in range(200) if k not in (4, 150)]


def test_a_batch_of_nothing_but_undecodable_images_is_passed_over(chain, noise):
    kept = Everything(masks=(SKIN,), outputs=True)
    skipped = shown(chain, noise(9, broken=[3, 4, 5]), [kept], batch_size=3, max_skipped=0.5)
    assert len(skipped) == 3 and [batch.rows.tolist() for batch in kept.batches] == [[0, 1, 2], [6, 7, 8]]


def test_more_than_one_in_a_hundred_undecodable_ends_the_run(chain, noise):
    with pytest.raises(FacexkitError, match=r"3 of 200 images cannot be decoded.*max_skipped=0.01.*7: truncated"):
        shown(chain, noise(200, broken=[7, 8, 9]), [Everything(outputs=True)])
    with pytest.raises(FacexkitError, match="at least 1 of 50"):
        shown(chain, noise(50, broken=[20]), [Everything(outputs=True)])
    with pytest.raises(FacexkitError, match="4 of 4 images cannot be decoded"):
        shown(chain, noise(4, broken=range(4)), [Everything(outputs=True)], max_skipped=1)


def test_bad_input_is_refused(chain, noise):
    with pytest.raises(FacexkitError, match="'noise' is empty; loosen its filter or limit"):
        shown(chain, noise(3)[:0], [Everything()])
    without = noise(3)
    without.masks = None
    with pytest.raises(FacexkitError, match="no masks; load it with masks="):
        shown(chain, without, [Everything(masks=(SKIN,))])
    with pytest.raises(FacexkitError, match="unknown layer 'frist'; did you mean 'first'"):
        shown(chain, noise(3), [Everything(layers=("frist",))])


def test_numbers_that_are_not_finite_end_the_run_with_the_image(chain, noise):
    def broken_from_the_fifth(model, layer, inputs, target):
        maps = torch.ones(len(inputs), 2, 2)
        maps[-1, 0, 0] = torch.nan
        return maps

    with pytest.raises(FacexkitError, match=r"attribution map at 'second' of 'chain' is not finite for 4;"):
        kept = Everything(attributions=(Attributed("second", 0, broken_from_the_fifth),))
        shown(chain, noise(5), [kept])
    with torch.no_grad():
        chain.network.head.bias[1] = torch.nan
    with pytest.raises(FacexkitError, match=r"the output of 'chain' is not finite for 0;"):
        shown(chain, noise(5), [Everything(outputs=True)])


def test_the_progress_bar_counts_faces_and_can_be_off(chain, noise, capsys):
    shown(chain, noise(5, broken=[2]), [Everything(masks=(SKIN,))], batch_size=2, max_skipped=0.5)
    assert capsys.readouterr().err == ""
    shown(chain, noise(5, broken=[2]), [Everything(masks=(SKIN,))], batch_size=2, max_skipped=0.5, progress=True)
    assert "chain on noise" in (told := capsys.readouterr().err) and "5/5" in told


def test_half_precision_gives_float32_maps(chain, noise):
    full, half = (Everything(layers=("first",), attributions=(Attributed("second", 1),), outputs=True) for _ in range(2))
    shown(chain, noise(4), [full])
    shown(chain, noise(4), [half], autocast=torch.bfloat16)
    a, b = full.batches[0], half.batches[0]
    assert b.activations["first"].dtype == b.attributions[Attributed("second", 1)].dtype == torch.float32
    torch.testing.assert_close(a.activations["first"], b.activations["first"], rtol=0.05, atol=0.05)
    assert not torch.equal(a.activations["first"], b.activations["first"])
