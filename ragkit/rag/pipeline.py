"""Questions to answers: retrieve, prompt, combine, cite."""

import math
import sys
from collections import Counter
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Protocol, cast

from transformers import PreTrainedModel, PreTrainedTokenizerBase

from ragkit.decoding.api import BATCH_SIZE
from ragkit.decoding.options import GenerationOptions
from ragkit.decoding.prompts import check_tokens
from ragkit.errors import ConfigError
from ragkit.index.manifest import Manifest
from ragkit.models.interface import max_context_length
from ragkit.models.loading import load_model
from ragkit.rag.answers import Answer, CitedPassage, FoundPassage, weigh_passages
from ragkit.rag.choices import Choice, check_choices
from ragkit.rag.ensembles import Ensemble, EnsembleBuilder
from ragkit.rag.modes import AnswerWriter, Mode, check_mode
from ragkit.rag.prompts import Demonstration
from ragkit.rag.streams import AnswerStream, cite
from ragkit.rag.target_scores import score_mixtures
from ragkit.rag.template import PromptTemplate
from ragkit.rag.weights import default_temperature
from ragkit.types import Metric

DEFAULT_K = 3
DEFAULT_MODE: Mode = "token-bayes"
DEFAULT_MAX_NEW_TOKENS = 64


class Searcher(Protocol):
    """Finds passages; `ragkit.Retriever` is one."""

    def search_batch(self, queries: Sequence[str], k: int) -> Sequence[Sequence[FoundPassage]]:
        """The `k` passages that match each query best; fewer where fewer are found."""
        ...

    def info(self) -> Manifest:
        """What the passages were indexed with."""
        ...


class RagPipeline:
    """Answers questions from the passages that a retriever finds.

    Args:
        retriever: `None` for answers without passages.
        model: What `ragkit.load_model` opens, or the pair that it returns.
        k: Passages for a question; fewer where fewer are found, or where texts are equal.
        mode: How the passages are combined; see `ragkit.rag.modes.Mode`.
        retriever_temperature: Scores are divided by it before they become weights; if not given,
            what suits the metric of the index.
        min_score: Leave out passages with a smaller score.
        demonstrations: Questions with answers that stand first in every prompt.
        options: How tokens are chosen, at most 64 unless it says otherwise. Without stop strings an
            answer ends where the template ends a question: with the line.
        max_length: Tokens of prompt and answer; as many as the model reads if not given.
        max_chunk_tokens: Most tokens of one passage.
        score_eos: Whether the score of an answer or an option includes what ends it.

    Raises:
        ConfigError: An argument makes no sense, or a mode needs a retriever.
        CheckpointError, HubError: The model cannot be loaded.
    """

    def __init__(  # noqa: PLR0913 - each is a choice of its own
        self,
        retriever: Searcher | None,
        model: str | Path | tuple[PreTrainedModel, PreTrainedTokenizerBase],
        *,
        k: int = DEFAULT_K,
        mode: Mode = DEFAULT_MODE,
        retriever_temperature: float | None = None,
        min_score: float | None = None,
        template: PromptTemplate = PromptTemplate(),  # noqa: B008 - frozen
        demonstrations: Sequence[Demonstration] = (),
        options: GenerationOptions | None = None,
        max_length: int | None = None,
        max_chunk_tokens: int | None = None,
        score_eos: bool = False,
    ) -> None:
        _check(retriever, k=k, mode=mode)
        _check_scores(retriever_temperature, min_score)
        self._retriever, self._k, self._mode = retriever, k, mode
        self._temperature, self._min_score = retriever_temperature, min_score
        self.model, self.tokenizer = model if isinstance(model, tuple) else load_model(model)
        self._options = _with_end(options or GenerationOptions(), template)
        self._score_eos = score_eos
        self._builder = EnsembleBuilder(
            self.tokenizer,
            mode=mode,
            template=template,
            demonstrations=demonstrations,
            max_length=_longest(self.model) if max_length is None else max_length,
            max_chunk_tokens=max_chunk_tokens,
        )
        self._writer = AnswerWriter(
            self.model, self.tokenizer, mode=mode, options=self._options, score_eos=score_eos
        )
        self._counts: Counter[str] = Counter()

    @property
    def counts(self) -> dict[str, int]:
        """What happened to all questions so far.

        How many `questions` there were, how many of them were `without_passages`, how many passages
        were `blank`, `duplicates` or `below_min_score`, and `cut_*` for want of room.
        """
        cuts = {f"cut_{name}": number for name, number in self._builder.prompts.cuts.items()}
        return {**self._counts, **cuts}

    def answer(self, question: str) -> Answer:
        """The answer to one question; as `answer_batch`."""
        return self.answer_batch([question])[0]

    def answer_batch(
        self, questions: Sequence[str], *, batch_size: int = BATCH_SIZE
    ) -> list[Answer]:
        """The answer to each question, in order.

        Args:
            batch_size: Questions that run at once, each with up to `k` prompts.

        Raises:
            ConfigError: A question is empty, or has no room beside the answer.
            StorageError: The device has too little memory.
            CheckpointError: The model's logits are not numbers.
        """
        ensembles = self._ensembles(questions, reserve=[self._room] * len(questions))
        requests = [ensemble.request for ensemble in ensembles]
        drafts = self._writer.write(requests, batch_size=batch_size)
        return [
            cite(ensemble, draft, mode=self._mode)
            for ensemble, draft in zip(ensembles, drafts, strict=True)
        ]

    def stream(self, question: str) -> AnswerStream:
        """The pieces of an answer as they come; one piece where it is one of several.

        Raises:
            ConfigError: As for `answer_batch`.
        """
        [ensemble] = self._ensembles([question], reserve=[self._room])
        return AnswerStream(self._writer, ensemble, mode=self._mode)

    def choose(self, question: str, choices: Sequence[str]) -> Choice:
        """The likeliest of several options; as `choose_batch`."""
        return self.choose_batch([question], [choices])[0]

    def choose_batch(
        self, questions: Sequence[str], choices: Sequence[Sequence[str]]
    ) -> list[Choice]:
        """The likeliest option of each question, in order.

        In every mode with a prompt for each passage that is the option of the largest mean
        probability, by the weights of the passages.

        Raises:
            ConfigError: A question or an option is empty, there are fewer than two options, or not
                as many lists of options as questions.
            CheckpointError: The model's logits are not numbers.
            StorageError: The device has too little memory.
        """
        if len(questions) != len(choices):
            raise ConfigError(
                f"expected a list of options for each question, got {len(choices)} for "
                f"{len(questions)} questions"
            )
        for options in choices:
            check_choices(options)
        encode = self._builder.prompts.encode_target
        targets = [[encode(one, eos=self._score_eos) for one in options] for options in choices]
        for texts in targets:
            check_tokens(self.model, [token for text in texts for token in text])
        rooms = [max(map(len, texts)) for texts in targets]
        ensembles = self._ensembles(questions, reserve=rooms)
        requests = [ensemble.request for ensemble in ensembles]
        scores = score_mixtures(self.model, requests, targets, description="scoring options")
        return [
            _chosen(ensemble, options, row)
            for ensemble, options, row in zip(ensembles, choices, scores, strict=True)
        ]

    @property
    def _room(self) -> int:
        """Tokens that are kept free for an answer."""
        return cast(int, self._options.max_new_tokens)

    def _ensembles(self, questions: Sequence[str], *, reserve: Sequence[int]) -> list[Ensemble]:
        """The prompts of each question, with so many tokens kept free behind them."""
        if isinstance(questions, str) or not all(question.strip() for question in questions):
            raise ConfigError(
                f"expected questions that are not empty, got {questions!r}: write ['...', '...']"
            )
        found = self._passages(questions)
        ensembles = [
            self._builder.build(question, passages, reserve=room)
            for question, passages, room in zip(questions, found, reserve, strict=True)
        ]
        for ensemble in ensembles:
            check_tokens(self.model, ensemble.request.tokens)
        return ensembles

    def _passages(self, questions: Sequence[str]) -> list[tuple[CitedPassage, ...]]:
        """The weighted passages of each question."""
        self._counts["questions"] += len(questions)
        if self._retriever is None or self._mode == "closed-book" or not questions:
            return [() for _ in questions]
        temperature = self._temperature
        if temperature is None:
            manifest = self._retriever.info()
            temperature = default_temperature(
                cast(Metric, manifest.metric), normalized=manifest.model.get("normalize", False)
            )
        weighed = [
            weigh_passages(
                found, temperature=temperature, min_score=self._min_score, counts=self._counts
            )
            for found in self._retriever.search_batch(questions, self._k)
        ]
        self._counts["without_passages"] += sum(not passages for passages in weighed)
        return weighed


def _check(retriever: Searcher | None, *, k: int, mode: str) -> None:
    check_mode(mode)
    if k < 1:
        raise ConfigError(f"k must be 1 or more, got {k}: use mode 'closed-book' for no passages")
    if retriever is None and mode != "closed-book":
        raise ConfigError(
            f"mode {mode!r} needs a retriever, got none: open one with ragkit.Retriever.open, or "
            "use mode 'closed-book'"
        )


def _check_scores(temperature: float | None, min_score: float | None) -> None:
    if temperature is not None and not 0 < temperature < math.inf:
        raise ConfigError(
            f"retriever_temperature must be above 0 and finite, got {temperature}: leave it out "
            "for the default"
        )
    if min_score is not None and math.isnan(min_score):
        raise ConfigError("min_score must be a number, got NaN: leave it out for no limit")


def _longest(model: PreTrainedModel) -> int:
    return max_context_length(model) or sys.maxsize


def _with_end(options: GenerationOptions, template: PromptTemplate) -> GenerationOptions:
    """The options, with a limit and an end for the answers where they have none."""
    ends = options.stop or tuple(filter(None, [template.question_end]))
    limit = options.max_new_tokens or DEFAULT_MAX_NEW_TOKENS
    return replace(options, stop=ends, max_new_tokens=limit)


def _chosen(ensemble: Ensemble, choices: Sequence[str], scores: Sequence[float]) -> Choice:
    index = max(range(len(choices)), key=lambda place: scores[place])
    return Choice(
        ensemble.question, index, choices[index], tuple(scores), passages=ensemble.passages
    )
