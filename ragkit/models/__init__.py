"""The LM core: models that transformers' Auto classes know once this package is imported."""

from peft.utils import TRANSFORMERS_MODELS_TO_LORA_TARGET_MODULES_MAPPING as _LORA_TARGETS
from transformers import AutoConfig, AutoModel, AutoModelForCausalLM

from ragkit.models.llama3 import Llama3Config, Llama3ForCausalLM, Llama3Model
from ragkit.models.loading import load_model

__all__ = ["Llama3Config", "Llama3ForCausalLM", "Llama3Model", "load_model"]

AutoConfig.register(Llama3Config.model_type, Llama3Config)
AutoModel.register(Llama3Config, Llama3Model)
AutoModelForCausalLM.register(Llama3Config, Llama3ForCausalLM)
# So that LoraConfig needs no target_modules, as for transformers' own Llama.
_LORA_TARGETS[Llama3Config.model_type] = _LORA_TARGETS["llama"]
