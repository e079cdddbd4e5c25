import json
import os
import stat
import threading
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest

from ragkit.encoders import load_encoder
from ragkit.errors import (
    ConfigError,
    DataError,
    IndexLockedError,
    IndexStateError,
    RagkitError,
    StorageError,
)
from ragkit.index.layout import new_segment_id
from ragkit.index.reader import Index
from ragkit.index.verify import verify_index
from ragkit.retrieval.build import build_index
from ragkit.retrieval.retriever import Retriever
from tests.retrieval.conftest import documents, write_jsonl


def test_the_index_holds_every_record_with_its_vector(built):
    index = Index.open(built.path)
    rows = np.arange(len(index))
    expected = documents(37)
    texts = [f"{row['title']} {row['text']}" for row in expected]

    found = index.passages(rows)

    assert [p.id for p in found] == [row["id"] for row in expected]
    assert [p.text for p in found] == [row["text"] for row in expected]
    assert [p.meta for p in found] == [{"year": row["year"]} for row in expected]
    np.testing.assert_array_equal(
        index.vectors(rows), load_encoder("hash:64").encode(texts, role="passage")
    )
    assert verify_index(built.path) == []


def test_counts_and_files_add_up(built):
    facts = built.as_dict()

    assert (facts["passages"], facts["documents"], facts["ann"]) == (37, 37, "exact")
    assert facts["counts"]["truncated"] == 0
    for file in facts["files"]:
        assert (built.path / file["path"]).stat().st_size == file["bytes"]
    assert not (built.path / "build").exists()
    assert json.dumps(facts)


@pytest.mark.parametrize("part_rows", [1, 7, 4096])
def test_the_content_hash_does_not_depend_on_how_the_work_was_cut(
    built, corpus, tmp_path, part_rows
):
    report = build_index(
        corpus, tmp_path / "i", encoder="hash:64", keep_vectors="f32", part_rows=part_rows
    )

    assert report.content_hash == built.content_hash


def test_the_content_hash_does_not_depend_on_the_order_of_the_input(built, tmp_path):
    shuffled = write_jsonl(tmp_path / "other name.jsonl", documents(37)[::-1])

    report = build_index(shuffled, tmp_path / "i", encoder="hash:64", keep_vectors="f32")

    assert report.content_hash == built.content_hash


def test_another_text_gives_another_content_hash(built, tmp_path):
    rows = documents(37)
    rows[5]["text"] += "!"

    report = build_index(
        write_jsonl(tmp_path / "c.jsonl", rows),
        tmp_path / "i",
        encoder="hash:64",
        keep_vectors="f32",
    )

    assert report.content_hash != built.content_hash


def test_the_same_command_again_changes_nothing(corpus, tmp_path):
    first = build_index(corpus, tmp_path / "i", encoder="hash:32")
    before = (tmp_path / "i" / "CURRENT").read_bytes()

    again = build_index(corpus, tmp_path / "i", encoder="hash:32")

    assert again.unchanged
    assert again.content_hash == first.content_hash
    assert (tmp_path / "i" / "CURRENT").read_bytes() == before


def test_another_encoder_or_input_needs_overwrite(corpus, tmp_path):
    build_index(corpus, tmp_path / "i", encoder="hash:32")
    longer = write_jsonl(tmp_path / "longer.jsonl", documents(41))

    with pytest.raises(
        IndexStateError, match=r"model\.name: 'hash:32' then.*\n(.*\n)*pass --overwrite"
    ):
        build_index(corpus, tmp_path / "i", encoder="hash:48")
    with pytest.raises(IndexStateError, match=r"other passages:\npass --overwrite"):
        build_index(longer, tmp_path / "i", encoder="hash:32")
    report = build_index(longer, tmp_path / "i", encoder="hash:48", overwrite=True)

    assert report.manifest.generation == 2
    assert len(Index.open(tmp_path / "i")) == 41
    assert len(Index.open(tmp_path / "i", generation=1)) == 37


def test_a_damaged_index_can_be_rebuilt_in_place(corpus, tmp_path):
    first = build_index(corpus, tmp_path / "i", encoder="hash:32")
    (tmp_path / "i" / "CURRENT").write_text("garbage")

    report = build_index(corpus, tmp_path / "i", encoder="hash:32", overwrite=True)

    assert report.content_hash == first.content_hash
    assert report.manifest.generation == 2


class FailingEncoder:
    """The hash encoder, until it has embedded so many parts."""

    def __init__(self, parts):
        self._inner, self._left = load_encoder("hash:16"), parts
        self.embedded = 0

    def __getattr__(self, name):
        return getattr(self._inner, name)

    def embed(self, tokens):
        if len(tokens) > 1 and self._left == 0:
            raise StorageError("the device gave out")
        self._left -= 1
        self.embedded += len(tokens)
        return self._inner.embed(tokens)


def test_an_interrupted_build_embeds_only_what_is_left(corpus, tmp_path):
    with pytest.raises(StorageError, match="gave out"):
        build_index(corpus, tmp_path / "i", encoder=FailingEncoder(2), part_rows=10)
    with pytest.raises(IndexStateError, match="run the same `build-index` command again"):
        Retriever.open(tmp_path / "i")
    encoder = FailingEncoder(-1)

    report = build_index(corpus, tmp_path / "i", encoder=encoder, part_rows=10)

    undisturbed = build_index(corpus, tmp_path / "j", encoder=FailingEncoder(-1), part_rows=10)
    queries_and_canary = encoder.embedded - 17
    assert report.content_hash == undisturbed.content_hash
    assert queries_and_canary <= 16 + 16


def test_an_unfinished_build_with_other_settings_is_refused_until_restarted(corpus, tmp_path):
    with pytest.raises(StorageError, match="gave out"):
        build_index(corpus, tmp_path / "i", encoder=FailingEncoder(2), part_rows=10)

    with pytest.raises(IndexStateError, match=r"part_rows: 10 then, 11 now\n.*--restart"):
        build_index(corpus, tmp_path / "i", encoder="hash:16", part_rows=11)

    build_index(corpus, tmp_path / "i", encoder="hash:16", part_rows=11, restart=True)


def test_a_damaged_part_is_embedded_again(corpus, tmp_path):
    with pytest.raises(StorageError, match="gave out"):
        build_index(corpus, tmp_path / "i", encoder=FailingEncoder(2), part_rows=10)
    [damaged, _] = sorted((tmp_path / "i").glob("build/*/parts/*.f16"))
    damaged.write_bytes(b"\0" * damaged.stat().st_size)

    report = build_index(corpus, tmp_path / "i", encoder=FailingEncoder(-1), part_rows=10)

    undisturbed = build_index(corpus, tmp_path / "j", encoder=FailingEncoder(-1), part_rows=10)
    assert report.content_hash == undisturbed.content_hash


class BrokenEncoder(FailingEncoder):
    """Gives NaN for one text, infinity for another, nothing for a third."""

    def embed(self, tokens):
        vectors = self._inner.embed(tokens)
        if len(tokens) == 37:
            vectors[3], vectors[4, 2], vectors[7] = np.nan, np.inf, 0
        return vectors


def test_a_vector_that_means_nothing_is_never_stored(corpus, tmp_path):
    report = build_index(corpus, tmp_path / "i", encoder=BrokenEncoder(-1), max_rejects="10%")

    index = Index.open(tmp_path / "i")
    assert len(index) == report.counts["passages"] == 34
    assert report.counts["bad_vector"] == 3
    assert np.isfinite(index.vectors(np.arange(34))).all()
    assert index.rows(["doc-3", "doc-4", "doc-7", "doc-5"])[:3].tolist() == [-1, -1, -1]
    assert "NaN or infinity" in report.rejects.read_text()


def test_too_many_rejects_stop_the_build(corpus, tmp_path):
    with pytest.raises(DataError, match="3"):
        build_index(corpus, tmp_path / "i", encoder=BrokenEncoder(-1), max_rejects="1%")


def test_nothing_is_left_behind_when_there_is_nothing_to_index(tmp_path):
    empty = write_jsonl(tmp_path / "c.jsonl", [{"id": "a", "text": "  "}, {"id": "b", "text": ""}])

    with pytest.raises(DataError, match=r"no passages in .*empty 2"):
        build_index(empty, tmp_path / "i", encoder="hash:16")

    assert not (tmp_path / "i" / "CURRENT").exists()
    assert not (tmp_path / "i" / "build").exists()


def test_a_folder_of_other_things_is_left_alone(corpus, tmp_path):
    (tmp_path / "notes.txt").write_text("mine")

    with pytest.raises(ConfigError, match="nothing was touched"):
        build_index(corpus, tmp_path, encoder="hash:16")

    assert [p.name for p in tmp_path.iterdir()] == ["notes.txt"]


def test_of_builds_that_start_together_one_goes_on_and_the_others_find_it_locked(tmp_path):
    corpus = write_jsonl(tmp_path / "c.jsonl", documents(4))

    def build(together, out):
        together.wait()
        try:
            return build_index(corpus, out, encoder="hash:8").counts["passages"]
        except RagkitError as error:
            return type(error)

    with ThreadPoolExecutor(5) as pool:
        for turn in range(30):
            together = threading.Barrier(5)
            runs = [pool.submit(build, together, tmp_path / str(turn)) for _ in range(5)]
            outcomes = {run.result() for run in runs}
            assert 4 in outcomes
            assert outcomes <= {4, IndexLockedError}


def test_a_mark_that_a_kill_left_empty_is_written_again(corpus, tmp_path):
    (tmp_path / "i").mkdir()
    (tmp_path / "i" / "RAGKIT").touch()

    build_index(corpus, tmp_path / "i", encoder="hash:8")

    assert "index of ragkit" in (tmp_path / "i" / "RAGKIT").read_text()


def test_duplicate_ids_are_listed_with_their_lines(tmp_path):
    rows = [*documents(9), *documents(8)]
    path = write_jsonl(tmp_path / "c.jsonl", rows)

    with pytest.raises(DataError, match=r"8 documents .*\n.*c\.jsonl:10: 'doc-0'(.*\n)*.*rename"):
        build_index(path, tmp_path / "i", encoder="hash:16")


@pytest.mark.parametrize(
    ("policy", "count", "text"),
    [("keep-first", 9, "first"), ("keep-last", 9, "second"), ("rename", 10, "first")],
)
def test_duplicate_ids_follow_the_policy(tmp_path, policy, count, text):
    rows = [*documents(9), {"id": "doc-2", "text": "second"}]
    rows[2] = {"id": "doc-2", "text": "first"}
    path = write_jsonl(tmp_path / "c.jsonl", rows)

    build_index(path, tmp_path / "i", encoder="hash:16", on_duplicate=policy, max_rejects="50%")

    with Retriever.open(tmp_path / "i") as retriever:
        assert len(retriever) == count
        assert retriever.get(["doc-2"])[0].text == text


def test_equal_texts_are_stored_once_when_asked(tmp_path):
    rows = [{"id": str(i), "text": f"text {i % 3}"} for i in range(8)]
    path = write_jsonl(tmp_path / "c.jsonl", rows)

    report = build_index(path, tmp_path / "i", encoder="hash:16", dedup="exact", max_rejects="90%")

    assert report.counts["passages"] == 3
    assert report.counts["duplicate_text"] == 5


@pytest.mark.parametrize(("keep", "tolerance"), [("f32", 0), ("f16", 1e-3), ("int8", 0.02)])
def test_vectors_are_kept_as_asked(corpus, built, tmp_path, keep, tolerance):
    build_index(corpus, tmp_path / "i", encoder="hash:64", keep_vectors=keep)

    rows = np.arange(37)
    found = Index.open(tmp_path / "i").vectors(rows)
    np.testing.assert_allclose(found, Index.open(built.path).vectors(rows), atol=tolerance)


@pytest.mark.skipif(os.geteuid() == 0, reason="root may write anywhere")
def test_a_read_only_folder_is_a_storage_error(corpus, tmp_path):
    tmp_path.chmod(stat.S_IRUSR | stat.S_IXUSR)

    with pytest.raises(StorageError, match="check the path"):
        build_index(corpus, tmp_path / "i", encoder="hash:16")


def test_a_path_with_spaces_and_other_letters_works(corpus, tmp_path):
    path = tmp_path / "mein Index \u00fc \u65e5\u672c" / ("x" * 100)

    build_index(corpus, path, encoder="hash:16")

    assert len(Retriever.open(path)) == 37


def test_options_that_make_no_sense_are_refused_before_any_work(corpus, tmp_path):
    for options, hint in [
        ({"recall": "much"}, "0.95@10"),
        ({"template": "{title}"}, "{text}"),
        ({"part_rows": 0}, "at least 1"),
        ({"keep_vectors": "none", "ann": "exact"}, "exact search needs the vectors"),
        ({"ann": "IVF,Nonsense"}, "IVF,Nonsense"),
    ]:
        with pytest.raises(ConfigError, match=hint):
            build_index(corpus, tmp_path / "i", encoder="hash:16", **options)
    assert not (tmp_path / "i").exists()


@pytest.mark.parametrize("name", ["build", "seg", "CURRENT", "LOCK"])
def test_a_folder_that_only_looks_like_an_index_is_left_alone(corpus, tmp_path, name):
    precious = tmp_path / "p" / name
    if name.isupper():
        precious.parent.mkdir()
        precious.write_text("MANIFEST-000001\n")
    else:
        (precious / "lib").mkdir(parents=True)

    with pytest.raises(ConfigError, match=r"no file RAGKIT\); nothing was touched"):
        build_index(corpus, tmp_path / "p", encoder="hash:16", overwrite=True)

    assert [path.name for path in precious.parent.iterdir()] == [name]
    assert precious.exists()


def test_a_document_called_like_a_piece_of_another_is_refused(tmp_path):
    rows = [{"id": "a", "text": "one two three four"}, {"id": "a#0", "text": "five"}]

    with pytest.raises(DataError, match="two passages would have the id 'a#0'"):
        build_index(
            write_jsonl(tmp_path / "c.jsonl", rows),
            tmp_path / "i",
            encoder="hash:16",
            chunk="words:2",
        )


def test_options_of_the_wrong_kind_are_named(corpus, tmp_path):
    for options in ({"metric": "dot"}, {"on_duplicate": "keep_first"}, {"nonsense": 1}):
        with pytest.raises(ConfigError, match=next(iter(options))):
            build_index(corpus, tmp_path / "i", encoder="hash:16", **options)


def test_a_build_that_was_killed_after_publishing_is_finished(corpus, tmp_path):
    report = build_index(corpus, tmp_path / "i", encoder="hash:16")
    workspace = tmp_path / "i" / "build" / report.manifest.build["workspace"]
    workspace.mkdir(parents=True)
    (workspace / "settings.json").write_text("{}")

    build_index(corpus, tmp_path / "i", encoder="hash:32", overwrite=True)

    assert Index.open(tmp_path / "i").manifest.generation == 2


def test_a_manifest_that_was_not_published_is_removed(corpus, tmp_path):
    build_index(corpus, tmp_path / "i", encoder="hash:16")
    folder = tmp_path / "i" / "gen"
    orphan = json.loads((folder / "000001.json").read_text()) | {"generation": 2}
    orphan["build"]["workspace"] = killed = new_segment_id()
    (folder / "000002.json").write_text(json.dumps(orphan))
    (tmp_path / "i" / "build" / killed).mkdir(parents=True)

    report = build_index(corpus, tmp_path / "i", encoder="hash:32", overwrite=True)

    assert report.manifest.generation == 2
    assert report.manifest.dim == 32
    assert sorted(path.name for path in folder.glob("*.json")) == ["000001.json", "000002.json"]
