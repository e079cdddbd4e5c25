"""Prompts of a question: one for each passage, one for all, or one without any."""

from collections.abc import Sequence
from dataclasses import dataclass, replace

from transformers import PreTrainedTokenizerBase

from ragkit.decoding.detokenizing import decode_tokens
from ragkit.decoding.mixture import MixtureRequest, mixture_request
from ragkit.decoding.shared_prefix import SplitPrompt
from ragkit.rag.answers import CitedPassage
from ragkit.rag.modes import Mode
from ragkit.rag.prompts import Demonstration, PromptBuilder
from ragkit.rag.template import PromptTemplate, format_passage

PASSAGE_SEPARATOR = "\n"


@dataclass(frozen=True, slots=True)
class Ensemble:
    """A question, its passages, and the weighted prompts that are made of them."""

    question: str
    passages: tuple[CitedPassage, ...]
    request: MixtureRequest


class EnsembleBuilder:
    """Makes the prompts of questions in one mode.

    Args:
        demonstrations: Stand first in every prompt; in `closed-book` without their passages.
        max_length: Tokens that the model reads, answer included.
        max_chunk_tokens: Most tokens of a passage.

    Raises:
        ConfigError: A length is below 1.
    """

    def __init__(
        self,
        tokenizer: PreTrainedTokenizerBase,
        *,
        mode: Mode,
        template: PromptTemplate,
        demonstrations: Sequence[Demonstration],
        max_length: int,
        max_chunk_tokens: int | None,
    ) -> None:
        self._tokenizer, self._mode, self._template = tokenizer, mode, template
        self._max_chunk_tokens = max_chunk_tokens
        if mode == "closed-book":
            demonstrations = [replace(one, passage="") for one in demonstrations]
        self._demonstrations = tuple(demonstrations)
        self.prompts = PromptBuilder(
            tokenizer,
            template=template,
            max_length=max_length,
            max_chunk_tokens=max_chunk_tokens,
        )
        # Several passages together are one to the builder, and each was cut before.
        self._joined = PromptBuilder(tokenizer, template=template, max_length=max_length)
        self._joined.cuts = self.prompts.cuts

    def build(self, question: str, passages: Sequence[CitedPassage], *, reserve: int) -> Ensemble:
        """The prompts of a question; without passages, one that shows none.

        Args:
            reserve: Tokens that are kept free for the answer.

        Raises:
            ConfigError: There is no room for the question.
        """
        texts = [format_passage(one.title, one.text, template=self._template) for one in passages]
        weights = [one.log_weight for one in passages]
        shown: list[str | None] = [*texts]
        builder = self.prompts
        if self._mode == "concat" and len(texts) > 1:
            shown, weights = [PASSAGE_SEPARATOR.join(map(self._cut, texts))], [0.0]
            builder = self._joined
        prompts = [
            self._split(builder, question, text, reserve=reserve) for text in (shown or [None])
        ]
        return Ensemble(question, tuple(passages), mixture_request(prompts, weights or [0.0]))

    def _split(
        self, builder: PromptBuilder, question: str, text: str | None, *, reserve: int
    ) -> SplitPrompt:
        prompt = builder.build(question, text, reserve=reserve, demonstrations=self._demonstrations)
        return SplitPrompt(prompt.prefix, prompt.background + prompt.question)

    def _cut(self, text: str) -> str:
        """A passage, as much of it as may stand beside others."""
        if self._max_chunk_tokens is None:
            return text
        ids = self._tokenizer(text, add_special_tokens=False, split_special_tokens=True).input_ids
        if len(ids) <= self._max_chunk_tokens:
            return text
        self.prompts.cuts["chunks"] += 1
        return decode_tokens(self._tokenizer, ids[: self._max_chunk_tokens])
