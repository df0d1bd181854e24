import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy import stats

from facexkit.measure.bootstrap import ratio_interval


def slow_interval(numerator, denominator, seed, replicates):
    rng = np.random.default_rng(seed)
    n = len(numerator)
    ratios = []
    for _ in range(replicates):
        drawn = rng.integers(0, n, n)
        above = below = 0.0
        for image in drawn:
            above, below = above + numerator[image], below + denominator[image]
        if below > 0:
            ratios.append(above / below)
    few = np.sum(denominator > 0)
    tail = stats.norm.cdf(stats.t(few - 1).ppf(0.025) * np.sqrt(few / (few - 1))) if ratios else None
    return np.quantile(ratios, [tail, 1 - tail]) if ratios else [np.nan, np.nan]


def test_the_interval_is_that_of_a_loop_over_drawn_images():
    rng = np.random.default_rng(1)
    has = rng.random((15, 4)) < [1, 0.5, 0, 0]
    has[[4, 9], 2] = True
    share = np.where(has, rng.random((15, 4)), 0)
    low, high = ratio_interval(share, has.astype(float), seed=7, replicates=60)
    for column in range(4):
        expected = slow_interval(share[:, column], has[:, column], 7, 60)
        np.testing.assert_allclose([low[column], high[column]], expected)
    assert np.isnan(ratio_interval(share[:, 3:], share[:, 3:])).all()
    assert np.isnan(low[3]) and not np.isnan(low[:3]).any()


def test_one_denominator_serves_all_columns():
    rng = np.random.default_rng(2)
    parts, whole = rng.normal(size=(9, 3)), rng.random((9, 1)) + 0.1
    low, high = ratio_interval(parts, whole, replicates=40)
    for column in range(3):
        alone = ratio_interval(parts[:, [column]], whole, replicates=40)
        np.testing.assert_allclose([low[column], high[column]], np.ravel(alone))


@given(st.lists(st.floats(0, 1), min_size=2, max_size=30), st.integers(0, 9))
def test_it_lies_within_the_values_and_is_none_of_a_constant(values, seed):
    column = np.array(values)[:, None]
    low, high = ratio_interval(column, np.ones_like(column), seed, replicates=50)
    assert np.isnan(low[0]) and np.isnan(high[0]) or min(values) - 1e-12 <= low[0] < high[0] <= max(values) + 1e-12
    assert np.isnan(ratio_interval(np.full((5, 1), values[0]), np.ones((5, 1)), seed, replicates=50)).all()


@pytest.mark.parametrize("images", [7, 13, 60])
def test_it_covers_the_truth_about_as_often_as_it_says(images):
    rng = np.random.default_rng(0)
    low, high = ratio_interval(rng.beta(2, 5, (images, 600)), np.ones((images, 1)), replicates=400)
    assert np.mean((low <= 2 / 7) & (high >= 2 / 7)) == pytest.approx(0.95, abs=0.025)


def test_a_seed_fixes_it():
    column = np.random.default_rng(0).random((20, 1))
    one, same, other = (ratio_interval(column, np.ones_like(column), seed) for seed in (1, 1, 2))
    assert one == same and one != other
