import pytest
import torch
from transformers import (
    BloomConfig,
    BloomForCausalLM,
    GPT2Config,
    GPT2LMHeadModel,
    LlamaForCausalLM,
    MistralForCausalLM,
)

from ragkit.errors import ConfigError
from ragkit.models import Llama3ForCausalLM
from ragkit.training import NextToken
from ragkit.training.model_checks import require_division, require_separate_documents
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


class Mixing(LlamaForCausalLM):
    """Ignores where positions restart."""

    def forward(self, input_ids=None, position_ids=None, **kwargs):
        return super().forward(input_ids=input_ids, **kwargs)


def make_gpt2():
    return GPT2LMHeadModel(
        GPT2Config(vocab_size=37, n_positions=16, n_embd=24, n_layer=2, n_head=6)
    )


def make_bloom():
    return BloomForCausalLM(BloomConfig(vocab_size=37, hidden_size=24, n_layer=2, n_head=6))


@pytest.mark.parametrize(
    "make",
    [
        make_gpt2,
        lambda: make_model(LlamaForCausalLM),
        lambda: make_model(MistralForCausalLM, sliding_window=5),
        lambda: make_model(Llama3ForCausalLM).to(torch.bfloat16),
    ],
)
def test_models_that_keep_documents_apart_pass(make):
    require_separate_documents(make())


@pytest.mark.parametrize("make", [make_bloom, lambda: make_model(Mixing)])
def test_models_that_let_documents_mix_are_refused(make):
    with pytest.raises(ConfigError, match="train on rows of one document each"):
        require_separate_documents(make())
