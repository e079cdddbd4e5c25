"""The stages of one round; each leaves its result in a folder, and finds it there again."""

from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from ragkit.finetune.radit.candidates import Candidates
from ragkit.finetune.radit.corpus_examples import corpus_examples
from ragkit.finetune.radit.examples import Examples, Records
from ragkit.finetune.radit.instances import build_instances, scoring_pairs
from ragkit.finetune.radit.lm_tuning import tune_lm
from ragkit.finetune.radit.lsr_scoring import score_pairs
from ragkit.finetune.radit.recipe import LmStage, RaditRecipe, RetrieverStage
from ragkit.finetune.radit.record_prompts import RecordPrompter
from ragkit.finetune.radit.retrieve import retrieve_candidates
from ragkit.finetune.radit.retriever_tuning import RetrieverTuningOptions, tune_retriever
from ragkit.finetune.radit.score_cache import ScoreCache
from ragkit.finetune.radit.scored import ScoredRecords, gather_scored, training_rows
from ragkit.finetune.radit.scorer_id import identify_scorer
from ragkit.finetune.radit.task_rules import TASKS
from ragkit.index.reader import Index
from ragkit.models.loading import find_checkpoint, load_model
from ragkit.models.tokenizer import load_tokenizer
from ragkit.retrieval.retriever import Retriever
from ragkit.storage import make_folder
from ragkit.training import TrainingReport

SCORES = "scores"
"""Folder of the score cache, which all rounds share."""


@dataclass(frozen=True)
class State:
    """The models at hand between two stages.

    Args:
        model: The LM.
        query_encoder: The tuned query tower; `None` before the first was tuned.
    """

    model: str
    query_encoder: str | None


class Stages:
    """One round.

    Args:
        index: Folder of the index.
        folder: Where the results of the stages go.
    """

    def __init__(self, recipe: RaditRecipe, index: Path, examples: Examples, folder: Path) -> None:
        self._recipe, self._examples, self._folder = recipe, examples, folder
        self._path, self._index = index, Index.open(index)
        self._tokenizer = load_tokenizer(find_checkpoint(recipe.model))

    def run(self, state: State) -> tuple[State, dict[str, Any]]:
        """The models after the round, and what is worth telling of it, without times."""
        recipe, facts = self._recipe, {}
        if recipe.lm is not None:
            model, facts["lm"] = self._tune_lm(recipe.lm, state)
            state = State(model, state.query_encoder)
        if recipe.retriever is not None:
            tower, facts["retriever"] = self._tune_retriever(recipe.retriever, state)
            state = State(state.model, tower)
        return state, facts

    def _tune_lm(self, stage: LmStage, state: State) -> tuple[str, dict[str, Any]]:
        """Tune the LM on prompts with retrieved passages."""
        train = self._examples.for_lm(stage, seed=self._recipe.seed)
        held_out = self._examples.held_out
        found = self._retrieve(_once(train + held_out), stage.num_passages, state, name="lm")
        learnt, measured = (
            build_instances(
                records,
                self._prompter(seed=self._recipe.seed),
                index=self._index,
                candidates=found,
                num_passages=stage.num_passages,
            )
            for records in (train, held_out)
        )
        report = tune_lm(
            state.model,
            learnt.pairs,
            held_out=measured.pairs,
            options=stage.tuning,
            out=self._folder / "lm",
        )
        _require_finished(report)
        facts = {
            "examples": len(train),
            "instances": len(learnt),
            "without_passage": learnt.num_without_passage,
            "cuts": dict(learnt.cuts),
            "candidates": asdict(found.counts),
            "steps": report.steps,
            "tokens": report.num_tokens,
            "loss_nats": report.loss_nats,
            "held_out_loss_nats": report.eval_loss_nats,
        }
        return str(report.model), facts

    def _tune_retriever(self, stage: RetrieverStage, state: State) -> tuple[str, dict[str, Any]]:
        """Tune the query tower on what the LM makes of the passages."""
        tasks = self._examples.for_retriever(stage, seed=self._recipe.seed)
        corpus = self._corpus(stage)
        searching = [one for one in self._examples.held_out if TASKS[one.task].retrieves]
        everything = _once([*tasks, *corpus, *searching])
        found = self._retrieve(everything, stage.num_passages, state, name="retriever")
        scorer = state.model if stage.scorer == "tuned" else self._recipe.model
        scored = self._score(everything, found, scorer, stage)
        rows = training_rows(
            scored, tasks, corpus, task_share=stage.task_share, seed=self._recipe.seed
        )
        report = tune_retriever(
            self._index,
            rows,
            options=RetrieverTuningOptions(
                direction=stage.direction,
                retriever_temperature=self._recipe.retriever_temperature,
                training=stage.training,
            ),
            out=self._folder / "retriever",
            held_out=scored.of(searching),
            start=state.query_encoder,
        )
        _require_finished(report.training)
        facts = {
            "examples": len(tasks),
            "corpus_examples": len(corpus),
            "pairs": scored.num_pairs,
            "left_out": scored.left_out,
            "rows": len(rows),
            "rows_skipped": report.num_skipped,
            "cuts": dict(scored.cuts),
            "candidates": asdict(found.counts),
            "entropy_share": report.entropy_share,
            "steps": report.training.steps,
            "held_out_before": report.before,
            "held_out_after": report.after,
        }
        return str(report.encoder), facts

    def _score(
        self, records: Records, found: Candidates, scorer: str, stage: RetrieverStage
    ) -> ScoredRecords:
        """The LM's score of each record's candidates, from the cache where it has them."""
        pairs = scoring_pairs(records, self._prompter(), index=self._index, candidates=found)
        model, tokenizer = load_model(scorer, dtype=self._recipe.dtype)
        identity = identify_scorer(model, tokenizer, template=self._recipe.template)
        cache = ScoreCache(self._folder.parent / SCORES, identity)
        scored = score_pairs(model, pairs.pairs, cache=cache, batch_tokens=stage.batch_tokens)
        return gather_scored(
            records, pairs, scored, kind=stage.score, temperature=stage.temperature
        )

    def _corpus(self, stage: RetrieverStage) -> Records:
        """Examples that are made of the corpus itself."""
        if not stage.num_corpus_examples:
            return []
        return corpus_examples(
            self._index,
            self._tokenizer,
            num_examples=stage.num_corpus_examples,
            seed=self._recipe.seed,
        ).records

    def _retrieve(self, records: Records, k: int, state: State, *, name: str) -> Candidates:
        """The candidates of records; found there if they were retrieved before."""
        path = self._folder / "candidates" / name
        if path.is_dir():
            return Candidates.load(path, index=self._index)
        with Retriever.open(self._path, query_encoder=state.query_encoder) as retriever:
            found = retrieve_candidates(retriever, records, k=k)
        make_folder(path.parent)
        found.save(path, index=self._index)
        return found

    def _prompter(self, *, seed: int | None = None) -> RecordPrompter:
        recipe = self._recipe
        return RecordPrompter(
            self._tokenizer, template=recipe.template, max_length=recipe.max_length, seed=seed
        )


def _once(records: Records) -> Records:
    """Each record once: a mixture may repeat some."""
    return list({record.id: record for record in records}.values())


def _require_finished(report: TrainingReport) -> None:
    if not report.finished:
        raise KeyboardInterrupt  # another process of the run was told to stop
