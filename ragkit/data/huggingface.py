"""Rows of a Hugging Face dataset, saved on disk or by its name on the hub.

Only data files are read: `datasets` from version 4 runs no dataset script, and none is asked for.
"""

import re
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ragkit.data.columnar import ROWS_PER_BATCH, check_whole, read_batches, wanted_columns
from ragkit.data.records import Reading
from ragkit.errors import DataError, HubError
from ragkit.types import Document

if TYPE_CHECKING:
    import pyarrow as pa

SCHEME = "hf:"
_MARKS = ("dataset_dict.json", "state.json")


def is_saved_dataset(folder: Path) -> bool:
    """Whether `folder` was written by `Dataset.save_to_disk`."""
    return any((folder / mark).is_file() for mark in _MARKS)


def read_huggingface(uri: str, reading: Reading) -> Iterator[Document]:
    """The documents of `hf:PATH_OR_NAME[:split]`.

    Raises:
        DataError: It has several splits and none was named, or it cannot be read.
        HubError: It is not on disk and the hub cannot be reached.
    """
    batches = _batches(open_dataset(uri), reading)
    yield from read_batches(check_whole(batches, f"{uri}: the data cannot be read"), reading)


def open_dataset(uri: str) -> Any:  # noqa: ANN401 - datasets has no types
    """The `datasets.Dataset` that `uri` names.

    Raises:
        DataError: It has several splits and none was named, or it cannot be read.
        HubError: It is not on disk and the hub cannot be reached.
    """
    name, split = split_uri(uri)
    found = _load(name)
    if not hasattr(found, "keys"):  # a single dataset; saved without splits
        if split:
            raise DataError(f"{uri}: the dataset has no splits: leave {split!r} out")
        return found
    splits = list(found.keys())
    if not split and len(splits) == 1:
        return found[splits[0]]
    if split not in splits:
        raise DataError(
            f"{uri}: expected one of the splits {', '.join(splits)}, found {split or 'none'}: "
            f"write for example {SCHEME}{name}:{splits[0]}"
        )
    return found[split]


def split_uri(uri: str) -> tuple[str, str]:
    """Path or name, and split or an empty string, of `hf:PATH_OR_NAME[:split]`."""
    name = uri.removeprefix(SCHEME)
    if Path(name).exists():
        return name, ""
    found = re.fullmatch(r"(.+?):([\w.-]+)", name)
    return (found[1], found[2]) if found else (name, "")


def _load(name: str) -> Any:  # noqa: ANN401 - datasets has no types
    import datasets

    try:
        if is_saved_dataset(Path(name)):
            return datasets.load_from_disk(name)
        return datasets.load_dataset(name)
    except ConnectionError as error:
        raise HubError(
            f"{name} is neither a folder nor in the local cache, and the hub cannot be reached: "
            "check the name and the network"
        ) from error
    except (datasets.exceptions.DatasetsError, OSError, ValueError, RuntimeError) as error:
        raise DataError(
            f"{name} cannot be read as a dataset ({error}): give a folder made by save_to_disk, a "
            "folder of data files or a name on the hub"
        ) from error


def _batches(dataset: Any, reading: Reading) -> Iterator["pa.RecordBatch"]:  # noqa: ANN401
    columns = wanted_columns(dataset.column_names, reading.options)
    tables = dataset.select_columns(columns).with_format("arrow").iter(batch_size=ROWS_PER_BATCH)
    for table in tables:
        yield from table.to_batches()
