import numpy as np
import pytest
from pydantic import ValidationError

from mrl_bench.keyed_random import uniforms
from mrl_bench.scenario.distributions import Bell, Choice, Fixed, LogUniform, Normal, Ranges, Uniform

ALL = [
    Fixed(9.8),
    Uniform((7.0, 12.0)),
    Ranges(((1.0, 5.0), (15.0, 20.0))),
    LogUniform((0.05, 5.0)),
    Normal(Bell(1.0, 0.5, 0.2, 1.5)),
    Choice((-1.0, 1.0, 4.0)),
]


def name_of(distribution):
    return type(distribution).__name__


def at(distribution, *u):
    return distribution.from_uniform(np.array(u)).tolist()


def test_quantiles_are_the_known_ones():
    assert at(Fixed(9.8), 0.1, 0.9) == [9.8, 9.8]
    assert at(Uniform((7.0, 12.0)), 0.2, 0.5) == [8.0, 9.5]
    assert at(Ranges(((1.0, 5.0), (15.0, 20.0))), 1 / 9, 3 / 9, 5 / 9, 8 / 9) == pytest.approx([2, 4, 16, 19])
    assert at(LogUniform((0.01, 100.0)), 0.25, 0.5) == pytest.approx([0.1, 1.0], rel=1e-6)
    assert at(Choice((-1.0, 1.0, 4.0)), 0.3, 0.34, 0.6, 0.7) == [-1, 1, 1, 4]


def test_a_normal_has_the_known_quantiles():
    wide = Normal(Bell(10.0, 2.0, -90.0, 110.0))
    assert at(wide, 0.5, 0.975, 0.025) == pytest.approx([10, 10 + 2 * 1.959964, 10 - 2 * 1.959964], rel=1e-6)
    # The upper half of a normal: its median is the third quartile of the whole.
    half = Normal(Bell(0.0, 1.0, 0.0, 50.0))
    assert at(half, 0.5) == pytest.approx([0.6744898], rel=1e-6)


@pytest.mark.parametrize("distribution", ALL, ids=name_of)
def test_draws_ascend_within_the_parts_and_fill_the_support(distribution):
    u = np.array([0.5 * 2.0**-53, *np.linspace(0.001, 0.999, 999), 1 - 2.0**-53])
    values = distribution.from_uniform(u)
    assert (np.diff(values) >= 0).all()
    inside = [(low <= values) & (values <= high) for low, high in distribution.parts.values()]
    assert np.any(inside, axis=0).all()
    assert [values[0], values[-1]] == pytest.approx(distribution.support)


@pytest.mark.parametrize("distribution", ALL, ids=name_of)
def test_values_do_not_depend_on_the_shape(distribution):
    u = uniforms(("shape",), 4, 3)
    np.testing.assert_array_equal(
        distribution.from_uniform(u), distribution.from_uniform(u.ravel()).reshape(4, 3)
    )
    assert distribution.from_uniform(u[:0]).shape == (0, 3)


@pytest.mark.parametrize("distribution", ALL[1:], ids=name_of)
def test_to_unit_maps_the_support_to_minus_one_and_one(distribution):
    low, high = distribution.support
    assert distribution.to_unit(np.array([low, high])) == pytest.approx([-1.0, 1.0])
    assert distribution.to_unit(np.array([high + 1.0]))[0] > 1.0


def test_to_unit_of_a_fixed_value_is_zero():
    assert Fixed(3.0).to_unit(np.array([3.0, 99.0])).tolist() == [0.0, 0.0]


def test_to_unit_follows_the_logarithm():
    assert LogUniform((0.01, 100.0)).to_unit(np.array([1.0, 1e4, 0.0])) == pytest.approx([0.0, 2.0, -3.0])


@pytest.mark.parametrize("distribution", ALL, ids=name_of)
def test_known_values_are_all_that_is_drawn(distribution):
    drawn = set(distribution.from_uniform(uniforms(("values",), 500)).tolist())
    if distribution.values is None:
        assert len(drawn) > 400
    else:
        assert drawn == set(distribution.values)


def test_overlap_means_a_common_draw():
    train = Uniform((5.0, 15.0))
    assert train.overlaps(Uniform((14.0, 20.0)))
    assert train.overlaps(Normal(Bell(0.0, 5.0, 0.0, 5.1)))
    assert Choice((-1.0, 1.0)).overlaps(Fixed(1.0))
    assert not train.overlaps(Uniform((15.0, 20.0)))  # they touch in one point
    assert not train.overlaps(Ranges(((1.0, 5.0), (15.0, 20.0))))
    assert train.overlaps(Fixed(10.0))  # inside what training covers
    assert not train.overlaps(Fixed(15.0))
    assert not Choice((-1.0, 1.0)).overlaps(Choice((0.0, 2.0)))


def test_the_last_bit_of_another_machines_exp_makes_no_other_task():
    distribution = LogUniform((0.05, 5.0))
    u = uniforms(("portable",), 1000)
    nudged = distribution.from_uniform(u * (1 + 2e-16))
    np.testing.assert_array_equal(distribution.from_uniform(u), nudged)


@pytest.mark.parametrize(
    "make",
    [
        lambda: Uniform((2.0, 1.0)),
        lambda: Uniform((1.0, 1.0)),
        lambda: Ranges(((1.0, 5.0), (4.0, 6.0))),
        lambda: Ranges(((1.0, 5.0),)),
        lambda: LogUniform((0.0, 1.0)),
        lambda: Normal(Bell(0.0, 1.0, 5.0, 6.0)),
        lambda: Choice((1.0,)),
        lambda: Choice((1.0, 2.0, 1.0)),
    ],
)
def test_nonsense_is_refused(make):
    with pytest.raises(ValidationError):
        make()


@pytest.mark.parametrize(
    ("one", "other", "overlap"),
    [
        (Choice((1.0, 2.0)), Choice((2.0, 3.0)), True),
        (Choice((1.0, 2.0)), Choice((3.0, 4.0)), False),
        (Uniform((0.0, 2.0)), Choice((1.0, 3.0)), True),
        (Uniform((0.0, 2.0)), Choice((0.0, 2.0)), False),
        (Ranges(((0.0, 1.0), (2.0, 3.0))), Choice((1.0, 1.5, 2.0)), False),
        (Ranges(((0.0, 1.0), (2.0, 3.0))), Choice((1.0, 1.5, 2.5)), True),
        (Uniform((0.0, 2.0)), Uniform((2.0, 3.0)), False),
        (Uniform((0.0, 2.0)), Ranges(((-1.0, 0.0), (1.0, 3.0))), True),
        (Choice(tuple(map(float, range(20_000)))), Choice(tuple(map(float, range(-20_000, 0)))), False),
    ],
)
def test_supports_overlap_if_they_share_an_interval_or_a_value_or_one_lies_inside_the_other(
    one, other, overlap
):
    assert one.overlaps(other) is other.overlaps(one) is overlap


def around(low, high):
    """A distribution of each kind from `low` to `high`, with values between them but for a choice and a constant."""
    third = (high - low) / 3
    return [
        Uniform((low, high)),
        Ranges(((low, low + third), (high - third, high))),
        LogUniform((low, high)),
        Normal(Bell((low + high) / 2, 1.0, low, high)),
    ]


@pytest.mark.parametrize("train", around(7.0, 12.0), ids=name_of)
@pytest.mark.parametrize("value", [Fixed, lambda value: Choice((value, 99.0))], ids=["fixed", "choice"])
def test_a_value_inside_a_training_interval_overlaps_and_one_at_its_end_or_outside_does_not(train, value):
    assert all(value(inside).overlaps(train) for inside in (7.0001, 8.0, 11.9))
    assert not any(value(outside).overlaps(train) for outside in (-9.5, 6.9, 7.0, 12.0, 12.1))


@pytest.mark.parametrize("train", around(7.0, 12.0), ids=name_of)
@pytest.mark.parametrize("index", range(4))
def test_an_interval_that_reaches_into_training_overlaps_and_one_that_touches_it_does_not(train, index):
    assert all(around(low, high)[index].overlaps(train) for low, high in ((8, 8.5), (6, 7.5), (11.5, 13)))
    assert not any(around(low, high)[index].overlaps(train) for low, high in ((5, 7), (12, 14), (20, 30)))
