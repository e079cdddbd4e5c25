import logging

import numpy as np
import pytest
import torch
from torch import nn

from ragkit.encoders.batching import take_tokens
from ragkit.encoders.head import Head
from ragkit.encoders.layout import Layout
from ragkit.encoders.replicas import Replicas
from ragkit.encoders.tower import Tower
from ragkit.errors import StorageError
from ragkit.testing import tokens_of

HIDDEN_SIZE = 6


class FakeBackbone(nn.Module):
    """The state of token `t` is `t + 1, t + 2, ...`; large batches do not fit its memory."""

    def __init__(self, *, memory=10_000, fp32_only=(), broken=()):
        super().__init__()
        self.memory, self.fp32_only, self.broken = memory, fp32_only, broken
        self.sizes = []

    def forward(self, *, input_ids, attention_mask):
        self.sizes.append(input_ids.numel())
        if input_ids.numel() > self.memory:
            raise torch.OutOfMemoryError("simulated")
        states = input_ids.unsqueeze(-1) + torch.arange(1.0, HIDDEN_SIZE + 1)
        if torch.is_autocast_enabled("cpu"):
            states[torch.isin(input_ids, torch.tensor(self.fp32_only))] = float("nan")
        states[torch.isin(input_ids, torch.tensor(self.broken))] = float("inf")
        return (states,)


def tower_of(backbone, *, tmp_path, precision="fp32", batch_tokens=40):
    return Tower(
        lambda: backbone,
        Head(Layout(backbone=tmp_path), hidden_size=HIDDEN_SIZE),
        device=torch.device("cpu"),
        precision=precision,
        pad_id=0,
        batch_tokens=batch_tokens,
    )


def means(lengths):
    """What `FakeBackbone` and mean pooling give for `tokens_of(lengths)`."""
    rows = [100 * i + (length - 1) / 2 for i, length in enumerate(lengths)]
    return np.array(rows)[:, None] + np.arange(1, HIDDEN_SIZE + 1)


def test_vectors_come_in_the_order_of_the_texts(tmp_path):
    lengths = [3, 11, 1, 7, 7]

    vectors = tower_of(FakeBackbone(), tmp_path=tmp_path).embed(tokens_of(lengths))

    np.testing.assert_allclose(vectors, means(lengths), rtol=1e-6)


def test_out_of_memory_halves_the_budget_for_good(tmp_path, caplog):
    backbone, lengths = FakeBackbone(memory=11), [5] * 8 + [2] * 9
    tower = tower_of(backbone, tmp_path=tmp_path)

    with caplog.at_level(logging.WARNING):
        vectors = tower.embed(tokens_of(lengths))

    np.testing.assert_allclose(vectors, means(lengths), rtol=1e-6)
    assert backbone.sizes[:3] == [40, 20, 10]
    assert tower.batch_tokens == 10
    assert "batches now hold 10" in caplog.text


def test_one_text_that_does_not_fit_is_an_error(tmp_path):
    tower = tower_of(FakeBackbone(memory=4), tmp_path=tmp_path)

    with pytest.raises(StorageError, match="lower max_length"):
        tower.embed(tokens_of([5, 2]))


def test_a_text_that_bf16_cannot_hold_is_run_in_fp32(tmp_path):
    backbone, lengths = FakeBackbone(fp32_only=[101]), [3, 5, 2]

    vectors = tower_of(backbone, tmp_path=tmp_path, precision="bf16").embed(tokens_of(lengths))

    np.testing.assert_allclose(vectors, means(lengths), rtol=1e-6)
    assert backbone.sizes == [15, 5]


def test_a_text_without_any_vector_gets_nan(tmp_path):
    vectors = tower_of(FakeBackbone(broken=[101]), tmp_path=tmp_path).embed(tokens_of([3, 5, 0]))

    assert np.isnan(vectors).all(axis=1).tolist() == [False, True, True]


@pytest.mark.parametrize("lengths", [[], [4], [3, 1, 9, 9, 2, 6, 5] * 5])
def test_replicas_give_what_one_tower_gives(tmp_path, lengths):
    replicas = Replicas([tower_of(FakeBackbone(), tmp_path=tmp_path) for _ in range(2)])

    vectors = replicas.embed(tokens_of(lengths))

    np.testing.assert_allclose(vectors, means(lengths).reshape(-1, HIDDEN_SIZE), rtol=1e-6)
    assert (replicas.dim, replicas.normalized) == (HIDDEN_SIZE, False)


def test_an_error_of_one_replica_is_raised(tmp_path):
    backbones = FakeBackbone(), FakeBackbone(memory=1)
    replicas = Replicas([tower_of(backbone, tmp_path=tmp_path) for backbone in backbones])

    with pytest.raises(StorageError, match="lower max_length"):
        # Thousands of shares of work, so that both towers get one.
        replicas.embed(take_tokens(tokens_of([9]), np.zeros(5000, np.int64)))


@pytest.mark.gpu
def test_gpus_agree_with_the_cpu(tmp_path):
    from ragkit.encoders import load_encoder
    from ragkit.testing import write_tiny_encoder

    folder = str(write_tiny_encoder(tmp_path))
    texts = ["the wing", "heat of the shock layer", "drag " * 30] * 50
    gpus = ",".join(str(i) for i in range(torch.cuda.device_count()))

    found = load_encoder(folder, device=f"cuda:{gpus}").encode(texts, role="passage")

    expected = load_encoder(folder, device="cpu", dtype="fp32").encode(texts, role="passage")
    assert (found * expected).sum(1).min() > 0.999  # bf16 with random weights
