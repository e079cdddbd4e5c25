"""How a long document is cut into windows so that every token but its first is predicted once.

A window feeds `context_length` tokens to the model, which predicts as many: each token's successor.
Windows start `stride` tokens apart; of what a window predicts, only what no earlier one did counts.
So a token has all tokens before it as context in the first window, and at least
`context_length - stride + 1` of them in every later one.
"""

from collections.abc import Iterator
from dataclasses import dataclass

from ragkit.errors import ConfigError


@dataclass(frozen=True, slots=True)
class Window:
    """A piece of a document, by positions in its tokens.

    Args:
        start: First token that the model reads.
        first: First token that is scored; those before it are context.
        stop: One past the last token that is scored, which the model predicts but does not read.
    """

    start: int
    first: int
    stop: int


def check_stride(context_length: int, stride: int) -> None:
    """Pass if windows of `context_length` tokens may start `stride` tokens apart.

    Raises:
        ConfigError: `context_length` is below 1, or `stride` is not between 1 and it.
    """
    if context_length < 1:
        raise ConfigError(f"context_length must be 1 or more, got {context_length}")
    if not 1 <= stride <= context_length:
        raise ConfigError(
            f"stride must be between 1 and context_length, got {stride=} with {context_length=}: "
            "a larger one would leave tokens out, half of context_length is usual"
        )


def plan_windows(num_tokens: int, *, context_length: int, stride: int) -> Iterator[Window]:
    """The windows of a document, in order; none if it has fewer than two tokens.

    Args:
        num_tokens: Tokens of the document, a first one that is context only included.

    Raises:
        ConfigError: As `check_stride` does.
    """
    check_stride(context_length, stride)
    start, first = 0, 1
    while first < num_tokens:
        stop = min(start + context_length + 1, num_tokens)
        yield Window(start, first, stop)
        start, first = start + stride, stop
