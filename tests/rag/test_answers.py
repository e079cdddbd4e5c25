"""Which passages an answer rests on, and how much each counts."""

import math
from collections import Counter
from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ragkit.errors import ConfigError
from ragkit.rag.answers import weigh_passages
from tests.rag.searching import FOUND, HEAT, WIND, WING, Found

SCORES = st.integers(-80, 80).map(lambda number: number / 8)  # exact, also 300 higher


def weigh(found, *, temperature=0.5, **settings):
    return weigh_passages(found, temperature=temperature, counts=Counter(), **settings)


def passages_of(scores):
    return [
        Found(id=f"p{number}", text=f"text {number}", score=score)
        for number, score in enumerate(scores)
    ]


@given(scores=st.lists(SCORES, min_size=1, max_size=7), data=st.data())
def test_the_order_of_the_hits_does_not_matter(scores, data):
    found = passages_of(scores)
    shuffled = data.draw(st.permutations(found))

    assert weigh(shuffled) == weigh(found)


@given(scores=st.lists(SCORES, min_size=1, max_size=7))
def test_a_score_300_higher_for_all_changes_no_weight(scores):
    raised = weigh(passages_of([score + 300 for score in scores]))

    assert [one.log_weight for one in raised] == [
        one.log_weight for one in weigh(passages_of(scores))
    ]


@given(scores=st.lists(st.floats(-500, 500), min_size=1, max_size=7))
def test_weights_sum_to_one_and_fall(scores):
    weights = [one.weight for one in weigh(passages_of(scores))]

    assert math.isclose(sum(weights), 1)
    assert all(one >= other for one, other in pairwise(weights))


def test_ties_go_by_id():
    found = [Found("b", "x", 1.0), Found("a", "y", 1.0), Found("c", "z", 2.0)]

    assert [one.id for one in weigh(found)] == ["c", "a", "b"]


def test_of_equal_texts_the_better_counts_once():
    counts = Counter()
    copy = Found("z#9", f" {WING.text}\n", 0.7)

    kept = weigh_passages([copy, *FOUND], temperature=0.5, counts=counts)

    assert kept == weigh(FOUND)
    assert counts == {"duplicates": 1}


def test_blank_and_badly_matching_passages_are_left_out_and_counted():
    counts = Counter()
    blank = Found("z#9", " \n", 0.9)

    kept = weigh_passages([blank, *FOUND], temperature=0.5, min_score=0.6, counts=counts)

    assert [one.id for one in kept] == [WING.id, HEAT.id]
    assert counts == {"blank": 1, "below_min_score": 1}


def test_nothing_found_is_nothing_cited():
    assert weigh([]) == ()


def test_a_passage_knows_its_weight_as_json():
    [first, second] = weigh([WIND, HEAT])

    assert first.as_dict() == {
        "id": "b#0",
        "doc_id": "doc",
        "score": 0.66,
        "weight": first.weight,
        "title": "",
        "text": "the heat of the shock",
    }
    assert math.isclose(first.weight / second.weight, math.exp((0.66 - 0.52) / 0.5))


def test_a_score_that_is_no_number_is_refused():
    with pytest.raises(ConfigError, match="give finite scores"):
        weigh([Found("a", "x", math.nan)])
