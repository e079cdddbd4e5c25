import json
import random

import numpy as np
import pytest
import torch

from ragkit import load_model
from ragkit.config import fit_config
from ragkit.data.collators import PackedCollator
from ragkit.data.packed import PackedDataset, PackedRow
from ragkit.data.token_store import TokenStore
from ragkit.errors import ConfigError
from ragkit.evaluation.perplexity import evaluate_perplexity
from ragkit.evaluation.scoring import score_rows
from ragkit.finetune.pretrain import PretrainRecipe, run_pretrain
from ragkit.training import NextToken

WORDS = (
    "the",
    "heat",
    "of",
    "wing",
    "in",
    "flow",
    "is",
    "drag",
    "near",
    "its",
    "edge",
    "and",
    "not",
)


def write_corpus(folder, *, documents=40, seed=0):
    """Sentences of few words, so that a tiny model learns something."""
    rng = random.Random(seed)
    path = folder / "corpus.jsonl"
    with path.open("w") as file:
        for number in range(documents):
            text = " ".join(rng.choices(WORDS, k=rng.randint(5, 90)))
            file.write(json.dumps({"id": str(number), "text": text}) + "\n")
    return path


def make_recipe(folder, **changed):
    tree = {
        "kind": "pretrain",
        "data_dir": str(folder),
        "inputs": ["corpus.jsonl"],
        "tokens": str(folder / "tokens"),
        "vocab_size": 290,
        "out": str(folder / "run"),
        "model": {
            "kind": "llama3",
            "hidden_size": 24,
            "intermediate_size": 40,
            "num_hidden_layers": 2,
            "num_attention_heads": 6,
            "num_key_value_heads": 2,
            "max_position_embeddings": 64,
        },
        "packing": {"context_length": 48, "held_out_share": 0.1},
        "training": {
            "max_steps": 6,
            "per_device_train_batch_size": 3,
            "learning_rate": 0.01,
            "logging_steps": 1,
            "eval_steps": 3,
            "save_steps": 2,
        },
    }
    for key, value in changed.items():
        tree[key] = {**tree[key], **value} if isinstance(value, dict) else value
    return fit_config(PretrainRecipe, tree, origin="test")


@pytest.fixture(scope="module")
def finished(tmp_path_factory):
    folder = tmp_path_factory.mktemp("pretrain")
    write_corpus(folder)
    recipe = make_recipe(folder)
    return recipe, run_pretrain(recipe)


def test_text_becomes_a_model_that_has_learnt_something(finished):
    recipe, report = finished

    lines = (report.model.parent / "metrics.jsonl").read_text().splitlines()
    losses = [json.loads(line)["loss_nats"] for line in lines]
    assert report.finished
    assert len(losses) == recipe.training.max_steps
    assert losses[-1] < losses[0]


def test_the_run_leaves_a_model_that_loads_with_its_tokenizer(finished):
    _, report = finished

    model, tokenizer = load_model(str(report.model))

    assert model.config.model_type == "ragkit_llama3"
    assert model.config.vocab_size == len(tokenizer) == 290
    assert model.config.eos_token_id == tokenizer.eos_token_id


@pytest.mark.parametrize("mask_documents", [True, False])
def test_held_out_loss_equals_the_perplexity_of_the_same_tokens(tmp_path, mask_documents):
    write_corpus(tmp_path)
    recipe = make_recipe(tmp_path, packing={"mask_documents": mask_documents})

    report = run_pretrain(recipe)

    model, tokenizer = load_model(str(report.model))
    store = TokenStore(tmp_path / "tokens" / "store")
    rows = PackedDataset.pack(
        store, context_length=48, documents=store.split(0.1).held_out, seed=recipe.training.seed
    )
    collator = PackedCollator(pad_token_id=tokenizer.pad_token_id, mask_documents=mask_documents)
    score = score_rows(model, [collator([rows[place]]) for place in range(len(rows))])
    # fp32 sums in another order
    assert score.nll_per_token == pytest.approx(report.eval_loss_nats, rel=1e-5)


def test_bits_per_byte_count_the_bytes_of_held_out_targets(finished):
    recipe, report = finished
    _, tokenizer = load_model(str(report.model))
    store = TokenStore(report.model.parents[1] / "tokens" / "store")
    rows = PackedDataset.pack(
        store, context_length=48, documents=store.split(0.1).held_out, seed=recipe.training.seed
    )
    collator = PackedCollator(pad_token_id=tokenizer.pad_token_id, mask_documents=True)

    labels = [collator([rows[place]])["labels"][0] for place in range(len(rows))]

    text = "".join(tokenizer.decode(part[part >= 0], skip_special_tokens=True) for part in labels)
    num_targets = sum(int((part >= 0).sum()) for part in labels)
    nats = report.eval_loss_nats * num_targets
    expected = nats / len(text.encode()) / torch.log(torch.tensor(2.0)).item()
    assert report.bits_per_byte == pytest.approx(expected, rel=1e-6)  # log(2) in fp32


def test_equal_recipes_give_equal_models(finished, tmp_path):
    _, first = finished
    write_corpus(tmp_path)

    second = run_pretrain(make_recipe(tmp_path))

    name = "metrics.jsonl"
    assert (first.model.parent / name).read_text() == (second.model.parent / name).read_text()


def test_another_corpus_gets_another_tokenizer(tmp_path):
    path = write_corpus(tmp_path)
    run_pretrain(make_recipe(tmp_path))
    before = (tmp_path / "tokens" / "tokenizer" / "tokenizer.json").read_text()
    path.write_text(path.read_text().replace("wing", "query"))

    run_pretrain(make_recipe(tmp_path, out=str(tmp_path / "other")))

    assert (tmp_path / "tokens" / "tokenizer" / "tokenizer.json").read_text() != before


@pytest.mark.parametrize(
    ("changed", "hint"),
    [
        ({"model": {"hiden_size": 24}}, "'hiden_size': did you mean hidden_size"),
        ({"model": {"kind": "gpt"}}, "model.kind must be llama3, got 'gpt'"),
        ({"model": {"num_attention_heads": 5}}, "num_attention_heads"),
        ({"model": {"vocab_size": 291}}, "model.vocab_size follows from"),
        ({"model": {"bos_token_id": 7}}, "model.bos_token_id follows from"),
        ({"model": {"dtype": "bfloat16"}}, "model.dtype follows from"),
        ({"packing": {"max_held_out_rows": 0}}, "max_held_out_rows must be at least 1"),
        ({"packing": {"context_length": 65}}, "packing.context_length is 65"),
        ({"packing": {"held_out_share": 1.5}}, "held_out_share must lie between 0 and 1"),
        ({"vocab_size": 100}, "vocab_size must be 259 or more"),
    ],
)
def test_a_recipe_that_makes_no_sense_names_the_field(tmp_path, changed, hint):
    write_corpus(tmp_path)

    with pytest.raises(ConfigError, match=hint):
        run_pretrain(make_recipe(tmp_path, **changed))


def test_a_wrong_size_is_found_before_the_text_is_read(tmp_path):
    write_corpus(tmp_path)

    with pytest.raises(ConfigError, match="num_key_value_heads"):
        run_pretrain(make_recipe(tmp_path, model={"num_key_value_heads": 4}))

    assert not (tmp_path / "tokens").exists()


def test_perplexity_of_a_text_is_the_training_loss_of_its_tokens(finished):
    _, report = finished
    model, tokenizer = load_model(str(report.model))
    text = "the heat of a wing is drag near its edge"
    ids = np.array(tokenizer(text)["input_ids"])
    row = PackedRow(ids, np.array([len(ids)]), num_padding=5)
    batch = PackedCollator(pad_token_id=tokenizer.pad_token_id, mask_documents=True)([row])

    loss = NextToken().loss(
        model.train(), batch, num_items_in_batch=NextToken().count_targets(batch)
    )
    measured = evaluate_perplexity(model, tokenizer, [text], context_length=48)

    assert measured.score.num_tokens == len(ids) - 1
    # fp32 sums in another order
    assert measured.score.nll_per_token == pytest.approx(loss.item(), rel=1e-5)
