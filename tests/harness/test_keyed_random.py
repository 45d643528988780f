import numpy as np
import pytest

from mrl_bench.keyed_random import seed_of, uniforms

KEY = ("reset", 7)


def test_a_longer_axis_begins_with_the_values_of_a_shorter_one():
    small, large = uniforms(KEY, 5, 3), uniforms(KEY, 9, 7)
    assert small.shape == (5, 3)
    np.testing.assert_array_equal(small, large[:5, :3])


def test_indices_give_the_same_values_as_the_whole_axis():
    np.testing.assert_array_equal(uniforms(KEY, [6, 2], range(1, 4)), uniforms(KEY, 9, 7)[[6, 2], 1:4])
    np.testing.assert_array_equal(uniforms(KEY, np.array([8]), 7), uniforms(KEY, 9, 7)[8:])


def test_an_empty_axis_gives_no_values():
    assert uniforms(KEY, 0).shape == (0,)
    assert uniforms(KEY, 3, []).shape == (3, 0)


# Not equality: the last bit is not worth a new set of tasks, and everything above it is.
def test_values_are_those_of_the_first_release():
    expected = [
        [0.9452074255320064, 0.37025446351403063],
        [0.7143050062019483, 0.6186146752948123],
        [0.8316705929882453, 0.5780480963164993],
    ]
    assert uniforms(KEY, 3, 2) == pytest.approx(np.array(expected), abs=1e-15)
    far = [0.4791021467187963, 0.23632857512919475, 0.4606723552271908]
    assert uniforms(("a",), [0, 2**40, 2**62]) == pytest.approx(np.array(far), abs=1e-15)
    assert seed_of("reset", 7) == 3659970182084631444
    assert seed_of("train", "noise", "x", 0) == 1575220592439858833


@pytest.mark.parametrize("other", [("reset", 8), ("reset", "7"), ("reset7",), ("rese", "t", 7), (7, "reset")])
def test_another_key_is_another_stream(other):
    assert not np.isclose(uniforms(KEY, 50), uniforms(other, 50), atol=1e-6).any()


def test_seeds_fit_in_63_bits():
    seeds = [seed_of("seed", i) for i in range(1000)]
    assert all(0 <= seed < 2**63 for seed in seeds)
    assert len(set(seeds)) == len(seeds)
    assert max(seeds) > 2**62  # all bits are used


@pytest.mark.parametrize("axes", [(100_000,), (1000, 100), (10, 100, 100), (range(2**40, 2**40 + 100_000),)])
def test_draws_are_uniform(axes):
    u = np.sort(uniforms(("uniform", 1), *axes), axis=None)
    assert u[0] > 0.0
    assert u[-1] < 1.0
    assert len(np.unique(u)) == len(u)
    distance = np.abs(u - (np.arange(len(u)) + 0.5) / len(u)).max()
    assert distance < 2.0 / np.sqrt(len(u))  # Kolmogorov-Smirnov: exceeded by chance once in 1,500


def test_neighbours_are_independent_along_every_axis_and_between_keys():
    a, b = uniforms(("pairs", 0), 300, 300), uniforms(("pairs", 1), 300, 300)
    for x, y in [(a[1:], a[:-1]), (a[:, 1:], a[:, :-1]), (a, a.T), (a, b)]:
        off = x != y  # the diagonal of a and its transpose
        assert abs(np.corrcoef(x[off], y[off])[0, 1]) < 4 / np.sqrt(x.size)


def test_every_bit_is_balanced():
    bits = (uniforms(("bits",), 20_000)[:, None] * 2.0 ** np.arange(1, 49)).astype(
        np.int64
    ) & 1  # (20000, 48)
    assert np.abs(bits.mean(0) - 0.5).max() < 4.5 * 0.5 / np.sqrt(20_000)
