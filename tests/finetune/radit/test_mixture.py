from collections import Counter
from fractions import Fraction

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ragkit.errors import ConfigError
from ragkit.finetune.radit.mixture import MixturePart, mix

sizes = st.lists(st.integers(1, 40), min_size=1, max_size=5)


def parts_of(lengths, shares=None):
    shares = shares or [None] * len(lengths)
    return [
        MixturePart(f"set{i}", [(i, j) for j in range(length)], share)
        for i, (length, share) in enumerate(zip(lengths, shares, strict=True))
    ]


def test_the_mixture_of_the_paper_has_its_shares_and_its_cap():
    parts = [
        MixturePart("text", range(0, 3_000), 0.10),
        MixturePart("oasst1", range(3_000, 5_000), 0.05),
        MixturePart("large", range(5_000, 105_000)),
        MixturePart("small", range(105_000, 107_500)),
    ]

    mixture = mix(parts, seed=3)

    # The capped sets count for 7,500 + 2,500 examples, which are 85 %.
    assert [count.num_drawn for count in mixture.counts] == [1176, 588, 7500, 2500]
    assert [count.num_repeated for count in mixture.counts] == [0, 0, 0, 0]
    assert len(set(mixture.examples)) == len(mixture.examples) == 11_764


def test_corpus_and_task_examples_mix_nineteen_to_one():
    parts = parts_of([1000, 100], [0.95, 0.05])

    mixture = mix(parts, seed=0, num_examples=200)

    assert Counter(part for part, _ in mixture.examples) == {0: 190, 1: 10}


@given(lengths=sizes, total=st.integers(1, 150), cap=st.integers(1, 50) | st.none())
def test_counts_are_exact_and_examples_come_again_only_when_all_have_come(lengths, total, cap):
    mixture = mix(parts_of(lengths), seed=5, num_examples=total, cap=cap)

    weights = [min(length, cap or length) for length in lengths]
    drawn = Counter(part for part, _ in mixture.examples)
    assert len(mixture.examples) == total
    for count, i in zip(mixture.counts, range(len(lengths)), strict=True):
        assert count.num_drawn == drawn[i]
        assert abs(drawn[i] - Fraction(total * weights[i], sum(weights))) < 1
        times = Counter(j for part, j in mixture.examples if part == i)
        assert max(times.values(), default=0) - min(times.values(), default=0) <= 1
        assert count.num_repeated == sum(number - 1 for number in times.values())


@given(lengths=sizes)
def test_the_largest_mixture_without_a_size_uses_every_set_up_and_repeats_nothing(lengths):
    mixture = mix(parts_of(lengths), seed=1, cap=None)

    assert sorted(mixture.examples) == [(i, j) for i, n in enumerate(lengths) for j in range(n)]


@given(seed=st.integers(0, 9))
def test_equal_seeds_give_equal_mixtures_and_others_do_not(seed):
    parts = parts_of([30, 20])

    examples = mix(parts, seed=seed, num_examples=25).examples

    assert examples == mix(parts, seed=seed, num_examples=25).examples
    assert examples != mix(parts, seed=seed + 10, num_examples=25).examples


def test_what_a_set_gives_does_not_depend_on_the_others():
    alone = mix(parts_of([30, 20], [0.5, 0.5]), seed=2, num_examples=10)
    beside = mix(parts_of([30, 7, 9], [0.5, 0.3, 0.2]), seed=2, num_examples=10)

    given_alone = {example for example in alone.examples if example[0] == 0}
    assert given_alone == {example for example in beside.examples if example[0] == 0}


@pytest.mark.parametrize(
    ("lengths", "shares", "arguments", "hint"),
    [
        ([], [], {}, "needs sets"),
        ([3, 0], [None, None], {}, "no examples in set1"),
        ([3, 4], [0.5, 0.4], {}, "add up to 0.9"),
        ([3, 4], [1.0, None], {}, "add up to 1"),
        ([3, 4], [0.7, 0.4], {}, "add up to 1.1"),
        ([3, 4], [-0.5, None], {}, "above 0"),
        ([3, 4], [0.5, None], {"num_examples": 0}, "1 or more"),
        ([3, 4], [0.5, None], {"cap": 0}, "1 or more"),
    ],
)
def test_shares_that_cannot_be_are_refused(lengths, shares, arguments, hint):
    with pytest.raises(ConfigError, match=hint):
        mix(parts_of(lengths, shares), seed=0, **arguments)


def test_two_sets_of_one_name_are_refused():
    with pytest.raises(ConfigError, match="different names"):
        mix([MixturePart("a", [1]), MixturePart("a", [2])], seed=0)
