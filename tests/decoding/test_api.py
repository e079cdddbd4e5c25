"""Text in, text out: prompts, conversations, and pieces as they come."""

import pytest
from transformers import LogitsProcessor

from ragkit.decoding import GenerationOptions, generate, stream
from ragkit.decoding.prompts import encode_prompt
from ragkit.errors import ConfigError, DataError
from tests.decoding.tiny import BOS, tiny_llama, tiny_tokenizer

TOKENIZER = tiny_tokenizer()
SHORT = GenerationOptions(max_new_tokens=30)
STRICT = (
    "{% for m in messages %}{% if m['role'] == 'system' %}{{ raise_exception('no system') }}"
    "{% endif %}{{ m['content'] }}{% endfor %}"
)


def test_streamed_pieces_are_the_text_of_generate():
    model = tiny_llama(seed=2)
    pieces = stream(model, TOKENIZER, "the wing", options=SHORT)

    shown = list(pieces)

    [whole] = generate(model, TOKENIZER, ["the wing"], options=SHORT)
    assert "".join(shown) == whole.text
    assert pieces.generation == whole
    assert len(shown) > 1


def test_a_stream_that_is_not_read_to_its_end_has_no_result():
    pieces = stream(tiny_llama(), TOKENIZER, "the wing", options=SHORT)

    with pytest.raises(ConfigError, match="nothing was generated yet"):
        _ = pieces.generation
    next(iter(pieces))
    with pytest.raises(ConfigError, match="not finished: read the pieces"):
        _ = pieces.generation


class Interrupt(LogitsProcessor):
    """Presses Ctrl-C at the third token."""

    def __init__(self):
        self._count = 0

    def __call__(self, input_ids, scores):
        self._count += 1
        if self._count == 3:
            raise KeyboardInterrupt
        return scores


def test_what_was_shown_before_an_interrupt_stands_and_the_model_is_as_before():
    model = tiny_llama()
    [whole] = generate(model, TOKENIZER, ["of"], options=SHORT)
    shown = []

    with pytest.raises(KeyboardInterrupt):
        shown.extend(stream(model, TOKENIZER, "of", options=SHORT, processors=[Interrupt()]))

    assert whole.text.startswith("".join(shown))
    assert generate(model, TOKENIZER, ["of"], options=SHORT) == [whole]


def test_a_conversation_is_put_in_the_chat_template():
    turns = [{"role": "user", "content": "wing?"}]

    ids = encode_prompt(TOKENIZER, turns, system="be brief")

    assert TOKENIZER.decode(ids) == f"{BOS}system:be brief<|turn|>user:wing?<|turn|>assistant:"
    assert ids == encode_prompt(TOKENIZER, "wing?", chat=True, system="be brief")
    assert ids.count(TOKENIZER.bos_token_id) == 1


def test_a_system_message_of_the_conversation_wins():
    turns = [{"role": "system", "content": "be long"}, {"role": "user", "content": "x"}]

    ids = encode_prompt(TOKENIZER, turns, system="be brief")

    assert "be brief" not in TOKENIZER.decode(ids)


def test_a_bos_token_in_the_prompt_is_not_doubled():
    tokenizer = tiny_tokenizer()
    tokenizer.add_bos_token = True
    tokenizer.update_post_processor()

    ids = encode_prompt(tokenizer, f"{BOS}wing")

    assert ids == encode_prompt(tokenizer, "wing")
    assert ids.count(tokenizer.bos_token_id) == 1


def test_the_empty_prompt_is_the_beginning_of_a_text():
    assert encode_prompt(TOKENIZER, "") == [TOKENIZER.bos_token_id]


def test_a_prompt_that_is_not_unicode_is_read_all_the_same():
    ids = encode_prompt(TOKENIZER, "a\udcff\x00b")

    assert TOKENIZER.decode(ids) == "a\N{REPLACEMENT CHARACTER}b"


REFUSED = {
    "text": ({"prompt": "x", "system": "s"}, ConfigError, r"ask for one with chat \(--chat\)"),
    "no turns": ({"prompt": []}, DataError, "at least one message"),
    "no content": ({"prompt": [{"role": "user"}]}, DataError, "message 1 must have a role"),
    "no mapping": ({"prompt": ["hello"]}, DataError, "message 1 must have a role"),
    "number": ({"prompt": [{"role": "user", "content": 5}]}, DataError, "both strings"),
}


@pytest.mark.parametrize(("arguments", "kind", "hint"), REFUSED.values(), ids=REFUSED)
def test_a_malformed_prompt_is_refused(arguments, kind, hint):
    with pytest.raises(kind, match=hint):
        encode_prompt(TOKENIZER, **arguments)


def test_a_tokenizer_without_a_template_has_no_conversations():
    with pytest.raises(ConfigError, match=r"no chat template: choose .* \(without --chat\)"):
        encode_prompt(tiny_tokenizer(chat_template=None), "x", chat=True)


def test_turns_that_the_template_does_not_take_are_named():
    tokenizer = tiny_tokenizer(chat_template=STRICT)

    with pytest.raises(DataError, match=r"turns of system, user \(no system\)"):
        encode_prompt(tokenizer, "x", chat=True, system="s")


def test_an_empty_prompt_needs_a_bos_token():
    tokenizer = tiny_tokenizer()
    tokenizer.bos_token = None

    with pytest.raises(DataError, match="no BOS token: write a prompt"):
        encode_prompt(tokenizer, "")


def test_one_string_is_not_a_list_of_prompts():
    with pytest.raises(ConfigError, match=r"write \[prompt\]"):
        generate(tiny_llama(), TOKENIZER, "the wing")
