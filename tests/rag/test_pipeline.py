"""From a question to an answer that names its passages."""

import json
from dataclasses import replace

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import ragkit
from ragkit.decoding import GenerationOptions, generate
from ragkit.errors import ConfigError
from ragkit.rag.modes import MODES
from ragkit.rag.pipeline import RagPipeline
from ragkit.rag.prompts import Demonstration
from tests.decoding.tiny import tiny_llama
from tests.rag.searching import FOUND, HEAT, MODEL, TOKENIZER, WING, FixedSearcher, Found, pipeline

QUESTION = "what is the wing of?"
DEMONSTRATIONS = (
    Demonstration("who designed the shock?", "the wind", passage="the wind designed it"),
    Demonstration("what is hot?", "the heat", passage="heat is hot"),
)


def plain_answer(prompt):
    options = GenerationOptions(max_new_tokens=9, stop=("\n",))
    [found] = generate(MODEL, TOKENIZER, [prompt], options=options)
    return found.text.strip()


@pytest.mark.parametrize("mode", MODES)
def test_one_passage_is_a_plain_prompt_in_every_mode(mode):
    answer = pipeline([WING], mode=mode, k=1).answer(QUESTION)

    background = "" if mode == "closed-book" else f"Background: Wings\n{WING.text}\n\n"
    assert answer.text == plain_answer(f"{background}Q: {QUESTION}\nA:")
    assert answer.mode == mode


@settings(max_examples=8)
@given(mode=st.sampled_from(MODES), order=st.permutations(FOUND))
def test_the_order_of_the_passages_does_not_matter(mode, order):
    assert pipeline(order, mode=mode).answer(QUESTION) == pipeline(mode=mode).answer(QUESTION)


@pytest.mark.parametrize("mode", MODES)
def test_scores_300_higher_for_all_change_nothing(mode):
    scores = (2.5, 2.25, -1.0)  # exact, also when 300 higher
    low = [replace(one, score=score) for one, score in zip(FOUND, scores, strict=True)]
    high = [replace(one, score=one.score + 300) for one in low]

    first, second = (pipeline(found, mode=mode).answer(QUESTION) for found in (low, high))

    assert (first.text, first.log_score) == (second.text, second.log_score)
    assert [p.weight for p in first.passages] == [p.weight for p in second.passages]


@pytest.mark.parametrize("mode", MODES)
def test_the_pieces_of_a_stream_join_to_the_answer(mode):
    rag = pipeline(mode=mode)
    stream = rag.stream(QUESTION)

    pieces = list(stream)

    assert "".join(pieces) == stream.answer.text
    assert stream.answer == rag.answer(QUESTION)


def test_a_stream_that_was_not_read_has_no_answer():
    stream = pipeline().stream(QUESTION)

    assert len(stream.passages) == 3
    with pytest.raises(ConfigError, match="read the pieces to their end first"):
        _ = stream.answer


def test_questions_of_a_batch_are_answered_as_alone():
    questions = [QUESTION, "nothing", "a wind?", "the heat of what?"]
    rag = pipeline()

    together = rag.answer_batch(questions, batch_size=3)

    assert [answer.question for answer in together] == questions
    assert [answer.text for answer in together] == [rag.answer(one).text for one in questions]
    assert [len(answer.passages) for answer in together] == [3, 0, 3, 3]


@pytest.mark.parametrize("mode", MODES)
def test_where_nothing_is_found_the_model_answers_alone_and_it_is_counted(mode):
    rag = pipeline(mode=mode)

    answer = rag.answer("nothing")

    assert (answer.text, answer.passages) == (plain_answer("Q: nothing\nA:"), ())
    assert rag.counts["questions"] == 1
    assert rag.counts.get("without_passages") == (None if mode == "closed-book" else 1)


@pytest.mark.parametrize("mode", ["seq", "token", "token-bayes"])
def test_a_passage_that_comes_twice_counts_once(mode):
    rag = pipeline([WING, replace(WING, id="z#9"), HEAT], mode=mode)

    answer = rag.answer(QUESTION)

    assert answer == pipeline([WING, HEAT], mode=mode).answer(QUESTION)
    assert rag.counts["duplicates"] == 1


def test_concat_shows_all_passages_in_one_prompt():
    answer = pipeline([WING, HEAT], mode="concat").answer(QUESTION)

    background = f"Background: Wings\n{WING.text}\n{HEAT.text}\n\n"
    assert answer.text == plain_answer(f"{background}Q: {QUESTION}\nA:")
    assert [passage.id for passage in answer.passages] == ["a#0", "b#0"]


def test_each_passage_beside_others_is_cut_by_itself():
    rag = pipeline([WING, HEAT], mode="concat", max_chunk_tokens=4)

    rag.answer(QUESTION)

    assert rag.counts["cut_chunks"] == 2


@pytest.mark.parametrize(("metric", "temperature"), [("cosine", 0.05), ("ip", 1.0)])
def test_the_metric_decides_how_sharply_scores_weigh(metric, temperature):
    found = pipeline(metric=metric).answer(QUESTION)

    expected = pipeline(retriever_temperature=temperature).answer(QUESTION)
    assert [p.weight for p in found.passages] == [p.weight for p in expected.passages]


def test_demonstrations_are_computed_once_for_all_passages_and_questions():
    sizes = []
    model = tiny_llama(max_position_embeddings=640, initializer_range=0.2)
    handle = model.get_input_embeddings().register_forward_hook(
        lambda module, inputs, output: sizes.append(inputs[0].numel())
    )
    rag = pipeline(model=model, demonstrations=DEMONSTRATIONS, generation={"max_new_tokens": 1})

    answers = rag.answer_batch([QUESTION, "a wind?", "the heat?"], batch_size=1)

    handle.remove()
    naive = sum(answer.num_prompt_tokens for answer in answers)
    assert sum(sizes) < naive / 2


def test_demonstrations_change_no_answer_by_being_shared():
    rag = pipeline([WING], demonstrations=DEMONSTRATIONS)

    answer = rag.answer(QUESTION)

    shown = "".join(
        f"Background: {one.passage}\n\nQ: {one.query}\nA: {one.answer}\n\n"
        for one in DEMONSTRATIONS
    )
    prompt = f"{shown}Background: Wings\n{WING.text}\n\nQ: {QUESTION}\nA:"
    assert answer.text == plain_answer(prompt)


def test_a_closed_book_shows_no_passage_not_even_of_a_demonstration():
    answer = pipeline(mode="closed-book", demonstrations=DEMONSTRATIONS).answer(QUESTION)

    shown = "".join(f"Q: {one.query}\nA: {one.answer}\n\n" for one in DEMONSTRATIONS)
    assert answer.text == plain_answer(f"{shown}Q: {QUESTION}\nA:")


def test_an_over_long_passage_is_cut_and_counted():
    rag = pipeline([Found("a", "the wing of the wind " * 300, 0.5)])

    answer = rag.answer(QUESTION)

    assert answer.num_prompt_tokens == 640 - 9
    assert rag.counts["cut_passages"] == 1


def test_a_retriever_over_an_index_of_any_encoder_will_do(tmp_path):
    (tmp_path / "corpus.jsonl").write_text(
        "".join(json.dumps({"id": one.id, "text": one.text}) + "\n" for one in FOUND)
    )
    ragkit.build_index([tmp_path / "corpus.jsonl"], tmp_path / "index", encoder="hash:16")

    with ragkit.Retriever.open(tmp_path / "index") as retriever:
        answer = RagPipeline(retriever, (MODEL, TOKENIZER), k=2).answer(QUESTION)

    assert len(answer.passages) == 2
    assert sum(passage.weight for passage in answer.passages) == pytest.approx(1)
    assert json.loads(json.dumps(answer.as_dict()))["text"] == answer.text


def test_a_model_may_be_named(tmp_path):
    MODEL.save_pretrained(tmp_path)
    TOKENIZER.save_pretrained(tmp_path)

    rag = RagPipeline(FixedSearcher(FOUND), str(tmp_path), options=GenerationOptions())

    assert rag.answer(QUESTION).num_tokens <= 64


@pytest.mark.parametrize(
    ("settings", "hint"),
    [
        ({"k": 0}, "use mode 'closed-book' for no passages"),
        ({"mode": "sum"}, "mode must be one of seq, seq-rescore, token"),
        ({"retriever_temperature": 0.0}, "retriever_temperature must be above 0"),
        ({"retriever_temperature": float("nan")}, "retriever_temperature must be above 0"),
        ({"min_score": float("nan")}, "min_score must be a number"),
        ({"max_length": 0}, "max_length and max_chunk_tokens must be 1 or more"),
        ({"max_chunk_tokens": 0, "mode": "concat"}, "max_chunk_tokens must be 1 or more"),
    ],
)
def test_settings_without_sense_are_refused_at_once(settings, hint):
    with pytest.raises(ConfigError, match=hint):
        pipeline(**settings)


@pytest.mark.parametrize("mode", MODES)
def test_a_model_without_embeddings_for_the_tokens_is_refused(mode):
    small = pipeline(model=tiny_llama(vocab_size=20), mode=mode)

    with pytest.raises(ConfigError, match="a token must be from 0 to 19"):
        small.answer(QUESTION)
    with pytest.raises(ConfigError, match="a token must be from 0 to 19"):
        small.choose(QUESTION, ["a wind", "a shock"])


@pytest.mark.parametrize("max_chunk_tokens", [1, 3, 4, 6, 9])
def test_one_passage_that_is_cut_is_the_same_in_every_mode(max_chunk_tokens):
    settings = {"found": [WING], "max_chunk_tokens": max_chunk_tokens}

    answers = [pipeline(**settings, mode=mode).answer(QUESTION) for mode in ("token", "concat")]

    assert answers[0].num_prompt_tokens == answers[1].num_prompt_tokens
    assert answers[0].text == answers[1].text


def test_only_a_closed_book_goes_without_a_retriever():
    with pytest.raises(ConfigError, match="needs a retriever"):
        RagPipeline(None, (MODEL, TOKENIZER))

    answer = RagPipeline(None, (MODEL, TOKENIZER), mode="closed-book").answer(QUESTION)

    assert answer.passages == ()


@pytest.mark.parametrize("questions", ["one text", ["a", " "]])
def test_questions_must_be_texts_that_are_not_empty(questions):
    with pytest.raises(ConfigError, match="expected questions that are not empty"):
        pipeline().answer_batch(questions)


def test_no_questions_have_no_answers():
    assert pipeline().answer_batch([]) == []
