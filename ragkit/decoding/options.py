"""What a user chooses about a generation."""

import math

from ragkit.config import config
from ragkit.errors import ConfigError

DEFAULT_MAX_NEW_TOKENS = 256
MIN_TEMPERATURE = 1e-4
"""Below it, logits divided by the temperature overflow."""


@config
class GenerationOptions:
    """How tokens are chosen, and when to stop.

    The tokens that end a text are the model's own: its `generation_config` lists them.
    """

    max_new_tokens: int | None = None
    """Most tokens to generate for a prompt; 256, or what the model has room for if that is less."""
    temperature: float = 0.0
    """0 takes the likeliest token; above 0 draws, and the higher, the flatter the distribution."""
    top_k: int | None = None
    """Draw from the `top_k` likeliest tokens only."""
    top_p: float | None = None
    """Draw from the fewest likeliest tokens whose probabilities reach `top_p` together."""
    min_p: float | None = None
    """Draw from tokens that have at least this share of the likeliest one's probability."""
    repetition_penalty: float = 1.0
    """Above 1 makes tokens of the prompt and of the text so far less likely."""
    seed: int = 0
    """Equal seeds draw equal texts for a prompt, whatever else is generated beside it."""
    stop: tuple[str, ...] = ()
    """The text ends where one of these begins; it is not part of the text."""

    def __post_init__(self) -> None:
        self._check_counts()
        self._check_distribution()
        cuts = {"top_k": self.top_k, "top_p": self.top_p, "min_p": self.min_p}
        given = [name for name, value in cuts.items() if value is not None]
        if given and not self.do_sample:
            raise ConfigError(
                f"{' and '.join(given)} choose among tokens that are drawn, but temperature=0 "
                "draws none: set a temperature such as 0.7, or leave them out"
            )

    @property
    def do_sample(self) -> bool:
        """Whether tokens are drawn, not just the likeliest taken."""
        return self.temperature > 0

    def _check_counts(self) -> None:
        if self.max_new_tokens is not None and self.max_new_tokens < 1:
            raise ConfigError(f"max_new_tokens must be 1 or more, got {self.max_new_tokens}")
        if self.top_k is not None and self.top_k < 1:
            raise ConfigError(
                f"top_k must be 1 or more, got {self.top_k}: leave it out for all tokens"
            )
        if not 0 <= self.seed < 2**63:
            raise ConfigError(f"seed must be from 0 to 2**63 - 1, got {self.seed}")
        if not _are_texts(self.stop):
            raise ConfigError(
                f"stop must be strings that are not empty, got {self.stop!r}: write for example "
                "stop=('\\n\\n',)"
            )

    def _check_distribution(self) -> None:
        if self.temperature and not MIN_TEMPERATURE <= self.temperature < math.inf:
            raise ConfigError(
                f"temperature must be 0 or at least {MIN_TEMPERATURE}, got {self.temperature}: "
                "use 0 for the likeliest token"
            )
        if self.top_p is not None and not 0 < self.top_p <= 1:
            raise ConfigError(f"top_p must be above 0 and at most 1, got {self.top_p}")
        if self.min_p is not None and not 0 <= self.min_p <= 1:
            raise ConfigError(f"min_p must be from 0 to 1, got {self.min_p}")
        if not 0 < self.repetition_penalty < math.inf:
            raise ConfigError(
                f"repetition_penalty must be above 0, got {self.repetition_penalty}: use 1 for none"
            )


def check_batch_size(batch_size: int) -> None:
    """Pass if so many prompts can run at once.

    Raises:
        ConfigError: `batch_size` is below 1.
    """
    if batch_size < 1:
        raise ConfigError(f"batch_size must be 1 or more, got {batch_size}")


def _are_texts(stop: object) -> bool:
    """Whether `stop` is what it should be, and not, say, one string, which is a sequence too."""
    return isinstance(stop, tuple | list) and all(isinstance(s, str) and s for s in stop)
