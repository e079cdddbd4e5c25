"""Which encoders a retriever uses: the index's own, and perhaps another one for queries."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any, NamedTuple

from ragkit.encoders import load_encoder
from ragkit.encoders.base import Encoder
from ragkit.encoders.layout import DOCUMENT_WEIGHTS
from ragkit.errors import ConfigError, ModelMismatchError
from ragkit.index.manifest import Manifest
from ragkit.index.reader import Index, Verify
from ragkit.retrieval.canary import require_same_model


class OpenOptions(NamedTuple):
    """How a retriever was opened; see `Retriever.open`."""

    encoder: Encoder | str | None
    query_encoder: Encoder | str | None
    with_encoder: bool
    device: str
    dtype: str
    trust_remote_code: bool
    mmap: bool
    verify: Verify
    generation: int | None
    threads: int | None


def load_encoders(index: Index, options: OpenOptions) -> tuple[Encoder | None, Encoder | None]:
    """The encoder of the index and the one for queries, checked; `None` for what is not there.

    Raises:
        ConfigError: A query encoder was given but no encoder is wanted.
        ModelMismatchError: One of them does not fit the index.
        IndexCorruptError: The canary of the index is damaged.
    """
    if not options.with_encoder:
        if options.query_encoder is not None:
            raise ConfigError(
                "query_encoder is given with with_encoder=False: leave one of the two out"
            )
        return None, None
    encoder = _load_own(index.manifest, options)
    if encoder is not None:
        every_text = options.verify == "full"
        require_same_model(index.path, index.manifest, encoder, every_text=every_text)
    if options.query_encoder is None:
        return encoder, None
    for_queries = _load_for_queries(options.query_encoder, index.manifest, options)
    require_fitting_queries(index.manifest, for_queries)
    return encoder, for_queries


def require_fitting_queries(manifest: Manifest, encoder: Encoder) -> None:
    """Refuse a query encoder whose vectors cannot be compared with those of the index.

    One that was never tuned says nothing about passages: of it only the width is known.

    Raises:
        ModelMismatchError: It has another width, or was tuned for another document tower.
    """
    described = encoder.describe()
    if encoder.dim != manifest.dim:
        raise ModelMismatchError(
            f"the query encoder {described.get('name')!r} gives {encoder.dim} dimensions, the "
            f"index has {manifest.dim}: give one that was tuned for this index"
        )
    wanted, found = described.get(DOCUMENT_WEIGHTS), manifest.model.get("weights_sha256")
    if wanted is not None and wanted != found:
        raise ModelMismatchError(
            f"the query encoder {described.get('name')!r} was tuned for passages of the weights "
            f"{wanted}, this index holds those of {found} ({manifest.model.get('name')!r}): tune "
            "one for this index, or build the index with the encoder that it was tuned for"
        )


def built_settings(model: Mapping[str, Any], name: str) -> dict[str, Any]:
    """How an index had texts encoded, as arguments of `load_encoder`.

    Args:
        model: What its manifest says about the encoder.
        name: What is loaded in its place, or the same name.
    """
    return {
        "max_length": model.get("max_seq_length"),
        "query_prefix": model.get("query_prefix"),
        "passage_prefix": model.get("passage_prefix"),
        "dim": model.get("truncate_dim"),
        # Another name, or a folder, has no use for the revision of a model on the hub.
        "revision": model.get("revision")
        if _is_on_hub(name) and name == model.get("name")
        else None,
    }


def _load_own(manifest: Manifest, options: OpenOptions) -> Encoder | None:
    """The encoder given, or the one that the index names with the settings it was built with."""
    if options.encoder is not None and not isinstance(options.encoder, str):
        return options.encoder
    model = manifest.model
    name = options.encoder or model.get("name")
    if not name:
        return None
    if not options.encoder and name.startswith("python:"):
        raise ConfigError(
            f"the index names the function {name!r}, and code is never run because a file says so: "
            f"pass encoder={name!r} if you trust it"
        )
    return load_encoder(
        name,
        device=options.device,
        dtype=_dtype(model, options),
        trust_remote_code=options.trust_remote_code,
        **built_settings(model, name),
    )


def _load_for_queries(encoder: Encoder | str, manifest: Manifest, options: OpenOptions) -> Encoder:
    if not isinstance(encoder, str):
        return encoder
    return load_encoder(
        encoder,
        device=options.device,
        dtype=_dtype(manifest.model, options),
        trust_remote_code=options.trust_remote_code,
    )


def _dtype(model: Mapping[str, Any], options: OpenOptions) -> str:
    """Queries of an index that was embedded in fp32 are embedded in fp32."""
    return "fp32" if options.dtype == "auto" and model.get("dtype") == "fp32" else options.dtype


def _is_on_hub(name: str) -> bool:
    return ":" not in name and not Path(name).exists()
