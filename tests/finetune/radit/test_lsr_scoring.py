import numpy as np
import pytest
import torch

from ragkit.errors import DataError
from ragkit.finetune.radit.instances import ScoringPair
from ragkit.finetune.radit.lsr import target_log_probs
from ragkit.finetune.radit.lsr_scoring import score_pairs
from ragkit.finetune.radit.score_cache import ScoreCache, ScorerId
from ragkit.rag.prompts import Prompt
from tests.decoding.tiny import tiny_llama

SCORER = ScorerId(model="m", tokenizer="t", template="p")
# Masked attention and other batch shapes add in another order.
ROUNDING = {"rtol": 1e-5, "atol": 1e-5}


@pytest.fixture
def model():
    model = tiny_llama()
    model.calls = 0

    def count(*_):
        model.calls += 1

    model.register_forward_pre_hook(count)
    return model


def make_pair(record, row, *, score=0.5, target=(41, 42, 43)):
    """The prompt has the tokens 1 and 2 in front, then those of the passage and the question."""
    background = tuple(range(50 + row, 58 + row))
    question = tuple(range(100 + 10 * record, 105 + 10 * record))
    prompt = Prompt(prefix=(1, 2), background=background, question=question)
    return ScoringPair(f"record-{record}", row, score, prompt, target)


def make_pairs(rows_of_records):
    return [
        make_pair(record, row, score=1 / (1 + place))
        for record, rows in enumerate(rows_of_records)
        for place, row in enumerate(rows)
    ]


PAIRS = make_pairs([[4, 9, 6], [6, 4], [9, 3, 4]])


def full_forward(model, pair):
    ids = torch.tensor([pair.prompt.tokens + pair.target])
    with torch.no_grad():
        log_probs = model(ids).logits.double().log_softmax(-1)[0, :-1]
    count = len(pair.target)
    return log_probs[-count:].gather(1, ids[0, -count:, None]).sum().item()


def test_scores_stand_in_the_order_of_the_candidates(model, tmp_path):
    scored = score_pairs(model, PAIRS, cache=ScoreCache(tmp_path, SCORER))

    empty = -np.inf
    assert scored.record_ids == ["record-0", "record-1", "record-2"]
    np.testing.assert_array_equal(scored.rows, [[4, 9, 6], [6, 4, -1], [9, 3, 4]])
    np.testing.assert_array_equal(scored.num_tokens, [[3, 3, 3], [3, 3, 0], [3, 3, 3]])
    np.testing.assert_allclose(
        scored.retriever_scores, [[1, 1 / 2, 1 / 3], [1, 1 / 2, empty], [1, 1 / 2, 1 / 3]]
    )
    expected = [full_forward(model, pair) for pair in PAIRS]
    expected.insert(5, empty)
    np.testing.assert_allclose(scored.sum_logprob.ravel(), expected, **ROUNDING)


def test_a_second_run_calls_no_model(model, tmp_path):
    first = score_pairs(model, PAIRS, cache=ScoreCache(tmp_path, SCORER))
    model.calls = 0

    second = score_pairs(model, PAIRS, cache=ScoreCache(tmp_path, SCORER))

    assert model.calls == 0
    assert (first.num_scored, second.num_scored) == (8, 0)
    np.testing.assert_array_equal(first.sum_logprob, second.sum_logprob)


def test_temperatures_and_kinds_are_swept_without_the_model(model, tmp_path):
    score_pairs(model, PAIRS, cache=ScoreCache(tmp_path, SCORER))
    model.calls = 0

    targets = []
    for kind in ("prob", "geo_prob", "mean_logprob", "sum_logprob"):
        for temperature in (0.01, 0.1, 1.0):
            scored = score_pairs(model, PAIRS, cache=ScoreCache(tmp_path, SCORER))
            scores = scored.sum_logprob, scored.num_tokens
            targets.append(target_log_probs(*scores, kind=kind, temperature=temperature))

    assert model.calls == 0
    assert len({target.tobytes() for target in targets}) == 12


def test_only_missing_pairs_are_scored(model, tmp_path):
    score_pairs(model, PAIRS[:3], cache=ScoreCache(tmp_path, SCORER))

    scored = score_pairs(model, PAIRS, cache=ScoreCache(tmp_path, SCORER))

    assert scored.num_scored == 5


def test_equal_pairs_are_scored_once(model, tmp_path):
    pairs = [make_pair(0, 4), make_pair(0, 4), make_pair(0, 9)]

    scored = score_pairs(model, pairs, cache=ScoreCache(tmp_path, SCORER))

    assert scored.num_scored == 2
    np.testing.assert_array_equal(scored.rows, [[4, 4, 9]])


def test_scores_of_another_lm_are_not_used(model, tmp_path):
    other = ScorerId(model="other", tokenizer="t", template="p")
    score_pairs(model, PAIRS, cache=ScoreCache(tmp_path, other))

    scored = score_pairs(model, PAIRS, cache=ScoreCache(tmp_path, SCORER))

    assert scored.num_scored == 8


@pytest.mark.parametrize(
    "changed", [make_pair(1, 4), make_pair(0, 9), make_pair(0, 4, target=(41, 42))]
)
def test_another_record_passage_or_target_is_another_pair(model, tmp_path, changed):
    score_pairs(model, [make_pair(0, 4)], cache=ScoreCache(tmp_path, SCORER))

    scored = score_pairs(model, [changed], cache=ScoreCache(tmp_path, SCORER))

    assert scored.num_scored == 1


def test_the_rows_of_a_rebuilt_index_take_the_place_of_the_stored_ones(model, tmp_path):
    pair = make_pair(0, 4)
    moved = ScoringPair(pair.record_id, 77, 0.125, pair.prompt, pair.target)
    score_pairs(model, [pair], cache=ScoreCache(tmp_path, SCORER))

    scored = score_pairs(model, [moved], cache=ScoreCache(tmp_path, SCORER))

    assert scored.num_scored == 0
    assert (scored.rows.item(), scored.retriever_scores.item()) == (77, 0.125)


def test_a_score_that_is_not_finite_is_kept_and_told(model, tmp_path, caplog):
    with torch.no_grad():
        model.model.embed_tokens.weight[50 + 3] = torch.nan

    scored = score_pairs(model, PAIRS, cache=ScoreCache(tmp_path, SCORER))

    assert np.isnan(scored.sum_logprob[scored.rows == 3]).all()
    assert np.isfinite(scored.sum_logprob[scored.rows == 9]).all()
    assert "will not count" in caplog.text


def test_what_was_scored_before_an_interrupt_is_kept(model, tmp_path):
    def interrupt(*_):
        if model.calls == 4:
            raise KeyboardInterrupt

    model.register_forward_pre_hook(interrupt)

    with pytest.raises(KeyboardInterrupt):
        score_pairs(model, PAIRS, cache=ScoreCache(tmp_path, SCORER), batch_tokens=1)

    assert 0 < len(ScoreCache(tmp_path, SCORER)) < len(PAIRS)


def test_no_pair_makes_an_empty_table(model, tmp_path):
    scored = score_pairs(model, [], cache=ScoreCache(tmp_path, SCORER))

    assert scored.record_ids == []
    assert scored.rows.shape == scored.sum_logprob.shape == (0, 0)


def test_a_target_that_the_cache_cannot_count_is_refused(model, tmp_path):
    pair = make_pair(0, 4, target=(5,) * 40_000)

    with pytest.raises(DataError, match="leave the record out"):
        score_pairs(model, [pair], cache=ScoreCache(tmp_path, SCORER))
