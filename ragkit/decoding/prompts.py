"""Prompts as tokens: plain text, or a conversation in the model's chat template."""

from collections.abc import Mapping, Sequence
from typing import TypeAlias

from jinja2 import TemplateError
from transformers import PreTrainedModel, PreTrainedTokenizerBase

from ragkit.data.text import clean
from ragkit.decoding.options import DEFAULT_MAX_NEW_TOKENS
from ragkit.errors import ConfigError, DataError
from ragkit.models.interface import max_context_length

Message: TypeAlias = Mapping[str, str]
"""One turn of a conversation: `role` and `content`."""

Prompt: TypeAlias = str | Sequence[Message]
"""A text to go on with, or a conversation to answer."""


def encode_prompt(
    tokenizer: PreTrainedTokenizerBase,
    prompt: Prompt,
    *,
    chat: bool = False,
    system: str | None = None,
) -> list[int]:
    """Token ids of `prompt`, at least one.

    Args:
        prompt: An empty text stands for the beginning of any text.
        chat: Whether a text is what the user says in a conversation.
        system: What the system says first, unless the conversation begins with that itself.

    Raises:
        ConfigError: The tokenizer has no chat template, or a system prompt has no conversation.
        DataError: The prompt is empty and the tokenizer has no BOS token, a message is not one, or
            the template does not take these turns.
    """
    if isinstance(prompt, str) and not chat:
        if system is not None:
            raise ConfigError(
                "a system prompt belongs to a conversation: ask for one with chat (--chat), or "
                "write its text into the prompt"
            )
        return _encode_text(tokenizer, prompt)
    turns = [{"role": "user", "content": prompt}] if isinstance(prompt, str) else prompt
    return _encode_turns(tokenizer, _check_turns(turns, system=system))


def _encode_text(tokenizer: PreTrainedTokenizerBase, text: str) -> list[int]:
    ids = list(tokenizer(clean(text)[0])["input_ids"])
    bos = tokenizer.bos_token_id
    if not ids and bos is None:
        raise DataError("the prompt is empty and the tokenizer has no BOS token: write a prompt")
    if bos is not None and ids[:2] == [bos, bos]:
        return ids[1:]  # one in the text, and one that the tokenizer put before it
    return ids or [bos]


def _check_turns(turns: Sequence[object], *, system: str | None) -> list[dict[str, str]]:
    checked = []
    for number, turn in enumerate(turns, start=1):
        given = turn if isinstance(turn, Mapping) else {}
        role, content = given.get("role"), given.get("content")
        if not isinstance(role, str) or not isinstance(content, str):
            raise DataError(
                f"message {number} must have a role and a content, both strings, got {turn!r}: "
                'write {"role": "user", "content": "..."}'
            )
        checked.append({"role": role, "content": clean(content)[0]})
    if not checked:
        raise DataError("a conversation needs at least one message, got none")
    if system is not None and checked[0]["role"] != "system":
        checked.insert(0, {"role": "system", "content": clean(system)[0]})
    return checked


def _encode_turns(tokenizer: PreTrainedTokenizerBase, turns: list[dict[str, str]]) -> list[int]:
    if not tokenizer.chat_template:
        raise ConfigError(
            "the tokenizer has no chat template: choose an instruction-tuned model, set "
            "tokenizer.chat_template, or prompt with plain text (without --chat)"
        )
    try:
        # The template writes the BOS token itself, so that none is added.
        ids = tokenizer.apply_chat_template(turns, add_generation_prompt=True, return_dict=False)
    except TemplateError as error:
        roles = ", ".join(turn["role"] for turn in turns)
        raise DataError(
            f"the model's chat template does not take turns of {roles} ({error}): use the roles "
            "and the order that it knows"
        ) from error
    return list(ids)


def check_tokens(model: PreTrainedModel, prompt: Sequence[int]) -> None:
    """Pass if the model has an embedding for each token.

    Raises:
        ConfigError: It has not.
    """
    vocab_size = model.config.get_text_config().vocab_size
    strange = [token for token in (min(prompt), max(prompt)) if not 0 <= token < vocab_size]
    if strange:
        raise ConfigError(
            f"a token must be from 0 to {vocab_size - 1}, as the model's vocab_size is "
            f"{vocab_size}, got {strange[0]}: encode the prompt with the model's own tokenizer"
        )


def num_new_tokens(
    model: PreTrainedModel, *, num_prompt_tokens: int, max_new_tokens: int | None
) -> int:
    """Most tokens that may follow a prompt.

    Args:
        max_new_tokens: `None` for the default, lowered to what the model has room for.

    Raises:
        ConfigError: The model has no positions for the prompt and all that may follow.
    """
    wanted = max_new_tokens or DEFAULT_MAX_NEW_TOKENS
    limit = max_context_length(model)
    room = wanted if limit is None else limit - num_prompt_tokens
    if room >= wanted or (max_new_tokens is None and room > 0):
        return min(wanted, room)
    mend = f"set max_new_tokens to at most {room}" if room > 0 else "shorten the prompt"
    asked = "" if max_new_tokens is None else f" and {max_new_tokens=}"
    raise ConfigError(
        f"a prompt of {num_prompt_tokens} tokens{asked} is more than the model's "
        f"max_position_embeddings={limit}: {mend}"
    )
