"""Writes a tuned encoder to a folder that `load_encoder` and sentence-transformers open."""

import json
import shutil
from pathlib import Path

from safetensors.torch import save_file
from torch import Tensor, nn
from transformers import PreTrainedModel

from ragkit.encoders.assemble import ModelParts
from ragkit.encoders.backbone import POOLER
from ragkit.encoders.head import Head
from ragkit.encoders.layout import (
    ALL_PROMPTS,
    BACKBONE_SETTINGS,
    DOCUMENT_WEIGHTS,
    TUNED_FOR,
    read_object,
)
from ragkit.encoders.query_tower import QueryTower
from ragkit.hub import quiet_transformers
from ragkit.storage import published_folder

_MODULE = "sentence_transformers.models."
_WEIGHTS = "model.safetensors"
_MODEL_SETTINGS = "config_sentence_transformers.json"
# Tokenizer and code. What says how the parts fit together is written anew.
_COPIED = ("*.json", "*.txt", "*.model", "*.py")
_WRITTEN = (BACKBONE_SETTINGS, _MODEL_SETTINGS, "modules.json", "config.json", "*.index.json")
_PROMPTS = ("query", "document", "passage", "corpus")


def save_encoder(tower: QueryTower, out: Path, *, document_weights: str | None = None) -> None:
    """Publish the weights of `tower`, with the layout of the folder it was copied from, at `out`.

    The folder says all that the encoder depends on: prefixes, maximum length and width are written
    down even where they were given as arguments.

    Args:
        document_weights: `weights_sha256` of the encoder whose vectors it was tuned to find; the
            retriever refuses an index of another one.

    Raises:
        StorageError: The disk is full, read-only or failing.
    """
    parts = tower.parts
    with published_folder(out) as folder:
        _copy_files(parts.layout.backbone, folder)
        _write_backbone(tower.backbone, parts, folder)
        modules = [("Transformer", ""), ("Pooling", "1_Pooling")]
        _write_pooling(parts, folder / "1_Pooling")
        for place, projection in enumerate(tower.head.projections, start=2):
            source = parts.layout.projections[place - 2]
            _write_projection(projection, source, folder / f"{place}_Dense")
            modules.append(("Dense", f"{place}_Dense"))
        if tower.head.normalize:
            modules.append(("Normalize", f"{len(modules)}_Normalize"))
        _write_modules(modules, folder)
        _write_settings(tower.head, parts, folder)
        if document_weights is not None:
            _write_json(folder / TUNED_FOR, {DOCUMENT_WEIGHTS: document_weights})


def _copy_files(source: Path, folder: Path) -> None:
    for pattern in _COPIED:
        for path in source.glob(pattern):
            if path.name != TUNED_FOR and not any(map(path.match, _WRITTEN)):
                shutil.copyfile(path, folder / path.name)


def _write_backbone(backbone: PreTrainedModel, parts: ModelParts, folder: Path) -> None:
    # A pooler that the source lacks is random, and would make the hash of equal models differ.
    weights = {name: x for name, x in backbone.state_dict().items() if POOLER not in name}
    with quiet_transformers():
        backbone.save_pretrained(folder, state_dict=weights)
    config = read_object(parts.layout.backbone / "config.json")
    # Prefixes are never to be guessed by the name of the model that the source was trained from.
    dropped = {"_name_or_path", "torch_dtype"}
    kept = {name: value for name, value in config.items() if name not in dropped}
    _write_json(folder / "config.json", {**kept, "dtype": "float32"})


def _write_pooling(parts: ModelParts, folder: Path) -> None:
    modes = list(parts.layout.pooling)
    _write_json(
        folder / "config.json",
        {
            "embedding_dimension": parts.config.hidden_size,
            "pooling_mode": modes if len(modes) > 1 else modes[0],
        },
    )


def _write_projection(projection: nn.Module, source: Path, folder: Path) -> None:
    _write_json(folder / "config.json", read_object(source / "config.json"))
    linear = next(module for module in projection.modules() if isinstance(module, nn.Linear))
    weights: dict[str, Tensor] = {
        f"linear.{name}": x.contiguous() for name, x in linear.state_dict().items()
    }
    save_file(weights, folder / _WEIGHTS, metadata={"format": "pt"})


def _write_modules(modules: list[tuple[str, str]], folder: Path) -> None:
    entries = [
        {"idx": i, "name": str(i), "path": path, "type": f"{_MODULE}{kind}"}
        for i, (kind, path) in enumerate(modules)
    ]
    _write_json(folder / "modules.json", entries)


def _write_settings(head: Head, parts: ModelParts, folder: Path) -> None:
    """Maximum length and case; prompts and width."""
    settings = {
        "max_seq_length": parts.tokenizer.max_seq_length,
        "do_lower_case": parts.layout.lowercase,
    }
    _write_json(folder / "sentence_bert_config.json", settings)
    others = {name: text for name, text in parts.layout.prompts.items() if name not in _PROMPTS}
    prefixes = {"query": parts.prefixes.query, "document": parts.prefixes.passage}
    prompts = others | {name: text for name, text in prefixes.items() if text}
    found = {"prompts": prompts, ALL_PROMPTS: True, "truncate_dim": head.truncate_dim}
    _write_json(folder / _MODEL_SETTINGS, found)


def _write_json(path: Path, content: object) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(content, indent=1) + "\n", encoding="utf-8")
