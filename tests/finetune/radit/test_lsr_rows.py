import numpy as np
import pytest

from ragkit.errors import DataError, ShapeError
from ragkit.finetune.radit.lsr_rows import LsrRows, make_rows


def rows_of(count, k=3, *, seed=0, name="q"):
    rng = np.random.default_rng(seed)
    sums = -rng.gamma(2.0, 1.0, (count, k))
    rows = rng.integers(0, 50, (count, k))
    return make_rows([f"{name}{i}" for i in range(count)], rows, sums, np.full((count, k), 4))


def test_a_line_holds_what_belongs_to_one_query():
    rows = rows_of(5)

    line = rows[3]

    assert len(rows) == 5
    assert line.query == "q3"
    for found, whole in zip(line[1:], rows.arrays, strict=True):
        np.testing.assert_array_equal(found, whole[3])


def test_scores_of_the_lm_stand_beside_the_targets():
    sums, tokens = np.array([[-2.0, -8.0, -np.inf]]), np.array([[4, 4, 0]])

    rows = make_rows(["q"], np.array([[5, 2, -1]]), sums, tokens, temperature=0.1)

    np.testing.assert_allclose(rows.lm_scores, [[np.exp(-0.5), np.exp(-2), -np.inf]], rtol=1e-6)
    gap = (np.exp(-0.5) - np.exp(-2)) / 0.1
    assert rows.log_targets[0, 0] - rows.log_targets[0, 1] == pytest.approx(gap, rel=1e-6)
    assert np.isneginf(rows.log_targets[0, 2])


def test_parts_of_different_sizes_are_refused():
    rows = rows_of(5)

    with pytest.raises(ShapeError, match="take all from the same scores"):
        LsrRows(rows.queries[:4], *rows.arrays)
    with pytest.raises(ShapeError, match="take all from the same scores"):
        LsrRows(rows.queries, rows.rows[:, :2], rows.log_targets, rows.lm_scores)


def test_an_empty_slot_with_a_target_is_refused():
    rows = rows_of(5)

    with pytest.raises(DataError, match="give -inf where the row is -1"):
        LsrRows(rows.queries, rows.rows - 99, rows.log_targets, rows.lm_scores)


def test_lines_with_fewer_than_two_passages_teach_nothing():
    rows = rows_of(4)
    for line, count in enumerate([3, 1, 2, 1]):
        for part, filling in zip(rows.arrays, (-1, -np.inf, -np.inf), strict=True):
            part[line, count:] = filling

    assert rows.teaching().queries == ["q0", "q2"]


@pytest.mark.parametrize("part", ["queries", "rows", "log_targets", "lm_scores"])
def test_a_change_of_any_part_changes_the_fingerprint(part):
    rows, other = rows_of(5), rows_of(5)
    assert rows.fingerprint() == other.fingerprint()

    if part == "queries":
        other.queries[4] += "?"
    else:
        getattr(other, part)[4, 2] += 1

    assert rows.fingerprint() != other.fingerprint()
