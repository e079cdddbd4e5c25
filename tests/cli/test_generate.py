"""`ragkit generate`: text and results on stdout, and a message for whatever goes wrong."""

import json
import os
import signal
import subprocess
import sys

import pytest

from ragkit.cli import generate as command
from ragkit.decoding import GenerationOptions, generate
from ragkit.models.loading import load_model
from tests.cli.running import run
from tests.decoding.tiny import CONTEXT, tiny_llama, tiny_tokenizer

SHORT = ("--max-new-tokens", "9")


@pytest.fixture(scope="module")
def model(tmp_path_factory):
    folder = tmp_path_factory.mktemp("tiny")
    tiny_llama(eos_token_id=1).save_pretrained(folder)
    tiny_tokenizer().save_pretrained(folder)
    return folder


@pytest.fixture(scope="module")
def mute_model(tmp_path_factory):
    """Has no chat template."""
    folder = tmp_path_factory.mktemp("mute")
    tiny_llama(eos_token_id=1).save_pretrained(folder)
    tiny_tokenizer(chat_template=None).save_pretrained(folder)
    return folder


def expected(folder, *prompts, chat=False, system=None, **options):
    chosen = GenerationOptions(**{"max_new_tokens": 9, **options})
    loaded = load_model(folder)
    return generate(*loaded, prompts, options=chosen, chat=chat, system=system)


def write(path, *rows):
    path.write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")
    return path


def test_the_text_goes_to_stdout(model):
    [found] = expected(model, "the wing")

    ran = run("generate", model, "the wing", *SHORT)

    assert (ran.exit_code, ran.stdout) == (0, found.text + "\n")


def test_every_piece_is_written_at_once(model, monkeypatch):
    writes = []
    monkeypatch.setattr(command.sys.stdout, "write", writes.append)

    command._show(iter(["a", "b"]))

    assert writes == ["a", "b", "\n"]


def test_a_prompt_may_come_from_stdin(model):
    ran = run("generate", model, *SHORT, stdin="the wing\n")

    assert ran.stdout == expected(model, "the wing")[0].text + "\n"


def test_json_tells_how_it_ended(model):
    [found] = expected(model, "the wing", stop=("e",))

    ran = run("generate", model, "the wing", "--stop", "e", "--json", *SHORT)

    assert json.loads(ran.stdout) == {
        "schema": "ragkit.generate/1",
        "text": found.text,
        "finish_reason": found.finish_reason,
        "num_prompt_tokens": found.num_prompt_tokens,
        "num_tokens": found.num_tokens,
    }


def test_sampling_flags_reach_the_model(model):
    flags = ("--temperature", "1.5", "--top-k", "40", "--top-p", "0.95", "--min-p", "0.01")
    draw = {"temperature": 1.5, "top_k": 40, "top_p": 0.95, "min_p": 0.01, "seed": 7}
    [found] = expected(model, "of", **draw, repetition_penalty=1.2)

    ran = run("generate", model, "of", *flags, "--seed", "7", "--repetition-penalty", "1.2", *SHORT)

    assert ran.stdout == found.text + "\n"


def test_chat_and_system_use_the_template(model):
    [found] = expected(model, "wing?", chat=True, system="be brief")

    ran = run("generate", model, "wing?", "--chat", "--system", "be brief", *SHORT)

    assert ran.stdout == found.text + "\n"


@pytest.mark.parametrize("to_file", [True, False])
def test_a_file_of_prompts_gives_a_line_each_in_its_order(to_file, model, tmp_path):
    prompts = ["of", "the wing of the wind", "a"]
    rows = ({"id": f"q{i}", "prompt": prompt} for i, prompt in enumerate(prompts))
    path = write(tmp_path / "in.jsonl", *rows)
    out = tmp_path / "out.jsonl"
    flags = ("-o", out) if to_file else ()

    ran = run("generate", model, "--input", path, "--batch-size", "2", *flags, *SHORT)

    rows = [json.loads(line) for line in (out.read_text() if to_file else ran.stdout).splitlines()]
    assert ran.exit_code == 0
    assert [row["id"] for row in rows] == ["q0", "q1", "q2"]
    assert [row["text"] for row in rows] == [one.text for one in expected(model, *prompts)]


def test_prompts_may_be_lines_of_stdin(model):
    ran = run("generate", model, "--input", "-", *SHORT, stdin="of\n\nthe wing\n")

    texts = [json.loads(line)["text"] for line in ran.stdout.splitlines()]
    assert texts == [one.text for one in expected(model, "of", "the wing")]


def test_a_second_run_goes_on_with_the_file(model, tmp_path):
    path = write(tmp_path / "in.jsonl", *({"prompt": word} for word in ("of", "the", "wing")))
    out = tmp_path / "out.jsonl"
    run("generate", model, "--input", path, "-o", out, *SHORT)
    whole = out.read_bytes()
    out.write_bytes(whole[:-20])

    ran = run("generate", model, "--input", path, "-o", out, *SHORT)

    assert (ran.exit_code, out.read_bytes()) == (0, whole)
    assert "2 of 3 results are in" in " ".join(ran.stderr.split())


def test_bad_rows_stop_the_run_unless_they_are_allowed(model, tmp_path):
    path = write(tmp_path / "in.jsonl", {"prompt": "of"}, {"text": "x"}, {"prompt": "x " * CONTEXT})
    out, bad = tmp_path / "out.jsonl", tmp_path / "bad.jsonl"
    arguments = ("generate", model, "--input", path, "-o", out, *SHORT)

    strict = run(*arguments)
    lax = run(*arguments, "--max-rejects", "2", "--rejects", bad)

    assert strict.exit_code == 3
    assert "in.jsonl:2: a row must have either" in strict.stderr
    assert (lax.exit_code, len(out.read_text().splitlines())) == (0, 1)
    assert [json.loads(line)["code"] for line in bad.read_text().splitlines()] == [
        "malformed",
        "too_long",
    ]


@pytest.mark.parametrize("linked", [False, True])
@pytest.mark.parametrize("flag", ["-o", "--rejects"])
def test_the_prompts_are_never_overwritten(flag, linked, model, tmp_path):
    path = write(tmp_path / "in.jsonl", {"prompt": "of"}, {"text": "x"})
    before, same = path.read_bytes(), path
    if linked:
        same = tmp_path / "link.jsonl"
        same.symlink_to(path)

    ran = run("generate", model, "--input", path, flag, same, "--max-rejects", "1", *SHORT)

    assert ran.exit_code == 2
    assert "are the same file" in ran.stderr
    assert path.read_bytes() == before


def test_results_and_bad_rows_do_not_share_a_file(model, tmp_path):
    path = write(tmp_path / "in.jsonl", {"prompt": "of"})
    both = tmp_path / "out.jsonl"

    ran = run("generate", model, "--input", path, "-o", both, "--rejects", both, *SHORT)

    assert ran.exit_code == 2
    assert "--out and --rejects are the same file" in ran.stderr
    assert not both.exists()


def test_results_of_other_weights_or_another_dtype_are_refused(tmp_path):
    path = write(tmp_path / "in.jsonl", {"prompt": "of"})
    folder, out = tmp_path / "model", tmp_path / "out.jsonl"
    tiny_llama().save_pretrained(folder)
    tiny_tokenizer().save_pretrained(folder)
    arguments = ("generate", folder, "--input", path, "-o", out, *SHORT)

    first, other_dtype = run(*arguments), run(*arguments, "--dtype", "bf16")
    tiny_llama(seed=1).save_pretrained(folder)
    other_weights = run(*arguments)

    assert [ran.exit_code for ran in (first, other_dtype, other_weights)] == [0, 2, 2]
    assert "no result of this prompt, model and options" in other_weights.stderr


def test_a_prompt_on_stdin_must_be_utf8(model):
    ran = run("generate", model, *SHORT, stdin=b"the wing\xff\n")

    assert ran.exit_code == 3
    assert "the prompt on stdin is not UTF-8: convert it" in ran.stderr


def test_without_a_number_the_text_ends_with_the_context(model):
    ran = run("generate", model, "of", "--json")

    read = json.loads(ran.stdout)
    assert ran.exit_code == 0
    assert read["num_prompt_tokens"] + read["num_tokens"] <= CONTEXT


WRONG = {
    "no model": (["no/such/folder", "x"], 2, "no model at"),
    "long prompt": (["MODEL", "x " * CONTEXT], 2, "max_position_embeddings=96: shorten"),
    "long answer": (["MODEL", "x", "--max-new-tokens", "96"], 2, "to at most 95"),
    "cut without draw": (["MODEL", "x", "--top-k", "5"], 2, "set a temperature"),
    "negative count": (["MODEL", "x", "--max-new-tokens", "-1"], 2, "must be 1 or more"),
    "no template": (["MUTE", "x", "--chat", *SHORT], 2, "no chat template: choose"),
    "system without chat": (["MODEL", "x", "--system", "s", *SHORT], 2, "(--chat)"),
    "prompt and file": (["MODEL", "x", "--input", "f"], 2, "exclude each other"),
    "out without file": (["MODEL", "x", "-o", "f"], 2, "belong to --input"),
    "no file": (["MODEL", "--input", "/no/such"], 3, "check the path"),
    "unknown dtype": (["MODEL", "x", "--dtype", "fp4", *SHORT], 2, "fp4"),
    "unknown device": (["MODEL", "x", "--device", "abacus", *SHORT], 2, "abacus"),
    "no batch": (["no/such/model", "--input", "-", "--batch-size", "0"], 2, "batch_size must"),
    "no folder": (["no/such/model", "--input", "-", "-o", "no/out.jsonl"], 6, "No such file"),
    "folder as file": (["no/such/model", "--input", "-", "-o", "."], 6, "Is a directory"),
    "json of lines": (["MODEL", "--input", "-", "--json"], 2, "JSON lines already"),
}


@pytest.mark.parametrize(("arguments", "code", "hint"), WRONG.values(), ids=WRONG)
def test_misuse_is_explained(arguments, code, hint, model, mute_model):
    names = {"MODEL": str(model), "MUTE": str(mute_model)}

    ran = run("generate", *(names.get(one, one) for one in arguments), stdin="of\n")

    assert ran.exit_code == code
    assert hint in ran.stderr
    assert "Traceback" not in ran.stderr + ran.stdout


def test_an_empty_file_is_an_error(model, tmp_path):
    path = write(tmp_path / "in.jsonl")

    ran = run("generate", model, "--input", path)

    assert ran.exit_code == 3
    assert "no prompts in" in ran.stderr


@pytest.mark.slow
def test_an_interrupt_ends_the_text_with_a_line_and_says_so(tmp_path):
    tiny_llama(max_position_embeddings=20_000).save_pretrained(tmp_path)
    tiny_tokenizer().save_pretrained(tmp_path)
    command_line = [sys.executable, "-c", "from ragkit.cli import main; main()", "generate"]
    process = subprocess.Popen(
        [*command_line, str(tmp_path), "of", "--max-new-tokens", "19000"],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
    )
    first = os.read(process.stdout.fileno(), 1)

    process.send_signal(signal.SIGINT)

    stdout, stderr = process.communicate(timeout=60)
    assert process.returncode == 130
    assert (first + stdout).endswith(b"\n")
    assert b"stopped by signal 2" in stderr
    assert b"Traceback" not in stderr
