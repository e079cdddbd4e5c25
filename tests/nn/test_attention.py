import math

import pytest
import torch
from torch.testing import assert_close
from transformers import DynamicCache

from ragkit.nn.attention import GroupedQueryAttention
from ragkit.nn.masks import make_attention_mask
from ragkit.nn.rope import RotaryEmbedding

# Sums of a few dozen float32 products, taken in another order.
CLOSE = {"rtol": 1e-5, "atol": 1e-5}
DOCUMENTS = ((4, 1, 6), (11,), (2, 9))


@pytest.fixture
def make_layer(layer_config):
    def make(*, attn_implementation="sdpa", qk_norm=False, interleaved=False, **changes):
        config = layer_config(attn_implementation=attn_implementation, **changes)
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(0)
            layer = GroupedQueryAttention(config, layer_idx=0, qk_norm=qk_norm)
            for parameter in layer.parameters():
                torch.nn.init.normal_(parameter, std=0.5)
        return layer.eval(), RotaryEmbedding(config, interleaved=interleaved)

    return make


def make_input(batch=3, seq=11):
    return torch.randn(batch, seq, 24, generator=torch.Generator().manual_seed(1))


def document_positions():
    return torch.tensor([[i for length in row for i in range(length)] for row in DOCUMENTS])


def mix(layer, rotary, x, position_ids, **kwargs):
    mask = make_attention_mask(layer.config, x, position_ids=position_ids)
    rotation = rotary(position_ids, dtype=x.dtype)
    return layer(x, rotation=rotation, attention_mask=mask, **kwargs)


def rotate(vector, position):
    """Half-split pairs as complex numbers, `[head_dim]`."""
    half = len(vector) // 2
    turned = list(vector)
    for j in range(half):
        angle = position * 10000.0 ** (-j / half)
        first, second = vector[j], vector[j + half]
        turned[j] = first * math.cos(angle) - second * math.sin(angle)
        turned[j + half] = second * math.cos(angle) + first * math.sin(angle)
    return torch.stack(turned)


def slow_attention(layer, x, *, qk_norm):
    """One head and one reader after the other, `[seq, hidden]`."""

    def heads(projection, count, norm=None):
        states = projection(x).view(len(x), count, 8)
        return states if norm is None else norm(states)

    query = heads(layer.q_proj, 6, layer.q_norm if qk_norm else None)
    key = heads(layer.k_proj, 2, layer.k_norm if qk_norm else None)
    value = heads(layer.v_proj, 2)
    mixed = torch.zeros(len(x), 6, 8)
    for head in range(6):
        keys = torch.stack([rotate(key[i, head // 3], i) for i in range(len(x))])
        for reader in range(len(x)):
            scores = keys[: reader + 1] @ rotate(query[reader, head], reader) / math.sqrt(8)
            mixed[reader, head] = scores.softmax(0) @ value[: reader + 1, head // 3]
    return layer.o_proj(mixed.flatten(1))


@pytest.mark.parametrize("qk_norm", [False, True])
@pytest.mark.parametrize("bias", [False, True])
@pytest.mark.parametrize("implementation", ["eager", "sdpa"])
@torch.no_grad()
def test_equals_attention_head_by_head(make_layer, implementation, bias, qk_norm):
    layer, rotary = make_layer(
        attn_implementation=implementation, qk_norm=qk_norm, attention_bias=bias
    )
    x = make_input()

    found, _ = mix(layer, rotary, x, torch.arange(11).expand(3, -1))

    assert_close(found[2], slow_attention(layer, x[2], qk_norm=qk_norm), **CLOSE)


@pytest.mark.parametrize("training", [False, True])
def test_documents_cut_apart_equal_documents_masked(make_layer, training):
    results = []
    for implementation in ("eager", "sdpa"):
        layer, rotary = make_layer(attn_implementation=implementation)
        x = make_input().requires_grad_()
        layer.train(training)

        mixed, _ = mix(layer, rotary, x, document_positions())
        mixed.square().mean().backward()
        results.append([mixed, x.grad, *(p.grad for p in layer.parameters())])

    for found, expected in zip(*results, strict=True):
        assert_close(found, expected, **CLOSE)


@pytest.mark.parametrize("implementation", ["eager", "sdpa"])
def test_nothing_flows_from_one_document_to_another(make_layer, implementation):
    layer, rotary = make_layer(attn_implementation=implementation)
    x = make_input().requires_grad_()

    mixed, _ = mix(layer, rotary, x, document_positions())
    mixed[0, 4:].sum().backward()

    assert not x.grad[0, :4].any()
    assert x.grad[0, 4:].any(dim=-1).all()


@pytest.mark.parametrize("implementation", ["eager", "sdpa"])
@torch.no_grad()
def test_reading_one_by_one_from_a_cache_equals_reading_at_once(make_layer, implementation):
    layer, rotary = make_layer(attn_implementation=implementation)
    x, positions, cache = make_input(), torch.arange(11).expand(3, -1), DynamicCache()

    at_once, _ = mix(layer, rotary, x, positions)
    one_by_one = [
        layer(
            x[:, i : i + 1],
            rotation=rotary(positions[:, i : i + 1], dtype=x.dtype),
            past_key_values=cache,
        )[0]
        for i in range(11)
    ]

    assert_close(torch.cat(one_by_one, dim=1), at_once, **CLOSE)


@torch.no_grad()
def test_eager_attention_gives_weights_that_add_up_to_1(make_layer):
    layer, rotary = make_layer(attn_implementation="eager")

    _, weights = mix(layer, rotary, make_input(), document_positions())

    assert weights.shape == (3, 6, 11, 11)
    assert_close(weights.sum(-1), torch.ones(3, 6, 11))
    assert not weights[0, :, 4:, :4].any()


@torch.no_grad()
@pytest.mark.parametrize("implementation", ["eager", "sdpa"])
def test_dropout_is_for_training_only(make_layer, implementation):
    layer, rotary = make_layer(attn_implementation=implementation, attention_dropout=0.5)
    positions = torch.arange(11).expand(3, -1)

    calm, again = (mix(layer, rotary, make_input(), positions)[0] for _ in range(2))
    layer.train()
    dropped, _ = mix(layer, rotary, make_input(), positions)

    assert torch.equal(calm, again)
    assert not torch.allclose(calm, dropped)


@torch.no_grad()
def test_without_rotation_order_does_not_count(make_layer):
    layer, _ = make_layer()
    x = make_input()
    x_swapped = x[:, [1, 0, *range(2, 11)]]

    found, _ = layer(x)
    swapped, _ = layer(x_swapped)

    assert_close(found[:, 2:], swapped[:, 2:], **CLOSE)


@torch.no_grad()
def test_interleaved_pairs_are_rotated_as_neighbours(make_layer):
    layer, half_split = make_layer()
    _, interleaved = make_layer(interleaved=True)
    x, positions = make_input(), torch.arange(11).expand(3, -1)
    order = [0, 4, 1, 5, 2, 6, 3, 7]  # neighbours of the interleaved layout

    expected, _ = mix(layer, half_split, x, positions)
    for projection in (layer.q_proj, layer.k_proj):
        projection.weight.copy_(projection.weight.view(-1, 8, 24)[:, order].flatten(0, 1))
    found, _ = mix(layer, interleaved, x, positions)

    assert_close(found, expected, **CLOSE)
