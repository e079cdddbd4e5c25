"""How an answer comes out of several prompts, one for each passage (arXiv:2310.01352, eq. 2).

All sums of probabilities are taken in log space. An answer is scored without the token or string
that ends it, unless asked for; an empty one, which has nothing else, is scored with it.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial
from typing import Literal, get_args

import numpy as np
from transformers import PreTrainedModel, PreTrainedTokenizerBase

from ragkit.decoding.batching import Generation, Generator
from ragkit.decoding.detokenizing import decode_tokens
from ragkit.decoding.mixture import MixtureKind, MixtureRequest, mixture_request, open_mixtures
from ragkit.decoding.options import GenerationOptions
from ragkit.decoding.shared_prefix import PrefixReader
from ragkit.errors import ConfigError
from ragkit.rag.target_scores import score_mixtures

Mode = Literal["seq", "seq-rescore", "token", "token-bayes", "concat", "closed-book"]
"""`seq`: each prompt writes an answer; equal ones add up, weight times probability.
`seq-rescore`: the same answers, each scored under all prompts.
`token`: all prompts write one answer, each token by the weighted sum of their probabilities.
`token-bayes`: as `token`, but prompts gain weight by what they gave to the tokens so far.
`concat`: one prompt with all passages. `closed-book`: one prompt without any."""

MODES: tuple[Mode, ...] = get_args(Mode)


def check_mode(mode: str) -> None:
    """Pass if there is such a mode.

    Raises:
        ConfigError: There is not.
    """
    if mode not in MODES:
        raise ConfigError(f"mode must be one of {', '.join(MODES)}, got {mode!r}")


@dataclass(frozen=True, slots=True)
class Draft:
    """An answer before the passages are put to it.

    Args:
        log_score: Log-probability under all prompts together, in nats.
    """

    generation: Generation
    log_score: float

    @property
    def text(self) -> str:
        """The answer without spaces around it."""
        return self.generation.text.strip()


class AnswerWriter:
    """Writes answers with one model, one mode and one set of options.

    Args:
        score_eos: Whether the score of an answer has in it what ended the answer.
    """

    def __init__(
        self,
        model: PreTrainedModel,
        tokenizer: PreTrainedTokenizerBase,
        *,
        mode: Mode,
        options: GenerationOptions,
        score_eos: bool = False,
    ) -> None:
        self._model, self._tokenizer = model, tokenizer
        self._mode, self._options, self._score_eos = mode, options, score_eos

    @property
    def is_by_token(self) -> bool:
        """Whether an answer comes token by token, and not one of several at the end."""
        return self._mode not in ("seq", "seq-rescore")

    def open_generator(self) -> Generator[MixtureRequest]:
        """What writes a text for each request; one for a call, as the model may change later."""
        kind: MixtureKind = "token" if self._mode == "token" else "token-bayes"
        return Generator[MixtureRequest](
            self._model,
            self._tokenizer,
            options=self._options,
            open_prefix=partial(
                open_mixtures, model=self._model, kind=kind, reader=PrefixReader(self._model)
            ),
        )

    def write(self, requests: Sequence[MixtureRequest], *, batch_size: int) -> list[Draft]:
        """One answer per request, in order.

        Args:
            batch_size: Requests that run at once.

        Raises:
            ConfigError: `batch_size` is below 1, or the model cannot generate as it is.
            StorageError: The device has too little memory.
            CheckpointError: The model's logits are not numbers.
        """
        generator = self.open_generator()
        if self.is_by_token:
            return [self.draft(one) for one in generator.run(requests, batch_size=batch_size)]
        alone = [mixture_request([one], [0.0]) for request in requests for one in request.prompts]
        widest = max((len(request.prompts) for request in requests), default=1)
        written = generator.run(alone, batch_size=batch_size * widest)
        drafts = iter([self.draft(one) for one in written])
        candidates = [[next(drafts) for _ in request.prompts] for request in requests]
        return self._choose(requests, candidates)

    def draft(self, generation: Generation) -> Draft:
        """What was generated, with its score."""
        return Draft(generation, sum(generation.log_probs[: self._num_scored(generation)]))

    def _choose(
        self, requests: Sequence[MixtureRequest], candidates: Sequence[Sequence[Draft]]
    ) -> list[Draft]:
        """The best candidate of each request."""
        pools = [
            _pool(request, drafts) for request, drafts in zip(requests, candidates, strict=True)
        ]
        if self._mode == "seq-rescore":
            pools = self._rescore(requests, pools)
        return [min(pool, key=_rank).draft for pool in pools]

    def _rescore(
        self, requests: Sequence[MixtureRequest], pools: Sequence[Sequence["_Candidate"]]
    ) -> list[list["_Candidate"]]:
        """The same candidates, each scored under all prompts of its request."""
        targets = [[self._scored_tokens(one.draft) for one in pool] for pool in pools]
        scores = score_mixtures(self._model, requests, targets, description="scoring answers")
        return [
            [one.with_score(score) for one, score in zip(pool, row, strict=True)]
            for pool, row in zip(pools, scores, strict=True)
        ]

    def _scored_tokens(self, draft: Draft) -> tuple[int, ...]:
        return draft.generation.tokens[: self._num_scored(draft.generation)]

    def _num_scored(self, generation: Generation) -> int:
        """How many of the tokens count: where the text ended, the fewest that spell it, or one."""
        count = generation.num_tokens
        if self._score_eos or generation.finish_reason == "length":
            return count
        while count > 1 and self._spells(generation, count - 1):
            count -= 1
        return count

    def _spells(self, generation: Generation, count: int) -> bool:
        text = decode_tokens(self._tokenizer, list(generation.tokens[:count]))
        return text.startswith(generation.text)


@dataclass(frozen=True, slots=True)
class _Candidate:
    """An answer that some of the prompts wrote.

    Args:
        log_weight: Of the weightiest prompt that wrote it.
    """

    draft: Draft
    log_weight: float

    def with_score(self, log_score: float) -> "_Candidate":
        """The same answer with another score."""
        return _Candidate(Draft(self.draft.generation, log_score), self.log_weight)


def _pool(request: MixtureRequest, drafts: Sequence[Draft]) -> list[_Candidate]:
    """The distinct answers, each with what its prompts add up to."""
    groups: dict[str, list[tuple[float, Draft]]] = {}
    for log_weight, draft in zip(request.log_weights, drafts, strict=True):
        groups.setdefault(draft.text, []).append((log_weight, draft))
    pool = []
    for group in groups.values():
        log_weight, draft = max(group, key=lambda entry: entry[0])
        score = np.logaddexp.reduce([weight + one.log_score for weight, one in group])
        pool.append(_Candidate(draft, log_weight).with_score(float(score)))
    return pool


def _rank(candidate: _Candidate) -> tuple[float, float, str]:
    """Sorts the best first; of equal scores the weightier passage's, then by the alphabet."""
    return -candidate.draft.log_score, -candidate.log_weight, candidate.draft.text
