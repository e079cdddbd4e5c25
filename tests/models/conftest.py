"""Tiny Llamas: transformers' and ours, with the same random weights."""

import pytest
import torch
from transformers import LlamaConfig, LlamaForCausalLM

from ragkit.models import Llama3Config, Llama3ForCausalLM

LLAMA31_ROPE = {
    "rope_type": "llama3",
    "rope_theta": 500.0,
    "factor": 8.0,
    "low_freq_factor": 1.0,
    "high_freq_factor": 4.0,
    "original_max_position_embeddings": 16,
}


@pytest.fixture(scope="session")
def tiny_llama_config():
    """Makes a tiny `LlamaConfig`; keywords change fields."""

    def make(**changes):
        fields = {
            "vocab_size": 97,
            "hidden_size": 24,
            "intermediate_size": 40,
            "num_hidden_layers": 2,
            "num_attention_heads": 6,
            "num_key_value_heads": 2,
            "max_position_embeddings": 64,
            "initializer_range": 0.3,  # wide, so that logits are far apart
            "rope_parameters": dict(LLAMA31_ROPE),
            "bos_token_id": 1,
            "eos_token_id": None,
        }
        return LlamaConfig(**{**fields, **changes})

    return make


@pytest.fixture(scope="session")
def make_twins(tiny_llama_config):
    """Makes transformers' Llama and ours with equal weights, both in evaluation mode."""

    def make(*, seed=0, attn_implementation="sdpa", **changes):
        config = tiny_llama_config(attn_implementation=attn_implementation, **changes)
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(seed)
            theirs = LlamaForCausalLM(config)
            for name, parameter in theirs.named_parameters():
                if name.endswith("bias") or "norm" in name:  # otherwise all 0 or all 1
                    torch.nn.init.normal_(parameter, mean=1.0, std=0.3)
        ours = Llama3ForCausalLM._from_config(
            Llama3Config.from_llama(config), attn_implementation=attn_implementation
        )
        ours.load_state_dict(theirs.state_dict())
        return theirs.eval(), ours.eval()

    return make


@pytest.fixture(scope="session")
def random_ids():
    """Makes token ids `[batch, seq]` that avoid the special ones."""

    def make(batch, seq, *, seed=0, vocab_size=97):
        generator = torch.Generator().manual_seed(seed)
        return torch.randint(3, vocab_size, (batch, seq), generator=generator)

    return make
