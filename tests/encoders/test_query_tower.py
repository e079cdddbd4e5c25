import json
from dataclasses import replace

import numpy as np
import pytest
import torch
from tokenizers import Tokenizer
from tokenizers.models import WordLevel

from ragkit.encoders import load_encoder
from ragkit.encoders.query_tower import load_query_tower
from ragkit.encoders.save import save_encoder
from ragkit.encoders.tokenizing import TextTokenizer
from ragkit.errors import ConfigError, DataError
from ragkit.testing import TINY_HIDDEN_SIZE, write_tiny_bert, write_tiny_encoder

QUERIES = ["the wing", "heat, flow and drag of the shock layer", "q", "drag " * 60]
PROMPTS = {"query": "query: ", "document": "passage: "}
POOLINGS = ["cls", "mean", "lasttoken", ["cls", "weightedmean", "max"]]


def move(tower):
    """Change all weights a little, as training does."""
    with torch.no_grad():
        generator = torch.Generator().manual_seed(3)
        for weight in tower.parameters():
            weight += 0.1 * torch.randn(weight.shape, generator=generator)
    return tower


def vectors_of(tower, queries=QUERIES):
    with torch.no_grad():
        return tower.eval()(**tower.tokenize(queries)).numpy()


def encode(folder, queries=QUERIES, *, role="query", **options):
    return load_encoder(str(folder), device="cpu", dtype="fp32", **options).encode(
        queries, role=role
    )


@pytest.mark.parametrize("normalize", [True, False])
@pytest.mark.parametrize("pooling", POOLINGS, ids=str)
def test_a_tower_gives_the_vectors_of_its_encoder(tmp_path, pooling, normalize):
    folder = write_tiny_encoder(
        tmp_path, pooling=pooling, normalize=normalize, projected_size=17, prompts=PROMPTS
    )

    tower = load_query_tower(str(folder))

    # Other batches, other sums.
    np.testing.assert_allclose(vectors_of(tower), encode(folder), atol=1e-5)
    assert tower.dim == 17


def test_arguments_of_the_encoder_are_arguments_of_the_tower(tmp_path):
    folder = write_tiny_encoder(tmp_path)
    options = {"max_length": 6, "query_prefix": "wing ", "dim": 5}

    tower = load_query_tower(str(folder), **options)

    np.testing.assert_allclose(vectors_of(tower), encode(folder, **options), atol=1e-5)
    assert tower.tokenize(QUERIES)["input_ids"].shape == (4, 6)


def test_every_weight_on_the_way_to_a_vector_gets_a_gradient(tmp_path):
    tower = load_query_tower(str(write_tiny_encoder(tmp_path, projected_size=17)))

    tower(**tower.tokenize(QUERIES)).square().mul(torch.arange(17)).sum().backward()

    for name, weight in tower.named_parameters():
        reached = weight.grad is not None and bool(weight.grad.any())
        assert reached == weight.requires_grad == ("pooler" not in name), name


def test_pooling_stays_in_fp32_under_autocast(tmp_path):
    tower = load_query_tower(str(write_tiny_encoder(tmp_path)))

    with torch.autocast("cpu", torch.bfloat16):
        vectors = tower.eval()(**tower.tokenize(QUERIES))

    assert vectors.dtype == torch.float32
    # Lengths would be off by 1e-3 in bfloat16.
    torch.testing.assert_close(vectors.norm(dim=1), torch.ones(4), rtol=0, atol=1e-6)


@pytest.mark.parametrize("pooling", POOLINGS, ids=str)
@pytest.mark.parametrize("normalize", [True, False])
def test_a_saved_tower_opens_as_the_same_encoder(tmp_path, pooling, normalize):
    source = write_tiny_encoder(
        tmp_path / "source",
        pooling=pooling,
        normalize=normalize,
        projected_size=17,
        prompts={**PROMPTS, "topic": "about: "},
        max_seq_length=11,
    )
    tower = move(load_query_tower(str(source)))

    save_encoder(tower, tmp_path / "tuned")

    expected = vectors_of(tower)
    found = encode(tmp_path / "tuned")
    np.testing.assert_allclose(found, expected, atol=1e-5)
    assert np.abs(found - encode(source)).max() > 1e-2
    described = load_encoder(str(tmp_path / "tuned"), device="cpu").describe()
    of_source = load_encoder(str(source), device="cpu").describe()
    differing = {name for name, value in described.items() if value != of_source[name]}
    assert differing == {"name", "weights_sha256"}
    settings = json.loads((tmp_path / "tuned" / "config_sentence_transformers.json").read_text())
    assert settings["prompts"]["topic"] == "about: "


def test_sentence_transformers_opens_a_saved_tower(tmp_path):
    from sentence_transformers import SentenceTransformer

    source = write_tiny_encoder(tmp_path / "source", projected_size=17, prompts=PROMPTS)
    tower = move(load_query_tower(str(source)))

    save_encoder(tower, tmp_path / "tuned")

    model = SentenceTransformer(str(tmp_path / "tuned"), device="cpu", local_files_only=True)
    found = model.encode_query(QUERIES, show_progress_bar=False)
    np.testing.assert_allclose(found, vectors_of(tower), atol=1e-5)


def test_what_was_given_as_an_argument_is_written_down(tmp_path):
    options = {"max_length": 6, "query_prefix": "wing ", "passage_prefix": "flow ", "dim": 5}
    source = write_tiny_bert(tmp_path / "source")
    tower = load_query_tower(str(source), **options)

    save_encoder(tower, tmp_path / "tuned")

    for role in ("query", "passage"):
        np.testing.assert_array_equal(
            encode(tmp_path / "tuned", role=role), encode(source, role=role, **options)
        )


def test_no_prefix_is_guessed_from_the_name_of_a_saved_folder(tmp_path):
    source = write_tiny_encoder(tmp_path / "source")

    save_encoder(load_query_tower(str(source)), tmp_path / "my-e5-tuned")

    np.testing.assert_array_equal(encode(tmp_path / "my-e5-tuned"), encode(source))


def test_equal_towers_are_saved_as_equal_bytes(tmp_path):
    source = write_tiny_encoder(tmp_path / "source")

    for name in ("one", "other"):  # the source has no pooler, so that each load draws another
        save_encoder(load_query_tower(str(source)), tmp_path / name)

    one, other = (
        {path.relative_to(folder): path.read_bytes() for path in folder.rglob("*.*")}
        for folder in (tmp_path / "one", tmp_path / "other")
    )
    assert one == other
    np.testing.assert_array_equal(encode(tmp_path / "one"), encode(source))


def test_a_tower_can_be_tuned_from_a_saved_one(tmp_path):
    source = write_tiny_encoder(tmp_path / "source", prompts=PROMPTS)
    save_encoder(move(load_query_tower(str(source))), tmp_path / "one", document_weights="abc")

    again = load_query_tower(str(tmp_path / "one"))
    save_encoder(again, tmp_path / "two")

    np.testing.assert_array_equal(encode(tmp_path / "two"), encode(tmp_path / "one"))
    one, two = (
        load_encoder(str(tmp_path / name), device="cpu").describe() for name in ("one", "two")
    )
    assert one["document_weights_sha256"] == "abc"
    assert "document_weights_sha256" not in two


@pytest.mark.parametrize("spec", ["hash:24", "python:tests.retrieval.functions:ones"])
def test_an_encoder_without_weights_has_no_tower(spec):
    with pytest.raises(ConfigError, match="has no weights to tune"):
        load_query_tower(spec)


def test_a_query_without_tokens_is_refused(tmp_path):
    tower = load_query_tower(str(write_tiny_encoder(tmp_path)))
    # Some tokenizers of decoders add no special tokens.
    bare = Tokenizer(WordLevel({"wing": 0, "[UNK]": 1}, unk_token="[UNK]"))
    tower.parts = replace(tower.parts, tokenizer=TextTokenizer(bare, max_seq_length=5))

    with pytest.raises(DataError, match="drop queries that are empty"):
        tower.tokenize(["wing", ""])


def test_activations_can_be_computed_again(tmp_path):
    tower = load_query_tower(str(write_tiny_encoder(tmp_path))).train()
    tower.activation_checkpointing_enable()
    batch = tower.tokenize(QUERIES)

    tower(**batch).sum().backward()

    assert tower.dim == TINY_HIDDEN_SIZE
    assert any(weight.grad is not None for weight in tower.parameters())
