import logging

import numpy as np
import pytest
import torch

from ragkit.errors import ConfigError, DataError
from ragkit.evaluation.choices import ChoiceItem, evaluate_choices, score_continuations
from tests.evaluation.models import (
    MAX_POSITION_EMBEDDINGS,
    VOCAB_SIZE,
    UnigramModel,
    tiny_bpe,
    tiny_llama,
)

MODEL, TOKENIZER = tiny_llama(), tiny_bpe()
# Other kernels (masked attention, other batch shapes) add in another order.
ROUNDING = 1e-5


def log_likelihood(ids, num_context):
    with torch.no_grad():
        log_odds = MODEL(torch.tensor([ids])).logits[0].double().log_softmax(-1)
    return sum(float(log_odds[i - 1, ids[i]]) for i in range(num_context, len(ids)))


def unigram(**odds):
    """A model for which each of these one-letter tokens has these odds, all others almost none."""
    logits = torch.full((VOCAB_SIZE,), -30.0)
    for letter, share in odds.items():
        logits[TOKENIZER.convert_tokens_to_ids(letter)] = np.log(share)
    return UnigramModel(logits)


@pytest.mark.parametrize("batch_size", [1, 3])
def test_a_continuation_scores_as_one_forward(batch_size):
    requests = [("the wing", " of the plane"), ("drag", " x"), ("the flow over the", " wing!")]

    found = score_continuations(MODEL, TOKENIZER, requests, batch_size=batch_size)

    expected = [
        log_likelihood(TOKENIZER(context + text).input_ids, len(TOKENIZER(context).input_ids))
        for context, text in requests
    ]
    np.testing.assert_allclose(found, expected, rtol=ROUNDING, atol=0)


def test_white_space_moves_to_the_continuation():
    spaced, moved = score_continuations(
        MODEL, TOKENIZER, [("the wing ", "of the plane"), ("the wing", " of the plane")]
    )

    assert spaced == pytest.approx(moved, rel=ROUNDING)


@pytest.mark.parametrize("context", ["", " "])
def test_without_a_context_the_token_that_begins_a_text_stands_in(context):
    [found] = score_continuations(MODEL, TOKENIZER, [(context, "of the plane")])

    ids = [TOKENIZER.bos_token_id, *TOKENIZER(context + "of the plane").input_ids]
    assert found == pytest.approx(log_likelihood(ids, 1), rel=ROUNDING)


def test_a_context_that_brings_the_token_gets_no_second_one():
    begun = tiny_bpe()
    begun.backend_tokenizer.post_processor = bos_template(begun)

    written, added = score_continuations(
        MODEL, begun, [(f"{begun.bos_token}the wing", " of"), ("the wing", " of")]
    )

    assert written == added


def bos_template(tokenizer):
    from tokenizers.processors import TemplateProcessing

    bos = tokenizer.bos_token
    return TemplateProcessing(single=f"{bos} $A", special_tokens=[(bos, tokenizer.bos_token_id)])


def test_equal_requests_tie_exactly_and_are_scored_once():
    model = unigram(a=0.5)

    found = score_continuations(
        model, TOKENIZER, [("the", " a"), ("the", " b"), ("the", " a")], batch_size=1
    )

    assert found[0] == found[2]
    assert model.calls == 2


def test_what_is_too_long_loses_the_head_of_its_context(caplog):
    words = " ".join(["wing"] * 80)
    ids = TOKENIZER(f"{words} flow").input_ids
    count = len(ids) - len(TOKENIZER(words).input_ids)

    with caplog.at_level(logging.WARNING, logger="ragkit"):
        [found] = score_continuations(MODEL, TOKENIZER, [(words, " flow")])

    kept = ids[-(MAX_POSITION_EMBEDDINGS + 1) :]
    assert found == pytest.approx(log_likelihood(kept, len(kept) - count), rel=ROUNDING)
    assert "1 of 1 requests exceed the 48 tokens" in caplog.text


def test_the_first_of_equally_likely_choices_is_chosen():
    items = [ChoiceItem("the", ("a", "a"), 0), ChoiceItem("the", ("a", "a"), 1)]

    report = evaluate_choices(unigram(a=0.5), TOKENIZER, items)

    assert [result.acc for result in report.results] == [True, False]
    assert report.acc == 0.5


def test_norms_divide_by_the_characters_and_bytes_of_the_choice():
    # Per character: log 0.5 / 1 against 3 log 0.6 / 3.
    short, long = "a", "bbb"
    model = unigram(a=0.5, b=0.6)
    item = ChoiceItem("the", (short, long), 1)

    report = evaluate_choices(model, TOKENIZER, [item], delimiter="")

    assert (report.acc, report.acc_norm, report.acc_bytes) == (0, 1, 1)


def test_bytes_and_characters_differ_past_ascii():
    tokens = TOKENIZER.convert_ids_to_tokens(TOKENIZER("\u00e9").input_ids)
    # Per character: 2 log 0.3 / 1 against log 0.2 / 1; per byte: 2 log 0.3 / 2.
    model = unigram(a=0.2, **dict.fromkeys(tokens, 0.3))
    item = ChoiceItem("the", ("a", "\u00e9"), 1)

    report = evaluate_choices(model, TOKENIZER, [item], delimiter="")

    assert (report.acc_norm, report.acc_bytes) == (0, 1)


@pytest.mark.parametrize(
    ("choices", "answer", "hint"),
    [
        (("a",), 0, "two or more choices"),
        (("a", ""), 0, "that are not empty"),
        (("a", "b"), 2, "0 to 1, found 2"),
        (("a", "b"), -1, "position of a choice"),
    ],
)
def test_a_malformed_item_is_refused(choices, answer, hint):
    with pytest.raises(DataError, match=hint):
        evaluate_choices(MODEL, TOKENIZER, [ChoiceItem("the", choices, answer)])


def test_no_item_is_refused():
    with pytest.raises(DataError, match="no item to evaluate"):
        evaluate_choices(MODEL, TOKENIZER, [])


def test_a_choice_longer_than_the_model_reads_is_refused():
    with pytest.raises(DataError, match="the model reads 48: shorten it"):
        score_continuations(MODEL, TOKENIZER, [("the", " wing" * 60)])


def test_a_choice_that_melts_into_its_context_is_refused():
    with pytest.raises(DataError, match="change the delimiter"):
        score_continuations(MODEL, TOKENIZER, [("th", "e")])


def test_no_context_and_no_token_to_stand_in_is_refused():
    bare = tiny_bpe()
    bare.bos_token = bare.eos_token = None

    with pytest.raises(ConfigError, match="give every item a context"):
        score_continuations(MODEL, bare, [("", "wing")])


CONTEXTS = ("the wing of the", "the flow over", "drag")
CHOICES = ("plane", "wing and the flow", "x")


def likelihoods(context):
    requests = [(context, f" {choice}") for choice in CHOICES]
    return score_continuations(MODEL, TOKENIZER, requests)


@pytest.mark.parametrize("answer", range(3))
def test_a_norm_divides_by_the_tokens_of_the_choice(answer):
    items = [ChoiceItem(context, CHOICES, answer) for context in CONTEXTS]
    counts = [len(TOKENIZER(f" {choice}").input_ids) for choice in CHOICES]

    report = evaluate_choices(MODEL, TOKENIZER, items)

    chosen = [int(np.argmax(likelihoods(context) / counts)) for context in CONTEXTS]
    assert len({*counts}) > 1
    assert report.acc_token == np.mean([place == answer for place in chosen])
    assert report.acc_compl is None


@pytest.mark.parametrize("answer", range(3))
def test_what_a_bare_context_says_is_taken_off(answer):
    items = [ChoiceItem(context, CHOICES, answer) for context in CONTEXTS]

    report = evaluate_choices(MODEL, TOKENIZER, items, bare_context="the")

    bare = likelihoods("the")
    chosen = [int(np.argmax(likelihoods(context) - bare)) for context in CONTEXTS]
    assert report.acc_compl == np.mean([place == answer for place in chosen])
