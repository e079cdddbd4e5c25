"""What scripts rely on: JSON with its keys, exit codes, and where a setting comes from."""

import json
import re

import pytest

from ragkit.cli import app as cli
from ragkit.index.lock import writer_lock
from tests.cli.running import build, run

WORDS = ["amber", "birch", "cedar", "delta", "ember", "flint", "grove", "harbor", "kelp", "lagoon"]
COLUMNS = 100
INFO = [
    "passages",
    "documents",
    "dim",
    "metric",
    "encoder",
    "ann",
    "generation",
    "content_hash",
    "size_bytes",
]
METRICS = ["ndcg@10", "recall@10", "recall@100", "mrr@10", "queries"]
COMMANDS = {
    "index build": cli.index_app,
    "index search": cli.index_app,
    "index info": cli.index_app,
    "index check": cli.index_app,
    "index verify": cli.index_app,
    "eval retrieval": cli.eval_app,
    "eval perplexity": cli.eval_app,
    "models list": cli.models_app,
    "models describe": cli.models_app,
    "models export": cli.models_app,
    "pretrain": cli.app,
    "finetune": cli.app,
    "ablate": cli.app,
    "generate": cli.app,
}
GROUPS = {
    "index ": cli.index_app,
    "eval ": cli.eval_app,
    "models ": cli.models_app,
    "": cli.app,
}


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """A corpus, queries, judgements, and the index `i` of the corpus."""
    folder = tmp_path_factory.mktemp("commands")
    write_jsonl(
        folder / "c.jsonl",
        [
            {"id": f"d{i}", "title": word, "text": f"{word} {WORDS[i - 1]}", "n": i}
            for i, word in enumerate(WORDS)
        ],
    )
    write_jsonl(folder / "q.jsonl", [{"_id": f"q{i}", "text": WORDS[i]} for i in range(3)])
    (folder / "r.tsv").write_text("\n".join(f"q{i}\td{i}\t1" for i in range(3)))
    assert build(folder / "c.jsonl", "-o", folder / "i").exit_code == 0
    return folder


def write_jsonl(path, rows):
    path.write_text("\n".join(map(json.dumps, rows)))


def read_json(result):
    """The one object on stdout; it starts with its schema."""
    assert result.exit_code == 0, result.stderr
    found = json.loads(result.stdout)
    assert next(iter(found)) == "schema"
    assert re.fullmatch(r"ragkit\.\w+/\d+", found["schema"])
    return found


def test_build_reports_counts_and_files(folder, tmp_path):
    facts = read_json(build(folder / "c.jsonl", "-o", tmp_path / "i", "--json"))

    assert set(INFO) <= facts.keys()
    assert (facts["ok"], facts["passages"], facts["generation"]) == (True, 10, 1)
    for file in facts["files"]:
        assert (tmp_path / "i" / file["path"]).stat().st_size == file["bytes"]


def test_build_again_says_that_nothing_changed(folder):
    facts = read_json(build(folder / "c.jsonl", "-o", folder / "i", "--json"))

    assert (facts["unchanged"], facts["generation"]) == (True, 1)


def test_plan_writes_nothing(folder, tmp_path):
    facts = read_json(build(folder / "c.jsonl", "-o", tmp_path / "i", "--plan", "--json"))

    assert {"passages", "tokens", "encode_s", "ann", "disk_bytes", "free_bytes"} <= facts.keys()
    assert list(tmp_path.iterdir()) == []


def test_info_has_the_facts(folder):
    facts = read_json(run("index", "info", folder / "i", "--json"))

    assert set(INFO) <= facts.keys()
    assert (facts["passages"], facts["dim"], facts["encoder"]) == (10, 16, "hash:16")
    assert re.fullmatch("[0-9a-f]{32}", facts["content_hash"])


def test_search_lists_hits_best_first(folder):
    found = read_json(run("index", "search", folder / "i", "delta cedar", "-k", 3, "--json"))

    assert list(found) == ["schema", "hits", "took_ms"]
    assert [hit["rank"] for hit in found["hits"]] == [1, 2, 3]
    best = found["hits"][0]
    assert {"rank", "id", "doc_id", "score", "text", "meta"} <= best.keys()
    assert (best["id"], best["text"], best["meta"]) == ("d3", "delta cedar", {"n": 3})
    assert found["took_ms"] > 0


def test_check_measures_recall(folder):
    found = read_json(run("index", "check", folder / "i", "--num-queries", 5, "--json"))

    assert (found["queries"], found["recall"]["1"]) == (5, 1.0)


def test_verify_lists_no_faults(folder):
    found = read_json(run("index", "verify", folder / "i", "--json"))

    assert found == {"schema": "ragkit.verify/1", "ok": True, "faults": []}


def test_eval_measures_ranking(folder):
    judged = ("--queries", folder / "q.jsonl", "--qrels", folder / "r.tsv")

    found = read_json(run("eval", "retrieval", folder / "i", *judged, "--json"))

    assert list(found) == ["schema", *METRICS]
    assert found["queries"] == 3
    assert found["recall@100"] == 1.0


def test_eval_runs_a_recipe(folder, tmp_path):
    recipe = tmp_path / "mine.yaml"
    recipe.write_text(
        "kind: retrieval\ninputs: [c.jsonl]\nqueries: q.jsonl\nqrels: r.tsv\n"
        "build: {encoder: 'hash:16'}\n"
    )

    found = read_json(
        run("eval", recipe, f"data_dir={folder}", f"out={tmp_path / 'run'}", "--json")
    )

    assert found["queries"] == 3


@pytest.mark.parametrize(
    "arguments",
    [
        ["index", "info", "i"],
        ["index", "search", "i", "delta [/bold] \\[x] \udcff"],
        ["index", "check", "i"],
        ["index", "verify", "i"],
        ["index", "build", "c.jsonl", "-o", "j", "--encoder", "hash:16"],
        ["index", "build", "c.jsonl", "-o", "j", "--encoder", "hash:16", "--plan"],
        ["eval", "retrieval", "i", "--queries", "q.jsonl", "--qrels", "r.tsv"],
    ],
)
def test_people_get_a_table(folder, monkeypatch, arguments):
    monkeypatch.chdir(folder)

    result = run(*arguments, env={"COLUMNS": str(COLUMNS)})

    assert result.exit_code == 0, result.stderr
    assert len(result.stdout) > 20
    assert max(map(len, result.stdout.splitlines())) <= COLUMNS
    assert "{" not in result.stdout.splitlines()[0]


def test_errors_are_json_too(tmp_path):
    result = run("index", "info", tmp_path / "none \udcff", "--json")

    found = json.loads(result.stdout)
    assert (found["schema"], found["ok"], found["exit"]) == ("ragkit.error/1", False, 2)
    assert found["code"] == "ConfigError"
    assert "build one with `build-index" in found["hint"]


@pytest.mark.parametrize("command", COMMANDS)
def test_help_fits_and_shows_an_example(command):
    result = run(*command.split(), "--help", env={"COLUMNS": str(COLUMNS)})

    assert result.exit_code == 0
    assert max(len(line.rstrip()) for line in result.stdout.splitlines()) <= COLUMNS
    assert "Example: " in result.stdout


def test_every_command_is_known_to_these_tests():
    known = {
        f"{group}{command.name}"
        for group, commands in GROUPS.items()
        for command in commands.registered_commands
        if not command.hidden
    }

    assert known == set(COMMANDS)


def test_the_version_is_shown():
    assert re.fullmatch(r"ragkit \d+\.\d+\.\d+\n", run("--version").stdout)


@pytest.mark.parametrize(
    ("flags", "environment", "in_file", "shown"),
    [
        (["--part-rows", "7"], {"RAGKIT_PART_ROWS": "8"}, True, "part_rows: 7  # flag"),
        ([], {"RAGKIT_PART_ROWS": "8"}, True, "part_rows: 8  # environment"),
        ([], {}, True, "part_rows: 9  # file"),
        ([], {}, False, "part_rows: 4096  # default"),
    ],
)
def test_flags_win_over_environment_over_file_over_default(
    folder, tmp_path, flags, environment, in_file, shown
):
    (tmp_path / "c.yaml").write_text("part_rows: 9\n")
    config = ["--config", tmp_path / "c.yaml"] if in_file else []

    arguments = (folder / "c.jsonl", "-o", tmp_path / "i", *config, *flags)
    listed = build(*arguments, "--print-config", env=environment)
    build(*arguments, env=environment)

    assert shown in listed.stdout.splitlines()
    settings = read_json(run("index", "info", tmp_path / "i", "--json"))["settings"]
    assert f"part_rows: {settings['part_rows']} " in shown


def test_nested_settings_come_from_the_file(folder, tmp_path):
    (tmp_path / "c.yaml").write_text("read: {limit: 4, meta_fields: [n]}\n")

    result = build(
        folder / "c.jsonl", "-o", tmp_path / "i", "--config", tmp_path / "c.yaml", "--json"
    )

    assert read_json(result)["passages"] == 4


def test_each_kind_of_failure_has_its_exit_code(folder, tmp_path):
    corpus, index = folder / "c.jsonl", tmp_path / "i"
    build(corpus, "-o", index)
    with writer_lock(index / "LOCK"):
        locked = build(corpus, "-o", index)
    (tmp_path / "log").mkdir()

    codes = {
        "usage": run("index", "build").exit_code,
        "wrong value": build(corpus, "-o", index, "--recall", "x").exit_code,
        "input": build(tmp_path / "none", "-o", index).exit_code,
        "other settings": build(corpus, "-o", index, "--template", "{text}").exit_code,
        "not an index": run("index", "search", folder, "x").exit_code,
        "resources": build(corpus, "-o", index, "--log-file", tmp_path / "log").exit_code,
        "locked": locked.exit_code,
    }
    (index / "CURRENT").write_text("damaged")
    codes["corrupt"] = run("index", "search", index, "x").exit_code

    assert codes == {
        "usage": 2,
        "wrong value": 2,
        "input": 3,
        "other settings": 4,
        "not an index": 4,
        "corrupt": 5,
        "resources": 6,
        "locked": 8,
    }
    assert "another writer holds the index: process" in locked.stderr


def test_an_index_that_misses_its_recall_is_not_published(tmp_path):
    rows = [{"id": str(i), "text": f"{i} {i * i} {i % 7}"} for i in range(1200)]
    write_jsonl(tmp_path / "c.jsonl", rows)
    codes_only = ("--ann", "PQ2x4", "--keep-vectors", "none", "--recall", "0.99@10")
    arguments = (tmp_path / "c.jsonl", "-o", tmp_path / "i", *codes_only)

    refused = build(*arguments)
    published = (tmp_path / "i" / "CURRENT").exists()
    accepted = build(*arguments, "--accept-recall")

    assert refused.exit_code == 7
    assert "nothing was published" in refused.stderr
    assert not published
    assert accepted.exit_code == 0
