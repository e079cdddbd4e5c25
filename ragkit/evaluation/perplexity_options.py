"""What `ragkit eval perplexity` can be told; imports no torch."""

from typing import Literal

from ragkit.config import config
from ragkit.data.options import ReadOptions
from ragkit.errors import ConfigError

Bos = Literal["auto", "always", "never"]
"""Whether a document is read after `bos_token`; `auto` as the tokenizer does with a text."""


@config
class PerplexityOptions:
    """How a model is loaded, and how documents are read and scored."""

    context_length: int | None = None
    """Tokens of a window; 1024, or what the model reads if that is less."""
    stride: int | None = None
    """Tokens between the starts of two windows; half of context_length."""
    batch_size: int = 4
    """Windows of one forward pass."""
    bos: Bos = "auto"
    """Whether the first token is predicted, from `bos_token`; `auto` as the tokenizer has it."""
    dtype: str | None = None
    """`fp32`, `bf16`, `fp16` or `auto`; the checkpoint's own on a GPU, fp32 on a CPU."""
    device: str = "auto"
    """`cpu`, `cuda`, `cuda:1` or `auto`."""
    implementation: Literal["ragkit", "transformers"] = "ragkit"
    """Whose class opens a Llama checkpoint."""
    revision: str | None = None
    """Branch, tag or commit of a hub model."""
    max_rejects: str = "0"
    """More refused rows than this, in number or per cent, stop the run."""
    read: ReadOptions = ReadOptions()

    def __post_init__(self) -> None:
        if self.batch_size < 1:
            raise ConfigError(f"batch_size must be 1 or more, got {self.batch_size}")
