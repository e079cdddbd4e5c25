"""`ragkit generate MODEL QUESTION --index INDEX`: answers on stdout, passages beside them."""

import json

import pytest

import ragkit
from ragkit.decoding import GenerationOptions
from ragkit.rag.pipeline import RagPipeline
from tests.cli.running import build, run
from tests.decoding.tiny import tiny_llama, tiny_tokenizer

SHORT = ("--max-new-tokens", "7")
QUESTION = "what is the wing of?"
TEXTS = ("the wing of the wind", "the heat of the shock", "a wind", "a shock", "heat")


@pytest.fixture(scope="module")
def model(tmp_path_factory):
    folder = tmp_path_factory.mktemp("tiny")
    tiny_llama(eos_token_id=1, max_position_embeddings=160).save_pretrained(folder)
    tiny_tokenizer().save_pretrained(folder)
    return folder


@pytest.fixture(scope="module")
def index(tmp_path_factory):
    folder = tmp_path_factory.mktemp("index")
    rows = [{"id": f"p{number}", "text": text} for number, text in enumerate(TEXTS)]
    corpus = write(folder / "corpus.jsonl", *rows)
    assert build(corpus, "-o", folder / "index").exit_code == 0
    return folder / "index"


def write(path, *rows):
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    return path


def expected(model, index, **settings):
    options = GenerationOptions(max_new_tokens=7)
    rag = RagPipeline(ragkit.Retriever.open(index), str(model), options=options, **settings)
    return rag.answer(QUESTION)


def test_the_answer_goes_to_stdout_and_its_passages_to_stderr(model, index):
    answer = expected(model, index)

    ran = run("generate", model, QUESTION, "--index", index, *SHORT)

    assert (ran.exit_code, ran.stdout) == (0, answer.text + "\n")
    # Before the passages stands a warning of the encoder, which is for tests only.
    listed = [line.split()[1] for line in ran.stderr.splitlines()[-3:]]
    assert listed == [passage.id for passage in answer.passages]


def test_quiet_lists_no_passages(model, index):
    ran = run("generate", model, QUESTION, "--index", index, "--quiet", *SHORT)

    assert (ran.exit_code, ran.stderr) == (0, "")


def test_json_has_the_passages_with_their_weights(model, index):
    flags = ("--mode", "seq", "-k", "2", "--retriever-temperature", "0.5", "--json")
    answer = expected(model, index, mode="seq", k=2, retriever_temperature=0.5)

    ran = run("generate", model, QUESTION, "--index", index, *flags, *SHORT)

    facts = json.loads(ran.stdout)
    assert next(iter(facts)) == "schema"
    assert (facts["text"], facts["mode"]) == (answer.text, "seq")
    assert facts["passages"] == [passage.as_dict() for passage in answer.passages]


def test_passages_may_need_a_score(model, index):
    flags = ("--min-score", "2", "--json")

    ran = run("generate", model, QUESTION, "--index", index, *flags, *SHORT)

    assert json.loads(ran.stdout)["passages"] == []


def test_a_file_of_questions_gives_a_line_each_and_goes_on(model, index, tmp_path):
    rows = [{"id": f"q{number}", "prompt": f"{QUESTION} {number}"} for number in range(5)]
    questions, out = write(tmp_path / "in.jsonl", *rows), tmp_path / "out.jsonl"
    flags = ("--index", index, "--input", questions, "-o", out, "--batch-size", "1", *SHORT)
    ran = run("generate", model, *flags)
    whole = out.read_text()
    out.write_text(whole[: len(whole) // 2])

    again = run("generate", model, *flags)

    assert (ran.exit_code, again.exit_code) == (0, 0)
    assert out.read_text() == whole
    assert [json.loads(line)["id"] for line in whole.splitlines()] == [row["id"] for row in rows]
    assert "of 5 results are in" in again.stderr


def test_answers_of_other_settings_are_not_gone_on_with(model, index, tmp_path):
    questions, out = write(tmp_path / "in.jsonl", {"prompt": QUESTION}), tmp_path / "out.jsonl"
    flags = ("--index", index, "--input", questions, "-o", out, *SHORT)
    run("generate", model, *flags)

    ran = run("generate", model, *flags, "--mode", "token")

    assert ran.exit_code == 2
    assert "is no result of this prompt" in ran.stderr


@pytest.mark.parametrize("change", [("--metric", "l2"), ("--template", "{text}")])
def test_answers_of_another_index_of_the_same_texts_are_not_gone_on_with(model, tmp_path, change):
    rows = [{"id": f"p{number}", "text": text} for number, text in enumerate(TEXTS)]
    titled = [{**row, "title": "wind"} for row in rows] if change[0] == "--template" else rows
    for name, lines, flags in (("one", rows, ()), ("other", titled, change)):
        corpus = write(tmp_path / f"{name}.jsonl", *lines)
        assert build(corpus, "-o", tmp_path / name, *flags).exit_code == 0
    questions, out = write(tmp_path / "in.jsonl", {"prompt": QUESTION}), tmp_path / "out.jsonl"
    flags = ("--input", questions, "-o", out, *SHORT)
    run("generate", model, "--index", tmp_path / "one", *flags)

    ran = run("generate", model, "--index", tmp_path / "other", *flags)

    assert ran.exit_code == 2
    assert "is no result of this prompt" in ran.stderr


def test_a_conversation_is_no_question(model, index, tmp_path):
    turns = [{"role": "user", "content": "a"}]
    questions = write(tmp_path / "in.jsonl", {"messages": turns}, {"prompt": QUESTION})

    ran = run("generate", model, "--index", index, "--input", questions, *SHORT)

    assert ran.exit_code == 3
    assert "a question must be a text" in ran.stderr


@pytest.mark.parametrize(
    ("flags", "hint"),
    [
        (("-k", "2", "--min-score", "0.5"), "-k, --min-score needs an index"),
        (("--index", "INDEX", "--chat"), "leave --chat and --system out"),
        (("--index", "INDEX", "--mode", "sum"), "mode must be one of seq, seq-rescore"),
        (("--index", "INDEX", "-k", "0"), "k must be 1 or more"),
        (("--index", "no-index"), "no-index"),
    ],
)
def test_flags_that_make_no_sense_are_refused(model, index, flags, hint):
    flags = [index if flag == "INDEX" else flag for flag in flags]

    ran = run("generate", model, QUESTION, *flags, *SHORT)

    assert ran.exit_code == 2
    assert hint in ran.stderr
