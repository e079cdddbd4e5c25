"""What identifies an encoder that has no files: the same keys as one that has."""

from typing import Any

from ragkit.encoders.prefixes import Prefixes


def describe_without_files(
    name: str, *, dim: int, max_seq_length: int, pooling: str, normalize: bool, prefixes: Prefixes
) -> dict[str, Any]:
    """The entries of `Encoder.describe`; there are no weights to hash."""
    return {
        "name": name,
        "revision": None,
        "weights_sha256": None,
        "tokenizer_sha256": None,
        "native_dim": dim,
        "truncate_dim": None,
        "pooling": pooling,
        "pooling_source": "model",
        "dtype": "fp32",
        "trust_remote_code": False,
        "dim": dim,
        "max_seq_length": max_seq_length,
        "normalize": normalize,
        "query_prefix": prefixes.query,
        "passage_prefix": prefixes.passage,
        "prompt_source": prefixes.source,
    }
