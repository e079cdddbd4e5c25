"""The LM core: models that transformers' Auto classes know once this package is imported."""

from transformers import AutoConfig, AutoModel, AutoModelForCausalLM

from ragkit.models.llama3 import Llama3Config, Llama3ForCausalLM, Llama3Model
from ragkit.models.loading import load_model

__all__ = ["Llama3Config", "Llama3ForCausalLM", "Llama3Model", "load_model"]

AutoConfig.register(Llama3Config.model_type, Llama3Config)
AutoModel.register(Llama3Config, Llama3Model)
AutoModelForCausalLM.register(Llama3Config, Llama3ForCausalLM)
