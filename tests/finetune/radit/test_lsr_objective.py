import numpy as np
import pytest
import torch

from ragkit.encoders.query_tower import load_query_tower
from ragkit.errors import ConfigError
from ragkit.finetune.radit.lsr_objective import (
    LsrCollator,
    LsrObjective,
    compare,
    require_gradient,
)
from ragkit.finetune.radit.selection import reciprocal_rank
from tests.finetune.radit.lsr_tiny import K, scored_rows, write_index


@pytest.fixture(scope="module")
def index(tmp_path_factory):
    return write_index(tmp_path_factory.mktemp("built"))


def tower_of(index):
    return load_query_tower(str(index.path.parent / "model"))


def batch_of(index, tower, count=3, *, empty=()):
    rows = scored_rows(index, count)
    for line, first in enumerate(empty):
        for part, filling in zip(rows.arrays, (-1, -np.inf, -np.inf), strict=True):
            part[line, first:] = filling
    return LsrCollator(tower.tokenize, index)([rows[place] for place in range(count)])


def test_a_batch_holds_the_stored_vectors(index):
    batch = batch_of(index, tower_of(index), empty=(2,))

    assert batch["documents"].shape == (3, K, 24)
    assert (batch["documents"][0, 2:] == 0).all()
    for place in ((0, 1), (1, 3), (2, 4)):
        stored = index.vectors(batch["rows"][place][None].numpy())[0]
        np.testing.assert_array_equal(batch["documents"][place].numpy(), stored)
    assert not batch["documents"].requires_grad


def test_queries_with_something_to_choose_are_counted(index):
    tower, objective = tower_of(index), LsrObjective(metric="cosine", temperature=0.05)

    batch = batch_of(index, tower, empty=(1, 2, 5))

    assert objective.count_targets(batch) == 2
    assert objective.count_tokens(batch) == batch["input_ids"].numel()


def test_the_loss_of_a_batch_is_that_of_its_queries(index):
    tower, objective = tower_of(index), LsrObjective(metric="cosine", temperature=0.05)
    rows, collate = scored_rows(index, 7), LsrCollator(tower.tokenize, index)
    one = torch.ones(())

    with torch.no_grad():
        whole = objective.loss(tower, collate([rows[i] for i in range(7)]), num_items_in_batch=one)
        alone = [
            objective.loss(tower, collate([rows[i]]), num_items_in_batch=one) for i in range(7)
        ]

    torch.testing.assert_close(whole, sum(alone))


@pytest.mark.parametrize("metric", ["ip", "cosine", "l2"])
def test_scores_are_those_of_the_metric(metric):
    generator = torch.Generator().manual_seed(0)
    queries = torch.randn(3, 7, dtype=torch.float64, generator=generator)
    documents = torch.randn(3, 5, 7, dtype=torch.float64, generator=generator)

    found = compare(queries, documents, metric=metric)

    for query, some, row in zip(queries, documents, found, strict=True):
        expected = {
            "ip": some @ query,
            "cosine": some @ query / query.norm(),
            "l2": -((some - query) ** 2).sum(1),
        }[metric]
        torch.testing.assert_close(row, expected)


@pytest.mark.parametrize("temperature", [0.0, -0.05, float("nan"), float("inf")])
def test_a_senseless_temperature_is_refused(temperature):
    with pytest.raises(ConfigError, match="retriever_temperature must be above 0"):
        LsrObjective(metric="ip", temperature=temperature)


def test_a_frozen_tower_is_refused(index):
    tower, objective = tower_of(index), LsrObjective(metric="cosine", temperature=0.05)
    batch = batch_of(index, tower)
    before = [weight.clone() for weight in tower.parameters()]

    require_gradient(objective, tower, batch)
    assert all(weight.grad is None for weight in tower.parameters())
    tower.requires_grad_(False)
    with pytest.raises(ConfigError, match="no gradient of the loss reaches the query tower"):
        require_gradient(objective, tower, batch)

    assert all(map(torch.equal, before, tower.parameters()))


def test_a_detached_tower_is_refused(index):
    class Detached(torch.nn.Linear):
        def forward(self, input_ids, attention_mask):
            return super().forward(attention_mask[:, :5].float()).detach()

    batch = batch_of(index, tower_of(index))

    with pytest.raises(ConfigError, match="no gradient of the loss reaches"):
        require_gradient(LsrObjective(metric="ip", temperature=1.0), Detached(5, 24), batch)


def test_equal_scores_rank_last():
    scores = torch.tensor([[3.0, 1.0, 2.0, -torch.inf], [1.0, 1.0, 1.0, -torch.inf]])

    found = reciprocal_rank(scores, torch.tensor([[2], [0]]))

    torch.testing.assert_close(found, torch.tensor([1 / 2, 1 / 3], dtype=torch.float64))
