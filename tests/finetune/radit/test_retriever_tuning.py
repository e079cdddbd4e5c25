import shutil

import numpy as np
import pytest
import torch
from safetensors.torch import load_file

from ragkit.encoders import load_encoder
from ragkit.encoders.query_tower import load_query_tower
from ragkit.errors import ConfigError, DataError, IndexStateError, ModelMismatchError
from ragkit.retrieval.retriever import Retriever
from ragkit.testing import write_tiny_encoder
from tests.finetune.radit.lsr_tiny import (
    found_rows,
    queries,
    scored_rows,
    tune,
    tuning_options,
    write_index,
)
from tests.training.tiny import lines_of


@pytest.fixture(scope="module")
def index(tmp_path_factory):
    return write_index(tmp_path_factory.mktemp("built"), prompts={"query": "query: "})


def bytes_below(folder):
    return {path: path.read_bytes() for path in sorted(folder.rglob("*")) if path.is_file()}


def mean_reciprocal_rank(found, rows):
    """Of the passage with the largest target among the rows that a search found."""
    best = rows.rows[np.arange(len(rows)), rows.log_targets.argmax(1)]
    ranks = [list(places).index(row) + 1 for places, row in zip(found, best, strict=True)]
    return np.mean(1 / np.array(ranks))


def test_one_step_moves_the_query_tower_and_nothing_else(index, tmp_path):
    before = bytes_below(index.path.parent)
    start = dict(load_query_tower(str(index.path.parent / "model")).named_parameters())

    report = tune(index, tmp_path / "run", options=tuning_options(max_steps=1))

    assert bytes_below(index.path.parent) == before
    assert report.training.finished
    trained = [
        (name, weight)
        for name, weight in load_query_tower(str(report.encoder)).named_parameters()
        if weight.requires_grad
    ]
    assert all("pooler" in name for name in start.keys() - dict(trained).keys())
    for name, weight in trained:
        assert not torch.equal(weight, start[name]), name


@pytest.mark.parametrize("direction", ["reverse", "forward"])
def test_what_the_lm_likes_comes_first_after_tuning(index, tmp_path, direction):
    rows = scored_rows(index)
    options = tuning_options(
        max_steps=40,
        eval_steps=10,
        learning_rate=3e-4,
        per_device_train_batch_size=13,
        direction=direction,
    )

    report = tune(index, tmp_path / "run", rows=rows, held_out=rows, options=options)

    before, after = report.before, report.after
    assert after["candidate_mrr"] > before["candidate_mrr"] + 0.2
    assert after["top_1_lm_score"] > before["top_1_lm_score"]
    assert after["mrr"] > before["mrr"]
    tuned = Retriever.open(index.path, query_encoder=str(report.encoder), device="cpu")
    found = [[hit.row for hit in hits] for hits in tuned.search_batch(rows.queries, len(index))]
    assert mean_reciprocal_rank(found, rows) == pytest.approx(after["mrr"], abs=1e-9)
    assert report.training.selection == after


def test_reversing_the_lm_scores_turns_the_tower_the_other_way(index, tmp_path):
    # Equal retriever scores: every gradient is that of a softmax at its middle.
    options = tuning_options(max_steps=1, retriever_temperature=1e6, max_grad_norm=0.0)
    moves = []
    for name, sign in (("up", 1), ("down", -1)):
        rows = scored_rows(index, liked=lambda rows, sign=sign: sign * (5 * rows % 29))
        report = tune(index, tmp_path / name, rows=rows, options=options)
        tuned = load_file(report.encoder / "model.safetensors")
        start = load_file(index.path.parent / "model" / "model.safetensors")
        moves.append(torch.cat([(tuned[key] - start[key]).flatten() for key in start]))

    cosine = torch.nn.functional.cosine_similarity(moves[0], moves[1], dim=0)

    assert cosine < -0.9  # the first step of Adam is the sign of the gradient


def test_the_untuned_tower_is_kept_if_none_is_better(index, tmp_path):
    rows = scored_rows(index)
    opposite = scored_rows(index, liked=lambda rows: -(5 * rows % 29))
    options = tuning_options(max_steps=40, eval_steps=10)

    report = tune(index, tmp_path / "run", rows=opposite, held_out=rows, options=options)

    assert report.after["step"] == 0
    assert report.after["mrr"] == report.before["mrr"]
    own = load_encoder(str(index.path.parent / "model"), device="cpu", dtype="fp32")
    kept = load_encoder(str(report.encoder), device="cpu", dtype="fp32")
    texts = queries()
    np.testing.assert_array_equal(kept.encode(texts, role="query"), own.encode(texts, role="query"))


def test_the_best_evaluation_is_the_one_that_is_kept(index, tmp_path):
    rows = scored_rows(index)

    report = tune(
        index, tmp_path / "run", held_out=rows, options=tuning_options(max_steps=7, eval_steps=2)
    )

    lines = lines_of(tmp_path / "run", "evaluations")
    assert [line["step"] for line in lines] == [0, 2, 4, 6, 7]
    best = max(lines, key=lambda line: (line["mrr"], -line["step"]))
    assert {name: best[name] for name in report.after} == dict(report.after)


def test_a_finished_run_is_read_again(index, tmp_path):
    rows = scored_rows(index)
    first = tune(index, tmp_path / "run", rows=rows, held_out=rows)

    again = tune(index, tmp_path / "run", rows=rows, held_out=rows)

    assert again == first
    with pytest.raises(ConfigError, match="is of another run"):
        tune(index, tmp_path / "run", rows=scored_rows(index, seed=3), held_out=rows)


def test_a_second_round_starts_from_the_tuned_tower(index, tmp_path):
    first = tune(index, tmp_path / "one", options=tuning_options(max_steps=1))

    second = tune(
        index, tmp_path / "two", start=str(first.encoder), options=tuning_options(max_steps=1)
    )

    texts = queries()
    one, two = (
        load_encoder(str(run.encoder), device="cpu", dtype="fp32").encode(texts, role="query")
        for run in (first, second)
    )
    assert not np.array_equal(one, two)
    assert Retriever.open(index.path, query_encoder=str(second.encoder), device="cpu")


@pytest.mark.parametrize("metric", ["ip", "l2", "cosine"])
def test_the_scores_of_training_are_those_of_a_search(tmp_path, metric):
    index = write_index(tmp_path, metric=metric, normalize=metric == "cosine")
    rows = scored_rows(index)
    options = tuning_options(max_steps=1)

    report = tune(index, tmp_path / "run", rows=rows, held_out=rows, options=options)

    expected = mean_reciprocal_rank(found_rows(index, rows.queries), rows)
    assert report.before["mrr"] == pytest.approx(expected, abs=1e-9)
    # The candidates are the best hits, so that these are ranked the same by themselves.
    assert report.before["candidate_mrr"] == pytest.approx(expected, abs=1e-9)
    assert report.retriever_temperature == (0.05 if metric == "cosine" else 1.0)


def test_rows_with_one_passage_are_skipped_and_counted(index, tmp_path):
    rows = scored_rows(index)
    rows.log_targets[3, 1:], rows.rows[3, 1:] = -np.inf, -1

    report = tune(index, tmp_path / "run", rows=rows, options=tuning_options(max_steps=1))

    assert report.num_skipped == 1


def test_rows_that_teach_nothing_are_refused(index, tmp_path):
    rows = scored_rows(index)
    rows.log_targets[:, 1:], rows.rows[:, 1:] = -np.inf, -1

    with pytest.raises(DataError, match="none of the 13 rows has two scored passages"):
        tune(index, tmp_path / "run", rows=rows)


def test_rows_of_a_larger_index_are_refused(index, tmp_path):
    rows = scored_rows(index)
    rows.rows[0, 0] = 29

    with pytest.raises(ConfigError, match="retrieve and score again"):
        tune(index, tmp_path / "run", rows=rows)


def test_an_index_of_other_weights_is_refused(index, tmp_path):
    moved = write_index(tmp_path / "other")
    write_tiny_encoder(moved.path.parent / "model", seed=9)

    with pytest.raises(ModelMismatchError, match="likely cause: other weights"):
        tune(moved, tmp_path / "run", rows=scored_rows(index))


def test_an_index_without_vectors_is_refused(index, tmp_path):
    rows = scored_rows(index)
    bare = write_index(tmp_path / "bare", keep_vectors="none", ann="HNSW8")

    with pytest.raises(IndexStateError, match="keeps no raw vectors"):
        tune(bare, tmp_path / "run", rows=rows)


def test_an_encoder_without_weights_is_refused(tmp_path):
    with pytest.raises(ConfigError, match="has no weights to tune"):
        load_query_tower("hash:24")


def test_a_killed_run_ends_as_one_that_was_not(index, tmp_path):
    rows = scored_rows(index)
    options = tuning_options(max_steps=6, eval_steps=2, save_steps=2)
    whole = tune(index, tmp_path / "whole", rows=rows, held_out=rows, options=options)
    shutil.copytree(tmp_path / "whole", tmp_path / "cut")
    (tmp_path / "cut" / "report.json").unlink()
    shutil.rmtree(tmp_path / "cut" / "encoder")

    resumed = tune(index, tmp_path / "cut", rows=rows, held_out=rows, options=options)

    assert resumed.training.resumed_from == 4
    assert resumed.after == whole.after
    one, other = (load_file(x.encoder / "model.safetensors") for x in (whole, resumed))
    assert all(torch.equal(one[name], other[name]) for name in one)
