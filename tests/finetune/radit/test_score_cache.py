import os
import signal
import subprocess
import sys
from contextlib import suppress

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from ragkit.errors import ConfigError, DataError
from ragkit.finetune.radit.score_cache import ROW, ScoreCache, ScorerId, merge_cache, pair_key
from ragkit.finetune.radit.scorer_id import identify_scorer
from ragkit.rag.template import PromptTemplate
from tests.decoding.tiny import tiny_llama, tiny_tokenizer

SCORER = ScorerId(model="m", tokenizer="t", template="p")
WRITER = """
import sys
from pathlib import Path
import numpy as np
from ragkit.finetune.radit.score_cache import ROW, ScoreCache, ScorerId, pair_key
cache = ScoreCache(Path(sys.argv[1]), ScorerId("m", "t", "p"), shard_rows=3)
for name in range(10_000):
    cache.append(np.array([(pair_key(str(name)), name, 0, 1, 0)], ROW))
    print(name, flush=True)
"""


def rows_of(*names, factor=-0.5):
    rows = np.empty(len(names), ROW)
    rows["key"] = keys_of(*names)
    rows["row"] = rows["num_tokens"] = names
    rows["sum_logprob"] = np.array(names) * factor
    rows["retriever_score"] = 0.25
    return rows


def keys_of(*names):
    return np.array([pair_key(str(name)) for name in names], ROW["key"])


def shards(folder):
    return sorted((folder / "shards").iterdir())


def test_what_is_appended_is_found_after_reopening(tmp_path):
    with ScoreCache(tmp_path, SCORER) as cache:
        cache.append(rows_of(7, 3))
        cache.append(rows_of(5))

    found, rows = ScoreCache(tmp_path, SCORER).find(keys_of(3, 4, 5, 3))

    np.testing.assert_array_equal(found, [True, False, True, True])
    np.testing.assert_array_equal(rows, rows_of(3, 5, 3))


def test_a_row_has_34_bytes():
    assert ROW.itemsize == 34


@settings(max_examples=20, deadline=None)
@given(names=st.lists(st.integers(0, 30_000), unique=True, max_size=40), seed=st.integers(0, 99))
def test_any_keys_are_found_in_any_order(tmp_path_factory, names, seed):
    folder = tmp_path_factory.mktemp("cache")
    wanted = np.random.default_rng(seed).permutation([*names, *range(40_000, 40_005)]).tolist()
    with ScoreCache(folder, SCORER, shard_rows=7) as cache:
        for name in names:
            cache.append(rows_of(name))

    found, rows = cache.find(keys_of(*wanted))

    np.testing.assert_array_equal(found, [name in names for name in wanted])
    np.testing.assert_array_equal(rows, rows_of(*[name for name in wanted if name in names]))


def test_full_shards_are_closed_and_never_change(tmp_path):
    cache = ScoreCache(tmp_path, SCORER, shard_rows=2)
    cache.append(rows_of(1, 2))
    before = {path: path.read_bytes() for path in shards(tmp_path)}

    cache.append(rows_of(3, 4))

    assert len(shards(tmp_path)) == 2
    assert all(path.read_bytes() == content for path, content in before.items())


def test_an_old_shard_is_closed_however_few_rows_it_has(tmp_path):
    cache = ScoreCache(tmp_path, SCORER, shard_s=0.0)

    cache.append(rows_of(1))

    assert len(ScoreCache(tmp_path, SCORER)) == 1


def test_what_was_scored_before_an_interrupt_is_kept(tmp_path):
    with suppress(KeyboardInterrupt), ScoreCache(tmp_path, SCORER) as cache:
        cache.append(rows_of(1))
        raise KeyboardInterrupt

    assert len(ScoreCache(tmp_path, SCORER)) == 1


@pytest.mark.parametrize("part", ["model", "tokenizer", "template"])
def test_rows_of_another_scorer_are_ignored_but_kept(tmp_path, part):
    other = ScorerId(**{"model": "m", "tokenizer": "t", "template": "p", part: "other"})
    with ScoreCache(tmp_path, SCORER) as cache:
        cache.append(rows_of(1))

    with ScoreCache(tmp_path, other) as cache:
        found, _ = cache.find(keys_of(1))
        cache.append(rows_of(2))

    assert not found.any()
    assert [len(ScoreCache(tmp_path, each)) for each in (SCORER, other)] == [1, 1]


def test_caches_of_several_machines_merge(tmp_path):
    here, there = tmp_path / "here", tmp_path / "there"
    for folder, names in ((here, (1, 2)), (there, (2, 3))):
        with ScoreCache(folder, SCORER) as cache:
            cache.append(rows_of(*names))

    assert merge_cache(here, there) == 1
    assert merge_cache(here, there) == 0

    found, rows = ScoreCache(here, SCORER).find(keys_of(1, 2, 3))
    assert found.all()
    np.testing.assert_array_equal(rows, rows_of(1, 2, 3))


def test_a_folder_that_is_no_cache_is_not_merged(tmp_path):
    with pytest.raises(DataError, match="give the folder that scores were written to"):
        merge_cache(tmp_path / "here", tmp_path / "there")


def test_a_kill_loses_the_open_shard_only(tmp_path):
    command = [sys.executable, "-c", WRITER, str(tmp_path)]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as process:
        written = int(next(line for line in process.stdout if int(line) >= 10))
        os.kill(process.pid, signal.SIGKILL)

    found, _ = ScoreCache(tmp_path, SCORER).find(keys_of(*range(written + 1)))

    assert found.sum() >= written + 1 - 2
    assert found[: found.sum()].all()


def test_a_shard_whose_line_was_torn_does_not_count(tmp_path):
    cache = ScoreCache(tmp_path, SCORER, shard_rows=1)
    cache.append(rows_of(1))
    cache.append(rows_of(2))
    manifest = tmp_path / "manifest.jsonl"
    manifest.write_bytes(manifest.read_bytes()[:-9])

    reopened = ScoreCache(tmp_path, SCORER)
    assert len(reopened) == 1

    reopened.append(rows_of(2))
    reopened.flush()
    assert len(ScoreCache(tmp_path, SCORER)) == 2


def test_a_shard_that_is_gone_is_scored_again(tmp_path, caplog):
    with ScoreCache(tmp_path, SCORER) as cache:
        cache.append(rows_of(1, 2))
    shards(tmp_path)[0].unlink()

    reopened = ScoreCache(tmp_path, SCORER)

    assert len(reopened) == 0
    assert "its 2 pairs are scored again" in caplog.text


def test_a_damaged_shard_says_what_to_delete(tmp_path):
    with ScoreCache(tmp_path, SCORER) as cache:
        cache.append(rows_of(1, 2))
    path = shards(tmp_path)[0]
    content = bytearray(path.read_bytes())
    content[-3] ^= 1
    path.write_bytes(content)

    with pytest.raises(DataError, match="delete it, and its pairs are scored again"):
        ScoreCache(tmp_path, SCORER)


def test_a_shard_without_rows_is_refused(tmp_path):
    with pytest.raises(ConfigError, match="shard_rows must be 1 or more"):
        ScoreCache(tmp_path, SCORER, shard_rows=0)


def test_parts_of_a_key_do_not_run_into_one_another():
    keys = {pair_key("a", (1, 23)), pair_key("a", (12, 3)), pair_key("a", (1,), (23,))}

    assert len(keys) == 3


def test_a_copy_of_a_model_is_the_same_scorer(tmp_path):
    tokenizer, template = tiny_tokenizer(), PromptTemplate()
    model = tiny_llama()
    model.save_pretrained(tmp_path)

    copy = type(model).from_pretrained(tmp_path)

    assert identify_scorer(model, tokenizer, template=template) == identify_scorer(
        copy, tokenizer, template=template
    )


def test_each_part_of_a_scorer_has_its_own_hash():
    model, tokenizer, template = tiny_llama(), tiny_tokenizer(), PromptTemplate()
    scorer = identify_scorer(model, tokenizer, template=template)

    with torch.no_grad():
        model.model.norm.weight[5] += 1e-6
    changed = identify_scorer(model, tokenizer, template=PromptTemplate(with_title=False))
    tokenizer.add_tokens(["<new>"])
    extended = identify_scorer(model, tokenizer, template=template)

    assert changed.model != scorer.model
    assert changed.template != scorer.template
    assert changed.tokenizer == scorer.tokenizer != extended.tokenizer


def test_another_dtype_is_another_scorer():
    tokenizer, template = tiny_tokenizer(), PromptTemplate()

    full, half = (
        identify_scorer(tiny_llama().to(dtype), tokenizer, template=template).model
        for dtype in (torch.float32, torch.bfloat16)
    )

    assert full != half
