"""Tiny models for tests, built in a folder: nothing is downloaded, every size differs."""

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from string import ascii_lowercase

import numpy as np
import torch
from safetensors.torch import save_file
from tokenizers import Tokenizer, normalizers, pre_tokenizers, processors
from tokenizers.models import WordPiece
from transformers import BertConfig, BertModel

from ragkit.encoders.base import Tokens

TINY_WORDS = ("the", "of", "wing", "flow", "heat", "drag", "shock", "query", "passage", "layer")
TINY_HIDDEN_SIZE = 24
TINY_MAX_SEQ_LENGTH = 37
_SPECIAL = ("[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]")
_PUNCTUATION = ".,:;!?'-"


def tokens_of(lengths: Sequence[int]) -> Tokens:
    """Tokens of texts of these lengths: text `i` has the ids `100 i, 100 i + 1, ...`."""
    ids = [100 * i + j for i, length in enumerate(lengths) for j in range(length)]
    offsets = np.concatenate([[0], np.cumsum(lengths, dtype=np.int64)])
    return Tokens(np.array(ids, np.int32), offsets, np.array(lengths, np.int32))


def tiny_tokenizer() -> Tokenizer:
    """A lower-casing WordPiece tokenizer that knows some words and spells out all others."""
    characters = ascii_lowercase + "0123456789"
    vocabulary = [*_SPECIAL, *TINY_WORDS, *_PUNCTUATION, *characters]
    vocabulary += [f"##{character}" for character in characters]
    numbers = {token: number for number, token in enumerate(vocabulary)}
    tokenizer = Tokenizer(WordPiece(numbers, unk_token="[UNK]"))
    tokenizer.normalizer = normalizers.BertNormalizer(lowercase=True)
    tokenizer.pre_tokenizer = pre_tokenizers.BertPreTokenizer()
    tokenizer.post_processor = processors.TemplateProcessing(
        single="[CLS] $A [SEP]",
        special_tokens=[(token, numbers[token]) for token in ("[CLS]", "[SEP]")],
    )
    tokenizer.add_special_tokens(list(_SPECIAL))
    return tokenizer


def write_tiny_bert(folder: Path, *, seed: int = 0) -> Path:
    """`folder`, with a plain Hugging Face BERT of random weights in it."""
    folder.mkdir(parents=True, exist_ok=True)
    tokenizer = tiny_tokenizer()
    config = BertConfig(
        vocab_size=tokenizer.get_vocab_size(),
        hidden_size=TINY_HIDDEN_SIZE,
        num_hidden_layers=2,
        num_attention_heads=3,
        intermediate_size=40,
        max_position_embeddings=TINY_MAX_SEQ_LENGTH,
        initializer_range=0.5,  # wide, so that texts get vectors that are far apart
    )
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        model = BertModel(config, add_pooling_layer=False)
    tensors = {name: tensor.contiguous() for name, tensor in model.state_dict().items()}
    save_file(tensors, folder / "model.safetensors", metadata={"format": "pt"})
    (folder / "config.json").write_text(config.to_json_string(use_diff=False))
    tokenizer.save(str(folder / "tokenizer.json"))
    _write_json(
        folder / "tokenizer_config.json",
        {
            "tokenizer_class": "BertTokenizer",
            "model_max_length": TINY_MAX_SEQ_LENGTH,
            **{f"{token[1:-1].lower()}_token": token for token in _SPECIAL},
        },
    )
    return folder


def write_tiny_encoder(
    folder: Path,
    *,
    pooling: str | Sequence[str] = "mean",
    normalize: bool = True,
    max_seq_length: int = TINY_MAX_SEQ_LENGTH,
    prompts: Mapping[str, str] | None = None,
    projected_size: int | None = None,
    seed: int = 0,
) -> Path:
    """`folder`, with a sentence-transformers model of random weights in it.

    Args:
        pooling: One of the modes of sentence-transformers, or several to concatenate.
        projected_size: Width of a dense layer with tanh after the pooling; `None` for no layer.
    """
    write_tiny_bert(folder, seed=seed)
    parts = [("Transformer", ""), ("Pooling", "1_Pooling")]
    pooled_size = TINY_HIDDEN_SIZE * (1 if isinstance(pooling, str) else len(pooling))
    settings = {"embedding_dimension": TINY_HIDDEN_SIZE, "pooling_mode": pooling}
    _write_json(folder / "1_Pooling" / "config.json", settings)
    if projected_size:
        parts.append(("Dense", "2_Dense"))
        _write_dense(folder / "2_Dense", pooled_size, projected_size, seed=seed)
    if normalize:
        parts.append(("Normalize", f"{len(parts)}_Normalize"))
    entries = [
        {"idx": i, "name": str(i), "path": path, "type": f"sentence_transformers.models.{kind}"}
        for i, (kind, path) in enumerate(parts)
    ]
    _write_json(folder / "modules.json", entries)
    _write_json(folder / "sentence_bert_config.json", {"max_seq_length": max_seq_length})
    _write_json(folder / "config_sentence_transformers.json", {"prompts": dict(prompts or {})})
    return folder


def _write_dense(folder: Path, in_features: int, out_features: int, *, seed: int) -> None:
    config = {
        "in_features": in_features,
        "out_features": out_features,
        "bias": True,
        "activation_function": "torch.nn.modules.activation.Tanh",
    }
    _write_json(folder / "config.json", config)
    generator = torch.Generator().manual_seed(seed)
    weight = torch.randn(out_features, in_features, generator=generator)
    tensors = {
        "linear.weight": weight,
        "linear.bias": torch.randn(out_features, generator=generator),
    }
    save_file(tensors, folder / "model.safetensors", metadata={"format": "pt"})


def _write_json(path: Path, content: object) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(content, indent=1), encoding="utf-8")
