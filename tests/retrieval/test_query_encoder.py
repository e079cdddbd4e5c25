import pickle

import numpy as np
import pytest

from ragkit.encoders import load_encoder
from ragkit.encoders.query_tower import load_query_tower
from ragkit.encoders.save import save_encoder
from ragkit.errors import ConfigError, IndexStateError, ModelMismatchError
from ragkit.retrieval.build import build_index
from ragkit.retrieval.retriever import Retriever
from ragkit.testing import write_tiny_encoder


@pytest.fixture(scope="module")
def index(corpus, tmp_path_factory):
    """Folder of an index, with its encoder `model` and a tuned one, `tuned`, beside it."""
    folder = tmp_path_factory.mktemp("towers")
    model = write_tiny_encoder(folder / "model")
    build_index(
        corpus, folder / "index", encoder=str(model), device="cpu", dtype="fp32", metric="cosine"
    )
    other = load_query_tower(str(write_tiny_encoder(folder / "other", seed=4)))
    weights = load_encoder(str(model), device="cpu").describe()["weights_sha256"]
    save_encoder(other, folder / "tuned", document_weights=weights)
    return folder / "index"


def open_tuned(index, name="tuned", **options):
    return Retriever.open(index, query_encoder=str(index.parent / name), device="cpu", **options)


def test_queries_go_through_the_query_encoder_and_passages_do_not(index):
    texts = ["amber birch", "the lighthouse"]

    retriever = open_tuned(index)

    tuned, own = (
        load_encoder(str(index.parent / name), device="cpu", dtype="fp32")
        for name in ("tuned", "model")
    )
    expected = tuned.encode(texts, role="query")
    np.testing.assert_allclose(retriever.embed_queries(texts), expected, atol=1e-6)
    np.testing.assert_array_equal(
        retriever.embed_passages(texts), own.encode(texts, role="passage")
    )
    assert retriever.query_model() == tuned.describe()
    by_text, by_vector = retriever.search(texts[0], 5), retriever.search(expected[0], 5)
    assert [hit.id for hit in by_text] == [hit.id for hit in by_vector]


def test_the_encoder_of_the_index_is_checked_as_before(index):
    with pytest.raises(ModelMismatchError, match="not the one that embedded this index"):
        open_tuned(index, encoder=str(index.parent / "other"))


def test_a_pickled_retriever_keeps_its_query_encoder(index):
    retriever = open_tuned(index)

    again = pickle.loads(pickle.dumps(retriever))

    np.testing.assert_array_equal(again.embed_queries(["kelp"]), retriever.embed_queries(["kelp"]))


def test_a_ready_encoder_may_embed_queries(index):
    encoder = load_encoder(str(index.parent / "other"), device="cpu", dtype="fp32")

    retriever = Retriever.open(index, query_encoder=encoder, device="cpu")

    np.testing.assert_allclose(
        retriever.embed_queries(["kelp"]), encoder.encode(["kelp"], role="query"), atol=1e-6
    )


def test_a_query_encoder_of_another_width_is_refused(index):
    with pytest.raises(ModelMismatchError, match="gives 16 dimensions, the index has 24"):
        Retriever.open(index, query_encoder="hash:16", device="cpu")


def test_a_query_encoder_tuned_for_other_passages_is_refused(index, tmp_path):
    tower = load_query_tower(str(index.parent / "other"))
    save_encoder(tower, tmp_path / "tuned", document_weights="0" * 64)

    with pytest.raises(ModelMismatchError, match="tune one for this index"):
        Retriever.open(index, query_encoder=str(tmp_path / "tuned"), device="cpu")


def test_a_query_encoder_without_encoders_makes_no_sense(index):
    with pytest.raises(ConfigError, match="leave one of the two out"):
        open_tuned(index, with_encoder=False)


def test_a_closed_retriever_embeds_nothing(index):
    retriever = open_tuned(index)

    retriever.close()

    with pytest.raises(IndexStateError, match="has no encoder"):
        retriever.embed_queries(["kelp"])


def test_a_refresh_keeps_the_query_encoder(corpus, index, tmp_path):
    folder = tmp_path / "index"
    settings = {"encoder": str(index.parent / "model"), "device": "cpu", "dtype": "fp32"}
    build_index(corpus, folder, **settings)
    retriever = Retriever.open(folder, query_encoder=str(index.parent / "tuned"), device="cpu")
    before = retriever.embed_queries(["kelp"])

    build_index(corpus, folder, overwrite=True, **settings)

    assert retriever.refresh()
    np.testing.assert_array_equal(retriever.embed_queries(["kelp"]), before)


def test_a_check_searches_with_the_query_encoder(index):
    own, tuned = (
        Retriever.open(index, query_encoder=name, device="cpu").check(num_queries=30, k=5)
        for name in (None, str(index.parent / "tuned"))
    )

    assert own["self_hit_rate"] != tuned["self_hit_rate"]
