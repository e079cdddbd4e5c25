import json
import pickle
from itertools import chain

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from tokenizers import Tokenizer
from tokenizers.models import WordLevel
from transformers import PreTrainedTokenizerFast

from ragkit.data import ReadOptions
from ragkit.data.token_store import TokenStore
from ragkit.data.token_writer import tokenize_corpus
from ragkit.errors import ConfigError, DataError, StorageError
from ragkit.tokenizers import train_bpe

TEXTS = [
    "It is one of the wings, in the end.",
    "\u7ffc\u306e\u63da\u529b",
    "the wing\n\nof <|eos|> the end",
    "a longer document about the wing, the lift and the drag " * 7,
    "end",
]


@pytest.fixture(scope="module")
def tokenizer():
    return train_bpe(TEXTS, vocab_size=277)


def write_corpus(path, texts):
    lines = [json.dumps({"id": str(i), "text": text}) for i, text in enumerate(texts)]
    path.write_text("\n".join(lines), encoding="utf-8")
    return str(path)


@pytest.fixture
def corpus(tmp_path):
    return write_corpus(tmp_path / "corpus.jsonl", TEXTS)


@pytest.fixture
def store(corpus, tmp_path, tokenizer):
    return tokenize_corpus([corpus], tmp_path / "store", tokenizer=tokenizer)


def written_at(store):
    return (store.folder / "tokens.bin").stat().st_mtime_ns


def test_each_document_is_its_tokens_and_the_end_of_text(store, tokenizer):
    documents = [store.document(i).tolist() for i in range(len(store))]

    texts = tokenizer(TEXTS, add_special_tokens=False, split_special_tokens=True)["input_ids"]
    expected = [[*ids, tokenizer.eos_token_id] for ids in texts]
    assert documents == expected
    assert store.tokens.tolist() == list(chain.from_iterable(expected))


def test_store_counts_documents_tokens_and_bytes(store):
    assert len(store) == 5
    assert store.num_bytes.tolist() == [len(text.encode()) for text in TEXTS]
    assert store.offsets[0] == 0
    assert store.offsets[-1] == len(store.tokens)
    assert (store.vocab_size, store.tokens.dtype) == (277, np.uint16)


def test_large_vocabulary_takes_four_bytes_a_token(corpus, tmp_path):
    backend = Tokenizer(WordLevel({"<unk>": 70_000, "end": 66_000}, unk_token="<unk>"))
    tokenizer = PreTrainedTokenizerFast(tokenizer_object=backend, eos_token="</s>")

    store = tokenize_corpus([corpus], tmp_path / "store", tokenizer=tokenizer)

    assert store.tokens.dtype == np.uint32
    assert store.document(-1).tolist() == [66_000, tokenizer.eos_token_id]


def test_pickled_store_maps_the_files_again(store):
    data = pickle.dumps(store)

    assert len(data) < 400
    assert pickle.loads(data).tokens.tolist() == store.tokens.tolist()


def test_missing_document_is_an_index_error(store):
    with pytest.raises(IndexError):
        store.document(5)


def test_store_made_from_the_same_is_used_again(store, corpus, tokenizer):
    before = written_at(store)

    again = tokenize_corpus([corpus], store.folder, tokenizer=tokenizer)

    assert written_at(again) == before


@pytest.mark.parametrize(
    "change", [{"append_eos": False}, {"prepend_bos": True}, {"options": ReadOptions(limit=4)}]
)
def test_store_made_with_other_settings_is_replaced(store, corpus, tokenizer, change):
    before = store.made_from

    again = tokenize_corpus([corpus], store.folder, tokenizer=tokenizer, **change)

    assert again.made_from != before
    assert len(again.tokens) != len(store.tokens)


def test_store_is_replaced_when_the_corpus_or_the_tokenizer_changes(store, tmp_path, tokenizer):
    longer = write_corpus(tmp_path / "corpus.jsonl", [*TEXTS, "more"])

    grown = tokenize_corpus([longer], store.folder, tokenizer=tokenizer)
    smaller = train_bpe(TEXTS, vocab_size=276)
    other = tokenize_corpus([longer], store.folder, tokenizer=smaller)

    assert (len(store), len(grown), len(other)) == (5, 6, 6)
    assert (grown.vocab_size, other.vocab_size) == (277, 276)


def test_nothing_but_the_store_is_left_behind(store, tmp_path, corpus, tokenizer):
    tokenize_corpus([corpus], store.folder, tokenizer=tokenizer, append_eos=False)

    assert sorted(path.name for path in tmp_path.iterdir()) == ["corpus.jsonl", "store"]


def test_failed_run_leaves_the_old_store(store, tmp_path, tokenizer):
    empty = write_corpus(tmp_path / "empty.jsonl", [])
    broken = tmp_path / "broken.jsonl"
    broken.write_text('{"text": \n' * 3, encoding="utf-8")

    with pytest.raises(DataError, match="give a corpus that has"):
        tokenize_corpus([empty], store.folder, tokenizer=tokenizer)
    with pytest.raises(DataError, match="3 of 3 rows were refused"):
        tokenize_corpus([str(broken)], store.folder, tokenizer=tokenizer)

    assert len(TokenStore(store.folder)) == 5
    assert not [path for path in tmp_path.iterdir() if "partial" in path.name]


@pytest.mark.parametrize("name", ["tokens.bin", "offsets.npy", "num_bytes.npy", "hashes.npy"])
def test_truncated_or_missing_file_is_named(store, name):
    path = store.folder / name
    content = path.read_bytes()

    path.write_bytes(content[:-1])
    with pytest.raises(DataError, match=rf"{name} has .* bytes: delete the folder"):
        TokenStore(store.folder)
    path.unlink()
    with pytest.raises(DataError, match=rf"{name} is missing: delete the folder"):
        TokenStore(store.folder)


@pytest.mark.parametrize("content", ["{", "[]", '{"format": "other"}'])
def test_damaged_facts_are_named(store, content):
    (store.folder / "store.json").write_text(content)

    with pytest.raises(DataError, match=r"store\.json .* delete the folder"):
        TokenStore(store.folder)


def test_altered_token_is_found_before_a_store_is_used_again(store, corpus, tokenizer):
    path = store.folder / "tokens.bin"
    content = bytearray(path.read_bytes())
    content[6] ^= 1
    path.write_bytes(content)

    with pytest.raises(DataError, match=r"tokens\.bin has another checksum.*delete the folder"):
        tokenize_corpus([corpus], store.folder, tokenizer=tokenizer)


def test_folder_without_a_store_is_not_opened(tmp_path):
    with pytest.raises(DataError, match=r"no token store.*give a folder that tokenize_corpus made"):
        TokenStore(tmp_path)


def test_folder_with_something_else_is_not_replaced(corpus, tmp_path, tokenizer):
    (tmp_path / "notes").mkdir()
    (tmp_path / "notes" / "a.txt").write_text("keep me")

    with pytest.raises(ConfigError, match="no token store: choose another place"):
        tokenize_corpus([corpus], tmp_path / "notes", tokenizer=tokenizer)

    assert (tmp_path / "notes" / "a.txt").exists()


def test_place_that_cannot_be_written_is_a_storage_error(corpus, tmp_path, tokenizer):
    (tmp_path / "file").write_text("not a folder")

    with pytest.raises(StorageError, match="check the path"):
        tokenize_corpus([corpus], tmp_path / "file" / "store", tokenizer=tokenizer)


def test_standard_input_is_refused(tmp_path, tokenizer):
    with pytest.raises(ConfigError, match="write it to a file"):
        tokenize_corpus(["-"], tmp_path / "store", tokenizer=tokenizer)


@pytest.fixture(scope="module")
def store_of_many(tmp_path_factory, tokenizer):
    """Forty documents, of which the numbers 7 and 31 have equal text."""
    texts = [f"document {7 if i == 31 else i} of the end" for i in range(40)]
    folder = tmp_path_factory.mktemp("many")
    return tokenize_corpus(
        [write_corpus(folder / "corpus.jsonl", texts)], folder / "store", tokenizer=tokenizer
    )


@given(share=st.floats(0.01, 0.9))
def test_split_puts_each_document_on_one_side_and_equal_ones_on_the_same(store_of_many, share):
    train, held_out = store_of_many.split(share)

    assert sorted([*train, *held_out]) == list(range(40))
    assert (7 in held_out) == (31 in held_out)
    assert max(1, round(40 * share)) <= len(held_out) <= round(40 * share) + 1


def test_split_does_not_depend_on_the_order_of_the_documents(store_of_many, tmp_path, tokenizer):
    texts = [f"document {7 if i == 31 else i} of the end" for i in range(40)]
    reverse = tokenize_corpus(
        [write_corpus(tmp_path / "reverse.jsonl", texts[::-1])],
        tmp_path / "store",
        tokenizer=tokenizer,
    )

    assert sorted(39 - reverse.split(0.2).held_out) == store_of_many.split(0.2).held_out.tolist()


@pytest.mark.parametrize(
    ("share", "hint"), [(0, "write 0.01"), (1.0, "write 0.01"), (0.99, "lower held_out_share")]
)
def test_split_that_leaves_nothing_is_refused(store_of_many, share, hint):
    with pytest.raises(ConfigError, match=hint):
        store_of_many.split(share)
