import numpy as np
import pytest

from ragkit.errors import (
    ConfigError,
    DataError,
    IndexStateError,
    ModelMismatchError,
    ShapeError,
)
from ragkit.retrieval.build import build_index
from ragkit.retrieval.retriever import Retriever
from tests.retrieval.conftest import write_jsonl


def test_ready_embeddings_need_no_encoder(corpus, tmp_path):
    matrix = np.random.default_rng(0).standard_normal((37, 5)).astype(np.float32)
    np.save(tmp_path / "v.npy", matrix)

    build_index(
        corpus,
        tmp_path / "i",
        encoder="",
        embeddings=str(tmp_path / "v.npy"),
        keep_vectors="f32",
        metric="ip",
    )

    with Retriever.open(tmp_path / "i") as retriever:
        hits = retriever.search(matrix[11], k=37)
        best = np.argsort(-(matrix @ matrix[11]))
        assert [hit.row for hit in hits] == best.tolist()
        with pytest.raises(IndexStateError, match="search by vector"):
            retriever.search("text")


@pytest.mark.parametrize(
    ("array", "error", "hint"),
    [
        (np.zeros((36, 5), np.float32), ShapeError, "36 rows, the input has 37 passages"),
        (np.zeros(37, np.float32), DataError, "expected a matrix of floats"),
        (np.zeros((37, 5), np.int64), DataError, "expected a matrix of floats"),
        (np.array([[object()]]), DataError, "pickled arrays are never read"),
    ],
)
def test_embeddings_that_do_not_fit_are_refused(corpus, tmp_path, array, error, hint):
    np.save(tmp_path / "v.npy", array, allow_pickle=True)

    with pytest.raises(error, match=hint):
        build_index(corpus, tmp_path / "i", encoder="", embeddings=str(tmp_path / "v.npy"))


def test_embeddings_of_another_width_than_the_encoder_are_refused(corpus, tmp_path):
    np.save(tmp_path / "v.npy", np.zeros((37, 5), np.float32))

    with pytest.raises(ConfigError, match="5 dimensions, the encoder 16: name the encoder"):
        build_index(corpus, tmp_path / "i", encoder="hash:16", embeddings=str(tmp_path / "v.npy"))


def test_queries_as_texts_without_an_encoder_are_refused_before_the_input_is_read(tmp_path):
    np.save(tmp_path / "v.npy", np.eye(3, dtype=np.float32))
    (tmp_path / "q.txt").write_text("a query")

    with pytest.raises(ConfigError, match="queries in a file need an encoder: pass --encoder"):
        build_index(
            tmp_path / "no such corpus.jsonl",
            tmp_path / "i",
            encoder="",
            embeddings=str(tmp_path / "v.npy"),
            eval_queries=str(tmp_path / "q.txt"),
        )


def test_half_precision_that_overflows_says_what_to_use(corpus, tmp_path):
    np.save(tmp_path / "v.npy", np.full((37, 5), 1e6, np.float32))

    with pytest.raises(ConfigError, match="--keep-vectors f32"):
        build_index(
            corpus, tmp_path / "i", encoder="", embeddings=str(tmp_path / "v.npy"), metric="ip"
        )


def test_ready_vectors_follow_their_passages_when_the_input_order_changed(tmp_path):
    rows = [{"id": f"{name}{i}", "text": f"{name} {i}"} for name in "pq" for i in range(4)]
    files = [
        write_jsonl(tmp_path / f"{n}.jsonl", [r for r in rows if r["id"][0] == n]) for n in "pq"
    ]
    matrix = np.random.default_rng(0).standard_normal((8, 5)).astype(np.float32)
    np.save(tmp_path / "v.npy", matrix)
    options = {
        "encoder": "",
        "embeddings": str(tmp_path / "v.npy"),
        "part_rows": 4,
        "metric": "ip",
        "keep_vectors": "none",
    }
    with pytest.raises(ConfigError, match="best searched exactly"):
        build_index(files, tmp_path / "i", **options)
    options["keep_vectors"] = "f32"
    build_index(files, tmp_path / "i", **options)

    build_index(files[::-1], tmp_path / "i", **options, overwrite=True)

    with Retriever.open(tmp_path / "i") as retriever:
        np.testing.assert_array_equal(retriever.vectors(["q0", "p0"]), matrix[[0, 4]])


def test_ready_vectors_of_another_model_are_refused(corpus, tmp_path):
    np.save(tmp_path / "v.npy", np.random.default_rng(0).standard_normal((37, 16), np.float32))

    with pytest.raises(ModelMismatchError, match="not of the encoder 'hash:16'"):
        build_index(corpus, tmp_path / "i", encoder="hash:16", embeddings=str(tmp_path / "v.npy"))


def test_a_part_without_a_usable_vector_does_no_harm(corpus, tmp_path):
    matrix = np.random.default_rng(0).standard_normal((37, 5)).astype(np.float32)
    matrix[7] = np.nan
    np.save(tmp_path / "v.npy", matrix)

    for keep in ("f16", "int8"):
        report = build_index(
            corpus,
            tmp_path / keep,
            encoder="",
            embeddings=str(tmp_path / "v.npy"),
            part_rows=1,
            max_rejects="5%",
            keep_vectors=keep,
        )
        assert report.counts["passages"] == 36
