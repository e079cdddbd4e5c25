import itertools

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from ragkit.index.merge import merge_hits


@given(
    scores=st.lists(st.integers(0, 5), min_size=1, max_size=20),
    cuts=st.lists(st.integers(0, 20), max_size=3),
    k=st.integers(1, 9),
)
def test_the_merge_of_disjoint_parts_is_the_search_over_all(scores, cuts, k):
    values = np.array(scores, np.float32)
    rows = np.arange(len(values))
    bounds = sorted({0, len(values), *(min(cut, len(values)) for cut in cuts)})
    best = np.lexsort((rows, -values))[:k]

    parts = []
    for start, stop in itertools.pairwise(bounds):
        order = np.lexsort((rows[start:stop], -values[start:stop])) + start
        parts.append((values[order][None], order[None]))
    merged_scores, merged_rows = merge_hits(parts, k=k)

    assert merged_rows[0].tolist() == best.tolist()
    assert merged_scores[0].tolist() == values[best].tolist()


def test_empty_slots_come_last():
    full = np.array([[0.5, 0.25]], np.float32), np.array([[3, 4]])
    padded = np.array([[0.75, 9.0]], np.float32), np.array([[8, -1]])

    scores, rows = merge_hits([full, padded], k=4)

    assert rows.tolist() == [[8, 3, 4, -1]]
    assert scores[0, :3].tolist() == [0.75, 0.5, 0.25]
