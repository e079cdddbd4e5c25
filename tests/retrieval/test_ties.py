import pytest

from ragkit.retrieval.build import build_index
from ragkit.retrieval.retriever import Retriever
from tests.retrieval.conftest import write_jsonl


@pytest.fixture(scope="module")
def tied(tmp_path_factory):
    """Forty passages of one text, between two of another; ids in no order."""
    folder = tmp_path_factory.mktemp("tied")
    names = [f"{(i * 17) % 40:02}" for i in range(40)]
    rows = [{"id": name, "text": "one and the same"} for name in names]
    rows.insert(20, {"id": "zz", "text": "one and the same but longer"})
    rows.append({"id": "aa", "text": "something else"})
    build_index(write_jsonl(folder / "c.jsonl", rows), folder / "i", encoder="hash:64")
    return Retriever.open(folder / "i")


@pytest.mark.parametrize("k", [1, 3, 39, 40, 42])
def test_the_smallest_ids_win_however_few_are_asked_for(tied, k):
    hits = tied.search("one and the same", k)

    expected = [*(f"{i:02}" for i in range(40)), "zz", "aa"]
    assert [hit.id for hit in hits] == expected[:k]


def test_a_batch_orders_each_query_by_itself(tied):
    tied_hits, other = tied.search_batch(["one and the same", "something else"], 2)

    assert [hit.id for hit in tied_hits] == ["00", "01"]
    assert other[0].id == "aa"
