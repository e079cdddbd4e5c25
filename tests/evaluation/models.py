"""Tiny models of random weights, a tokenizer learnt from a sentence, and a model of known odds."""

from types import SimpleNamespace

import torch
from tokenizers import processors
from torch import nn
from transformers import LlamaConfig, LlamaForCausalLM, set_seed

from ragkit.tokenizers.bpe import train_bpe

VOCAB_SIZE = 271
MAX_POSITION_EMBEDDINGS = 48
TEXTS = ("the wing of the plane, the flow over the wing and the drag of the flow",)


def tiny_bpe():
    """A byte-level tokenizer that puts no special token around a text."""
    tokenizer = train_bpe(TEXTS, vocab_size=VOCAB_SIZE)
    tokenizer.backend_tokenizer.post_processor = processors.ByteLevel(trim_offsets=False)
    return tokenizer


def tiny_llama(*, seed=0, **sizes):
    """A Llama of transformers with weights so wide that predictions differ."""
    set_seed(seed)
    config = LlamaConfig(
        **{
            "vocab_size": VOCAB_SIZE,
            "hidden_size": 24,
            "num_hidden_layers": 2,
            "num_attention_heads": 6,
            "num_key_value_heads": 2,
            "intermediate_size": 40,
            "max_position_embeddings": MAX_POSITION_EMBEDDINGS,
            "initializer_range": 0.3,
            **sizes,
        }
    )
    return LlamaForCausalLM(config).eval()


class UnigramModel(nn.Module):
    """Predicts every token with the same odds, whatever came before; lacks `logits_to_keep`."""

    device = torch.device("cpu")

    def __init__(self, logits, *, max_position_embeddings=MAX_POSITION_EMBEDDINGS):
        super().__init__()
        self.logits = torch.as_tensor(logits)
        self.calls = 0
        text = SimpleNamespace(max_position_embeddings=max_position_embeddings)
        self.config = SimpleNamespace(get_text_config=lambda: text)

    def forward(self, input_ids, attention_mask=None, use_cache=None):
        self.calls += 1
        return SimpleNamespace(logits=self.logits.expand(*input_ids.shape, -1))
