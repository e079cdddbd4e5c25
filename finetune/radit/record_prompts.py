"""Prompts and targets of instruction records."""

from collections import Counter
from dataclasses import replace

import xxhash
from transformers import PreTrainedTokenizerBase

from ragkit.finetune.radit.records import InstructionRecord
from ragkit.finetune.radit.task_rules import TASKS
from ragkit.finetune.radit.tasks import prompt_query, target_text
from ragkit.rag.prompts import Ids, Prompt, PromptBuilder
from ragkit.rag.template import PromptTemplate, format_passage

MIN_PROMPT_TOKENS = 64
"""So much of the window stays for the prompt, however long a target is."""


class RecordPrompter:
    """Writes records as prompts, each task as it needs.

    Args:
        template: Of questions; texts that only go on stand without its markers.
        max_length: Tokens that the model reads, target included.
        max_chunk_tokens: Most tokens of a retrieved passage; a record's own context is cut only
            where the window is too small.
        seed: Draws the markers of each record; `None` takes the first of each kind.
    """

    def __init__(
        self,
        tokenizer: PreTrainedTokenizerBase,
        *,
        template: PromptTemplate,
        max_length: int,
        max_chunk_tokens: int | None = None,
        seed: int | None = None,
    ) -> None:
        self.template = template
        self.max_target_length = max_length - min(MIN_PROMPT_TOKENS, max_length // 2)
        """Longest target beside a prompt."""
        self._seed = seed
        bare = replace(template, question_markers=("",), question_end="", answer_markers=("",))
        self._asking = PromptBuilder(
            tokenizer, template=template, max_length=max_length, max_chunk_tokens=max_chunk_tokens
        )
        self._continuing = PromptBuilder(
            tokenizer, template=bare, max_length=max_length, max_chunk_tokens=max_chunk_tokens
        )
        self._reading = PromptBuilder(tokenizer, template=template, max_length=max_length)

    @property
    def cuts(self) -> Counter[str]:
        """What prompts lost for want of room, as `PromptBuilder.cuts` counts it."""
        return self._asking.cuts + self._continuing.cuts + self._reading.cuts

    def prompt(self, record: InstructionRecord, passage: str | None, *, reserve: int) -> Prompt:
        """The prompt of a record with one passage.

        Args:
            passage: As `format_passage` writes it; `None` for no background.
            reserve: Tokens that are kept free for the target.

        Raises:
            ConfigError: The window is too small for the markers and one token of the question.
        """
        rule = TASKS[record.task]
        if rule.continues:
            return self._continuing.build(record.query, passage, reserve=reserve)
        builder = self._reading if rule.has_context else self._asking
        question, answer = self._markers(record)
        query = prompt_query(
            record,
            question_marker=self.template.question_markers[question],
            question_end=self.template.question_end,
            answer_marker=self.template.answer_markers[answer],
        )
        return builder.build(query, passage, reserve=reserve, markers=(question, answer))

    def own_passage(self, record: InstructionRecord) -> str | None:
        """The background that a record brings along; `None` if it brings none."""
        if record.context is None:
            return None
        return format_passage(record.title, record.context, template=self.template)

    def target(self, record: InstructionRecord, *, eos: bool) -> Ids:
        """The token ids of what the LM should say, whatever their number."""
        return self._asking.encode_target(target_text(record), eos=eos)

    def _markers(self, record: InstructionRecord) -> tuple[int, int]:
        """Which question marker and which answer marker the record has."""
        if self._seed is None:
            return 0, 0
        drawn = xxhash.xxh3_64_intdigest(f"{self._seed}:{record.id}".encode())
        drawn, question = divmod(drawn, len(self.template.question_markers))
        return question, drawn % len(self.template.answer_markers)
