"""Whole runs on tiny models; what is learnt, and from what."""

import math
import random
import shutil

import pytest
import torch
from safetensors.torch import load_file
from torch.nn import functional as F
from transformers import GPT2Config, GPT2LMHeadModel, LlamaForCausalLM, MistralForCausalLM

from ragkit import load_model
from ragkit.config import fit_config
from ragkit.data.collators import LabelledCollator
from ragkit.data.labelled import LabelledDataset
from ragkit.errors import ConfigError, DataError
from ragkit.finetune.radit.lm_tuning import (
    PRESETS,
    LmTuningOptions,
    make_training_options,
    resolved,
    tune_lm,
)
from ragkit.models import Llama3ForCausalLM
from ragkit.nn.loss import next_token_loss
from ragkit.training import NextToken, TrainingOptions
from ragkit.training.schedules import scheduler_arguments
from tests.decoding.tiny import tiny_llama, tiny_tokenizer
from tests.training.tiny import lines_of, make_model

VOCAB, CONTEXT = 37, 29


def make_instances(count=11, *, vocab=VOCAB, seed=0):
    """Prompts of up to 9 tokens and targets of up to 5."""
    rng = random.Random(seed)
    sizes = [(rng.randint(1, 9), rng.randint(1, 5)) for _ in range(count)]
    return [
        tuple(tuple(rng.randrange(4, vocab) for _ in range(size)) for size in pair)
        for pair in sizes
    ]


def make_batch(instances):
    """A batch of packed rows."""
    rows = LabelledDataset.pack(instances, context_length=CONTEXT)
    return LabelledCollator(pad_token_id=0)([rows[place] for place in range(len(rows))])


def make_gpt2():
    torch.manual_seed(1)
    sizes = GPT2Config(
        vocab_size=VOCAB,
        n_positions=CONTEXT,
        n_embd=24,
        n_layer=2,
        n_head=6,
        bos_token_id=1,
        eos_token_id=2,
    )
    return GPT2LMHeadModel(sizes)


MODELS = {
    "ours": lambda: make_model(Llama3ForCausalLM, initializer_range=0.3),
    "llama": lambda: make_model(LlamaForCausalLM, initializer_range=0.3),
    "mistral": lambda: make_model(MistralForCausalLM, initializer_range=0.3, sliding_window=5),
    "gpt2": make_gpt2,
}


@pytest.mark.parametrize("attention", ["sdpa", "eager"])
@pytest.mark.parametrize("name", MODELS)
def test_packed_logits_equal_those_of_each_instance_alone(name, attention):
    model = MODELS[name]().eval()
    model.set_attn_implementation(attention)
    instances = make_instances()
    batch = make_batch(instances)
    with torch.no_grad():
        packed = model(
            input_ids=batch["input_ids"], position_ids=batch["position_ids"], use_cache=False
        ).logits
    starts = (batch["position_ids"] == 0).nonzero().tolist()

    checked = 0
    for row, start in starts:
        for prompt, target in instances:
            ids = torch.tensor([[*prompt, *target]])
            end = start + ids.shape[1]
            if torch.equal(batch["input_ids"][row, start:end], ids[0]):
                with torch.no_grad():
                    alone = model(input_ids=ids, use_cache=False).logits[0]
                # Sums of a longer row are taken in another order.
                torch.testing.assert_close(packed[row, start:end], alone, rtol=1e-5, atol=1e-5)
                checked += 1

    assert checked == len(instances)


@pytest.mark.parametrize("name", MODELS)
def test_the_loss_is_the_mean_over_answer_tokens_of_instances_alone(name):
    model = MODELS[name]().eval()
    instances = make_instances()
    nats, num_targets = 0.0, 0
    for prompt, target in instances:
        with torch.no_grad():
            logits = model(input_ids=torch.tensor([[*prompt, *target]]), use_cache=False).logits[0]
        scores = logits[len(prompt) - 1 : -1]
        nats += F.cross_entropy(scores, torch.tensor(target), reduction="sum").item()
        num_targets += len(target)

    batch = make_batch(instances)
    with torch.no_grad():
        loss = model(**batch, use_cache=False).loss.item()

    assert int(NextToken().count_targets(batch)) == num_targets
    # Sums of a packed row are taken in another order.
    assert loss == pytest.approx(nats / num_targets, rel=1e-5)


def test_what_is_predicted_for_prompts_and_padding_does_not_count():
    batch = make_batch(make_instances())
    logits = torch.randn(*batch["labels"].shape, VOCAB)
    predicts_target = F.pad(batch["labels"][:, 1:] != -100, (0, 1))
    noise = torch.randn_like(logits).masked_fill(predicts_target[..., None], 0.0)

    expected = next_token_loss(logits, batch["labels"])
    perturbed = next_token_loss(logits + 7 * noise, batch["labels"])

    assert noise.any()
    torch.testing.assert_close(perturbed, expected, rtol=0, atol=0)


def test_presets_are_the_papers_schedules():
    options = make_training_options({"preset": "radit", "save_steps": 50})

    assert options == TrainingOptions(**PRESETS["radit"], save_steps=50)
    assert options.learning_rate * options.min_lr_rate == pytest.approx(1e-7)
    assert options.per_device_train_batch_size * options.gradient_accumulation_steps == 64
    few = make_training_options({"preset": "radit_64_shot"})
    assert scheduler_arguments(few, max_steps=100)["lr_scheduler_kwargs"] == {
        "lr_end": pytest.approx(1e-6),
        "power": 1.0,
    }


def test_what_is_given_beats_the_preset_and_another_length_takes_its_place():
    options = make_training_options(
        {"preset": "radit", "num_train_epochs": 2.0, "learning_rate": 1e-4}
    )

    assert (options.max_steps, options.num_train_epochs) == (None, 2.0)
    assert (options.learning_rate, options.warmup_steps) == (1e-4, 200)


@pytest.mark.parametrize(
    ("tree", "hint"),
    [
        ({"training": {"preset": "paper"}}, "one of radit, radit_64_shot, got 'paper'"),
        ({"training": {"num_tokens": 1000}}, "give max_steps or num_train_epochs"),
        ({"training": {"max_steps": 3, "lr": 1.0}}, "training does not fit TrainingOptions"),
        ({"training": {"max_steps": 3}, "context_length": 1}, "give the model's context"),
        ({"training": {"max_steps": 3}, "lora": {"rank": 4}}, "lora.rank"),
    ],
)
def test_options_that_make_no_sense_are_refused(tree, hint):
    with pytest.raises(ConfigError, match=hint):
        fit_config(LmTuningOptions, tree, origin="recipe")


def test_the_written_recipe_has_the_preset_filled_in():
    tree = resolved(LmTuningOptions(training={"preset": "radit_64_shot", "seed": 7}))

    assert tree["training"]["max_steps"] == 100
    assert tree["training"]["seed"] == 7
    assert tree["lora"] is None


@pytest.fixture(scope="module")
def base(tmp_path_factory):
    folder = tmp_path_factory.mktemp("base")
    tiny_llama().save_pretrained(folder)
    tiny_tokenizer().save_pretrained(folder)
    return folder


def make_options(**changes):
    training = {
        "max_steps": 6,
        "per_device_train_batch_size": 2,
        "learning_rate": 1e-2,
        "logging_steps": 1,
        "save_steps": 2,
        **changes.pop("training", {}),
    }
    options = {"context_length": CONTEXT, "training": training, **changes}
    return fit_config(LmTuningOptions, options, origin="test")


def tune(base, out, *, instances=None, held_out=(), **changes):
    return tune_lm(
        base,
        make_instances(vocab=290) if instances is None else instances,
        held_out=held_out,
        options=make_options(**changes),
        out=out,
    )


def loss_of(model, instances):
    """Mean nats of the answer tokens."""
    with torch.no_grad():
        return model.eval()(**make_batch(instances), use_cache=False).loss.item()


@pytest.mark.parametrize("changes", [{}, {"lora": {"r": 3}}, {"packed": False}])
def test_the_tuned_model_opens_and_knows_the_answers_better(tmp_path, base, changes):
    instances = make_instances(4, vocab=290)

    report = tune(
        base,
        tmp_path,
        instances=instances,
        held_out=instances,
        training={"max_steps": 30},
        **changes,
    )

    model, tokenizer = load_model(report.model)
    assert type(model) is Llama3ForCausalLM
    assert tokenizer("wing").input_ids == tiny_tokenizer()("wing").input_ids
    before, after = loss_of(load_model(base)[0], instances), loss_of(model, instances)
    assert after < before / 2
    # A merged adapter is one product of summed weights in place of a sum of products.
    assert report.eval_loss_nats == pytest.approx(after, rel=1e-4)
    assert report.adapter.is_dir() is ("lora" in changes)


def test_a_run_that_was_killed_before_the_merge_is_completed(tmp_path, base):
    report = tune(base, tmp_path, lora={"r": 3})
    expected = load_file(report.model / "model.safetensors")
    shutil.rmtree(report.model)

    tune(base, tmp_path, lora={"r": 3})

    found = load_file(report.model / "model.safetensors")
    assert found.keys() == expected.keys()
    for name in found:
        torch.testing.assert_close(found[name], expected[name], rtol=0, atol=0)


def test_a_finished_run_is_not_touched(tmp_path, base):
    report = tune(base, tmp_path, lora={"r": 3})
    times = {path: path.stat().st_mtime_ns for path in report.model.iterdir()}

    assert tune(base, tmp_path, lora={"r": 3}) == report
    assert {path: path.stat().st_mtime_ns for path in report.model.iterdir()} == times


def test_other_instances_are_another_run(tmp_path, base):
    tune(base, tmp_path)

    with pytest.raises(ConfigError, match=r"instances: '\w+' then"):
        tune(base, tmp_path, instances=make_instances(11, vocab=290, seed=5))


def test_other_weights_are_another_run(tmp_path, base):
    tune(base, tmp_path / "run")
    tiny_llama(seed=1).save_pretrained(tmp_path / "other")
    tiny_tokenizer().save_pretrained(tmp_path / "other")

    with pytest.raises(ConfigError, match=r"weights\.model\.safetensors"):
        tune(tmp_path / "other", tmp_path / "run")


def test_held_out_answers_are_measured_on_the_way(tmp_path, base):
    held_out = make_instances(5, vocab=290, seed=3)

    report = tune(base, tmp_path, held_out=held_out, training={"eval_steps": 2})

    lines = lines_of(tmp_path, "evaluations")
    assert [line["step"] for line in lines] == [2, 4, 6]
    assert report.eval_loss_nats == lines[-1]["loss_nats"]
    assert math.isfinite(report.eval_loss_nats)


def test_rows_longer_than_the_models_context_are_refused(tmp_path, base):
    with pytest.raises(ConfigError, match=r"context_length is 100000, but .* lower it"):
        tune(base, tmp_path, context_length=100_000)


@pytest.mark.parametrize(
    ("instances", "hint"),
    [([], "give at least one"), ([((5,), (6,) * CONTEXT)], "raise context_length")],
)
def test_instances_that_are_missing_or_too_long_are_refused(tmp_path, base, instances, hint):
    with pytest.raises(DataError, match=hint):
        tune(base, tmp_path, instances=instances)
