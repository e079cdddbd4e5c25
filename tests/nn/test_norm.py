import pytest
import torch
from torch.testing import assert_close
from transformers.models.llama.modeling_llama import LlamaRMSNorm

from ragkit.nn.norm import RMSNorm


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16, torch.float16])
def test_equals_that_of_transformers_in_every_type(dtype):
    torch.manual_seed(0)
    theirs, ours = LlamaRMSNorm(24, eps=1e-5), RMSNorm(24, eps=1e-5)
    torch.nn.init.normal_(theirs.weight)
    ours.load_state_dict(theirs.state_dict())
    x = torch.randn(3, 5, 24).to(dtype)

    found = ours.to(dtype)(x)

    assert found.dtype == dtype
    assert_close(found, theirs.to(dtype)(x), rtol=0, atol=0)


def test_squares_do_not_overflow_in_float16():
    x = torch.full((1, 24), 1000.0, dtype=torch.float16)  # its square is beyond float16

    assert_close(RMSNorm(24, eps=1e-5).half()(x), torch.ones(1, 24, dtype=torch.float16))


def test_a_vector_of_zeros_stays_zero():
    assert torch.equal(RMSNorm(24, eps=1e-5)(torch.zeros(2, 24)), torch.zeros(2, 24))
