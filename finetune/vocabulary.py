"""A tokenizer trained on a corpus, kept in a folder for the runs that share it."""

import json
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

from transformers import AutoTokenizer, PreTrainedTokenizerBase

from ragkit.data import ReadOptions, Rejects, read_documents, sources
from ragkit.errors import ConfigError
from ragkit.storage import published_folder
from ragkit.tokenizers import train_bpe

FACTS = "made_from.json"


def prepare_tokenizer(
    inputs: Sequence[str], out: Path, *, vocab_size: int, options: ReadOptions
) -> PreTrainedTokenizerBase:
    """The tokenizer in `out` if it was trained on the same text, else a new one, put there.

    Raises:
        ConfigError: `vocab_size` is too small, or `out` holds something else.
        DataError: The text cannot be read, or is too little for so large a vocabulary.
        StorageError: The disk gave out.
    """
    facts = _facts(inputs, vocab_size, options)
    _require_ours(out)
    if _read(out / FACTS) != facts:
        with published_folder(out) as folder:
            with Rejects() as rejects:
                documents = read_documents(inputs, options=options, rejects=rejects)
                texts = (document.text for document in documents)
                train_bpe(texts, vocab_size=vocab_size, out=folder)
            (folder / FACTS).write_text(json.dumps(facts, indent=1) + "\n", encoding="utf-8")
    return AutoTokenizer.from_pretrained(out)


def _require_ours(out: Path) -> None:
    if out.exists() and not (out / FACTS).is_file() and (out.is_file() or any(out.iterdir())):
        raise ConfigError(
            f"{out} exists and holds no tokenizer of a recipe (no {FACTS}): choose another folder, "
            "or remove it if it is not needed"
        )


def _facts(inputs: Sequence[str], vocab_size: int, options: ReadOptions) -> dict[str, Any]:
    files = [source["xxh3"] for source in sources(inputs, options=options)]
    facts = {"files": files, "vocab_size": vocab_size, "options": asdict(options)}
    return json.loads(json.dumps(facts))  # as it will be read back


def _read(path: Path) -> Any:  # noqa: ANN401 - JSON
    try:
        return json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return None  # absent or damaged: made anew
