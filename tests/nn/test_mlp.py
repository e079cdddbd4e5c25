import pytest
import torch
from torch.testing import assert_close
from transformers.models.llama.modeling_llama import LlamaMLP

from ragkit.nn.mlp import SwiGLU


@pytest.mark.parametrize("bias", [False, True])
def test_equals_that_of_transformers(layer_config, bias):
    torch.manual_seed(0)
    theirs = LlamaMLP(layer_config(intermediate_size=40, mlp_bias=bias))
    ours = SwiGLU(24, intermediate_size=40, bias=bias)
    ours.load_state_dict(theirs.state_dict())
    x = torch.randn(3, 5, 24)

    assert_close(ours(x), theirs(x), rtol=0, atol=0)
