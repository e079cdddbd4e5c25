import json

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from ragkit.errors import IndexCorruptError
from ragkit.index.keys import Keys, write_keys
from ragkit.index.passages import BATCH_ROWS, Passages, id_order, to_batch, write_passages
from ragkit.storage import durable_file
from ragkit.types import Passage

TEXT = st.text(st.characters(exclude_categories=["Cs"]), max_size=20)
PASSAGES = st.lists(
    st.builds(
        Passage,
        id=TEXT,
        doc_id=TEXT,
        text=TEXT,
        title=TEXT,
        chunk=st.integers(0, 2**31 - 1),
        start=st.integers(0, 2**40),
        end=st.integers(0, 2**40),
        num_tokens=st.integers(0, 2**31 - 1),
        truncated=st.booleans(),
        source=TEXT,
        meta=st.dictionaries(TEXT, st.integers() | TEXT | st.none(), max_size=3),
    ),
    min_size=1,
    max_size=9,
    unique_by=lambda passage: passage.id,
)


def stored(folder, passages):
    with durable_file(folder / "passages.arrow") as file:
        write_passages(file, [to_batch(passages)])
    return Passages.open(folder / "passages.arrow")


@given(passages=PASSAGES, data=st.data())
def test_the_reader_sees_what_the_writer_wrote(tmp_path_factory, passages, data):
    folder = tmp_path_factory.mktemp("passages")
    rows = data.draw(st.lists(st.integers(0, len(passages) - 1), max_size=12))

    found = stored(folder, passages)

    assert len(found) == len(passages)
    assert found.passages(np.array(rows, np.int64)) == [passages[row] for row in rows]


@given(passages=PASSAGES)
def test_every_id_leads_to_its_row(tmp_path_factory, passages):
    folder = tmp_path_factory.mktemp("keys")
    found = stored(folder, passages)
    with durable_file(folder / "keys.arrow") as file:
        write_keys(file, found)

    keys = Keys.open(folder / "keys.arrow")

    ids = [passage.id for passage in passages]
    assert len(keys) == len(passages)
    assert keys.find(ids, found).tolist() == list(range(len(passages)))
    assert keys.find(["no such id" * 3], found).tolist() == [-1]


@given(passages=PASSAGES)
def test_ids_are_sorted_by_their_bytes(tmp_path_factory, passages):
    found = stored(tmp_path_factory.mktemp("order"), passages)

    order = id_order(found)

    ids = [passages[row].id.encode() for row in order]
    assert ids == sorted(ids)


def test_rows_are_found_across_record_batches(tmp_path):
    count = BATCH_ROWS + 7
    passages = [Passage(id=str(i), doc_id=str(i), text=f"text {i}") for i in range(count)]
    halves = [to_batch(passages[:1000]), to_batch(passages[1000:])]
    with durable_file(tmp_path / "passages.arrow") as file:
        assert write_passages(file, halves) == count

    found = Passages.open(tmp_path / "passages.arrow")

    rows = np.array([BATCH_ROWS + 3, 5, BATCH_ROWS - 1, BATCH_ROWS, 5])
    many = np.random.default_rng(0).integers(count, size=200)
    assert found.values("text", many.tolist()) == [f"text {row}" for row in many]
    assert found.values("text", rows.tolist()) == [f"text {row}" for row in rows]
    assert found.values("text", []) == []


def test_equal_texts_have_equal_hashes():
    batch = to_batch([Passage(id="a", doc_id="a", text="x"), Passage(id="b", doc_id="b", text="x")])

    first, second = batch.column("hash").to_pylist()

    assert first == second
    assert len(first) == 16


def test_metadata_keeps_its_types(tmp_path):
    meta = {"year": 2020, "tags": ["a", "b"], "open": None}

    found = stored(tmp_path, [Passage(id="a", doc_id="a", text="x", meta=meta)])

    assert json.loads(found.values("meta", [0])[0]) == meta


def test_another_file_is_refused(tmp_path):
    (tmp_path / "passages.arrow").write_bytes(b"no arrow file at all")

    with pytest.raises(IndexCorruptError, match="no readable Arrow file"):
        Passages.open(tmp_path / "passages.arrow")
