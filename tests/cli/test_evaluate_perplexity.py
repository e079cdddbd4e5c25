import gzip
import json

import pytest

from tests.cli.running import run
from tests.evaluation.models import TEXTS, tiny_bpe, tiny_llama

DOCUMENTS = [f"{TEXTS[0]} {i}" for i in range(3)]


@pytest.fixture(scope="module")
def model(tmp_path_factory):
    """A folder with a tiny Llama and its tokenizer."""
    folder = tmp_path_factory.mktemp("model")
    tiny_llama().save_pretrained(folder)
    tiny_bpe().save_pretrained(folder)
    return folder


@pytest.fixture
def text(tmp_path):
    path = tmp_path / "documents.jsonl.gz"
    lines = [json.dumps({"id": str(i), "text": one}) for i, one in enumerate(DOCUMENTS)]
    path.write_bytes(gzip.compress("\n".join(lines).encode()))
    return path


def measure(*arguments, **options):
    return run("eval", "perplexity", *arguments, "--json", **options)


def test_json_has_the_figures_and_how_they_were_made(model, text):
    result = measure(model, "--text", text, "--context-length", 16, "--stride", 5)

    read = json.loads(result.stdout)
    assert list(read)[:6] == [
        "schema",
        "nll_per_token",
        "perplexity",
        "bits_per_byte",
        "num_tokens",
        "num_bytes",
    ]
    assert (read["schema"], read["documents"]) == ("ragkit.eval_perplexity/1", 3)
    assert (read["context_length"], read["stride"], read["bos"]) == (16, 5, False)


def test_all_bytes_count_where_the_first_token_is_predicted(model, text):
    read = json.loads(measure(model, "--text", text, "--bos", "always").stdout)

    assert read["num_bytes"] == sum(map(len, DOCUMENTS))


def test_the_limit_keeps_the_first_documents(model, text):
    assert json.loads(measure(model, "--text", text, "--limit", 2).stdout)["documents"] == 2


def test_text_comes_from_stdin(model, text):
    piped = measure(model, "--text", "-", "--format", "text", stdin=DOCUMENTS[0])

    alone = measure(model, "--text", text, "--limit", 1)
    assert piped.stdout == alone.stdout


def test_several_inputs_add_up(model, text, tmp_path):
    (tmp_path / "more.txt").write_text(DOCUMENTS[0])

    read = json.loads(measure(model, "--text", text, "--text", tmp_path / "more.txt").stdout)

    assert read["documents"] == 4


def test_the_table_shows_the_figures(model, text):
    result = run("eval", "perplexity", model, "--text", text)

    assert result.exit_code == 0
    assert "bits_per_byte" in result.stdout
    assert "schema" not in result.stdout


@pytest.mark.parametrize(
    ("flags", "exit_code", "hint"),
    [
        (["--context-length", 49], 2, "max_position_embeddings, 48"),
        (["--context-length", 9, "--stride", 10], 2, "stride must be between 1"),
        (["--batch-size", 0], 2, "batch_size must be 1 or more"),
        (["--limit", 0], 3, "nothing to predict"),
        (["--device", "abacus"], 2, "no device"),
    ],
)
def test_a_mistake_is_one_line_with_its_mend(model, text, flags, exit_code, hint):
    result = measure(model, "--text", text, *flags)

    assert result.exit_code == exit_code
    assert hint in json.loads(result.stdout)["hint"]


def test_refused_rows_stop_the_run(model, tmp_path):
    broken = tmp_path / "broken.jsonl"
    broken.write_text('{"id": "1", "text": "the wing of the plane"}\nnot json\n')

    strict, lenient = (
        measure(model, "--text", broken, "--max-rejects", most) for most in ("0", "1")
    )

    assert (strict.exit_code, lenient.exit_code) == (3, 0)
    assert "1 of 2 rows were refused" in json.loads(strict.stdout)["hint"]


def test_bytes_that_are_not_utf8_are_told_or_refused(model, tmp_path):
    path = tmp_path / "latin.jsonl"
    path.write_bytes(b'{"text": "the wing of the plan\xe9"}\n{"text": "the wing of the plane"}\n')

    lenient, strict = (
        measure(model, "--text", path, *flags) for flags in ((), ("--on-invalid-utf8", "error"))
    )

    assert (lenient.exit_code, strict.exit_code) == (0, 3)
    assert "1 documents hold bytes that are not UTF-8" in " ".join(lenient.stderr.split())


def test_a_wrong_batch_size_fails_before_the_model_is_opened(text):
    result = measure("no/such/model", "--text", text, "--batch-size", 0)

    assert "batch_size must be 1 or more" in json.loads(result.stdout)["hint"]


def test_a_recipe_of_another_kind_is_told_with_its_command():
    result = run("eval", "pretrain/llama3-tiny", "--json")

    assert result.exit_code == 2
    assert "is a pretrain recipe" in json.loads(result.stdout)["hint"]
    assert "run `ragkit pretrain " in json.loads(result.stdout)["hint"]


def test_a_missing_file_is_named(model, tmp_path):
    result = measure(model, "--text", tmp_path / "none.jsonl")

    assert result.exit_code == 3
    assert "no such file" in json.loads(result.stdout)["hint"]


def test_a_recipe_gives_the_same_figures(model, text, tmp_path):
    recipe = tmp_path / "recipe.yaml"
    lines = [
        "kind: perplexity",
        f"model: {model}",
        f"data_dir: {tmp_path}",
        f"inputs: [{text.name}]",
    ]
    recipe.write_text("\n".join([*lines, "options: {context_length: 12}"]))

    result = run("eval", recipe, "options.stride=7", "--json")

    flags = ["--text", text, "--context-length", 12, "--stride", 7]
    assert result.stdout == measure(model, *flags).stdout
