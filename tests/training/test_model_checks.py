import pytest
import torch
from transformers import LlamaForCausalLM

from ragkit.errors import ConfigError
from ragkit.models import Llama3ForCausalLM
from ragkit.training import NextToken
from ragkit.training.model_checks import require_division
from tests.training.tiny import collate, make_model, make_rows


class Dropping(LlamaForCausalLM):
    """Takes `num_items_in_batch` and forgets it."""

    def forward(self, input_ids=None, labels=None, **kwargs):
        kwargs.pop("num_items_in_batch", None)
        return super().forward(input_ids=input_ids, labels=labels, **kwargs)


@pytest.mark.parametrize("cls", [LlamaForCausalLM, Llama3ForCausalLM])
def test_a_model_that_divides_by_the_count_passes(cls):
    require_division(NextToken(), make_model(cls), collate(make_rows(3)))


def test_a_model_that_drops_the_count_is_refused():
    with pytest.raises(ConfigError, match="let forward pass num_items_in_batch on to the loss"):
        require_division(NextToken(), make_model(Dropping), collate(make_rows(3)))


def test_the_trial_draws_no_random_numbers():
    model = make_model(attention_dropout=0.5)
    before = torch.random.get_rng_state()

    require_division(NextToken(), model, collate(make_rows(3)))

    assert torch.equal(torch.random.get_rng_state(), before)
