"""Llama 3 (Grattafiori et al. 2024, arXiv:2407.21783, section 3.2).

Parameters are named as in transformers' Llama, so that checkpoints of either load in the other.
"""

from typing import Any

import torch
from torch import Tensor, nn
from transformers import DynamicCache, GenerationMixin, PreTrainedModel
from transformers.cache_utils import Cache
from transformers.modeling_layers import GradientCheckpointingLayer
from transformers.modeling_outputs import BaseModelOutputWithPast, CausalLMOutputWithPast
from transformers.modeling_utils import slice_logits_to_keep
from transformers.utils.generic import can_return_tuple
from transformers.utils.output_capturing import capture_outputs

from ragkit.errors import ConfigError
from ragkit.models.llama3.configuration import Llama3Config
from ragkit.nn.attention import GroupedQueryAttention
from ragkit.nn.loss import next_token_loss, projected_loss
from ragkit.nn.masks import make_attention_mask
from ragkit.nn.mlp import SwiGLU
from ragkit.nn.norm import RMSNorm
from ragkit.nn.rope import RotaryEmbedding


class Llama3DecoderLayer(GradientCheckpointingLayer):
    """Attention and feed-forward, each on the normalised stream and added to it."""

    def __init__(self, config: Llama3Config, layer_idx: int) -> None:
        super().__init__()
        self.self_attn = GroupedQueryAttention(config, layer_idx=layer_idx)
        self.mlp = SwiGLU(
            config.hidden_size, intermediate_size=config.intermediate_size, bias=config.mlp_bias
        )
        self.input_layernorm = RMSNorm(config.hidden_size, eps=config.rms_norm_eps)
        self.post_attention_layernorm = RMSNorm(config.hidden_size, eps=config.rms_norm_eps)

    def forward(self, hidden_states: Tensor, **kwargs: Any) -> Tensor:  # noqa: ANN401
        """Transform `hidden_states` `[batch, seq, hidden]`; attention takes the rest."""
        mixed, _ = self.self_attn(self.input_layernorm(hidden_states), **kwargs)
        hidden_states = hidden_states + mixed
        return hidden_states + self.mlp(self.post_attention_layernorm(hidden_states))


class Llama3PreTrainedModel(PreTrainedModel):
    """What transformers needs to know of the architecture."""

    config: Llama3Config
    config_class = Llama3Config
    base_model_prefix = "model"
    supports_gradient_checkpointing = True
    _no_split_modules = ["Llama3DecoderLayer"]
    _skip_keys_device_placement = ["past_key_values"]
    _supports_flash_attn = True
    _supports_sdpa = True
    _supports_flex_attn = True
    _supports_attention_backend = True
    _can_compile_fullgraph = True
    _can_record_outputs = {
        "hidden_states": Llama3DecoderLayer,
        "attentions": GroupedQueryAttention,
    }


class Llama3Model(Llama3PreTrainedModel):
    """The decoder without its output projection."""

    def __init__(self, config: Llama3Config) -> None:
        super().__init__(config)
        self.embed_tokens = nn.Embedding(config.vocab_size, config.hidden_size, config.pad_token_id)
        self.layers = nn.ModuleList(
            Llama3DecoderLayer(config, layer_idx) for layer_idx in range(config.num_hidden_layers)
        )
        self.norm = RMSNorm(config.hidden_size, eps=config.rms_norm_eps)
        self.rotary_emb = RotaryEmbedding(config)
        self.gradient_checkpointing = False
        self.post_init()  # type: ignore[no-untyped-call]

    @capture_outputs  # type: ignore[untyped-decorator]
    def forward(
        self,
        input_ids: Tensor | None = None,
        attention_mask: Tensor | None = None,
        position_ids: Tensor | None = None,
        past_key_values: Cache | None = None,
        inputs_embeds: Tensor | None = None,
        use_cache: bool | None = None,
        **kwargs: Any,  # noqa: ANN401 - for the attention implementation
    ) -> BaseModelOutputWithPast:
        """Hidden states after the last norm, `[batch, seq, hidden]`, and the cache.

        Args:
            input_ids: `[batch, seq]`.
            attention_mask: 1 for tokens and 0 for padding, `[batch, past + seq]`.
            position_ids: `[batch, seq]`. Where they restart, and there is neither mask nor cache,
                a document begins that sees nothing of the one before.
            inputs_embeds: Takes the place of `input_ids`, `[batch, seq, hidden]`.
            use_cache: Return a cache; by default outside training only, if the config says so.

        Raises:
            ConfigError: Not exactly one of `input_ids` and `inputs_embeds` is given, or cache and
                input are longer than `max_position_embeddings`.
        """
        if (input_ids is None) == (inputs_embeds is None):
            raise ConfigError("expected input_ids or inputs_embeds, got both or neither: give one")
        hidden_states = self.embed_tokens(input_ids) if inputs_embeds is None else inputs_embeds
        past = 0 if past_key_values is None else past_key_values.get_seq_length()
        _check_length(self.config, past=past, new=hidden_states.shape[1])
        if position_ids is None:
            new_positions = torch.arange(hidden_states.shape[1], device=hidden_states.device)
            position_ids = (new_positions + past)[None]
        # Made before a new cache is, because a cache turns the detection of documents off.
        mask = make_attention_mask(
            self.config,
            hidden_states,
            padding_mask=attention_mask,
            position_ids=position_ids,
            past_key_values=past_key_values,
        )
        if use_cache is None:
            use_cache = self.config.use_cache and not self.training
        if use_cache and past_key_values is None:
            past_key_values = DynamicCache(config=self.config)
        rotation = self.rotary_emb(position_ids, dtype=hidden_states.dtype)
        for layer in self.layers:
            hidden_states = layer(
                hidden_states,
                rotation=rotation,
                attention_mask=mask,
                position_ids=position_ids,  # by which FlashAttention tells documents apart
                past_key_values=past_key_values,
                **kwargs,
            )
        return BaseModelOutputWithPast(
            last_hidden_state=self.norm(hidden_states), past_key_values=past_key_values
        )


class Llama3ForCausalLM(Llama3PreTrainedModel, GenerationMixin):
    """The language model."""

    _tied_weights_keys = {"lm_head.weight": "model.embed_tokens.weight"}
    _tp_plan = {"lm_head": "colwise_gather_output"}
    _pp_plan = {"lm_head": (["hidden_states"], ["logits"])}  # type: ignore[dict-item]
    _fsdp_plan = {"lm_head": "keep_full_weight"}

    def __init__(self, config: Llama3Config) -> None:
        super().__init__(config)
        self.model = Llama3Model(config)
        self.lm_head = nn.Linear(config.hidden_size, config.vocab_size, bias=False)
        self.post_init()  # type: ignore[no-untyped-call]

    @can_return_tuple  # type: ignore[untyped-decorator]
    def forward(  # noqa: PLR0913 - transformers' signature
        self,
        input_ids: Tensor | None = None,
        attention_mask: Tensor | None = None,
        position_ids: Tensor | None = None,
        past_key_values: Cache | None = None,
        inputs_embeds: Tensor | None = None,
        labels: Tensor | None = None,
        use_cache: bool | None = None,
        logits_to_keep: int | Tensor = 0,
        num_items_in_batch: Tensor | int | None = None,
        z_loss_weight: float = 0.0,
        skip_logits: bool | None = None,
        **kwargs: Any,  # noqa: ANN401 - for the attention implementation
    ) -> CausalLMOutputWithPast:
        """The loss if there are labels, and logits `[batch, seq, vocab]`.

        Args:
            labels: As `next_token_loss` takes them, as are `num_items_in_batch` and
                `z_loss_weight`. The rest is as in `Llama3Model`.
            logits_to_keep: Last positions to give logits for, or which ones; 0 for all.
            skip_logits: Whether a loss is computed without ever holding all logits, and none are
                returned. Left out, that is so in training steps (training mode, gradients on).

        Raises:
            ConfigError: As in `Llama3Model`, or `logits_to_keep` comes with labels.
        """
        if labels is not None and (isinstance(logits_to_keep, Tensor) or logits_to_keep):
            raise ConfigError(
                "labels need the logits of all positions, got logits_to_keep too: leave it out"
            )
        outputs = self.model(
            input_ids=input_ids,
            attention_mask=attention_mask,
            position_ids=position_ids,
            past_key_values=past_key_values,
            inputs_embeds=inputs_embeds,
            use_cache=use_cache,
            **kwargs,
        )
        hidden_states, loss, logits = outputs.last_hidden_state, None, None
        if skip_logits is None:
            skip_logits = self.training and torch.is_grad_enabled()
        if labels is not None and skip_logits:
            loss = projected_loss(
                self.lm_head,
                hidden_states,
                labels,
                num_items_in_batch=num_items_in_batch,
                z_loss_weight=z_loss_weight,
            )
        else:
            logits = self.lm_head(slice_logits_to_keep(hidden_states, logits_to_keep))
        if labels is not None and logits is not None:
            loss = next_token_loss(
                logits, labels, num_items_in_batch=num_items_in_batch, z_loss_weight=z_loss_weight
            )
        return CausalLMOutputWithPast(
            loss=loss,
            logits=logits,
            past_key_values=outputs.past_key_values,
            hidden_states=outputs.hidden_states,
            attentions=outputs.attentions,
        )


def _check_length(config: Llama3Config, *, past: int | Tensor, new: int) -> None:
    # A static cache counts in a tensor, which is not read here, and has a length of its own.
    if isinstance(past, int) and past + new > config.max_position_embeddings:
        raise ConfigError(
            f"{past + new} tokens exceed max_position_embeddings "
            f"{config.max_position_embeddings}: shorten the input or what is to be generated, or "
            "raise config.max_position_embeddings if the model is to read beyond what it learnt"
        )
