import json

import datasets
import pytest

from ragkit.data import sources
from ragkit.data.huggingface import split_uri
from ragkit.errors import DataError, HubError

ROWS = {"id": [4, 5, 6], "text": ["a", "b", "c"], "lang": ["en", "fr", "en"]}


@pytest.fixture(autouse=True)
def _no_cache_outside(tmp_path, monkeypatch):
    monkeypatch.setattr(datasets.config, "HF_DATASETS_CACHE", tmp_path / "cache")
    monkeypatch.setattr(datasets.config, "HF_HUB_OFFLINE", True)


@pytest.fixture
def saved(tmp_path):
    folder = tmp_path / "saved"
    datasets.Dataset.from_dict(ROWS).save_to_disk(folder)
    return folder


@pytest.fixture
def with_splits(tmp_path):
    train = datasets.Dataset.from_dict(ROWS)
    folder = tmp_path / "splits"
    datasets.DatasetDict(train=train, test=train.select([2])).save_to_disk(folder)
    return folder


def test_a_saved_dataset_is_read_by_its_folder_with_or_without_the_scheme(saved, read):
    documents = read(f"hf:{saved}")

    assert [(d.id, d.text, d.meta) for d in documents] == [
        ("4", "a", {"lang": "en"}),
        ("5", "b", {"lang": "fr"}),
        ("6", "c", {"lang": "en"}),
    ]
    assert read(saved) == documents


def test_a_split_is_chosen_by_name(with_splits, read):
    assert [document.id for document in read(f"hf:{with_splits}:test")] == ["6"]


@pytest.mark.parametrize("split", ["", ":dev"])
def test_a_split_that_is_not_there_is_an_error_that_lists_them(with_splits, read, split):
    with pytest.raises(
        DataError, match=r"expected one of the splits train, test.*write for example"
    ):
        read(f"hf:{with_splits}{split}")


def test_a_split_of_a_dataset_without_splits_is_an_error(saved, read):
    with pytest.raises(DataError, match="leave 'train' out"):
        read(f"hf:{saved}:train")


def test_a_folder_of_data_files_is_read_and_its_only_split_need_not_be_named(tmp_path, read):
    folder = tmp_path / "files"
    folder.mkdir()
    (folder / "train.jsonl").write_text(json.dumps({"id": "x", "text": "words"}))

    assert [document.id for document in read(f"hf:{folder}")] == ["x"]


def test_code_of_a_dataset_is_never_run(tmp_path, read):
    folder = tmp_path / "script"
    folder.mkdir()
    (folder / "script.py").write_text(f"open({str(tmp_path / 'canary')!r}, 'w')")

    with pytest.raises(DataError, match="cannot be read as a dataset"):
        read(f"hf:{folder}")

    assert not (tmp_path / "canary").exists()


def test_a_name_that_is_not_on_disk_says_that_the_hub_is_out_of_reach(read):
    with pytest.raises(HubError, match="check the name and the network"):
        read("hf:no-such-user/no-such-dataset")


def test_broken_data_is_an_error(saved, read):
    [path] = saved.glob("*.arrow")
    path.write_bytes(path.read_bytes()[:200])

    with pytest.raises(DataError, match="cannot be read"):
        read(f"hf:{saved}")


@pytest.mark.parametrize(
    ("uri", "expected"),
    [
        ("hf:squad", ("squad", "")),
        ("hf:user/name:train", ("user/name", "train")),
        ("hf:/data/set", ("/data/set", "")),
    ],
)
def test_a_split_is_what_follows_the_last_colon(uri, expected):
    assert split_uri(uri) == expected


def test_sources_of_a_saved_dataset_are_its_files(saved):
    found = [source["uri"] for source in sources([f"hf:{saved}"])]

    assert f"hf:{saved}/state.json" in found
    assert any(uri.endswith(".arrow") for uri in found)
