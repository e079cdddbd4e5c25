"""What a question is answered with: the text, and the passages that it rests on."""

import math
from collections import Counter
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Any, Protocol

import numpy as np

from ragkit.decoding.stopping import FinishReason
from ragkit.rag.weights import passage_log_weights


class FoundPassage(Protocol):
    """A passage as a search returns it; `ragkit.retrieval.hits.Hit` is one."""

    @property
    def id(self) -> str:
        """The passage's id."""
        ...

    @property
    def doc_id(self) -> str:
        """The id of its document."""
        ...

    @property
    def title(self) -> str:
        """The document's title; may be empty."""
        ...

    @property
    def text(self) -> str:
        """The passage."""
        ...

    @property
    def score(self) -> float:
        """How well it matches; larger is better."""
        ...


@dataclass(frozen=True, slots=True)
class CitedPassage:
    """A passage that an answer rests on.

    Args:
        score: The retriever's; larger is better.
        log_weight: Log of its share among the passages of the question.
    """

    id: str
    doc_id: str
    title: str
    text: str
    score: float
    log_weight: float

    @property
    def weight(self) -> float:
        """Its share among the passages of the question."""
        return math.exp(self.log_weight)

    def as_dict(self) -> dict[str, Any]:
        """The passage as JSON values."""
        names = ("id", "doc_id", "score", "weight", "title", "text")
        return {name: getattr(self, name) for name in names}


@dataclass(frozen=True, slots=True)
class Answer:
    """The answer to one question.

    Args:
        text: Without spaces around it.
        passages: What the prompts showed, the weightiest first; none where nothing was found.
        mode: How the passages were combined.
        log_score: Log-probability of the answer under all passages together, in nats.
        num_prompt_tokens: Of all prompts together.
    """

    question: str
    text: str
    passages: tuple[CitedPassage, ...]
    mode: str
    log_score: float
    finish_reason: FinishReason
    num_prompt_tokens: int
    num_tokens: int

    def as_dict(self) -> dict[str, Any]:
        """The answer as JSON values."""
        passages = [passage.as_dict() for passage in self.passages]
        return {**asdict(self), "passages": passages}


def weigh_passages(
    found: Sequence[FoundPassage],
    *,
    temperature: float,
    min_score: float | None = None,
    counts: Counter[str],
) -> tuple[CitedPassage, ...]:
    """The passages worth a prompt, the weightiest first; ties in the order of their ids.

    A text that comes twice would count twice, so only the better of two equal ones stays.

    Args:
        temperature: The scores are divided by it before the softmax.
        min_score: Leave out passages with a smaller score.
        counts: Takes how many were `blank`, `duplicates` or `below_min_score`.

    Raises:
        ConfigError: The temperature is not above 0, or a score is not finite.
    """
    kept: dict[str, FoundPassage] = {}
    for one in sorted(found, key=lambda one: (-one.score, one.id)):
        refusal = _refusal(one, kept, min_score)
        if refusal is None:
            kept[one.text.strip()] = one
        else:
            counts[refusal] += 1
    scores = np.array([[one.score for one in kept.values()]], np.float64)
    weights = passage_log_weights(scores, temperature=temperature)[0].tolist()
    return tuple(
        CitedPassage(one.id, one.doc_id, one.title, one.text, float(one.score), weight)
        for one, weight in zip(kept.values(), weights, strict=True)
    )


def _refusal(
    one: FoundPassage, kept: dict[str, FoundPassage], min_score: float | None
) -> str | None:
    """Why a passage gets no prompt."""
    if min_score is not None and one.score < min_score:
        return "below_min_score"
    if not one.text.strip():
        return "blank"
    return "duplicates" if one.text.strip() in kept else None
