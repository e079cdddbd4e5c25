"""Multiple choice: the option that all passages together find likeliest (arXiv:2310.01352, App. B).

The probability of an option is the mean of those under the prompts, by the passages' weights.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from ragkit.errors import ConfigError
from ragkit.rag.answers import CitedPassage


@dataclass(frozen=True, slots=True)
class Choice:
    """Which option of a question was chosen.

    Args:
        index: Position of the option; of equally likely ones the first.
        text: The option.
        log_probs: Of each option under all passages together, in nats.
        passages: What the prompts showed, the weightiest first.
    """

    question: str
    index: int
    text: str
    log_probs: tuple[float, ...]
    passages: tuple[CitedPassage, ...]

    @property
    def shares(self) -> tuple[float, ...]:
        """The probability of each option, given that one of them is right."""
        total = float(np.logaddexp.reduce(np.array(self.log_probs)))
        return tuple(math.exp(one - total) for one in self.log_probs)

    def as_dict(self) -> dict[str, Any]:
        """The choice as JSON values."""
        return {
            "question": self.question,
            "index": self.index,
            "text": self.text,
            "log_probs": list(self.log_probs),
            "passages": [passage.as_dict() for passage in self.passages],
        }


def check_choices(choices: Sequence[str]) -> None:
    """Pass if there is something to choose from.

    Raises:
        ConfigError: There are fewer than two options, or an empty one.
    """
    if isinstance(choices, str) or len(choices) < 2 or not all(one.strip() for one in choices):
        raise ConfigError(
            f"expected two or more options that are not empty, got {choices!r}: write for example "
            "['yes', 'no']"
        )
