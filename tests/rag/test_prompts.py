import itertools

import pytest
from hypothesis import given
from hypothesis import strategies as st
from tokenizers import processors

from ragkit.errors import ConfigError
from ragkit.rag.prompts import Demonstration, PromptBuilder
from ragkit.rag.template import PromptTemplate, format_passage
from tests.decoding.tiny import BOS, EOS, tiny_tokenizer

TOKENIZER = tiny_tokenizer()
PASSAGE = "the wing of the wind, " * 12
SHOWN = (
    Demonstration("what is hot?", "the shock", "the heat of the shock"),
    Demonstration("what flies?", "the wing"),
)


def builder(max_length=4_000, **options):
    return PromptBuilder(TOKENIZER, max_length=max_length, **options)


def text(ids):
    return TOKENIZER.decode(ids)


def test_a_prompt_reads_as_the_paper_writes_it():
    prompt = builder().build("Who flies?", "the wing", reserve=0)

    assert text(prompt.background) == "Background: the wing\n\n"
    assert text(prompt.question) == "Q: Who flies?\nA:"
    assert prompt.tokens == prompt.prefix + prompt.background + prompt.question


def test_markers_are_chosen_by_number():
    maker = builder()

    prompts = [maker.build("Who?", None, reserve=0, markers=(i, i % 2)) for i in range(3)]

    assert [text(p.question) for p in prompts] == [
        "Q: Who?\nA:",
        "Question: Who?\nAnswer:",
        "Who?\nA:",
    ]


def test_demonstrations_stand_in_front_with_their_own_passages():
    prompt = builder().build("Who?", "the wing", reserve=0, demonstrations=SHOWN)

    assert text(prompt.prefix) == (
        "Background: the heat of the shock\n\nQ: what is hot?\nA: the shock\n\n"
        "Q: what flies?\nA: the wing\n\n"
    )


def test_the_prefix_is_the_same_for_every_passage():
    maker = builder()

    first, second = (
        maker.build("Who?", passage, reserve=0, demonstrations=SHOWN) for passage in ("a", "b b")
    )

    assert first.prefix == second.prefix
    assert first.question == second.question


@pytest.mark.parametrize("passage", [None, "", " \n"])
def test_without_a_passage_there_is_no_background(passage):
    assert builder().build("Who?", passage, reserve=0).background == ()


def test_a_bos_token_comes_first_only_where_the_tokenizer_puts_one():
    with_bos = tiny_tokenizer()
    with_bos.backend_tokenizer.post_processor = processors.TemplateProcessing(
        single=f"{BOS} $A", special_tokens=[(BOS, with_bos.bos_token_id)]
    )

    prefixes = [
        PromptBuilder(tokenizer, max_length=99).build("a", "b", reserve=0).prefix
        for tokenizer in (TOKENIZER, with_bos)
    ]

    assert prefixes == [(), (with_bos.bos_token_id,)]


def test_an_answer_begins_with_a_space_and_ends_with_eos_if_asked():
    maker = builder()

    bare, ended = (maker.encode_target(" the wing ", eos=eos) for eos in (False, True))

    assert text(bare) == " the wing"
    assert ended == (*bare, TOKENIZER.eos_token_id)


def test_special_tokens_spelled_in_a_passage_are_plain_text():
    prompt = builder().build(f"is {EOS} the end?", f"{BOS} the wing {EOS}", reserve=0)

    assert not {TOKENIZER.bos_token_id, TOKENIZER.eos_token_id} & set(prompt.tokens)
    assert EOS in text(prompt.question)


@given(max_length=st.integers(40, 700), reserve=st.integers(0, 9), num_shown=st.integers(0, 2))
def test_a_prompt_fits_and_keeps_its_markers(max_length, reserve, num_shown):
    maker = builder(max_length)

    prompt = maker.build(
        "Who flies? " * 4, PASSAGE, reserve=reserve, demonstrations=SHOWN[:num_shown]
    )

    assert len(prompt.tokens) <= max_length - reserve
    assert text(prompt.question).startswith("Q:")
    assert text(prompt.question).endswith("Who flies?\nA:")
    assert not prompt.background or text(prompt.background).endswith("\n\n")


def test_room_goes_first_from_the_passage_then_from_demonstrations_then_from_the_question():
    question = "Who flies? " * 4
    whole = builder().build(question, PASSAGE, reserve=0, demonstrations=SHOWN)
    lengths = range(len(whole.tokens), 30, -1)

    prompts = [
        builder(length).build(question, PASSAGE, reserve=0, demonstrations=SHOWN)
        for length in lengths
    ]

    for longer, shorter in itertools.pairwise(prompts):
        if shorter.question != longer.question:
            assert not longer.background
        if shorter.prefix != longer.prefix:
            assert longer.prefix[len(longer.prefix) - len(shorter.prefix) :] == shorter.prefix
            assert len(longer.background) < len(whole.background)
    assert prompts[0] == whole
    assert prompts[-1].prefix == ()


def test_what_was_cut_is_counted():
    maker = builder(90, max_chunk_tokens=50)

    maker.build("Who flies?", PASSAGE, reserve=0, demonstrations=SHOWN)

    assert maker.cuts == {"chunks": 1, "demonstrations": 2}


def test_nothing_is_counted_where_nothing_was_cut():
    maker = builder()

    maker.build("Who flies?", PASSAGE, reserve=5, demonstrations=SHOWN)

    assert not maker.cuts


def test_a_question_without_room_is_refused():
    with pytest.raises(ConfigError, match="raise max_length"):
        builder(7).build("Who flies over the wing?", None, reserve=2)


@pytest.mark.parametrize("options", [{"max_length": 0}, {"max_length": 5, "max_chunk_tokens": 0}])
def test_lengths_below_one_are_refused(options):
    with pytest.raises(ConfigError, match="must be 1 or more"):
        PromptBuilder(TOKENIZER, **options)


def test_a_title_stands_on_its_own_line_unless_it_is_left_out():
    bare = PromptTemplate(with_title=False)

    formatted = [format_passage("Wings", "They fly.", template=t) for t in (PromptTemplate(), bare)]

    assert formatted == ["Wings\nThey fly.", "They fly."]
    assert format_passage("", "They fly.", template=PromptTemplate()) == "They fly."


def test_templates_that_differ_have_different_fingerprints():
    templates = [
        PromptTemplate(),
        PromptTemplate(background="Text: "),
        PromptTemplate(with_title=False),
    ]

    assert len({template.fingerprint() for template in templates}) == 3
    assert PromptTemplate().fingerprint() == PromptTemplate().fingerprint()


@pytest.mark.parametrize(
    ("fields", "hint"),
    [
        ({"question_markers": ()}, "at least one marker"),
        ({"answer_markers": ("A: ",)}, "leave it out"),
    ],
)
def test_a_template_that_cannot_work_is_refused(fields, hint):
    with pytest.raises(ConfigError, match=hint):
        PromptTemplate(**fields)


def test_a_passage_takes_the_room_that_a_dropped_demonstration_leaves():
    long_passage = "the wing of the wind, " * 6
    whole = builder().build("Who?", long_passage, reserve=0, demonstrations=SHOWN)
    kept = len(whole.background) + len(whole.question)

    prompt = builder(kept + 3).build("Who?", long_passage, reserve=0, demonstrations=SHOWN)

    assert prompt.background == whole.background
    assert prompt.prefix == ()
