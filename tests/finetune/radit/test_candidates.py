import json

import numpy as np
import pytest

from ragkit.errors import ConfigError, DataError, ModelMismatchError
from ragkit.finetune.radit.candidates import CandidateCounts, Candidates
from tests.finetune.radit.corpora import PASSAGES, build_corpus

ENCODER = {"name": "hash:64", "weights_sha256": None, "query_prefix": "", "dim": 64}


@pytest.fixture(scope="module")
def index(tmp_path_factory):
    return build_corpus(tmp_path_factory.mktemp("candidates"), PASSAGES)[1]


@pytest.fixture
def candidates(index):
    return Candidates(
        ["a", "b", "c"],
        np.array([[7, 2], [5, -1], [-1, -1]]),
        np.float32([[0.5, 0.25], [-3.0, -np.inf], [-np.inf, -np.inf]]),
        index.manifest.content_hash,
        ENCODER,
        CandidateCounts(num_examples=3, num_empty=1, num_short=1),
    )


def assert_equal(found, expected):
    assert found.example_ids == expected.example_ids
    np.testing.assert_array_equal(found.rows, expected.rows)
    np.testing.assert_array_equal(found.scores, expected.scores)
    assert (found.rows.dtype, found.scores.dtype) == (np.int64, np.float32)
    assert (found.index_hash, found.encoder, found.counts) == (
        expected.index_hash,
        expected.encoder,
        expected.counts,
    )


def test_a_saved_table_is_read_back(candidates, index, tmp_path):
    candidates.save(tmp_path / "table", index=index)

    assert_equal(Candidates.load(tmp_path / "table", index=index), candidates)


def test_a_table_without_records_is_read_back(index, tmp_path):
    empty = Candidates(
        [], np.empty((0, 4), np.int64), np.empty((0, 4), np.float32), index.manifest.content_hash
    )

    empty.save(tmp_path / "table", index=index)

    assert Candidates.load(tmp_path / "table", index=index).k == 4


def test_a_saved_table_takes_the_place_of_an_older_one(candidates, index, tmp_path):
    candidates.save(tmp_path / "table", index=index)
    candidates.save(tmp_path / "table", index=index)

    assert sorted(path.name for path in tmp_path.iterdir()) == ["table"]


def test_rows_are_found_anew_where_the_same_passages_have_others(candidates, index, tmp_path):
    turned = dict(reversed(PASSAGES.items()))
    _, other = build_corpus(tmp_path, turned)
    candidates.save(tmp_path / "table", index=index)

    loaded = Candidates.load(tmp_path / "table", index=other)

    assert other.manifest.content_hash == index.manifest.content_hash
    names = list(PASSAGES)
    assert other.values("id", loaded.rows[0].tolist()) == [names[7], names[2]]
    assert loaded.rows[1].tolist() == [list(turned).index(names[5]), -1]


def test_another_index_is_refused(candidates, index, tmp_path):
    _, other = build_corpus(tmp_path, {**PASSAGES, "Paris": "Paris is the capital of France."})
    candidates.save(tmp_path / "table", index=index)

    with pytest.raises(ConfigError, match="open that index, or retrieve the candidates anew"):
        Candidates.load(tmp_path / "table", index=other)
    with pytest.raises(ConfigError, match="open that index, or retrieve the candidates anew"):
        candidates.save(tmp_path / "other", index=other)


@pytest.mark.parametrize(
    "change", [{"query_prefix": "query: "}, {"weights_sha256": "0" * 64}, {"name": "hash:65"}]
)
def test_another_encoder_of_the_queries_is_refused(candidates, index, tmp_path, change):
    candidates.save(tmp_path / "table", index=index)

    with pytest.raises(ModelMismatchError, match="retrieve them anew"):
        Candidates.load(tmp_path / "table", index=index, encoder={**ENCODER, **change})


def test_a_model_that_was_moved_is_the_same(candidates, index, tmp_path):
    weights = {"weights_sha256": "0" * 64}
    there, here = ({**ENCODER, **weights, "name": name} for name in ("/there", "/here"))
    moved = Candidates(
        candidates.example_ids, candidates.rows, candidates.scores, candidates.index_hash, there
    )
    moved.save(tmp_path / "table", index=index)

    assert len(Candidates.load(tmp_path / "table", index=index, encoder=here)) == 3


def test_a_folder_without_table_is_refused(index, tmp_path):
    with pytest.raises(ConfigError, match="holds no candidates"):
        Candidates.load(tmp_path, index=index)


@pytest.mark.parametrize("name", ["candidates.arrow", "passages.arrow", "manifest.json"])
def test_a_damaged_file_is_refused(candidates, index, tmp_path, name):
    candidates.save(tmp_path / "table", index=index)
    path = tmp_path / "table" / name
    path.write_bytes(path.read_bytes()[:-9])

    with pytest.raises(DataError, match=f"{name} is damaged or missing.*retrieve"):
        Candidates.load(tmp_path / "table", index=index)


def test_another_format_is_refused(candidates, index, tmp_path):
    candidates.save(tmp_path / "table", index=index)
    path = tmp_path / "table" / "manifest.json"
    path.write_text(json.dumps({**json.loads(path.read_text()), "format": "other/2"}))

    with pytest.raises(DataError, match="has the format 'other/2', expected"):
        Candidates.load(tmp_path / "table", index=index)


def test_hits_leave_out_the_empty_places(candidates):
    assert list(candidates.hits()) == [
        ("a", [7, 2], [0.5, 0.25]),
        ("b", [5], [-3.0]),
        ("c", [], []),
    ]
