"""Prompts from files, results into files that a later run goes on with."""

import errno
import fcntl
import gzip
import json
from pathlib import Path

import pytest
import torch
from transformers import GenerationConfig

from ragkit.data.rejects import Rejects
from ragkit.decoding import GenerationOptions
from ragkit.decoding.jobs import prepare_job
from ragkit.decoding.prompt_file import read_prompts
from ragkit.decoding.result_file import ResultFile
from ragkit.errors import ConfigError, DataError, StorageError
from tests.decoding.tiny import CONTEXT, tiny_llama, tiny_tokenizer

OPTIONS = GenerationOptions(max_new_tokens=4)
NOWHERE = Path("no checkpoint")
MESSAGES = [{"role": "user", "content": "wing?"}]


def write(path, *rows):
    path.write_bytes(b"".join(row if isinstance(row, bytes) else dump(row) for row in rows))
    return path


def dump(row):
    return json.dumps(row).encode() + b"\n"


def prepare(path, *, options=OPTIONS, rejects=None, model=None, checkpoint=NOWHERE):
    refused = rejects or Rejects()
    return prepare_job(
        read_prompts(path, rejects=refused),
        model=model or tiny_llama(),
        tokenizer=tiny_tokenizer(),
        checkpoint=checkpoint,
        options=options,
        rejects=refused,
    )


def test_objects_and_lines_are_told_apart(tmp_path):
    rows = write(tmp_path / "a.jsonl", {"id": "x", "prompt": "of"}, b"\n", {"messages": MESSAGES})
    lines = write(tmp_path / "a.txt", b"the wing\r\n\n  of\n")

    read = [read_prompts(path, rejects=Rejects()) for path in (rows, lines)]

    assert [(row.id, row.prompt) for row in read[0]] == [("x", "of"), (3, MESSAGES)]
    assert [(row.id, row.prompt) for row in read[1]] == [(1, "the wing"), (3, "  of")]


def test_compressed_json_lines_are_known_by_their_name(tmp_path):
    path = tmp_path / "a.jsonl.gz"
    # The first line does not look like an object, so that only the name tells.
    path.write_bytes(gzip.compress(b"[1]\n" + dump({"prompt": "of"})))
    rejects = Rejects()

    rows = read_prompts(path, rejects=rejects)

    assert [(row.id, row.prompt) for row in rows] == [(2, "of")]
    assert rejects.refused == 1


REFUSED = {
    "cut": (b'{"prompt": "a', "not a JSON object at byte 17"),
    "list": (b'["a"]', "expected a JSON object at byte 17, found list"),
    "neither": (b'{"text": "a"}', r"'prompt' or 'messages', found the keys \['text'\]"),
    "both": (b'{"prompt": "a", "messages": []}', "found prompt and messages"),
    "number": (b'{"prompt": 5}', "'prompt' must be a string, found int"),
    "text as messages": (b'{"messages": "a"}', "'messages' must be a list of messages, found str"),
    "list as id": (b'{"id": [], "prompt": "a"}', "'id' must be a string or a whole number"),
    "not UTF-8": (b'{"prompt": "\xff"}', "not UTF-8, in the line at byte 17"),
    "no role": (b'{"messages": [{"content": "a"}]}', "message 1 must have a role"),
    "too long": (dump({"prompt": "xy " * CONTEXT}), "max_position_embeddings=96: shorten"),
}


@pytest.mark.parametrize(("row", "hint"), REFUSED.values(), ids=REFUSED)
def test_a_bad_row_is_reported_with_its_position_and_the_others_are_kept(row, hint, tmp_path):
    path = write(tmp_path / "a.jsonl", {"prompt": "of"}, row.rstrip() + b"\n", {"prompt": "the"})
    rejects = Rejects()

    job = prepare(path, rejects=rejects)

    assert [kept.id for kept in job.rows] == [1, 3]
    with pytest.raises(DataError, match=rf"(?s)1 of 3 rows.*a\.jsonl:2: .*{hint}"):
        rejects.check(3, 0)


def test_lines_of_results_are_in_the_order_of_the_prompts(tmp_path):
    prompts = ["of", "the wing of the wind", "a", "the shock"]
    path = write(tmp_path / "a.jsonl", *({"prompt": prompt} for prompt in prompts))

    rows = [json.loads(line) for line in prepare(path).lines(batch_size=2)]

    assert [row["id"] for row in rows] == [1, 2, 3, 4]
    names = ["id", "fingerprint", "text", "finish_reason", "num_prompt_tokens", "num_tokens"]
    assert list(rows[0]) == names
    assert [row["num_prompt_tokens"] for row in rows] == [
        len(tiny_tokenizer()(prompt)["input_ids"]) for prompt in prompts
    ]


def save(job, out, *, limit=99):
    with ResultFile(out) as results:
        num_done = results.resume(job.heads)
        lines = job.lines(batch_size=2, start=num_done)
        for _, line in zip(range(limit), lines, strict=False):
            results.append(line)
        return num_done


@pytest.fixture
def prompts(tmp_path):
    rows = ({"prompt": prompt} for prompt in ("of", "the wing", "of", "a shock", "heat"))
    return write(tmp_path / "prompts.jsonl", *rows)


@pytest.mark.parametrize("options", [OPTIONS, GenerationOptions(max_new_tokens=4, temperature=1.2)])
@pytest.mark.parametrize("torn", [0, 1, 12, 44, 70, -1])
def test_an_interrupted_run_goes_on_to_the_same_results(options, torn, prompts, tmp_path):
    whole, part = tmp_path / "whole.jsonl", tmp_path / "part.jsonl"
    save(prepare(prompts, options=options), whole)
    save(prepare(prompts, options=options), part, limit=3)
    [*_, line, _] = whole.read_bytes().splitlines(keepends=True)
    part.write_bytes(part.read_bytes() + line[:torn])

    num_done = save(prepare(prompts, options=options), part)

    assert num_done == 3
    assert part.read_bytes() == whole.read_bytes()


def test_a_complete_file_is_left_alone(prompts, tmp_path):
    out = tmp_path / "out.jsonl"
    save(prepare(prompts), out)
    before = out.read_bytes()

    num_done = save(prepare(prompts), out)

    assert (num_done, out.read_bytes()) == (5, before)


FOREIGN = {
    "notes": b"my notes",
    "a line of notes": b"my notes\n",
    "other objects": b'{"id": 1, "text": "x"}\n',
    "an array": b"[1, 2]\n",
    "an object without an end of line": b'{"id": 1, "text": "x"}',
    "a list of lists": b"[" * 100_000 + b"\n",
}


@pytest.mark.parametrize("content", FOREIGN.values(), ids=FOREIGN)
def test_a_file_with_other_content_is_refused_and_kept(content, prompts, tmp_path):
    out = write(tmp_path / "out.jsonl", content)

    with pytest.raises(ConfigError, match=r"out\.jsonl:1 is no result of this prompt"):
        save(prepare(prompts), out)

    assert out.read_bytes() == content


@pytest.mark.parametrize("changed", ["options", "prompts", "fewer prompts"])
def test_results_of_other_prompts_or_options_are_refused_and_kept(changed, prompts, tmp_path):
    out = tmp_path / "out.jsonl"
    save(prepare(prompts), out)
    before = out.read_bytes()
    lines = prompts.read_bytes().splitlines(keepends=True)
    options = GenerationOptions(max_new_tokens=5) if changed == "options" else OPTIONS
    if changed == "prompts":
        write(prompts, lines[0], {"prompt": "heat"}, *lines[2:])
    if changed == "fewer prompts":
        write(prompts, *lines[:4])

    with pytest.raises(ConfigError, match="write to another file, or remove this one"):
        save(prepare(prompts, options=options), out)

    assert out.read_bytes() == before


def test_two_runs_do_not_write_to_one_file(tmp_path):
    out = tmp_path / "out.jsonl"

    with (
        ResultFile(out),
        pytest.raises(StorageError, match="another process is writing to"),
    ):
        ResultFile(out)


def test_a_disk_without_locks_is_named(tmp_path, monkeypatch):
    def refuse(file, operation):
        raise OSError(errno.ENOLCK, "No locks available")

    monkeypatch.setattr(fcntl, "flock", refuse)

    with pytest.raises(StorageError, match=r"cannot lock .*out\.jsonl: No locks available: check"):
        ResultFile(tmp_path / "out.jsonl")


def test_a_place_that_cannot_be_written_is_named(tmp_path):
    with pytest.raises(StorageError, match=r"cannot write .*: No such file or directory: check"):
        ResultFile(tmp_path / "no" / "out.jsonl")


@pytest.mark.parametrize("changed", ["weights", "end tokens", "dtype"])
def test_results_of_another_model_are_refused_and_kept(changed, prompts, tmp_path):
    checkpoint, out = tmp_path / "model", tmp_path / "out.jsonl"
    model = tiny_llama()
    model.save_pretrained(checkpoint)
    save(prepare(prompts, model=model, checkpoint=checkpoint), out)
    before = out.read_bytes()
    if changed == "weights":
        tiny_llama(seed=1).save_pretrained(checkpoint)
    elif changed == "end tokens":
        GenerationConfig(eos_token_id=7).save_pretrained(checkpoint)
    else:
        model = model.to(torch.bfloat16)

    with pytest.raises(ConfigError, match=r"out\.jsonl:1 is no result of this prompt, model and"):
        save(prepare(prompts, model=model, checkpoint=checkpoint), out)

    assert out.read_bytes() == before


def test_a_copy_of_the_model_goes_on_with_the_results(prompts, tmp_path):
    out = tmp_path / "out.jsonl"
    model = tiny_llama()
    for name in ("model", "copy"):
        model.save_pretrained(tmp_path / name)
    save(prepare(prompts, model=model, checkpoint=tmp_path / "model"), out, limit=3)

    num_done = save(prepare(prompts, model=model, checkpoint=tmp_path / "copy"), out)

    assert num_done == 3
