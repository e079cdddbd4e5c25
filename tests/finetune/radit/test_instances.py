from collections import Counter
from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from ragkit.errors import ConfigError
from ragkit.finetune.radit.candidates import Candidates
from ragkit.finetune.radit.instances import build_instances, scoring_pairs
from ragkit.finetune.radit.record_prompts import RecordPrompter
from ragkit.finetune.radit.records import InstructionRecord
from ragkit.finetune.radit.retrieve import retrieve_candidates
from ragkit.rag.template import PromptTemplate
from tests.finetune.radit.corpora import PASSAGES, build_corpus, tiny_tokenizer

TEMPLATE = PromptTemplate()


@pytest.fixture(scope="module")
def tokenizer():
    return tiny_tokenizer()


@pytest.fixture(scope="module")
def corpus(tmp_path_factory):
    return build_corpus(tmp_path_factory.mktemp("instances"), PASSAGES)


def prompter_of(tokenizer, **arguments):
    arguments = {"template": TEMPLATE, "max_length": 400, **arguments}
    return RecordPrompter(tokenizer, **arguments)


def asking(name, query="which capital?", answer="Oslo"):
    return InstructionRecord(name, "open_qa", query, (answer, "another"))


def shown(tokenizer, pair):
    """Prompt and target as text, BOS and EOS included."""
    prompt, target = pair
    return tokenizer.decode(prompt), tokenizer.decode(target)


def table(index, rows):
    """Candidates `[examples, k]` of the records r0, r1, ..."""
    rows = np.array(rows, np.int64)
    scores = np.where(rows >= 0, -np.arange(rows.shape[1], dtype=np.float32), -np.inf)
    names = [f"r{i}" for i in range(len(rows))]
    return Candidates(names, rows, scores.astype(np.float32), index.manifest.content_hash)


def test_three_passages_give_three_instances_with_the_first_answer(corpus, tokenizer):
    retriever, index = corpus
    records = [asking("r0")]
    candidates = retrieve_candidates(retriever, records, k=5)

    made = build_instances(records, prompter_of(tokenizer), index=index, candidates=candidates)

    titles = index.values("title", candidates.rows[0, :3].tolist())
    texts = index.values("text", candidates.rows[0, :3].tolist())
    assert [shown(tokenizer, pair) for pair in made.pairs] == [
        (
            f"<|bos|>Background: {title}\n{text}\n\nQ: which capital?\nA:",
            " Oslo<|eos|>",
        )
        for title, text in zip(titles, texts, strict=True)
    ]
    assert made.record_ids == ["r0"] * 3


def test_fewer_candidates_give_fewer_instances_and_none_gives_one_without_background(
    corpus, tokenizer
):
    records = [asking("r0"), asking("r1"), asking("r2")]
    candidates = table(corpus[1], [[4, 6, 1, 0], [5, 2, -1, -1], [-1] * 4])

    made = build_instances(records, prompter_of(tokenizer), index=corpus[1], candidates=candidates)

    assert Counter(made.record_ids) == {"r0": 3, "r1": 2, "r2": 1}
    assert shown(tokenizer, made.pairs[-1])[0] == "<|bos|>Q: which capital?\nA:"
    assert made.num_without_passage == 1


def test_a_gold_context_is_the_background_and_needs_no_index(tokenizer):
    record = InstructionRecord(
        "r", "reading_comprehension", "who?", ("Ann",), context="Ann won.", title="Race"
    )

    made = build_instances([record], prompter_of(tokenizer))

    [pair] = made.pairs
    assert shown(tokenizer, pair) == (
        "<|bos|>Background: Race\nAnn won.\n\nQ: who?\nA:",
        " Ann<|eos|>",
    )
    assert made.num_without_passage == 0


def test_plain_text_is_all_target(tokenizer):
    record = InstructionRecord("r", "text", "", ("Oslo is old.",))

    [pair] = build_instances([record], prompter_of(tokenizer)).pairs

    assert shown(tokenizer, pair) == ("<|bos|>", " Oslo is old.<|eos|>")


def test_a_corpus_example_goes_on_without_markers(corpus, tokenizer):
    record = InstructionRecord("r0", "corpus", "Lima is the", ("capital of Peru",))

    made = build_instances(
        [record], prompter_of(tokenizer), index=corpus[1], candidates=table(corpus[1], [[6]])
    )

    [(prompt, target)] = [shown(tokenizer, pair) for pair in made.pairs]
    assert prompt == f"<|bos|>Background: Quito\n{PASSAGES['Quito']}\n\nLima is the"
    assert target == " capital of Peru<|eos|>"


@given(seed=st.integers(0, 99))
def test_markers_are_drawn_by_seed_and_record(tokenizer, seed):
    records = [
        replace(asking(f"r{i}"), task="reading_comprehension", context="Oslo") for i in range(40)
    ]

    made, again, without = (
        build_instances(records, prompter_of(tokenizer, seed=given)) for given in (seed, seed, None)
    )

    assert made.pairs == again.pairs
    assert len(set(without.pairs)) == 1
    # Of the six pairs of markers, 40 records draw fewer than four once in 10^11 seeds.
    assert 4 <= len(set(made.pairs)) <= 6


def test_turns_have_the_markers_of_their_question(tokenizer):
    record = InstructionRecord("r", "dialogue", "and where?", ("there",), history=("who?", "me"))
    template = PromptTemplate(question_markers=("Question: ",), answer_markers=("Answer:",))
    prompter = prompter_of(tokenizer, template=template, seed=1)

    prompt = prompter.prompt(record, None, reserve=3)

    assert tokenizer.decode(prompt.tokens) == (
        "<|bos|>Question: who?\nAnswer: me\nQuestion: and where?\nAnswer:"
    )


@given(max_length=st.integers(40, 150))
def test_nothing_is_longer_than_the_window_and_cuts_are_counted(corpus, tokenizer, max_length):
    records = [asking("r0", answer="Oslo " * 9), asking("r1", query="which " * 30)]
    candidates = table(corpus[1], [[0, 1], [2, 3]])

    made = build_instances(
        records,
        prompter_of(tokenizer, max_length=max_length),
        index=corpus[1],
        candidates=candidates,
    )

    whole = build_instances(records, prompter_of(tokenizer), index=corpus[1], candidates=candidates)
    assert all(len(prompt) + len(target) <= max_length for prompt, target in made.pairs)
    assert whole.cuts == {}
    assert (made.pairs == whole.pairs) == (not made.cuts)


def test_a_target_is_cut_at_its_end_as_a_last_resort_and_does_not_stop_there(tokenizer):
    text = " ".join(PASSAGES.values())
    record = InstructionRecord("r", "text", "", (text,))
    prompter = prompter_of(tokenizer, max_length=50)

    made = build_instances([record], prompter)

    [(_, target)] = made.pairs
    assert target == prompter.target(record, eos=True)[:25]
    assert made.cuts == {"targets": 1}


def test_only_retrieved_passages_have_a_budget(corpus, tokenizer):
    text = PASSAGES["Rome#0"]
    gold = InstructionRecord("g", "reading_comprehension", "who?", ("x",), context=text)
    prompter = prompter_of(tokenizer, max_chunk_tokens=6)

    made = build_instances(
        [asking("r0"), gold], prompter, index=corpus[1], candidates=table(corpus[1], [[3]])
    )

    cut, whole = (shown(tokenizer, pair)[0] for pair in made.pairs)
    assert text not in cut
    assert text in whole
    assert made.cuts == {"chunks": 1}


def test_every_candidate_is_scored_beside_its_record_without_eos(corpus, tokenizer):
    records = [asking("r0"), asking("r1", answer="Rome")]
    candidates = table(corpus[1], [[4, 6, 1], [5, 2, -1]])

    made = scoring_pairs(records, prompter_of(tokenizer), index=corpus[1], candidates=candidates)

    assert [(pair.record_id, pair.row, pair.score) for pair in made.pairs] == [
        *(("r0", row, -place) for place, row in enumerate((4, 6, 1))),
        *(("r1", row, -place) for place, row in enumerate((5, 2))),
    ]
    assert {tokenizer.decode(pair.target) for pair in made.pairs} == {" Oslo", " Rome"}
    assert len({pair.prompt.question for pair in made.pairs}) == 1
    assert len({pair.prompt.background for pair in made.pairs}) == 5


def test_equal_passages_have_equal_tokens_whatever_the_question(corpus, tokenizer):
    records = [asking("r0"), asking("r1", query="Trams?")]
    candidates = table(corpus[1], [[4, 6], [6, 4]])

    made = scoring_pairs(records, prompter_of(tokenizer), index=corpus[1], candidates=candidates)

    blocks = {(pair.row, pair.prompt.prefix + pair.prompt.background) for pair in made.pairs}
    assert len(blocks) == 2


def test_records_that_cannot_teach_the_retriever_are_left_out_and_counted(corpus, tokenizer):
    gold = InstructionRecord("g", "reading_comprehension", "who?", ("x",), context="y")
    records = [asking("r0"), asking("r1"), asking("r2", answer="Oslo " * 90), gold]
    candidates = table(corpus[1], [[4, -1], [-1, -1], [2, 3]])

    made = scoring_pairs(
        records, prompter_of(tokenizer, max_length=90), index=corpus[1], candidates=candidates
    )

    assert (len(made), made.num_few, made.num_long) == (0, 2, 1)


def test_candidates_of_another_index_are_refused(corpus, tokenizer):
    other = replace(table(corpus[1], [[1]]), index_hash="0" * 32)

    with pytest.raises(ConfigError, match="retrieve the candidates anew"):
        build_instances([asking("r0")], prompter_of(tokenizer), index=corpus[1], candidates=other)


def test_a_record_that_was_not_searched_for_is_refused(corpus, tokenizer):
    candidates = table(corpus[1], [[1]])

    with pytest.raises(ConfigError, match="such as 'r7': retrieve for all of them first"):
        build_instances(
            [asking("r7")], prompter_of(tokenizer), index=corpus[1], candidates=candidates
        )


@pytest.mark.parametrize(
    ("arguments", "hint"),
    [
        ({}, "retrieve for all of them first"),
        ({"num_passages": 0}, "num_passages must be 1 or more"),
    ],
)
def test_arguments_that_cannot_be_are_refused(tokenizer, arguments, hint):
    with pytest.raises(ConfigError, match=hint):
        build_instances([asking("r0")], prompter_of(tokenizer), **arguments)


def test_an_index_without_candidates_is_refused(corpus, tokenizer):
    with pytest.raises(ConfigError, match="give both or neither"):
        build_instances([asking("r0")], prompter_of(tokenizer), index=corpus[1])
