import torch
from hypothesis import given
from hypothesis import strategies as st

from ragkit.nn.flops import causal_attended, peak_flops


@given(
    lengths=st.lists(st.integers(1, 9), min_size=1, max_size=4),
    window=st.none() | st.integers(1, 11),
)
def test_attended_keys_are_those_that_the_mask_leaves(lengths, window):
    document = torch.repeat_interleave(torch.tensor(lengths))
    query, key = torch.meshgrid(*[torch.arange(sum(lengths))] * 2, indexing="ij")
    mask = (key <= query) & (document[query] == document[key])
    if window is not None:
        mask &= query - key < window

    found = causal_attended(lengths, window=window)

    assert found == mask.sum().item() / sum(lengths)


def test_the_peak_is_measured_once():
    first = peak_flops("cpu", torch.float32)

    assert first > 1e8
    assert peak_flops(torch.device("cpu"), torch.float32) == first
