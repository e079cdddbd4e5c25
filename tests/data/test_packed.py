import json
import pickle
import subprocess
import sys

import numpy as np
import pytest

from ragkit.data.packed import PackedDataset
from ragkit.data.token_writer import tokenize_corpus
from ragkit.tokenizers import train_bpe

TEXTS = ["wing " * size for size in (3, 11, 1, 29, 7, 2)]


@pytest.fixture(scope="module")
def store(tmp_path_factory):
    folder = tmp_path_factory.mktemp("packed")
    lines = [json.dumps({"id": str(i), "text": text}) for i, text in enumerate(TEXTS)]
    (folder / "corpus.jsonl").write_text("\n".join(lines), encoding="utf-8")
    return tokenize_corpus(
        [str(folder / "corpus.jsonl")],
        folder / "store",
        tokenizer=train_bpe(TEXTS, vocab_size=263),
    )


@pytest.fixture
def packed(store):
    return PackedDataset.pack(store, context_length=13, seed=5)


def test_rows_hold_the_documents_tokens(store):
    packed = PackedDataset.pack(store, context_length=13, mode="stream")

    rows = list(packed)

    assert np.concatenate([row.input_ids for row in rows]).tolist() == store.tokens.tolist()
    assert all(row.input_ids.dtype == np.int64 for row in rows)


@pytest.mark.parametrize("mode", ["stream", "bestfit"])
def test_row_says_how_long_its_documents_and_its_padding_are(store, mode):
    packed = PackedDataset.pack(store, context_length=13, mode=mode)

    for row in packed:
        assert row.document_lengths.sum() == len(row.input_ids)
        assert len(row.input_ids) + row.num_padding == packed.context_length == 13
    assert sum(row.num_padding for row in packed) == pytest.approx(  # a share is rounded
        packed.report.padding_share * 13 * len(packed), abs=1e-9
    )


def test_documents_that_are_left_out_are_not_packed(store):
    packed = PackedDataset.pack(store, context_length=50, documents=np.array([4, 2]))

    [row] = packed

    assert row.input_ids.tolist() == [*store.document(4), *store.document(2)]


def test_pickled_dataset_gives_the_same_rows(packed):
    copy = pickle.loads(pickle.dumps(packed))

    assert len(copy) == len(packed)
    assert [row.input_ids.tolist() for row in copy] == [row.input_ids.tolist() for row in packed]


def test_rows_are_counted_from_either_end(packed):
    assert packed[-1].input_ids.tolist() == packed[len(packed) - 1].input_ids.tolist()
    with pytest.raises(IndexError):
        packed[len(packed)]


def test_packing_needs_no_torch():
    command = "import sys, ragkit.data.packed; sys.exit('torch' in sys.modules)"

    assert subprocess.run([sys.executable, "-c", command], check=False).returncode == 0
