"""The candidate table on disk: Arrow files, and a manifest that says what they belong to.

Rows of an index may change while its content stays, so the files name passages by their ids.
"""

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from ragkit.errors import ConfigError, DataError
from ragkit.storage import durable_file, hash_file, published_folder

FORMAT = "ragkit-candidates/1"
TABLE, PASSAGES, MANIFEST = "candidates.arrow", "passages.arrow", "manifest.json"


class Table(NamedTuple):
    """What the files hold.

    Args:
        example_ids: `[examples]`.
        passage_ids: Each passage once.
        places: In `passage_ids`, -1 for none, `[examples, k]`.
        scores: -inf for none, `[examples, k]`.
        header: The rest of the manifest, JSON values.
    """

    example_ids: list[str]
    passage_ids: list[str]
    places: NDArray[np.int64]
    scores: NDArray[np.float32]
    header: Mapping[str, Any]


def write_table(path: Path, table: Table) -> None:
    """Write a table to the folder `path`, whole or not at all, in place of what stood there.

    Raises:
        StorageError: The disk is full or failing.
    """
    k = table.places.shape[1]
    columns = {
        "example_id": pa.array(table.example_ids, pa.large_string()),
        "places": pa.FixedSizeListArray.from_arrays(pa.array(table.places.ravel()), k),
        "scores": pa.FixedSizeListArray.from_arrays(pa.array(table.scores.ravel()), k),
    }
    passages = {"id": pa.array(table.passage_ids, pa.large_string())}
    with published_folder(path) as folder:
        hashes = {
            name: _write_arrow(folder / name, pa.table(held))
            for name, held in ((TABLE, columns), (PASSAGES, passages))
        }
        manifest = {"format": FORMAT, "k": k, "files": hashes, **table.header}
        with durable_file(folder / MANIFEST) as file:
            file.write(json.dumps(manifest, indent=1).encode())


def read_table(path: Path) -> Table:
    """The table in the folder `path`.

    Raises:
        ConfigError: There is none.
        DataError: It is damaged, or of another format.
    """
    header = _read_manifest(path)
    for name in (TABLE, PASSAGES):
        if not (path / name).is_file() or hash_file(path / name) != header["files"].get(name):
            raise _damaged(path / name, "its hash is not the one in the manifest")
    k = header["k"]
    table, passages = _read_arrow(path / TABLE), _read_arrow(path / PASSAGES)
    return Table(
        table["example_id"].to_pylist(),
        passages["id"].to_pylist(),
        _matrix(table["places"], k, np.int64),
        _matrix(table["scores"], k, np.float32),
        header,
    )


def _write_arrow(path: Path, table: pa.Table) -> str:
    """Hash of the file written."""
    with durable_file(path) as file:
        with pa.ipc.new_file(file, table.schema) as writer:
            writer.write_table(table)
        return file.xxh3


def _read_arrow(path: Path) -> pa.Table:
    with pa.OSFile(str(path)) as file:
        return pa.ipc.open_file(file).read_all()


def _matrix(column: pa.ChunkedArray, k: int, dtype: type[Any]) -> NDArray[Any]:
    """`[rows, k]`."""
    values = [chunk.flatten().to_numpy(zero_copy_only=False) for chunk in column.chunks]
    return np.concatenate([np.empty(0, dtype), *values]).reshape(-1, k)


def _read_manifest(path: Path) -> dict[str, Any]:
    file = path / MANIFEST
    if not file.is_file():
        raise ConfigError(f"{path} holds no candidates, expected {MANIFEST} in it: retrieve them")
    try:
        manifest = json.loads(file.read_bytes())
        known = manifest["format"] == FORMAT
        checked = {**manifest, "k": int(manifest["k"]), "files": dict(manifest["files"])}
    except (ValueError, KeyError, TypeError, OSError) as error:
        raise _damaged(file, str(error)) from error
    if not known:
        raise DataError(
            f"{file} has the format {manifest['format']!r}, expected {FORMAT!r}: retrieve the "
            "candidates anew"
        )
    return checked


def _damaged(path: Path, reason: str) -> DataError:
    return DataError(f"{path} is damaged or missing ({reason}): retrieve the candidates anew")
