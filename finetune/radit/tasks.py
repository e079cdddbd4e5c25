"""What a record of each task puts into the prompt, and what it searches with.

After Lin et al. 2023 (arXiv:2310.01352, appendix C). The paper leaves open what multiple choice
searches with: here it is the question and the choices.
"""

from string import ascii_uppercase

from ragkit.finetune.radit.records import InstructionRecord
from ragkit.finetune.radit.task_rules import TASKS

FINAL_ANSWER = "The answer is {answer}."
"""Ends the target of a chain of thought."""


def retrieval_query(record: InstructionRecord) -> str | None:
    """What to search with; `None` where nothing is to be retrieved."""
    if not TASKS[record.task].retrieves:
        return None
    if record.retrieval_query is not None:
        return record.retrieval_query
    return "\n".join((*record.history, record.query, *record.choices))


def prompt_query(
    record: InstructionRecord, *, question_marker: str, question_end: str, answer_marker: str
) -> str:
    """What stands in the prompt between the first question marker and the last answer marker."""
    if record.choices:
        lettered = zip(ascii_uppercase, record.choices, strict=False)
        options = [f"{letter}. {choice}" for letter, choice in lettered]
        return "\n".join([record.query, *options])
    text = ""
    for question, answer in zip(record.history[::2], record.history[1::2], strict=True):
        text += f"{question}{question_end}{answer_marker} {answer}{question_end}{question_marker}"
    return text + record.query


def target_text(record: InstructionRecord) -> str:
    """What the LM should say: the first answer, after the reasoning where there is one.

    Reasoning stands on one line, because a line's end ends an answer.
    """
    if record.task != "chain_of_thought":
        return record.answers[0]
    return " ".join([*record.rationale.split(), FINAL_ANSWER.format(answer=record.answers[0])])
