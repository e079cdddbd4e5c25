"""Instruction records: one question, turn or text with its answers, whatever set it comes from."""

import logging
from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path

from ragkit.config import config
from ragkit.data.rejects import Rejects
from ragkit.errors import DataError
from ragkit.finetune.radit.json_rows import JsonRow, read_json_rows
from ragkit.finetune.radit.record_values import (
    RowError,
    Values,
    answers_of,
    choose,
    first_field,
    split_rationale,
    text_of,
    texts_of,
    turns_of,
)
from ragkit.finetune.radit.task_rules import TASKS, Task

SUMMARIZE = "Summarize the text above in a few sentences."
"""The query of a summarization record whose row has none."""

FIELDS: Mapping[str, tuple[str, ...]] = {
    "id": ("id", "_id", "example_id"),
    "query": ("question", "query", "instruction", "prompt", "input"),
    "answers": ("answers", "golden_answers", "answer", "target", "output", "summary"),
    "context": ("context", "article", "document"),
    "context_ids": ("passage_ids", "passage_id"),
    "choices": ("choices", "options"),
    "rationale": ("rationale", "facts", "explanation"),
    "turns": ("messages", "turns"),
    "text": ("text", "contents", "content"),
    "retrieval_query": ("retrieval_query",),
    "title": ("title",),
}
"""Names that are tried, in order, where `RecordFields` names none."""

logger = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class InstructionRecord:
    """One example of an instruction set, before any prompt is made of it.

    Args:
        id: Unique among all sets that are used together.
        query: The question or instruction; of a dialogue the latest turn; empty for plain text.
        answers: The first is the target, the others are as good; never empty.
        context: The background that belongs to the query; nothing is retrieved then.
        retrieval_query: What to search with, where the task's own rule does not serve.
        doc_id: The passage or document of the index that the record was cut from, which retrieval
            must not return; `None` for questions asked about the corpus.
        title: Of the context.
        rationale: The reasoning that leads to the answer.
        choices: What a multiple-choice question offers.
        history: The turns before the query, oldest first; the first is a question's.
    """

    id: str
    task: Task
    query: str
    answers: tuple[str, ...]
    context: str | None = None
    retrieval_query: str | None = None
    doc_id: str | None = None
    title: str = ""
    rationale: str = ""
    choices: tuple[str, ...] = ()
    history: tuple[str, ...] = ()


@config
class RecordFields:
    """The key of each part of a row; an empty one tries the well-known names in `FIELDS`."""

    id: str = ""
    """A row without id takes the names of file and folder and the number of its line."""
    query: str = ""
    """The question or instruction."""
    answers: str = ""
    """A text, a list of texts, a boolean or, with choices, a position or letter."""
    context: str = ""
    """The background as text."""
    context_ids: str = ""
    """Ids in the passages file; several are joined in order."""
    choices: str = ""
    """The texts to choose from."""
    rationale: str = ""
    """A text or a list of texts; without it an answer is cut at `####`, as in GSM8K."""
    turns: str = ""
    """Texts that alternate, or objects with `role` and `content`; the last is the target."""
    text: str = ""
    """Plain text for the task `text`."""
    retrieval_query: str = ""
    """What to search with instead of the task's own query."""
    title: str = ""
    """Title of the context."""


def read_records(
    path: Path,
    *,
    task: Task,
    fields: RecordFields | None = None,
    passages: Path | None = None,
    no_answer: str = "",
    rejects: Rejects | None = None,
    max_rejects: str | int = 0,
) -> list[InstructionRecord]:
    """The records of a JSON lines file, in its order.

    Args:
        path: Compressed or not.
        passages: JSON lines with `id`, `text` and perhaps `title`: the contexts that rows name by
            id.
        no_answer: Target of the rows whose list of answers is empty, such as `I don't know`; they
            are refused without it.
        rejects: Takes the rows that are refused; one for each file.
        max_rejects: Most rows that may be refused, as a number or a share such as `1%`.

    Raises:
        DataError: The file cannot be read, holds no record or too many rows are refused; the
            message names file and line.
    """
    rejects = Rejects() if rejects is None else rejects
    reader = _RecordReader(
        task, _named(fields or RecordFields()), read_passages(passages), no_answer
    )
    records: dict[str, InstructionRecord] = {}
    num_rows = 0
    for row in read_json_rows(path, rejects=rejects):
        num_rows += 1
        try:
            record = reader.record(row, label=_label(path))
        except RowError as error:
            rejects.refuse(row.source, str(error), code=error.code)
            continue
        if records.get(record.id) == record:
            rejects.refuse(row.source, f"the same record as {record.id!r}", code="duplicate")
        elif record.id in records:
            rejects.alter(row.source, f"another {record.id!r}: renamed", code="duplicate_id")
            record = replace(record, id=f"{record.id}:{row.number}")
        records[record.id] = record
    rejects.check(num_rows + rejects.counts["malformed"], max_rejects)
    if rejects.counts:
        logger.warning("%s: rows refused or altered: %s", path, dict(rejects.counts))
    if not records:
        raise DataError(f"{path} holds no record for the task {task!r}: name another task or file")
    return list(records.values())


def read_passages(path: Path | None) -> dict[str, tuple[str, str]]:
    """Title and text of each passage by its id, all texts of one id; nothing for `None`.

    Raises:
        DataError: The file cannot be read, or a line is no passage.
    """
    if path is None:
        return {}
    rejects = Rejects()
    found: dict[str, tuple[str, str]] = {}
    for row in read_json_rows(path, rejects=rejects):
        values = row.values
        if not isinstance(values.get("id"), str) or not isinstance(values.get("text"), str):
            rejects.refuse(row.source, "expected the texts `id` and `text`", code="missing_text")
            continue
        _, before = found.get(values["id"], ("", ""))
        text = f"{before}\n{values['text']}" if before else values["text"]
        found[values["id"]] = (str(values.get("title") or ""), text)
    rejects.check(len(found) + rejects.refused, 0)
    return found


def _label(path: Path) -> str:
    return f"{path.absolute().parent.name}/{path.name.partition('.')[0]}"


def _named(fields: RecordFields) -> dict[str, tuple[str, ...]]:
    """The names to try for each part."""
    chosen = {part: getattr(fields, part) for part in FIELDS}
    return {part: (chosen[part],) if chosen[part] else FIELDS[part] for part in FIELDS}


@dataclass(frozen=True, slots=True)
class _RecordReader:
    """Turns the rows of one file into records."""

    task: Task
    names: Mapping[str, tuple[str, ...]]
    passages: Mapping[str, tuple[str, str]]
    no_answer: str

    def record(self, row: JsonRow, *, label: str) -> InstructionRecord:
        values = row.values
        record_id = first_field(values, self.names["id"])
        record_id = f"{label}:{row.number}" if record_id is None else text_of(record_id, "id")
        if self.task == "text":
            text = self._required(values, "text")
            return InstructionRecord(record_id, self.task, "", (text,))
        if self.task == "dialogue":
            *history, query, answer = turns_of(first_field(values, self.names["turns"]))
            return InstructionRecord(record_id, self.task, query, (answer,), history=tuple(history))
        return self._question(record_id, values)

    def _question(self, record_id: str, values: Values) -> InstructionRecord:
        choices = self._choices(values)
        answers, rationale = self._reasoning(values, self._answers(values, choices))
        title, context = self._context(values) if TASKS[self.task].has_context else ("", None)
        return InstructionRecord(
            record_id,
            self.task,
            self._query(values),
            answers,
            context=context,
            retrieval_query=self._optional(values, "retrieval_query") or None,
            title=title,
            rationale=rationale,
            choices=choices,
        )

    def _query(self, values: Values) -> str:
        if self.task == "summarization" and first_field(values, self.names["query"]) is None:
            return SUMMARIZE
        return self._required(values, "query")

    def _choices(self, values: Values) -> tuple[str, ...]:
        if self.task != "multiple_choice":
            return ()
        return texts_of(first_field(values, self.names["choices"]), "choices")

    def _answers(self, values: Values, choices: tuple[str, ...]) -> tuple[str, ...]:
        value = first_field(values, self.names["answers"])
        if choices:
            return choose(value, choices)
        answers = answers_of(value) or ((self.no_answer,) if self.no_answer else ())
        if not answers:
            raise RowError("no answer: give no_answer to keep such rows", "no_answer")
        return answers

    def _reasoning(self, values: Values, answers: tuple[str, ...]) -> tuple[tuple[str, ...], str]:
        """Final answers, and the reasoning that leads to them if the task asks for it."""
        if self.task != "chain_of_thought":
            return answers, ""
        rationale = self._optional(values, "rationale")
        if rationale:
            return answers, rationale
        rationale, final = split_rationale(answers[0])
        return (final,), rationale

    def _context(self, values: Values) -> tuple[str, str]:
        """Title and text of the background."""
        title = self._optional(values, "title")
        if not self.passages:
            return title, self._required(values, "context")
        ids = texts_of(first_field(values, self.names["context_ids"]), "passage ids")
        unknown = [name for name in ids if name not in self.passages]
        if unknown:
            raise RowError(f"no passage has the id {unknown[0]!r}", "missing_context")
        found = [self.passages[name] for name in ids]
        # A blank line would end the background.
        return title or found[0][0], "\n".join(text for _, text in found)

    def _required(self, values: Values, part: str) -> str:
        value = first_field(values, self.names[part])
        if value is None:
            expected, found = " or ".join(self.names[part]), ", ".join(values) or "none"
            raise RowError(f"expected a field {expected}, found {found}", f"missing_{part}")
        return text_of(value, part)

    def _optional(self, values: Values, part: str) -> str:
        """A text, or several that belong together; empty if the row has none."""
        value = first_field(values, self.names[part])
        if value is None or value == "":
            return ""
        return " ".join(texts_of(value, part))
