import pytest
import torch
from torch.nn import functional as F
from transformers import LlamaForCausalLM

from ragkit.errors import ConfigError
from ragkit.models import Llama3Config, Llama3ForCausalLM
from ragkit.training import NextToken
from ragkit.training.objective import require_division
from tests.training.tiny import VOCAB, collate, make_model, make_rows


class Dropping(LlamaForCausalLM):
    """Takes `num_items_in_batch` and forgets it."""

    def forward(self, input_ids=None, labels=None, **kwargs):
        kwargs.pop("num_items_in_batch", None)
        return super().forward(input_ids=input_ids, labels=labels, **kwargs)


def make_llama3():
    torch.manual_seed(3)
    sizes = {"hidden_size": 24, "intermediate_size": 40, "num_hidden_layers": 2}
    heads = {"num_attention_heads": 6, "num_key_value_heads": 2}
    return Llama3ForCausalLM(Llama3Config(vocab_size=VOCAB, **sizes, **heads))


@pytest.mark.parametrize("make", [make_model, make_llama3])
def test_the_loss_is_cross_entropy_computed_by_hand(make):
    model, batch = make().eval(), collate(make_rows(3))

    loss = NextToken().loss(model, batch, num_items_in_batch=torch.tensor(7))

    with torch.no_grad():
        logits = model(input_ids=batch["input_ids"]).logits
    nats = sum(
        F.cross_entropy(logits[row, place - 1], label)
        for row, labels in enumerate(batch["labels"])
        for place, label in enumerate(labels)
        if label != -100
    )
    torch.testing.assert_close(loss, nats / 7)  # the sum in another order


def test_targets_are_counted_as_labels_that_are_not_ignored():
    batch = collate(make_rows(5))

    count = NextToken().count_targets(batch)

    assert count == (batch["labels"] != -100).sum()
    assert NextToken().count_tokens(batch) == 5 * 11


def test_a_first_label_that_nothing_predicts_is_not_counted():
    ids = torch.ones(3, 5, dtype=torch.int64)

    assert NextToken().count_targets({"labels": ids}) == 3 * 4


@pytest.mark.parametrize("make", [make_model, make_llama3])
def test_a_model_that_divides_by_the_count_passes(make):
    require_division(NextToken(), make(), collate(make_rows(3)))


def test_a_model_that_drops_the_count_is_refused():
    with pytest.raises(ConfigError, match="let forward pass num_items_in_batch on to the loss"):
        require_division(NextToken(), make_model(Dropping), collate(make_rows(3)))


def test_the_trial_draws_no_random_numbers():
    model = make_model(attention_dropout=0.5)
    before = torch.random.get_rng_state()

    require_division(NextToken(), model, collate(make_rows(3)))

    assert torch.equal(torch.random.get_rng_state(), before)
