import math

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch.testing import assert_close
from transformers.modeling_rope_utils import ROPE_INIT_FUNCTIONS
from transformers.models.llama.modeling_llama import LlamaRotaryEmbedding, apply_rotary_pos_emb

from ragkit.nn.rope import (
    FLOAT32_POSITIONS,
    RotaryEmbedding,
    apply_rotary,
    inverse_frequencies,
    to_half_split,
    to_interleaved,
)

# Frequencies of Llama 3.1 (head_dim 128, factor 8), by pair, worked out from the published rule.
GOLDEN = {
    0: 1.0,
    1: 0.8146172339,
    28: 3.211445995e-3,
    29: 2.166570764e-3,
    30: 1.371893568e-3,
    31: 8.567514129e-4,
    32: 5.248461610e-4,
    33: 3.126937504e-4,
    34: 1.785078128e-4,
    35: 9.556212354e-5,
    63: 3.068925989e-7,
}
KEPT, BLENDED = slice(0, 29), slice(29, 35)
# All sums have two terms, so float32 rounds them a few times only.
FEW_ROUNDINGS = {"rtol": 1e-6, "atol": 1e-6}


@pytest.fixture
def scaled_config(layer_config):
    def make(rope_type="llama3", **changes):
        scaling = {
            "default": {},
            "linear": {"factor": 4.0},
            "yarn": {"factor": 4.0, "original_max_position_embeddings": 8192},
            "llama3": {
                "factor": 8.0,
                "low_freq_factor": 1.0,
                "high_freq_factor": 4.0,
                "original_max_position_embeddings": 8192,
            },
        }[rope_type]
        parameters = {"rope_type": rope_type, "rope_theta": 5e5, **scaling, **changes}
        return layer_config(head_dim=128, max_position_embeddings=32768, rope_parameters=parameters)

    return make


def test_frequencies_of_llama_3_1_are_the_published_ones(scaled_config):
    frequencies, factor = inverse_frequencies(scaled_config())

    found = {pair: frequencies[pair].item() for pair in GOLDEN}
    assert found == pytest.approx(GOLDEN, rel=5e-7)  # float32 keeps seven digits
    assert (len(frequencies), factor) == (64, 1.0)


def test_the_factor_changes_only_slow_frequencies(scaled_config):
    by_8, _ = inverse_frequencies(scaled_config(factor=8.0))
    by_32, _ = inverse_frequencies(scaled_config(factor=32.0))

    assert_close(by_32[KEPT], by_8[KEPT], rtol=0, atol=0)
    assert (by_32[BLENDED] < by_8[BLENDED]).all()
    assert_close(by_32[35:], by_8[35:] / 4, rtol=0, atol=0)


def test_scaled_frequencies_are_those_of_transformers(scaled_config):
    for rope_type in ("linear", "llama3", "yarn"):
        config = scaled_config(rope_type)
        expected, factor = ROPE_INIT_FUNCTIONS[rope_type](config)

        frequencies, found_factor = inverse_frequencies(config)

        assert_close(frequencies, expected, rtol=0, atol=0)
        assert found_factor == factor


@pytest.mark.parametrize("rope_type", ["default", "linear", "llama3", "yarn"])
def test_rotated_heads_equal_those_of_transformers_at_usual_positions(scaled_config, rope_type):
    config = scaled_config(rope_type)
    positions = torch.tensor([[0, 1, 2, 700, 8191], [5, 4, 3, 2, 1], [0, 1, 0, 1, 2]])
    query, key = torch.randn(3, 6, 5, 128), torch.randn(3, 2, 5, 128)
    cos, sin = LlamaRotaryEmbedding(config)(query, positions)

    expected_query, expected_key = apply_rotary_pos_emb(query, key, cos, sin)
    rotation = RotaryEmbedding(config)(positions, dtype=torch.float32)

    assert_close(apply_rotary(query, rotation), expected_query, rtol=0, atol=0)
    assert_close(apply_rotary(key, rotation), expected_key, rtol=0, atol=0)


@pytest.mark.parametrize("position", [FLOAT32_POSITIONS, 131_071, 10**7, 10**9])
def test_angles_at_large_positions_are_exact(scaled_config, position):
    embedding = RotaryEmbedding(scaled_config())

    rotation = embedding(torch.tensor([[position]]), dtype=torch.float32)

    expected = [math.cos(position * frequency) for frequency in embedding.inv_freq.tolist()]
    # Rounding an angle below 2 pi to float32 moves it by less than 3e-7.
    assert rotation.cos[0, 0, :64].tolist() == pytest.approx(expected, abs=5e-7)


def test_the_rotation_at_position_0_is_none(scaled_config):
    x = torch.randn(3, 2, 1, 128)

    rotation = RotaryEmbedding(scaled_config())(torch.zeros(3, 1), dtype=torch.float32)

    assert_close(apply_rotary(x, rotation), x, rtol=0, atol=0)


@pytest.mark.parametrize("interleaved", [False, True])
@given(near=st.integers(0, 60), distance=st.integers(0, 60), shift=st.integers(0, 900))
def test_scores_depend_on_distance_only(layer_config, interleaved, near, distance, shift):
    embedding = RotaryEmbedding(layer_config(), interleaved=interleaved)
    query, key = torch.randn(1, 1, 1, 8), torch.randn(1, 1, 1, 8)

    def score(query_position, key_position):
        rotated = [
            apply_rotary(x, embedding(torch.tensor([[position]]), dtype=torch.float32))
            for x, position in ((query, query_position), (key, key_position))
        ]
        return (rotated[0] * rotated[1]).sum()

    found = score(near + distance + shift, near + shift)

    assert_close(
        found, score(near + distance, near), rtol=0, atol=2e-3
    )  # angles up to 1000, rounded


def test_the_layouts_give_equal_scores_on_permuted_rows(layer_config):
    positions = torch.arange(5)[None]
    weights = torch.randn(6 * 8, 24)  # interleaved q_proj
    x = torch.randn(3, 5, 24)

    def rotated_heads(rows, *, interleaved):
        rotation = RotaryEmbedding(layer_config(), interleaved=interleaved)(
            positions, dtype=torch.float32
        )
        heads = (x @ rows.T).unflatten(-1, (6, 8)).transpose(1, 2)
        return apply_rotary(heads, rotation)

    interleaved = rotated_heads(weights, interleaved=True)
    half_split = rotated_heads(to_half_split(weights, head_dim=8), interleaved=False)

    scores = [heads @ heads.transpose(2, 3) for heads in (interleaved, half_split)]
    assert_close(scores[1], scores[0], rtol=1e-5, atol=1e-4)  # sums in another order


def test_half_split_puts_first_members_first():
    rows = torch.arange(12)  # 2 heads of 3 pairs

    assert to_half_split(rows, head_dim=6).tolist() == [0, 2, 4, 1, 3, 5, 6, 8, 10, 7, 9, 11]


@given(heads=st.integers(1, 4), pairs=st.integers(1, 5), hidden=st.integers(1, 3))
def test_converting_the_layout_back_gives_the_rows(heads, pairs, hidden):
    weight = torch.randn(heads * 2 * pairs, hidden)

    for rows in (weight, weight[:, 0]):
        there = to_half_split(rows, head_dim=2 * pairs)

        assert torch.equal(to_interleaved(there, head_dim=2 * pairs), rows)


@pytest.mark.parametrize("cast", [torch.bfloat16, torch.float16, torch.float64])
def test_frequencies_stay_float32_when_the_model_is_cast(layer_config, cast):
    embedding = RotaryEmbedding(layer_config())
    expected = embedding.inv_freq.clone()

    embedding.to(cast)

    assert_close(embedding.inv_freq, expected, rtol=0, atol=0)
    assert embedding(torch.arange(5)[None], dtype=cast).cos.dtype == cast
