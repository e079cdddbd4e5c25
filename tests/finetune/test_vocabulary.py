import json

import pytest

from ragkit.data import ReadOptions
from ragkit.errors import ConfigError, DataError
from ragkit.finetune.vocabulary import FACTS, prepare_tokenizer

OPTIONS = ReadOptions()


def write_corpus(folder):
    path = folder / "corpus.jsonl"
    text = "a wing in supersonic flow sheds heat; the heat of a wing is drag"
    path.write_text(json.dumps({"id": "0", "text": text}) + "\n")
    return str(path)


def test_an_equal_tokenizer_is_not_trained_again(tmp_path):
    corpus, out = write_corpus(tmp_path), tmp_path / "tokenizer"
    prepare_tokenizer([corpus], out, vocab_size=263, options=OPTIONS)
    before = (out / "tokenizer.json").stat()

    prepare_tokenizer([corpus], out, vocab_size=263, options=OPTIONS)

    assert (out / "tokenizer.json").stat() == before


def test_a_damaged_note_means_training_again(tmp_path):
    corpus, out = write_corpus(tmp_path), tmp_path / "tokenizer"
    prepare_tokenizer([corpus], out, vocab_size=263, options=OPTIONS)
    (out / FACTS).write_text("{")

    tokenizer = prepare_tokenizer([corpus], out, vocab_size=265, options=OPTIONS)

    assert len(tokenizer) == 265


def test_a_failure_leaves_the_tokenizer_that_was_there(tmp_path):
    corpus, out = write_corpus(tmp_path), tmp_path / "tokenizer"
    prepare_tokenizer([corpus], out, vocab_size=263, options=OPTIONS)
    before = (out / "tokenizer.json").read_text()

    with pytest.raises(DataError, match="give more text"):
        prepare_tokenizer([corpus], out, vocab_size=9_999, options=OPTIONS)

    assert (out / "tokenizer.json").read_text() == before
    assert [path.name for path in tmp_path.iterdir() if path.name.startswith(".")] == []


def test_a_vocabulary_smaller_than_the_bytes_is_refused(tmp_path):
    with pytest.raises(ConfigError, match="vocab_size must be 259 or more"):
        prepare_tokenizer(
            [write_corpus(tmp_path)], tmp_path / "out", vocab_size=12, options=OPTIONS
        )


def test_a_folder_of_something_else_stays(tmp_path):
    out = tmp_path / "tokenizer"
    out.mkdir()
    (out / "mine.json").write_text("{}")

    with pytest.raises(ConfigError, match="choose another folder"):
        prepare_tokenizer([write_corpus(tmp_path)], out, vocab_size=263, options=OPTIONS)

    assert [path.name for path in out.iterdir()] == ["mine.json"]
