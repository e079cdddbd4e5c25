import json
import math

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from ragkit.errors import ConfigError, DataError
from ragkit.evaluation.perplexity import evaluate_perplexity, to_json
from tests.evaluation.models import MAX_POSITION_EMBEDDINGS, VOCAB_SIZE, tiny_bpe, tiny_llama

MODEL, TOKENIZER = tiny_llama(), tiny_bpe()
TEXT = "the drag of the wing \u2014 and the flow over the plane: na\u00efve"
# Other kernels (masked attention, other batch shapes) add in another order.
ROUNDING = 1e-5


def ids_of(text, *, bos):
    ids = TOKENIZER(text).input_ids
    return [TOKENIZER.bos_token_id, *ids] if bos else ids


def nats_of(ids):
    """Of each token but the first, given all before it."""
    with torch.no_grad():
        log_odds = MODEL(torch.tensor([ids])).logits[0].double().log_softmax(-1)
    return [-float(log_odds[i - 1, ids[i]]) for i in range(1, len(ids))]


@pytest.mark.parametrize("bos", ["always", "never"])
def test_a_document_that_fits_scores_as_one_forward(bos):
    report = evaluate_perplexity(
        MODEL, TOKENIZER, [TEXT], context_length=MAX_POSITION_EMBEDDINGS, bos=bos
    )

    nats = nats_of(ids_of(TEXT, bos=bos == "always"))
    assert report.score.num_tokens == len(nats)
    assert report.score.nll_per_token == pytest.approx(np.mean(nats), rel=ROUNDING)
    assert report.score.perplexity == pytest.approx(math.exp(np.mean(nats)), rel=10 * ROUNDING)
    assert report.bits_per_byte == pytest.approx(
        sum(nats) / math.log(2) / report.num_bytes, rel=ROUNDING
    )


@settings(max_examples=15)
@given(context_length=st.integers(1, 30), data=st.data())
def test_windows_score_as_one_forward_per_token(context_length, data):
    stride = data.draw(st.integers(1, context_length))
    ids = ids_of(TEXT, bos=False)

    report = evaluate_perplexity(
        MODEL, TOKENIZER, [TEXT], context_length=context_length, stride=stride
    )

    # The window in which a token is scored is the first that reaches it.
    starts = [stride * max(0, -(-(i - context_length) // stride)) for i in range(1, len(ids))]
    expected = [nats_of(ids[start : i + 1])[-1] for i, start in enumerate(starts, start=1)]
    assert report.score.nll_nats == pytest.approx(sum(expected), rel=ROUNDING)


@settings(max_examples=10)
@given(
    texts=st.lists(st.sampled_from(["the wing", "of the drag and the flow", "plane", TEXT])),
    batch_size=st.integers(1, 5),
)
def test_documents_are_scored_apart(texts, batch_size):
    settings = {"context_length": 9, "stride": 4}
    alone = [evaluate_perplexity(MODEL, TOKENIZER, [text], **settings) for text in [TEXT, *texts]]

    report = evaluate_perplexity(
        MODEL, TOKENIZER, [TEXT, *texts], batch_size=batch_size, **settings
    )

    total = sum(one.score.nll_nats for one in alone)
    assert report.score.nll_nats == pytest.approx(total, rel=ROUNDING)
    assert report.score.num_tokens == sum(one.score.num_tokens for one in alone)
    assert report.num_bytes == sum(one.num_bytes for one in alone)
    assert report.documents == len(alone)


def test_bytes_are_those_of_the_predicted_tokens():
    first = TOKENIZER.convert_ids_to_tokens(ids_of(TEXT, bos=False)[0])

    unscored, scored = (
        evaluate_perplexity(MODEL, TOKENIZER, [TEXT], bos=bos) for bos in ("never", "always")
    )

    assert scored.num_bytes == len(TEXT.encode())
    assert unscored.num_bytes == len(TEXT.encode()) - len(first)
    assert scored.score.num_tokens == unscored.score.num_tokens + 1


def test_the_tokenizer_decides_about_the_first_token():
    report = evaluate_perplexity(MODEL, TOKENIZER, [TEXT])

    assert not report.bos


def test_the_context_is_at_most_what_the_model_reads():
    report = evaluate_perplexity(MODEL, TOKENIZER, [TEXT])

    assert (report.context_length, report.stride) == (
        MAX_POSITION_EMBEDDINGS,
        MAX_POSITION_EMBEDDINGS // 2,
    )


def test_a_longer_context_than_the_model_reads_is_refused():
    with pytest.raises(ConfigError, match=r"max_position_embeddings, 48, got 49: lower it"):
        evaluate_perplexity(MODEL, TOKENIZER, [TEXT], context_length=49)


def test_a_stride_past_the_context_is_refused():
    with pytest.raises(ConfigError, match="stride must be between 1 and context_length"):
        evaluate_perplexity(MODEL, TOKENIZER, [TEXT], context_length=7, stride=8)


@pytest.mark.parametrize("documents", [[], [""], ["w", ""]])
def test_documents_without_a_token_to_predict_are_refused(documents):
    with pytest.raises(DataError, match="nothing to predict"):
        evaluate_perplexity(MODEL, TOKENIZER, documents, bos="never")


def test_documents_without_a_token_to_predict_do_not_count():
    report = evaluate_perplexity(MODEL, TOKENIZER, ["", TEXT, "w"], bos="never")

    assert report.documents == 1


def test_equal_odds_give_the_size_of_the_vocabulary():
    model = tiny_llama()
    torch.nn.init.zeros_(model.lm_head.weight)

    report = evaluate_perplexity(model, TOKENIZER, [TEXT], context_length=10)

    # log and exp round in fp32.
    assert report.score.perplexity == pytest.approx(VOCAB_SIZE, rel=1e-5)


def test_json_has_the_keys_that_scripts_rely_on():
    read = json.loads(json.dumps(to_json(evaluate_perplexity(MODEL, TOKENIZER, [TEXT]))))

    assert list(read) == [
        "schema",
        "nll_per_token",
        "perplexity",
        "bits_per_byte",
        "num_tokens",
        "num_bytes",
        "context_length",
        "stride",
        "documents",
        "bos",
    ]
    assert read["schema"] == "ragkit.eval_perplexity/1"
