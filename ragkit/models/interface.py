"""What a causal LM of whatever kind takes: arguments of its forward, and tokens."""

import inspect

from transformers import PreTrainedModel


def forward_parameters(model: PreTrainedModel) -> frozenset[str]:
    """Names of what `model` takes; of the model within, if PEFT adapters are wrapped around it."""
    # The forward of a wrapper takes anything and passes it on.
    unwrap = getattr(model, "get_base_model", None)
    bare: PreTrainedModel = model if unwrap is None else unwrap()
    return frozenset(inspect.signature(bare.forward).parameters)


def max_context_length(model: PreTrainedModel) -> int | None:
    """Most tokens that `model` reads; `None` if its configuration sets no limit."""
    return getattr(model.config.get_text_config(), "max_position_embeddings", None)
