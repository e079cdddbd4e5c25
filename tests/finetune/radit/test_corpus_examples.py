import pytest

from ragkit.errors import ConfigError
from ragkit.finetune.radit.corpus_examples import corpus_examples
from ragkit.finetune.radit.retrieve import retrieve_candidates
from tests.finetune.radit.corpora import PASSAGES, build_corpus, tiny_tokenizer

LENGTHS = {"num_query_tokens": 5, "num_target_tokens": 7}


@pytest.fixture(scope="module")
def tokenizer():
    return tiny_tokenizer()


@pytest.fixture(scope="module")
def corpus(tmp_path_factory):
    passages = {**PASSAGES, "short": "Too short."}
    return build_corpus(tmp_path_factory.mktemp("examples"), passages)


def count(tokenizer, text):
    return len(tokenizer(text, add_special_tokens=False)["input_ids"])


def test_the_first_tokens_ask_and_the_last_are_the_target(corpus, tokenizer):
    found = corpus_examples(corpus[1], tokenizer, num_examples=20, seed=1, **LENGTHS)

    for record in found.records:
        text = PASSAGES[record.doc_id]
        assert text.startswith(record.query)
        assert text.endswith(record.answers[0])
        words = text.split()
        assert words[: len(record.query.split())] == record.query.split()
        assert words[-len(record.answers[0].split()) :] == record.answers[0].split()
        # A word that the cut falls within is left out.
        assert 1 <= count(tokenizer, record.query) <= 5
        # The space before the target may be a token of its own.
        assert 1 <= count(tokenizer, f" {record.answers[0]}") <= 8


def test_a_text_without_spaces_is_cut_where_the_tokens_are(tmp_path, tokenizer):
    text = "".join(chr(0x4E00 + 37 * i) for i in range(40))
    _, index = build_corpus(tmp_path, {"han": text})

    [record] = corpus_examples(index, tokenizer, num_examples=1, seed=0, **LENGTHS).records

    assert text.startswith(record.query)
    assert text.endswith(record.answers[0])


def test_a_passage_gives_one_example_unless_it_is_too_short(corpus, tokenizer):
    found = corpus_examples(corpus[1], tokenizer, num_examples=20, seed=1, **LENGTHS)

    assert {record.doc_id for record in found.records} == set(PASSAGES)
    assert (found.num_read, found.num_short) == (len(PASSAGES) + 1, 1)
    assert len({record.id for record in found.records}) == len(PASSAGES)


def test_equal_seeds_draw_equal_passages_and_others_do_not(corpus, tokenizer):
    first, again, other = (
        corpus_examples(corpus[1], tokenizer, num_examples=4, seed=seed, **LENGTHS).records
        for seed in (1, 1, 2)
    )

    assert first == again != other
    assert len(first) == len(other) == 4


def test_no_example_finds_the_passage_it_was_cut_from(corpus, tokenizer):
    retriever, index = corpus
    records = corpus_examples(index, tokenizer, num_examples=20, seed=1, **LENGTHS).records

    candidates = retrieve_candidates(retriever, records, k=3)

    for record, (_, rows, _) in zip(records, candidates.hits(), strict=True):
        found = index.values("text", rows)
        assert len(found) == 3
        assert not any(record.answers[0] in text for text in found)


def test_numbers_below_one_are_refused(corpus, tokenizer):
    with pytest.raises(ConfigError, match="must be 1 or more"):
        corpus_examples(corpus[1], tokenizer, num_examples=0, seed=1)
