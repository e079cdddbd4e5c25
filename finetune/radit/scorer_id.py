"""Which LM scores: hashes of the model, of its vocabulary, and of how prompts are written."""

import json

import torch
import xxhash
from torch import Tensor
from transformers import PreTrainedModel, PreTrainedTokenizerBase

from ragkit.finetune.radit.score_cache import ScorerId
from ragkit.rag.template import PromptTemplate

_NO_INFLUENCE = ("_name_or_path", "architectures", "dtype", "transformers_version", "use_cache")
"""Fields of a model's configuration that change nothing that it computes."""


def identify_scorer(
    model: PreTrainedModel, tokenizer: PreTrainedTokenizerBase, *, template: PromptTemplate
) -> ScorerId:
    """The identity of `model` as a scorer of prompts that `template` shapes."""
    vocabulary = json.dumps(sorted(tokenizer.get_vocab().items(), key=lambda item: item[1]))
    return ScorerId(
        model=hash_model(model),
        tokenizer=xxhash.xxh3_128_hexdigest(vocabulary.encode()),
        template=template.fingerprint(),
    )


def hash_model(model: PreTrainedModel) -> str:
    """A hash of what `model` computes with, in hex; the same on every device."""
    settings = model.config.to_dict()
    kept = {name: value for name, value in settings.items() if name not in _NO_INFLUENCE}
    digest = xxhash.xxh3_128(json.dumps(kept, sort_keys=True, default=str).encode())
    for name, tensor in sorted(model.state_dict().items()):
        digest.update(f"{name} {tensor.dtype} {[*tensor.shape]}".encode())
        digest.update(_bytes_of(tensor))
    return digest.hexdigest()


def _bytes_of(tensor: Tensor) -> memoryview:
    # As bytes, since numpy lacks bfloat16.
    return tensor.detach().cpu().contiguous().flatten().view(torch.uint8).numpy().data
