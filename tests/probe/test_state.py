import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from facexkit.probe.state import Sum, TopK
from facexkit.probe.tail import Counts, Tail, lower_bits, place_of, settled

VALUES = st.sampled_from([-np.inf, -1.0, 0.0, 0.5, 0.5000001, 2.0])  # few, so that ties are common


@st.composite
def streams(draw):
    """Values (G, N), how many to keep, and a cut of the N rows into shuffled batches and two shards."""
    subjects, rows = draw(st.integers(1, 3)), draw(st.integers(1, 12))
    line = st.lists(VALUES, min_size=rows, max_size=rows)
    values = np.array(draw(st.lists(line, min_size=subjects, max_size=subjects)))
    order = draw(st.permutations(range(rows)))
    cuts = sorted(draw(st.lists(st.integers(0, rows), max_size=4)))
    return values, draw(st.integers(1, 5)), np.split(np.array(order), cuts)


def fed(values, k, batches):
    top = TopK(len(values), k)
    for rows in batches:
        top.take(values[:, rows], rows, lambda subjects, columns, rows=rows: np.stack([subjects, rows[columns]], -1))
    return top


def sorted_by_hand(values, k):
    """The k best (value, row) of each subject: larger value first, lower row first."""
    kept = []
    for line in values.tolist():
        best = sorted((-value, row) for row, value in enumerate(line) if value > -np.inf)[:k]
        kept.append([(-value, row) for value, row in best] + [(-np.inf, -1)] * (k - len(best)))
    return np.array(kept)


@given(streams())
def test_the_best_are_those_of_a_sort_for_any_batches_and_merges(stream):
    values, k, batches = stream
    expected = sorted_by_hand(values, k)
    whole = fed(values, k, batches)
    first, second = fed(values, k, batches[::2]), fed(values, k, batches[1::2])
    swapped, other = fed(values, k, batches[1::2]), fed(values, k, batches[::2])
    first.merge(second)
    swapped.merge(other)
    for top in (whole, first, swapped):
        np.testing.assert_array_equal(top.values, expected[..., 0])
        np.testing.assert_array_equal(top.rows, expected[..., 1])
        for subject, row in np.ndindex(*top.rows.shape):
            at = top.rows[subject, row]
            payload = [subject, at] if at >= 0 else [0, 0]
            assert top.payload[subject, row].tolist() == payload


def test_merging_with_one_that_saw_nothing_changes_nothing():
    values = np.array([[3.0, 1.0, 2.0]])
    top, empty = fed(values, 2, [np.arange(3)]), TopK(1, 2)
    top.merge(empty)
    empty.merge(top)
    assert top.rows.tolist() == empty.rows.tolist() == [[0, 2]]


@given(share=st.integers(1, 99), count=st.integers(1, 10**6))
def test_a_place_is_counted_in_the_decimals_that_people_write(share, count):
    assert place_of(share / 100, count) == share * count // 100  # int(0.29 * 100) is 28


NUMBERS = st.one_of(st.sampled_from([0.0, -0.0, 1.0]), st.floats(-2, 2, width=32), st.floats(1, 1.0078125, width=32))


@given(data=st.data(), share=st.sampled_from([0.01, 0.29, 0.5, 0.9]))
def test_leading_bits_then_lower_bits_find_the_value_that_a_sort_finds(data, share):
    size = data.draw(st.integers(1, 60))
    values = np.array(data.draw(st.lists(st.lists(NUMBERS, min_size=size, max_size=size), min_size=2, max_size=2)), np.float32)
    expected = -np.sort(-values, 1)[:, place_of(share, size)]
    total, lower = Tail(share), Counts()
    for part in np.array_split(values, data.draw(st.integers(1, 5)), axis=1):
        shard = total.fresh()
        shard.begin(2, size + 3)  # some will not come
        for batch in np.array_split(part, data.draw(st.integers(1, 3)), axis=1):
            unit, place = np.nonzero(batch > shard.floor[:, None])
            shard.take(unit, batch[unit, place], batch.shape[1])
        again = total.fresh()
        again.load(shard.arrays())
        total.merge(again)
        assert (total.floor <= expected).all()
    found = total.found()
    unit, place = np.nonzero(values > -np.inf)
    lower.take(lower_bits(unit, values[unit, place], *found[:2]))
    np.testing.assert_array_equal(settled(lower, *found), expected)


def test_a_sum_of_floating_point_numbers_is_refused():
    with pytest.raises(TypeError, match="one of integers"):
        Sum().take(np.ones(3))
