"""Llama 3, the dense member of the LM core."""

from ragkit.models.llama3.configuration import Llama3Config
from ragkit.models.llama3.modeling import Llama3ForCausalLM, Llama3Model

__all__ = ["Llama3Config", "Llama3ForCausalLM", "Llama3Model"]
