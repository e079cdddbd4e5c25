"""Finds a model on disk: from a path, a hub id, or `package:NAME` for one shipped in a package."""

import importlib.util
import os
import re
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from ragkit.errors import CheckpointError, ConfigError, HubError, MissingDependencyError

THREE_FORMS = (
    "a folder, a hub id such as owner/name, or package:NAME for an installed model package"
)

_HUB_ID = re.compile(r"[A-Za-z0-9_][\w.-]*(/[\w.-]+)?")
_PACKAGE = re.compile(r"[A-Za-z_][A-Za-z0-9_]*")
# Pickled weights (*.bin, *.pt, *.ckpt) run code when they are read, so they are never fetched.
_DATA_FILES = ("*.safetensors", "*.json", "*.txt", "*.model")
_OTHER_RUNTIMES = ("onnx/*", "openvino/*")


def resolve(spec: str, *, revision: str | None = None, allow_code: bool = False) -> Path:
    """The local folder of a model, or its file if it is one GGUF file.

    Args:
        spec: A path, a hub id or `package:NAME`; an existing path wins over a hub id.
        revision: Branch, tag or commit of a hub model; the other forms have none.
        allow_code: Also fetch `*.py`, for models that bring their own architecture.

    Raises:
        ConfigError: `spec` has none of the three forms, or a revision is given without a hub id.
        MissingDependencyError: `package:NAME` is not installed.
        CheckpointError: The package holds no model.
        HubError: The hub does not have the model or cannot be reached.
    """
    is_package, path = spec.startswith("package:"), Path(spec).expanduser()
    if not is_package and _is_hub_id(spec):
        return _from_hub(spec, revision=revision, allow_code=allow_code)
    if revision is not None:
        raise ConfigError(f"a revision belongs to a hub id, got {spec!r}: leave {revision=} out")
    if is_package:
        return _from_package(spec.removeprefix("package:"))
    if not path.exists():
        raise ConfigError(f"no model at {spec!r}: give {THREE_FORMS}")
    return path.resolve()


def canonical_name(spec: str) -> str:
    """A name by which `resolve` finds the same model again, from any working directory."""
    is_elsewhere = spec.startswith("package:") or _is_hub_id(spec)
    return spec if is_elsewhere else str(Path(spec).expanduser().resolve())


def snapshot_revision(folder: Path) -> str | None:
    """The commit that a folder of the hub's cache holds; `None` for any other folder."""
    return folder.name if folder.parent.name == "snapshots" else None


@contextmanager
def quiet_transformers() -> Iterator[None]:
    """Silence the progress bars and load reports of transformers within the block only."""
    from transformers.utils import logging as transformers_logging

    had_bar = transformers_logging.is_progress_bar_enabled()
    verbosity = transformers_logging.get_verbosity()
    transformers_logging.disable_progress_bar()
    transformers_logging.set_verbosity_error()
    try:
        yield
    finally:
        transformers_logging.set_verbosity(verbosity)
        if had_bar:
            transformers_logging.enable_progress_bar()


def _is_hub_id(spec: str) -> bool:
    return _HUB_ID.fullmatch(spec) is not None and not Path(spec).exists()


def _from_package(name: str) -> Path:
    module = name.replace("-", "_")
    if not _PACKAGE.fullmatch(module):
        raise ConfigError(f"package:{name} does not name a package: give {THREE_FORMS}")
    # Finding is not importing: a model package may import whatever it likes, or not import at all.
    found = importlib.util.find_spec(module)
    if found is None or not found.submodule_search_locations:
        raise MissingDependencyError(
            f"package:{name} is not installed: run `pip install {module.replace('_', '-')}`, "
            f"or give {THREE_FORMS}"
        )
    roots = [Path(location) for location in found.submodule_search_locations]
    for root in roots:
        for config in sorted(root.rglob("config.json"), key=lambda path: len(path.parts)):
            if next(config.parent.glob("*.safetensors"), None):
                return config.parent
        for weights in sorted(root.rglob("*.gguf")):
            return weights
    raise CheckpointError(
        f"package {module} holds no config.json beside *.safetensors and no *.gguf below "
        f"{roots[0]}: give {THREE_FORMS}"
    )


def _from_hub(repository: str, *, revision: str | None, allow_code: bool) -> Path:
    from huggingface_hub import snapshot_download

    # HTTPError is the client library's own, which a download that breaks off raises.
    from huggingface_hub.errors import HFValidationError, HTTPError  # type: ignore[attr-defined]

    patterns = [*_DATA_FILES, "*.py"] if allow_code else list(_DATA_FILES)
    try:
        folder = snapshot_download(
            repository,
            revision=revision,
            allow_patterns=patterns,
            ignore_patterns=list(_OTHER_RUNTIMES),
            local_files_only=_is_offline(),
        )
    except (HTTPError, HFValidationError, OSError) as error:
        reason = str(error).strip().split("\n")[0]
        state = "HF_HUB_OFFLINE is set and it is not in the cache" if _is_offline() else reason
        raise HubError(
            f"cannot get {repository!r}{f' at {revision}' if revision else ''} from the hub "
            f"({state}), and there is no such folder here: give {THREE_FORMS}"
        ) from error
    return Path(folder)


def _is_offline() -> bool:
    return os.environ.get("HF_HUB_OFFLINE", "").upper() in {"1", "ON", "YES", "TRUE"}
