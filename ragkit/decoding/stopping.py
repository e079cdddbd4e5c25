"""When a text ends: at a token, at a string, or when it is long enough."""

from collections.abc import Sequence
from typing import Literal

from transformers import PreTrainedModel, PreTrainedTokenizerBase

from ragkit.decoding.detokenizing import PieceDecoder

FinishReason = Literal["stop", "length"]


def stop_tokens(
    model: PreTrainedModel,
    tokenizer: PreTrainedTokenizerBase | None = None,
    *,
    stop: Sequence[str] = (),
) -> frozenset[int]:
    """The tokens that end a text: those of the generation config, else the tokenizer's one.

    A string of `stop` that is one special token, which no text shows, is among them too.
    """
    ids = getattr(model.generation_config, "eos_token_id", None)
    if ids is None and tokenizer is not None:
        ids = tokenizer.eos_token_id
    ending = {ids} if isinstance(ids, int) else set(ids or ())
    if tokenizer is not None:
        special = dict(zip(tokenizer.all_special_tokens, tokenizer.all_special_ids, strict=True))
        ending |= {special[text] for text in stop if text in special}
    return frozenset(ending)


class StopStrings:
    """Passes text on up to the first stop string, however the text is cut into pieces.

    Of several stop strings the one that is complete first counts.
    """

    def __init__(self, strings: Sequence[str]) -> None:
        self._strings = tuple(strings)
        self._held = ""
        self.found = False

    def push(self, piece: str) -> str:
        """What is certain to stand before any stop string; nothing once one was `found`."""
        if self.found:
            return ""
        text, self._held = self._held + piece, ""
        # The match that ends first; of those that end together, the one that starts first.
        matches = [(text.find(s) + len(s), text.find(s)) for s in self._strings if s in text]
        if matches:
            self.found = True
            return text[: min(matches)[1]]
        size = max((_overlap(text, string) for string in self._strings), default=0)
        self._held = text[len(text) - size :]
        return text[: len(text) - size]

    def flush(self) -> str:
        """What was held back, as no text follows that could complete a stop string."""
        held, self._held = self._held, ""
        return held


def _overlap(text: str, string: str) -> int:
    """Most characters at the end of `text` that begin, but do not complete, `string`."""
    sizes = range(min(len(text), len(string) - 1), 0, -1)
    return next((size for size in sizes if text.endswith(string[:size])), 0)


class Continuation:
    """What one prompt is continued with, as it grows.

    Args:
        tokenizer: Makes the text; without one there are tokens only.
        stop: Strings that end the text; need a tokenizer.
    """

    def __init__(
        self,
        *,
        max_new_tokens: int,
        stop_tokens: frozenset[int],
        tokenizer: PreTrainedTokenizerBase | None = None,
        stop: Sequence[str] = (),
    ) -> None:
        self.tokens: list[int] = []
        """All tokens, with the one that ended the text."""
        self.log_probs: list[float] = []
        """What the model gave each of them, in nats."""
        self.text = ""
        self.finish_reason: FinishReason | None = None
        self._max_new_tokens, self._stop_tokens = max_new_tokens, stop_tokens
        self._decoder = PieceDecoder(tokenizer) if tokenizer is not None else None
        self._strings = StopStrings(stop)

    def put(self, token: int, log_prob: float) -> None:
        """Take one more token, which may be the last: then there is a `finish_reason`."""
        self.tokens.append(token)
        self.log_probs.append(log_prob)
        if token in self._stop_tokens:
            self.finish_reason = "stop"
        elif self._decoder is not None:
            self._add(self._decoder.push(token))
        if self.finish_reason is None and len(self.tokens) >= self._max_new_tokens:
            self.finish_reason = "length"
        if self.finish_reason is not None:
            self._finish()

    def _add(self, piece: str) -> None:
        self.text += self._strings.push(piece)
        if self._strings.found:
            self.finish_reason = "stop"

    def _finish(self) -> None:
        """Let go of what was held back, in which a stop string may still come to light."""
        if self._decoder is not None and not self._strings.found:
            self._add(self._decoder.flush())
            self.text += self._strings.flush()
