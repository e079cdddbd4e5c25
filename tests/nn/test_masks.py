import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from transformers import DynamicCache

from ragkit.errors import ConfigError, ShapeError
from ragkit.nn.documents import Documents
from ragkit.nn.masks import make_attention_mask

SEQ = 11


def readable(mask):
    """`[batch, seq, keys]`: eager's additive mask or sdpa's boolean one as booleans."""
    return (mask if mask.dtype == torch.bool else mask == 0)[:, 0]


def oracle(*, batch, documents=None, padding=None, window=None, blocks=None, past=0):
    """Asks of every pair whether the reader may read the other."""
    may_read = torch.zeros(batch, SEQ - past, SEQ, dtype=torch.bool)
    for row in range(batch):
        for reader in range(past, SEQ):
            for other in range(SEQ):
                answer = other <= reader and (window is None or reader - other < window)
                if documents is not None:
                    answer = answer and documents[row][reader] == documents[row][other]
                if blocks is not None and blocks[row][reader] >= 0:
                    answer = answer or blocks[row][reader] == blocks[row][other]
                if padding is not None:
                    answer = answer and bool(padding[row][other])
                may_read[row, reader - past, other] = answer
    return may_read


@st.composite
def document_rows(draw, rows=3):
    """The number of each position's document, and its position there; some row has several."""
    cuts = [draw(st.sets(st.integers(1, SEQ - 1), min_size=row == 0)) for row in range(rows)]
    numbers = [[sum(cut <= position for cut in row) for position in range(SEQ)] for row in cuts]
    positions = [[row[:i].count(number) for i, number in enumerate(row)] for row in numbers]
    return numbers, torch.tensor(positions)


def embeddings(batch, seq=SEQ):
    return torch.zeros(batch, seq, 24)


def positions_of(batch):
    return torch.arange(SEQ).expand(batch, -1)


@pytest.mark.parametrize("implementation", ["eager", "sdpa"])
@given(rows=document_rows(), window=st.one_of(st.none(), st.integers(1, SEQ + 1)))
@settings(deadline=None, max_examples=40)
def test_documents_and_windows_equal_the_oracle(layer_config, implementation, rows, window):
    numbers, positions = rows
    config = layer_config(attn_implementation=implementation)

    mask = make_attention_mask(config, embeddings(3), position_ids=positions, sliding_window=window)

    if isinstance(mask, Documents):
        assert window is None
        return
    assert torch.equal(readable(mask), oracle(batch=3, documents=numbers, window=window))


@given(rows=document_rows())
@settings(deadline=None)
def test_documents_alone_are_lengths_for_sdpa(layer_config, rows):
    numbers, positions = rows

    mask = make_attention_mask(layer_config(), embeddings(3), position_ids=positions)

    assert mask == Documents(
        tuple(row.count(number) for row in numbers for number in range(max(row) + 1))
    )


@pytest.mark.parametrize("implementation", ["eager", "sdpa"])
@given(
    blocks=st.lists(st.integers(-1, 2), min_size=SEQ, max_size=SEQ).map(sorted),
    window=st.one_of(st.none(), st.integers(1, SEQ)),
)
@settings(deadline=None, max_examples=40)
def test_blocks_are_read_both_ways(layer_config, implementation, blocks, window):
    rows = [blocks, [-1] * SEQ]
    config = layer_config(attn_implementation=implementation)

    mask = make_attention_mask(
        config,
        embeddings(2),
        position_ids=positions_of(2),
        sliding_window=window,
        block_ids=torch.tensor(rows),
    )

    assert torch.equal(readable(mask), oracle(batch=2, blocks=rows, window=window))


def test_blocks_stay_within_their_documents(layer_config):
    numbers = [[0] * 4 + [1] * 7]
    blocks = [[-1, 0, 0, -1, -1, 1, 1, 1, -1, -1, -1]]

    mask = make_attention_mask(
        layer_config(),
        embeddings(1),
        position_ids=torch.tensor([[*range(4), *range(7)]]),
        block_ids=torch.tensor(blocks),
    )

    assert torch.equal(readable(mask), oracle(batch=1, documents=numbers, blocks=blocks))


@pytest.mark.parametrize("implementation", ["eager", "sdpa"])
@pytest.mark.parametrize("window", [None, 3])
def test_padding_is_read_by_none(layer_config, implementation, window):
    padding = torch.tensor([[0] * 4 + [1] * 7, [1] * 11])

    mask = make_attention_mask(
        layer_config(attn_implementation=implementation),
        embeddings(2),
        padding_mask=padding,
        position_ids=(padding.cumsum(-1) - 1).clamp(min=0),
        sliding_window=window,
    )

    expected = oracle(batch=2, padding=padding.tolist(), window=window)
    assert torch.equal(readable(mask), expected)


def cache_of(batch, past):
    cache = DynamicCache()
    cache.update(torch.zeros(batch, 2, past, 8), torch.zeros(batch, 2, past, 8), 0)
    return cache


@pytest.mark.parametrize("window", [None, 4])
def test_new_positions_read_the_cache(layer_config, window):
    mask = make_attention_mask(
        layer_config(),
        embeddings(2, seq=3),
        position_ids=positions_of(2)[:, 8:],
        past_key_values=cache_of(2, 8),
        sliding_window=window,
    )

    assert torch.equal(readable(mask), oracle(batch=2, window=window, past=8))


@pytest.mark.parametrize("implementation", ["eager", "sdpa"])
@given(
    past=st.integers(1, SEQ - 1),
    blocks=st.lists(st.integers(-1, 2), min_size=SEQ, max_size=SEQ).map(sorted),
)
@settings(deadline=None, max_examples=40)
def test_blocks_are_found_beyond_the_cache(layer_config, implementation, past, blocks):
    rows = [blocks, [-1] * SEQ]

    mask = make_attention_mask(
        layer_config(attn_implementation=implementation),
        embeddings(2, seq=SEQ - past),
        position_ids=positions_of(2)[:, past:],
        past_key_values=cache_of(2, past),
        block_ids=torch.tensor(rows),
    )

    assert torch.equal(readable(mask), oracle(batch=2, blocks=rows, past=past))


@pytest.mark.parametrize("shape", [(2, 3), (2, 12), (1, 11), (11,)])
def test_blocks_need_a_number_for_each_cached_position_too(layer_config, shape):
    with pytest.raises(ShapeError, match=r"\[2, 11\], for 8 cached .* and 3 new .*-1 where there"):
        make_attention_mask(
            layer_config(),
            embeddings(2, seq=3),
            past_key_values=cache_of(2, 8),
            block_ids=torch.zeros(shape, dtype=torch.long),
        )


def test_plain_causal_attention_needs_no_mask(layer_config):
    config = layer_config()

    assert make_attention_mask(config, embeddings(2), position_ids=positions_of(2)) is None
    assert make_attention_mask(config, embeddings(2)) is None


def test_a_window_without_the_reader_is_refused(layer_config):
    with pytest.raises(ConfigError, match="give at least 1"):
        make_attention_mask(layer_config(), embeddings(2), sliding_window=0)


def test_flash_attention_refuses_blocks(layer_config):
    config = layer_config()
    config._attn_implementation = "flash_attention_2"

    with pytest.raises(ConfigError, match="attn_implementation='sdpa'"):
        make_attention_mask(config, embeddings(2), block_ids=torch.zeros(2, SEQ))


def test_flash_attention_refuses_packed_documents_of_several_rows(layer_config):
    config = layer_config()
    config._attn_implementation = "flash_attention_2"
    packed = torch.tensor([[0, 1, 0, 1, 2, *range(SEQ - 5)]])

    with pytest.raises(ConfigError, match="set the batch size to 1"):
        make_attention_mask(config, embeddings(2), position_ids=packed.expand(2, -1))
    make_attention_mask(config, embeddings(1), position_ids=packed)
    make_attention_mask(config, embeddings(2), position_ids=torch.arange(SEQ)[None])
