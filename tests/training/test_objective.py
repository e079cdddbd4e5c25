import pytest
import torch
from torch.nn import functional as F
from transformers import LlamaForCausalLM

from ragkit.models import Llama3ForCausalLM
from ragkit.training import NextToken
from tests.training.tiny import collate, make_model, make_rows


@pytest.mark.parametrize("cls", [LlamaForCausalLM, Llama3ForCausalLM])
def test_the_loss_is_cross_entropy_computed_by_hand(cls):
    model, batch = make_model(cls).eval(), collate(make_rows(3))

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


class Watched(Llama3ForCausalLM):
    """Notes whether its logits were asked to be left out."""

    def forward(self, *arguments, skip_logits=None, **keywords):
        self.skipped = skip_logits
        return super().forward(*arguments, skip_logits=skip_logits, **keywords)


def test_a_loss_that_is_only_measured_needs_no_logits():
    model, batch = make_model(Watched).eval(), collate(make_rows(3))

    with torch.no_grad():
        NextToken().loss(model, batch, num_items_in_batch=torch.tensor(7))

    assert model.skipped
