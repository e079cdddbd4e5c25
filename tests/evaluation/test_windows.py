from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ragkit.errors import ConfigError
from ragkit.evaluation.windows import plan_windows


@st.composite
def plans(draw):
    num_tokens = draw(st.integers(0, 90))
    context_length = draw(st.integers(1, 40))
    stride = draw(st.integers(1, context_length))
    windows = plan_windows(num_tokens, context_length=context_length, stride=stride)
    return num_tokens, context_length, stride, list(windows)


@given(plans())
def test_every_token_but_the_first_is_scored_once(plan):
    num_tokens, _, _, windows = plan

    scored = [position for window in windows for position in range(window.first, window.stop)]

    assert scored == list(range(1, num_tokens))


@given(plans())
def test_a_window_reads_no_more_tokens_than_the_context_has(plan):
    _, context_length, _, windows = plan

    assert all(window.stop - 1 - window.start <= context_length for window in windows)


@given(plans())
def test_windows_advance_by_the_stride_and_score_something(plan):
    _, _, stride, windows = plan

    assert all(later.start - earlier.start == stride for earlier, later in pairwise(windows))
    assert all(window.first < window.stop for window in windows)


@given(plans())
def test_later_windows_have_the_context_that_the_stride_leaves(plan):
    _, context_length, stride, windows = plan

    assert all(window.first - window.start >= context_length - stride + 1 for window in windows[1:])


def test_a_document_that_fits_is_one_window():
    [window] = plan_windows(12, context_length=11, stride=3)

    assert (window.start, window.first, window.stop) == (0, 1, 12)


@pytest.mark.parametrize("stride", [0, 8])
def test_a_stride_that_leaves_tokens_out_is_refused(stride):
    with pytest.raises(ConfigError, match="stride must be between 1 and context_length"):
        list(plan_windows(20, context_length=7, stride=stride))


def test_a_context_of_no_token_is_refused():
    with pytest.raises(ConfigError, match="context_length must be 1 or more"):
        list(plan_windows(20, context_length=0, stride=1))
