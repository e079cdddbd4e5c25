"""Configurations that layers read their sizes from."""

import pytest
from transformers import LlamaConfig


@pytest.fixture(scope="session")
def layer_config():
    """Makes a `LlamaConfig` with 6 heads, 2 key heads and an implementation; keywords change it."""

    def make(*, attn_implementation="sdpa", **changes):
        fields = {
            "hidden_size": 24,
            "num_attention_heads": 6,
            "num_key_value_heads": 2,
            "head_dim": 8,
            "max_position_embeddings": 64,
            "rms_norm_eps": 1e-5,
            "attn_implementation": attn_implementation,
        }
        return LlamaConfig(**{**fields, **changes})

    return make
