import numpy as np
import pytest

from ragkit.errors import ConfigError, DataError, ShapeError
from ragkit.finetune.radit.lsr_rows import LsrRows, join_rows, make_rows, mix_rows


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


def test_joined_lines_are_filled_up():
    joined = join_rows([rows_of(2, k=3), rows_of(3, k=5, name="p")])

    assert joined.queries == ["q0", "q1", "p0", "p1", "p2"]
    assert (joined.rows[:2, 3:] == -1).all()
    assert np.isneginf(joined.log_targets[:2, 3:]).all()
    assert np.isneginf(joined.lm_scores[:2, 3:]).all()
    assert (joined.rows[2:] >= 0).all()
    with pytest.raises(ConfigError, match="give at least one part"):
        join_rows([])


def test_sets_are_mixed_by_their_shares():
    parts = {"corpus": rows_of(190, name="c"), "tasks": rows_of(30, name="t")}

    mixed = mix_rows(parts, {"tasks": 0.05}, seed=3)

    from_tasks = [query for query in mixed.queries if query[0] == "t"]
    assert (len(mixed), len(from_tasks), len(set(mixed.queries))) == (200, 10, 200)
    for place in range(len(mixed)):
        name, number = mixed.queries[place][0], int(mixed.queries[place][1:])
        source = parts["tasks" if name == "t" else "corpus"]
        np.testing.assert_array_equal(mixed.rows[place], source.rows[number])
    assert mix_rows(parts, {"tasks": 0.05}, seed=3).queries == mixed.queries
    assert mix_rows(parts, {"tasks": 0.05}, seed=4).queries != mixed.queries


def test_a_share_of_an_unknown_set_is_refused():
    with pytest.raises(ConfigError, match=r"unknown sets \['task'\]: there are \['tasks'\]"):
        mix_rows({"tasks": rows_of(5)}, {"task": 1.0}, seed=0)


@pytest.mark.parametrize("part", ["queries", "rows", "log_targets", "lm_scores"])
def test_a_change_of_any_part_changes_the_fingerprint(part):
    rows, other = rows_of(5), rows_of(5)
    assert rows.fingerprint() == other.fingerprint()

    if part == "queries":
        other.queries[4] += "?"
    else:
        getattr(other, part)[4, 2] += 1

    assert rows.fingerprint() != other.fingerprint()
