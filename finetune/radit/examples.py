"""The examples of a run: which are learnt from, and which are kept back to measure by."""

from collections.abc import Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np

from ragkit.config import data_folder
from ragkit.errors import ConfigError
from ragkit.evaluation.qa.questions import read_questions
from ragkit.finetune.radit.leaks import drop_leaks
from ragkit.finetune.radit.mixture import MixturePart, mix
from ragkit.finetune.radit.recipe import LmStage, RaditRecipe, RetrieverStage, TaskSet
from ragkit.finetune.radit.records import InstructionRecord, read_records
from ragkit.finetune.radit.task_rules import TASKS

Records = list[InstructionRecord]


@dataclass(frozen=True)
class TaskExamples:
    """The records of one set."""

    options: TaskSet
    train: Records
    held_out: Records


@dataclass(frozen=True)
class Examples:
    """The records of all sets.

    Args:
        leaks: What was found of the test questions in each set, by its name.
    """

    sets: Sequence[TaskExamples]
    leaks: dict[str, dict[str, Any]]

    @property
    def held_out(self) -> Records:
        """All that is kept back."""
        return [record for one in self.sets for record in one.held_out]

    def for_lm(self, stage: LmStage, *, seed: int) -> Records:
        """What the LM learns from: a mixture of the sets."""
        parts = [MixturePart(one.options.name, one.train, one.options.share) for one in self.sets]
        return mix(parts, seed=seed, num_examples=stage.num_examples, cap=stage.cap).examples

    def for_retriever(self, stage: RetrieverStage, *, seed: int) -> Records:
        """What the retriever learns from: sets that retrieve, by their sizes."""
        parts = [
            MixturePart(one.options.name, one.train)
            for one in self.sets
            if one.options.for_retriever and TASKS[one.options.task].retrieves
        ]
        if not parts:
            raise ConfigError(
                "no task set is for the retriever: give one whose task retrieves, such as open_qa, "
                "or set retriever to null"
            )
        return mix(parts, seed=seed, num_examples=stage.num_examples, cap=None).examples


def read_examples(recipe: RaditRecipe) -> Examples:
    """The records of the recipe's sets without those that ask test questions.

    Raises:
        ConfigError: A set is too small for what is to be kept back.
        DataError: A file is missing or malformed.
    """
    data = data_folder(recipe.data_dir)
    asked = _test_queries(recipe, data)
    sets, leaks = [], {}
    for options in recipe.tasks:
        records = read_records(
            data / options.file,
            task=options.task,
            fields=options.fields,
            passages=data / options.passages if options.passages else None,
        )
        # Sets may have ids, and even files, in common.
        records = [replace(record, id=f"{options.name}:{record.id}") for record in records]
        kept, report = drop_leaks(records, asked)
        leaks[options.name] = asdict(report)
        sets.append(_split(options, kept, num_held_out=recipe.num_held_out, seed=recipe.seed))
    return Examples(sets, leaks)


def _test_queries(recipe: RaditRecipe, data: Path) -> list[str]:
    if recipe.test is None:
        return []
    return [question.text for question in read_questions(data / recipe.test.file)]


def _split(options: TaskSet, records: Records, *, num_held_out: int, seed: int) -> TaskExamples:
    if len(records) <= num_held_out:
        raise ConfigError(
            f"the set {options.name} has {len(records)} examples, too few to keep {num_held_out} "
            "back: lower num_held_out"
        )
    order = np.random.default_rng([seed, len(records)]).permutation(len(records)).tolist()
    mixed = [records[place] for place in order]
    return TaskExamples(options, train=mixed[num_held_out:], held_out=mixed[:num_held_out])
