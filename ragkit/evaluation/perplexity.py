"""Perplexity and bits per byte of a causal language model over long documents.

Documents are scored apart, each in windows as `ragkit.evaluation.windows` cuts them. The bytes are
those of the tokens that were predicted: all UTF-8 bytes of a document, less those of its first
token where nothing stands before it.
"""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any

from transformers import PreTrainedModel, PreTrainedTokenizerBase

from ragkit.console import track
from ragkit.errors import ConfigError, DataError
from ragkit.evaluation.perplexity_options import Bos
from ragkit.evaluation.scoring import Row, Score, score_tokens
from ragkit.evaluation.text_tokenizer import TextTokenizer, TokenizedText, begins_with_bos
from ragkit.evaluation.windows import check_stride, plan_windows
from ragkit.models.interface import max_context_length

SCHEMA = "ragkit.eval_perplexity/1"
DEFAULT_CONTEXT_LENGTH = 1024
DEFAULT_BATCH_SIZE = 4


@dataclass(frozen=True, slots=True)
class PerplexityReport:
    """How well a model predicts some documents.

    Args:
        score: Over all tokens that were predicted.
        num_bytes: UTF-8 bytes that those tokens spell.
        documents: Documents of which at least one token was predicted.
        bos: Whether every document was read after the token that begins a text.
    """

    score: Score
    num_bytes: int
    documents: int
    context_length: int
    stride: int
    bos: bool

    @property
    def bits_per_byte(self) -> float:
        """Bits that the model needs per byte of the predicted text."""
        return self.score.bits_per_byte(self.num_bytes)


def evaluate_perplexity(
    model: PreTrainedModel,
    tokenizer: PreTrainedTokenizerBase,
    documents: Iterable[str],
    *,
    context_length: int | None = None,
    stride: int | None = None,
    batch_size: int = DEFAULT_BATCH_SIZE,
    bos: Bos = "auto",
) -> PerplexityReport:
    """How well `model` predicts every token of the documents, each scored exactly once.

    Args:
        documents: Their texts; all tokens are held in memory.
        context_length: Tokens of a window; `None` for 1,024 or what the model has if that is less.
        stride: Tokens between the starts of two windows; `None` for half of `context_length`.
        batch_size: Windows of one forward pass.
        bos: Whether the first token of a document is predicted, from the tokenizer's `bos_token`;
            else it is context only. `auto` does as the tokenizer does when it encodes a text.

    Raises:
        CheckpointError: The model gives no finite likelihood.
        ConfigError: `context_length` is more than the model was made for, `stride` does not fit
            it, `batch_size` is below 1, the tokenizer is not fast, or it lacks a `bos_token` that
            is wanted.
        DataError: The documents hold no token that can be predicted.
        StorageError: The device runs out of memory.
    """
    context_length = check_context_length(model, context_length)
    stride = (context_length + 1) // 2 if stride is None else stride
    check_stride(context_length, stride)
    with_bos = begins_with_bos(tokenizer) if bos == "auto" else bos == "always"
    tokenize = TextTokenizer(tokenizer, bos=with_bos)
    texts = [tokenize(document) for document in track(documents, description="tokenize")]
    texts = [text for text in texts if text.num_scored]
    if not texts:
        raise DataError(
            "nothing to predict: expected a document of at least two tokens: check that the input "
            "holds text"
        )
    rows = _cut(texts, context_length=context_length, stride=stride)
    nats = score_tokens(model, rows, batch_size=batch_size, description="score")
    score = Score(float(nats.sum()), sum(text.num_scored for text in texts))
    num_bytes = sum(text.num_bytes for text in texts)
    return PerplexityReport(score, num_bytes, len(texts), context_length, stride, with_bos)


def check_context_length(model: PreTrainedModel, context_length: int | None) -> int:
    """`context_length`, or for `None` the default, lowered to what the model was made for.

    Raises:
        ConfigError: It is more than `max_position_embeddings`.
    """
    limit = max_context_length(model)
    if context_length is None:
        return min(DEFAULT_CONTEXT_LENGTH, limit or DEFAULT_CONTEXT_LENGTH)
    if limit is not None and context_length > limit:
        raise ConfigError(
            f"context_length must be at most the model's max_position_embeddings, {limit}, got "
            f"{context_length}: lower it, or extend the model's context first"
        )
    return context_length


def to_json(report: PerplexityReport) -> dict[str, Any]:
    """The figures and how they were made, `schema` first; keys are only ever added."""
    return {
        "schema": SCHEMA,
        "nll_per_token": report.score.nll_per_token,
        "perplexity": report.score.perplexity,
        "bits_per_byte": report.bits_per_byte,
        "num_tokens": report.score.num_tokens,
        "num_bytes": report.num_bytes,
        "context_length": report.context_length,
        "stride": report.stride,
        "documents": report.documents,
        "bos": report.bos,
    }


def _cut(texts: Sequence[TokenizedText], *, context_length: int, stride: int) -> list[Row]:
    return [
        Row(text.input_ids[window.start : window.stop], window.first - window.start)
        for text in texts
        for window in plan_windows(
            len(text.input_ids), context_length=context_length, stride=stride
        )
    ]
