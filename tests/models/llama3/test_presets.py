import pytest
import torch

from ragkit.errors import ConfigError
from ragkit.models import Llama3ForCausalLM
from ragkit.models.llama3.presets import PRESETS, preset

PARAMETERS = {
    "llama3-8b": 8_030_261_248,
    "llama3-70b": 70_553_706_496,
    "llama3.1-8b": 8_030_261_248,
    "llama3.1-70b": 70_553_706_496,
    "llama3.1-405b": 405_853_388_800,
    "llama3.2-1b": 1_235_814_400,
    "llama3.2-3b": 3_212_749_824,
    "llama3.3-70b": 70_553_706_496,
}


@pytest.mark.parametrize("name", PRESETS)
def test_parameters_are_those_of_the_release(name):
    with torch.device("meta"):
        model = Llama3ForCausalLM(preset(name))

    assert model.num_parameters() == PARAMETERS[name]


@pytest.mark.parametrize("name", PRESETS)
def test_rope_is_scaled_from_release_3_1_on(name):
    rope_parameters = preset(name).rope_parameters
    factors = {"llama3-": None, "llama3.1": 8.0, "llama3.2": 32.0, "llama3.3": 8.0}
    [factor] = [factor for prefix, factor in factors.items() if name.startswith(prefix)]

    assert rope_parameters.get("factor") == factor
    assert rope_parameters["rope_theta"] == 500_000.0


@pytest.mark.parametrize("name", PRESETS)
def test_context_is_that_of_the_release(name):
    context = 8192 if name.startswith("llama3-") else 131_072

    assert preset(name).max_position_embeddings == context


def test_each_call_gives_a_configuration_of_its_own():
    first, second = preset("llama3.1-8b"), preset("llama3.1-8b")
    first.rope_parameters["factor"] = 2.0

    assert second.rope_parameters["factor"] == 8.0


def test_an_unknown_preset_lists_the_known():
    with pytest.raises(ConfigError, match=r"no preset 'llama4': choose one of llama3-8b"):
        preset("llama4")
