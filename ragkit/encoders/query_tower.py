"""A query tower that can be trained: an encoder's backbone and head as one transformers model."""

import copy
from collections.abc import Sequence

import numpy as np
import torch
from torch import Tensor
from transformers import PreTrainedModel

from ragkit.encoders.assemble import ModelParts, open_model
from ragkit.encoders.backbone import POOLER, load_backbone
from ragkit.encoders.batching import cut_lengths, pad_batch
from ragkit.encoders.head import Head
from ragkit.encoders.load import EncoderOptions
from ragkit.errors import ConfigError, DataError
from ragkit.hub import THREE_FORMS


class QueryTower(PreTrainedModel):
    """Turns queries into the vectors that the encoder it was copied from gives them.

    Its weights lie under `backbone` and `head`, in fp32. Those that no vector passes through are
    frozen.

    Args:
        head: Pooling, dense layers and normalisation of the same encoder.
        parts: What else is in the folder that both come from.
    """

    base_model_prefix = "backbone"
    supports_gradient_checkpointing = True
    # The attention of the backbone was chosen when it was loaded.
    _supports_sdpa = _supports_flash_attn = _supports_flex_attn = True

    def __init__(self, backbone: PreTrainedModel, head: Head, *, parts: ModelParts) -> None:
        super().__init__(copy.deepcopy(parts.config))
        self.backbone, self.head, self.parts = backbone, head, parts
        for name, parameter in backbone.named_parameters():
            parameter.requires_grad_(POOLER not in name)
        self.post_init()  # type: ignore[no-untyped-call]

    @property
    def dim(self) -> int:
        """Width of a vector."""
        return self.head.dim

    def init_weights(self) -> None:
        """Do nothing: no weight is drawn, all come from a folder."""

    def forward(self, input_ids: Tensor, attention_mask: Tensor) -> Tensor:
        """Vectors `[batch, dim]` of right-padded token ids `[batch, seq]`.

        Args:
            attention_mask: 1 for tokens, 0 for padding, `[batch, seq]`.
        """
        states = self.backbone(input_ids=input_ids, attention_mask=attention_mask)[0]
        # Pooling and normalisation stay in fp32, as when the encoder is run.
        with torch.autocast(states.device.type, enabled=False):
            vectors: Tensor = self.head(states, attention_mask.bool())
        return vectors

    def tokenize(self, queries: Sequence[str]) -> dict[str, Tensor]:
        """What `forward` takes of some queries, prefix included.

        Raises:
            DataError: A query has no tokens.
        """
        prefix = self.parts.prefixes.query
        tokens = self.parts.tokenizer.tokenize(queries, prefix=prefix)
        if not cut_lengths(tokens).all():
            raise DataError("a query has no tokens: drop queries that are empty")
        ids, real = pad_batch(tokens, np.arange(len(queries)), pad_id=self.parts.pad_id)
        return {
            "input_ids": torch.from_numpy(ids),
            "attention_mask": torch.from_numpy(real.astype(np.int64)),
        }


def load_query_tower(
    spec: str,
    *,
    max_length: int | None = None,
    query_prefix: str | None = None,
    passage_prefix: str | None = None,
    dim: int | None = None,
    trust_remote_code: bool = False,
    revision: str | None = None,
) -> QueryTower:
    """A trainable copy of the encoder that `spec` names, on the CPU.

    Args:
        spec: A folder, a hub id or `package:NAME` of an encoder with weights; this and the rest as
            for `load_encoder`.

    Raises:
        ConfigError: The encoder has no weights, or an option does not fit the model.
        CheckpointError: The folder holds no model that can be run.
    """
    if spec.startswith(("hash:", "python:")):
        raise ConfigError(f"{spec} has no weights to tune: give {THREE_FORMS}")
    options = EncoderOptions(
        max_length=max_length,
        query_prefix=query_prefix,
        passage_prefix=passage_prefix,
        dim=dim,
        trust_remote_code=trust_remote_code,
        revision=revision,
    )
    parts = open_model(spec, options)
    backbone = load_backbone(parts.layout.backbone, trust_remote_code=trust_remote_code)
    return QueryTower(backbone, parts.make_head(dim=dim), parts=parts)
