import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from ragkit.data.best_fit import best_fit_rows
from ragkit.data.packing import pack_documents
from ragkit.errors import ConfigError

MODES = st.sampled_from(["stream", "bestfit"])
CONTEXT_LENGTHS = st.integers(2, 23)
DOCUMENTS = st.lists(st.integers(0, 61), min_size=1, max_size=60).filter(any)


def offsets_of(lengths):
    return np.concatenate([[0], np.cumsum(lengths, dtype=np.int64)])


def rows_of(plan):
    """The positions in the array of all tokens that each row holds."""
    rows = []
    for first, last in zip(plan.row_offsets[:-1], plan.row_offsets[1:], strict=True):
        spans = zip(plan.starts[first:last], plan.lengths[first:last], strict=True)
        rows.append(np.concatenate([np.arange(start, start + size) for start, size in spans]))
    return rows


def naive_best_fit(lengths, context_length):
    """Best-fit decreasing as its definition reads: every row is looked at for every piece."""
    rooms, changed, rows = [], [], {}
    for time, piece in enumerate(sorted(range(len(lengths)), key=lambda i: -lengths[i])):
        fitting = [row for row, room in enumerate(rooms) if room >= lengths[piece]]
        if not fitting:
            fitting = [len(rooms)]
            rooms.append(context_length)
            changed.append(time)
        row = min(fitting, key=lambda row: (rooms[row], changed[row]))
        rooms[row] -= lengths[piece]
        changed[row] = time
        rows[piece] = row
    return [rows[piece] for piece in range(len(lengths))]


@given(
    lengths=DOCUMENTS,
    context_length=CONTEXT_LENGTHS,
    mode=MODES,
    seed=st.none() | st.integers(0, 5),
)
def test_each_token_is_in_one_row_and_documents_stay_in_order(lengths, context_length, mode, seed):
    plan = pack_documents(offsets_of(lengths), context_length=context_length, mode=mode, seed=seed)

    rows = rows_of(plan)

    assert sorted(np.concatenate(rows)) == list(range(sum(lengths)))
    assert all(len(row) <= context_length and (np.diff(row) > 0).all() for row in rows)
    assert len(rows) == len(plan) == plan.report.num_rows


@given(lengths=DOCUMENTS, context_length=CONTEXT_LENGTHS)
def test_concatenation_cuts_the_joined_documents_at_equal_distances(lengths, context_length):
    plan = pack_documents(offsets_of(lengths), context_length=context_length, mode="stream")

    rows = rows_of(plan)

    assert np.concatenate(rows).tolist() == list(range(sum(lengths)))
    assert {len(row) for row in rows[:-1]} <= {context_length}


@given(
    lengths=st.lists(st.integers(1, 17), min_size=1, max_size=90),
    context_length=st.integers(17, 40),
)
def test_grouped_best_fit_places_each_piece_where_the_naive_search_does(lengths, context_length):
    rows = best_fit_rows(np.array(lengths), context_length=context_length)

    assert rows.tolist() == naive_best_fit(lengths, context_length)


@given(lengths=DOCUMENTS, context_length=CONTEXT_LENGTHS)
def test_best_fit_truncates_only_what_is_longer_than_a_row(lengths, context_length):
    plans = {
        mode: pack_documents(offsets_of(lengths), context_length=context_length, mode=mode).report
        for mode in ("stream", "bestfit")
    }

    too_long = sum(length > context_length for length in lengths)
    assert plans["bestfit"].truncated_documents == too_long
    assert plans["stream"].truncated_documents >= too_long
    # At most one row is half empty, else two would have been one.
    assert plans["bestfit"].num_rows <= 2 * sum(lengths) / context_length + 1


def test_best_fit_truncates_fewer_documents_than_concatenation():
    offsets = offsets_of([5, 7, 3, 5])

    stream = pack_documents(offsets, context_length=10, mode="stream")
    bestfit = pack_documents(offsets, context_length=10, mode="bestfit")

    assert stream.report.truncated_documents == 1
    assert bestfit.report.truncated_documents == 0
    assert len(stream) == len(bestfit) == 2


def test_many_documents_fill_rows_almost_wholly():
    lengths = np.random.default_rng(3).lognormal(4, 1, 20_000).astype(np.int64) + 1

    report = pack_documents(offsets_of(lengths), context_length=512).report

    assert report.num_rows <= 1.001 * lengths.sum() / 512 + 1
    assert report.padding_share == 1 - lengths.sum() / (512 * report.num_rows)


def test_report_counts_documents_with_tokens():
    report = pack_documents(offsets_of([4, 0, 9, 2]), context_length=6).report

    assert (report.num_documents, report.truncated_documents) == (3, 1)
    assert (report.num_tokens, report.num_rows) == (15, 3)


def test_documents_are_packed_in_the_order_given():
    plan = pack_documents(
        offsets_of([2, 3, 4, 5]), context_length=6, mode="stream", documents=np.array([3, 0, 2])
    )

    assert [row.tolist() for row in rows_of(plan)] == [[9, 10, 11, 12, 13, 0], [1, 5, 6, 7, 8]]


def test_best_fit_rows_stand_in_the_order_of_their_first_document():
    plan = pack_documents(offsets_of([2, 6, 3, 4]), context_length=6)

    assert [row.tolist() for row in rows_of(plan)] == [
        [0, 1, 11, 12, 13, 14],
        [2, 3, 4, 5, 6, 7],
        [8, 9, 10],
    ]


def test_seed_shuffles_rows_and_nothing_within_them():
    offsets = offsets_of(np.arange(1, 40))

    plain, shuffled, again, other = (
        [row.tolist() for row in rows_of(pack_documents(offsets, context_length=13, seed=seed))]
        for seed in (None, 7, 7, 8)
    )

    assert shuffled == again
    assert shuffled not in (plain, other)
    assert sorted(shuffled) == sorted(plain)


@pytest.mark.parametrize(
    ("arguments", "hint"),
    [
        ({"context_length": 1}, "give the model's context"),
        ({"context_length": 8, "mode": "greedy"}, "choose one of them"),
        ({"context_length": 8, "documents": np.array([0, 3])}, "an order of the documents"),
        ({"context_length": 8, "documents": np.array([1])}, "give documents that are not empty"),
    ],
)
def test_arguments_that_make_no_sense_are_refused(arguments, hint):
    with pytest.raises(ConfigError, match=hint):
        pack_documents(offsets_of([5, 0, 7]), **arguments)
