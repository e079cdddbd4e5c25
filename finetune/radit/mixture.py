"""Mixtures of example sets by shares and by size, with a cap on what a large set counts for.

Sets without a share of their own divide what is left in proportion to their sizes, where a set
counts as at most `cap` examples (Lin et al. 2023, arXiv:2310.01352, section 3.1).
"""

from collections.abc import Sequence
from dataclasses import dataclass
from fractions import Fraction
from typing import Generic, TypeVar

import numpy as np
from numpy.typing import NDArray

from ragkit.errors import ConfigError

T = TypeVar("T")

CAP = 7_500
"""Examples that a larger set counts for, as in the paper."""


@dataclass(frozen=True, slots=True)
class MixturePart(Generic[T]):
    """One set of a mixture.

    Args:
        share: Of all examples; `None` to divide with the other such sets what is left.
    """

    name: str
    examples: Sequence[T]
    share: float | None = None


@dataclass(frozen=True, slots=True)
class PartCount:
    """What a mixture took of one set.

    Args:
        num_available: Examples of the set.
        num_drawn: Examples of the mixture that came from it.
        num_repeated: How many of those had been drawn before.
    """

    name: str
    num_available: int
    num_drawn: int
    num_repeated: int


@dataclass(frozen=True, slots=True)
class Mixture(Generic[T]):
    """Examples of several sets in random order.

    Args:
        counts: One per set, in the order given.
    """

    examples: list[T]
    counts: tuple[PartCount, ...]


def mix(
    parts: Sequence[MixturePart[T]],
    *,
    seed: int,
    num_examples: int | None = None,
    cap: int | None = CAP,
) -> Mixture[T]:
    """A mixture in which each set has its share to within one example.

    Equal arguments give equal mixtures. What is drawn from a set depends on its name and on how
    much is drawn, and on no other set. A set is used up before an example comes again.

    Args:
        num_examples: Size of the mixture; `None` for the largest that repeats nothing.
        cap: Examples that a larger set without a share counts for; `None` for its size.

    Raises:
        ConfigError: A set is empty or named twice, or the shares make no sense.
    """
    _check(parts, num_examples=num_examples, cap=cap)
    weights = _weights(parts, cap)
    total = _largest(parts, weights, cap) if num_examples is None else num_examples
    quotas = _quotas(weights, total)
    examples: list[T] = []
    for part, quota in zip(parts, quotas, strict=True):
        examples += [part.examples[place] for place in _draw(part, quota, seed)]
    order = np.random.default_rng(seed).permutation(len(examples))
    counts = tuple(_count(part, quota) for part, quota in zip(parts, quotas, strict=True))
    return Mixture([examples[place] for place in order], counts)


def _check(parts: Sequence[MixturePart[T]], *, num_examples: int | None, cap: int | None) -> None:
    names = [part.name for part in parts]
    if not parts or len(set(names)) < len(names):
        raise ConfigError(f"a mixture needs sets with different names, got {names}")
    empty = [part.name for part in parts if not part.examples]
    if empty:
        raise ConfigError(f"no examples in {', '.join(empty)}: leave the set out of the mixture")
    if any(number is not None and number < 1 for number in (num_examples, cap)):
        raise ConfigError(f"num_examples and cap must be 1 or more, got {num_examples} and {cap}")
    shares = [part.share for part in parts if part.share is not None]
    if any(not 0 < share <= 1 for share in shares):
        raise ConfigError(f"a share must be above 0 and at most 1, got {shares}")
    left = 1 - sum(map(_exact, shares))
    if left < 0 or (left > 0) != (len(shares) < len(parts)):
        raise ConfigError(
            f"the shares add up to {float(1 - left):g}: they must make 1 if each set has one, and "
            "less if some have none, which divide the rest"
        )


def _exact(share: float) -> Fraction:
    """The fraction that was written: 0.1 is a tenth."""
    return Fraction(str(share))


def _size(part: MixturePart[T], cap: int | None) -> int:
    """What the set counts for."""
    size = len(part.examples)
    return size if cap is None or part.share is not None else min(size, cap)


def _weights(parts: Sequence[MixturePart[T]], cap: int | None) -> list[Fraction]:
    """The share of each set; they add up to 1."""
    left = 1 - sum(_exact(part.share) for part in parts if part.share is not None)
    divided = sum(_size(part, cap) for part in parts if part.share is None)
    return [
        Fraction(left * _size(part, cap), divided) if part.share is None else _exact(part.share)
        for part in parts
    ]


def _largest(parts: Sequence[MixturePart[T]], weights: Sequence[Fraction], cap: int | None) -> int:
    """The most examples of which no set must give more than it counts for."""
    return int(min(_size(part, cap) / weight for part, weight in zip(parts, weights, strict=True)))


def _quotas(weights: Sequence[Fraction], total: int) -> list[int]:
    """Whole numbers in these proportions; what is left goes to the largest remainders."""
    exact = [weight * total for weight in weights]
    quotas = [int(quota) for quota in exact]
    by_remainder = sorted(range(len(exact)), key=lambda i: quotas[i] - exact[i])
    for i in by_remainder[: total - sum(quotas)]:
        quotas[i] += 1
    return quotas


def _draw(part: MixturePart[T], quota: int, seed: int) -> NDArray[np.int64]:
    """Places in the set, each as often as all others or once more."""
    generator = np.random.default_rng([seed, *part.name.encode()])
    passes = -(-quota // len(part.examples))
    drawn = [generator.permutation(len(part.examples)) for _ in range(passes)]
    return np.concatenate([np.empty(0, np.int64), *drawn])[:quota]


def _count(part: MixturePart[T], quota: int) -> PartCount:
    available = len(part.examples)
    return PartCount(part.name, available, quota, max(0, quota - available))
