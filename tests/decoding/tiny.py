"""Tiny random causal language models and a byte-level tokenizer, made in memory."""

import torch
from tokenizers import Tokenizer, decoders, pre_tokenizers, trainers
from tokenizers.models import BPE
from transformers import LlamaConfig, LlamaForCausalLM, PreTrainedTokenizerFast

BOS, EOS, TURN_END = "<s>", "</s>", "<|turn|>"
TEXT = (
    "the wing of the wind, the heat of the shock; \u00e9t\u00e9, \u6c34\u6c34, \U0001f600\U0001f600"
)
CHAT_TEMPLATE = (
    "{{ bos_token }}{% for m in messages %}{{ m['role'] + ':' + m['content'] + '<|turn|>' }}"
    "{% endfor %}{% if add_generation_prompt %}{{ 'assistant:' }}{% endif %}"
)
CONTEXT = 96


def tiny_tokenizer(*, chat_template=CHAT_TEMPLATE):
    """Byte-level BPE: 3 special tokens, 256 bytes, and merges that may end within a character."""
    tokenizer = Tokenizer(BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=290,
        special_tokens=[BOS, EOS, TURN_END],
        initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
        show_progress=False,
    )
    tokenizer.train_from_iterator([TEXT] * 3, trainer)
    wrapped = PreTrainedTokenizerFast(
        tokenizer_object=tokenizer,
        bos_token=BOS,
        eos_token=EOS,
        extra_special_tokens={"turn_token": TURN_END},
    )
    wrapped.chat_template = chat_template
    return wrapped


def tiny_llama(*, seed=0, eos_token_id=None, **sizes):
    """A Llama with weights so large that its likeliest tokens differ from place to place."""
    defaults = {
        "vocab_size": 293,
        "hidden_size": 24,
        "num_attention_heads": 6,
        "num_key_value_heads": 2,
        "num_hidden_layers": 2,
        "intermediate_size": 40,
        "max_position_embeddings": CONTEXT,
        "initializer_range": 0.4,
    }
    torch.manual_seed(seed)
    ends = {"bos_token_id": 0, "eos_token_id": eos_token_id, "pad_token_id": None}
    return LlamaForCausalLM(LlamaConfig(**{**defaults, **sizes}, **ends)).eval()


def transformers_tokens(model, prompts, *, max_new_tokens, **options):
    """What transformers' own `generate` makes of the prompts, up to the first end token of each."""
    width = max(map(len, prompts))
    ids = torch.tensor([[5] * (width - len(prompt)) + list(prompt) for prompt in prompts])
    mask = torch.tensor([[0] * (width - len(prompt)) + [1] * len(prompt) for prompt in prompts])
    rows = model.generate(
        ids,
        attention_mask=mask,
        do_sample=False,
        max_new_tokens=max_new_tokens,
        pad_token_id=5,
        **options,
    )[:, width:].tolist()
    ends = model.generation_config.eos_token_id
    ends = {ends} if isinstance(ends, int) else set(ends or ())
    return [row[: first_end(row, ends)] for row in rows]


def first_end(row, ends):
    return next((place + 1 for place, token in enumerate(row) if token in ends), len(row))
