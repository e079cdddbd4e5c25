"""What each step brings: closed book, retrieval without tuning, either step alone, and both."""

import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from importlib.resources import files
from pathlib import Path
from typing import Any

import numpy as np
import xxhash
from rich.table import Table
from rich.text import Text

from ragkit.config import adapter, data_folder
from ragkit.console import progress
from ragkit.decoding.options import GenerationOptions
from ragkit.errors import ConfigError
from ragkit.evaluation.qa.bootstrap import Estimate, bootstrap_means
from ragkit.evaluation.qa.evaluate import compare_reports, evaluate_answers
from ragkit.evaluation.qa.metrics import passage_recall_at
from ragkit.evaluation.qa.questions import (
    Question,
    read_ids,
    read_questions,
    sample_questions,
    select_questions,
)
from ragkit.evaluation.qa.report import QaReport, RunFacts, save_report
from ragkit.finetune.radit.recipe import RaditRecipe, TestOptions
from ragkit.finetune.radit.rounds import ABLATION, Tuned, find_tuned, prepare_index, resolved
from ragkit.models.loading import load_model
from ragkit.rag.pipeline import RagPipeline
from ragkit.retrieval.retriever import Retriever
from ragkit.training.folder import RunFolder
from ragkit.training.metrics_file import MetricsFile


@dataclass(frozen=True)
class Arm:
    """One of the systems that are compared.

    Args:
        tunes_lm: Whether the LM is the tuned one.
        tunes_retriever: Whether the query tower is the tuned one; `None` for closed book.
    """

    tunes_lm: bool
    tunes_retriever: bool | None


ARMS: Mapping[str, Arm] = {
    "closed_book": Arm(False, None),
    "none": Arm(False, False),
    "lm_ft": Arm(True, False),
    "r_ft": Arm(False, True),
    "both": Arm(True, True),
}


def run_ablation(recipe: RaditRecipe, *, overwrite: bool = False) -> dict[str, Any]:
    """How each arm answers the recipe's test questions, as JSON values.

    Tunes first where that was not done. Answers are kept below `out` as they come, so that a
    killed run goes on; without a tuned LM, or tower, the arms with one are left out.

    Args:
        overwrite: Answer all questions anew.

    Raises:
        ConfigError: The recipe has no test, or other questions were answered there.
        DataError: The questions cannot be read.
        CheckpointError, StorageError: As for `run_rounds` and `RagPipeline`.
    """
    if recipe.test is None:
        raise ConfigError("the recipe has no `test`: add the file of its questions")
    questions = _questions(recipe, recipe.test)  # before hours of tuning
    tuned = find_tuned(recipe)
    prepare_index(recipe)
    folder = Path(recipe.out) / ABLATION
    reports: dict[str, QaReport] = {}
    for name, arm in ARMS.items():
        if (arm.tunes_lm and not tuned.model) or (arm.tunes_retriever and not tuned.query_encoder):
            continue
        bench = _Bench(recipe, recipe.test, arm, tuned, folder / name)
        reports[name] = bench.run(questions, overwrite=overwrite)
    return _combine(reports, _recalls(recipe, recipe.test, tuned), num_questions=len(questions))


class _Bench:
    """One arm, and where its answers are kept."""

    def __init__(
        self, recipe: RaditRecipe, test: TestOptions, arm: Arm, tuned: Tuned, folder: Path
    ) -> None:
        self._recipe, self._test, self._arm = recipe, test, arm
        self._folder = RunFolder(folder)
        self._model = tuned.model if arm.tunes_lm and tuned.model else recipe.model
        self._query_encoder = tuned.query_encoder if arm.tunes_retriever else None
        self._mode = test.mode if arm.tunes_retriever is not None else "closed-book"

    def run(self, questions: Sequence[Question], *, overwrite: bool) -> QaReport:
        """Answer what is left to answer; the report of all."""
        with self._folder.locked():
            decided = {"run": resolved(self._recipe), **self._test_options()}
            asked = {"questions": {question.id: _hash(question) for question in questions}}
            self._folder.claim(decided, asked, overwrite=overwrite)
            file = self._folder.evaluations
            # Whole batches: in another batch the last bits of an answer's scores are others.
            done = len(file.lines())
            if done < len(questions):
                done -= done % self._test.batch_size
                file.cut(done)
                self._answer(questions, file, start=done)
            report = self._evaluate(questions, file.lines())
            save_report(report, self._folder.path)
        return report

    def _test_options(self) -> dict[str, Any]:
        return {"test": adapter(TestOptions).dump_python(self._test, mode="json")}

    def _answer(self, questions: Sequence[Question], file: MetricsFile, *, start: int) -> None:
        size = self._test.batch_size
        pipeline = self._open()
        with progress(f"answer ({self._folder.path.name})", total=len(questions) - start) as bar:
            for first in range(start, len(questions), size):
                batch = questions[first : first + size]
                answers = pipeline.answer_batch([one.text for one in batch], batch_size=size)
                for number, (one, answer) in enumerate(zip(batch, answers, strict=True), first + 1):
                    ids = [passage.doc_id for passage in answer.passages]
                    line = {"id": one.id, "answer": answer.text, "retrieved_ids": ids}
                    file.append({"step": number, **line, "log_score": answer.log_score})
                bar.advance(len(batch))

    def _open(self) -> RagPipeline:
        recipe, test = self._recipe, self._test
        retriever = None
        if self._mode != "closed-book":
            retriever = Retriever.open(recipe.corpus.index, query_encoder=self._query_encoder)
        return RagPipeline(
            retriever,
            load_model(self._model, dtype=recipe.dtype),
            k=test.k,
            mode=self._mode,
            retriever_temperature=recipe.retriever_temperature,
            template=recipe.template,
            options=GenerationOptions(max_new_tokens=test.max_new_tokens),
            max_length=recipe.max_length,
        )

    def _evaluate(
        self, questions: Sequence[Question], lines: Sequence[Mapping[str, Any]]
    ) -> QaReport:
        by_id = {line["id"]: line for line in lines}
        found = [by_id[question.id] for question in questions]
        searched = self._mode != "closed-book"
        return evaluate_answers(
            questions,
            [line["answer"] for line in found],
            [line["retrieved_ids"] for line in found] if searched else None,
            depths=(),
            facts=RunFacts(
                split=self._test.file,
                corpus_date="",
                k=self._test.k if searched else 0,
                mode=self._mode,
                template_hash=self._recipe.template.fingerprint(),
            ),
            seed=self._recipe.seed,
        )


def _hash(question: Question) -> str:
    return xxhash.xxh3_64_hexdigest(json.dumps(asdict(question)).encode())


def _questions(recipe: RaditRecipe, test: TestOptions) -> list[Question]:
    """The questions that are asked."""
    questions = read_questions(data_folder(recipe.data_dir) / test.file)
    if test.ids:
        shipped = Path(str(files("ragkit.recipes"))) / test.ids
        found = read_ids(shipped if shipped.is_file() else Path(test.ids))
        questions = select_questions(questions, found)
    if test.num_questions is None:
        return questions
    return sample_questions(questions, test.num_questions, seed=recipe.seed)


def _recalls(
    recipe: RaditRecipe, test: TestOptions, tuned: Tuned
) -> dict[bool, dict[str, Estimate]]:
    """Recall at 1 and at k over all questions of the file, without and with the tuned tower."""
    questions = read_questions(data_folder(recipe.data_dir) / test.file)
    questions = [question for question in questions if question.passage_ids]
    if not questions:
        return {}
    towers = {False: None, **({True: tuned.query_encoder} if tuned.query_encoder else {})}
    return {
        tunes: _recall(recipe, questions, tower, depths=(1, test.k))
        for tunes, tower in towers.items()
    }


def _recall(
    recipe: RaditRecipe,
    questions: Sequence[Question],
    query_encoder: str | None,
    *,
    depths: Sequence[int],
) -> dict[str, Estimate]:
    with Retriever.open(recipe.corpus.index, query_encoder=query_encoder) as retriever:
        found = retriever.search_batch([question.text for question in questions], max(depths))
    ids = [[hit.doc_id for hit in hits] for hits in found]
    values = {
        f"recall@{k}": [
            passage_recall_at(k, each, question.passage_ids)
            for each, question in zip(ids, questions, strict=True)
        ]
        for k in sorted(set(depths))
    }
    return bootstrap_means(values, generator=np.random.default_rng(recipe.seed))


def _combine(
    reports: Mapping[str, QaReport],
    recalls: Mapping[bool, Mapping[str, Estimate]],
    *,
    num_questions: int,
) -> dict[str, Any]:
    arms: dict[str, Any] = {}
    for name, report in reports.items():
        tunes = ARMS[name].tunes_retriever
        found = {**report.metrics, **(recalls.get(tunes, {}) if tunes is not None else {})}
        arms[name] = {metric: asdict(estimate) for metric, estimate in found.items()}
    gains = {
        name: {
            metric: asdict(estimate)
            for metric, estimate in compare_reports(report, reports["none"]).items()
        }
        for name, report in reports.items()
        if name != "none"
    }
    return {"arms": arms, "gains_over_none": gains, "questions": num_questions}


def ablation_table(report: Mapping[str, Any], *, title: str) -> Table:
    """A row per arm: each metric in points of 100, with its interval."""
    table = Table(title=Text(title))
    table.add_column("arm")
    metrics = list(report["arms"].get("none", {}))
    for metric in metrics:
        table.add_column(metric, justify="right")
    for name, found in report["arms"].items():
        cells = [
            "{mean:.1f} ({low:.1f} to {high:.1f})".format(
                **{key: 100 * found[metric][key] for key in ("mean", "low", "high")}
            )
            if metric in found
            else ""
            for metric in metrics
        ]
        table.add_row(name, *cells)
    return table
