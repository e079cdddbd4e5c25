"""Tiny checkpoints of random weights, as transformers writes them: every size differs."""

from string import ascii_lowercase

import gguf
from tokenizers import Tokenizer, pre_tokenizers
from tokenizers.models import WordLevel
from transformers import LlamaConfig, LlamaForCausalLM, PreTrainedTokenizerFast, set_seed

WORDS = ["<s>", "</s>", "<unk>", *(f"w{i}" for i in range(26))]
SIZES = {
    "hidden_size": 24,
    "num_hidden_layers": 3,
    "num_attention_heads": 6,
    "num_key_value_heads": 2,
    "intermediate_size": 40,
    "vocab_size": 31,
    "max_position_embeddings": 64,
    "bos_token_id": 0,
    "eos_token_id": 1,
    "initializer_range": 0.3,  # wide, so that logits differ
}


def tiny_tokenizer(words=WORDS, **special):
    """One token per word; it has no token for padding unless `special` names one."""
    model = WordLevel({word: number for number, word in enumerate(words)}, unk_token="<unk>")
    tokenizer = Tokenizer(model)
    tokenizer.pre_tokenizer = pre_tokenizers.WhitespaceSplit()
    return PreTrainedTokenizerFast(
        tokenizer_object=tokenizer,
        bos_token="<s>",
        eos_token="</s>",
        unk_token="<unk>",
        **special,
    )


def tiny_llama(*, seed=0, **sizes):
    """A Llama of transformers."""
    set_seed(seed)
    return LlamaForCausalLM(LlamaConfig(**{**SIZES, **sizes})).eval()


def write_llama(folder, *, seed=0, shard="50GB", **sizes):
    """`folder`, with a Llama of transformers and a tokenizer in it."""
    tiny_llama(seed=seed, **sizes).save_pretrained(folder, max_shard_size=shard)
    tiny_tokenizer().save_pretrained(folder)
    return folder


def write_gguf(path, model):
    """`path`, with a Llama in fp32 and a byte-level tokenizer, as llama.cpp's converter writes it.

    The vocabulary is three special tokens, the letters, and `ab`.
    """
    config = model.config
    writer = gguf.GGUFWriter(path, "llama")
    writer.add_block_count(config.num_hidden_layers)
    writer.add_context_length(config.max_position_embeddings)
    writer.add_embedding_length(config.hidden_size)
    writer.add_feed_forward_length(config.intermediate_size)
    writer.add_head_count(config.num_attention_heads)
    writer.add_head_count_kv(config.num_key_value_heads)
    writer.add_rope_dimension_count(config.head_dim)
    writer.add_rope_freq_base(config.rope_parameters["rope_theta"])
    writer.add_layer_norm_rms_eps(config.rms_norm_eps)
    writer.add_vocab_size(config.vocab_size)
    _add_tokenizer(writer, ["<s>", "</s>", "<unk>", *ascii_lowercase, "ab"])
    for name, tensor in model.state_dict().items():
        array = _interleave(name, tensor, config).numpy()
        writer.add_tensor(_gguf_name(name), array)
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()
    return path


def _add_tokenizer(writer, words):
    writer.add_tokenizer_model("gpt2")
    writer.add_tokenizer_pre("default")
    writer.add_token_list(words)
    writer.add_token_types([gguf.TokenType.NORMAL] * len(words))
    writer.add_token_merges(["a b"])
    writer.add_bos_token_id(words.index("<s>"))
    writer.add_eos_token_id(words.index("</s>"))


def _interleave(name, tensor, config):
    """Rotary pairs as neighbours, which llama.cpp wants of queries and keys."""
    heads = {"q_proj": config.num_attention_heads, "k_proj": config.num_key_value_heads}
    for part, count in heads.items():
        if part in name:
            rows = tensor.unflatten(0, (count, 2, -1)).transpose(1, 2)
            return rows.reshape(tensor.shape).contiguous()
    return tensor


def _gguf_name(name):
    names = gguf.get_tensor_name_map(gguf.MODEL_ARCH.LLAMA, 9)
    return names.get_name(name, try_suffixes=(".weight",))
