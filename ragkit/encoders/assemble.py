"""Puts an encoder together from a model folder: backbone, head, tokenizer, prefixes, devices."""

import hashlib
from collections.abc import Iterable
from dataclasses import dataclass
from functools import cache, partial
from pathlib import Path
from typing import Any

from tokenizers import Tokenizer
from transformers import PreTrainedConfig

from ragkit.encoders.backbone import load_backbone, load_config, load_tokenizer, longest_text
from ragkit.encoders.head import Head
from ragkit.encoders.layout import DOCUMENT_WEIGHTS, TUNED_FOR, Layout, read_layout, read_object
from ragkit.encoders.load import EncoderOptions
from ragkit.encoders.precision import choose_precision, parse_devices
from ragkit.encoders.prefixes import Prefixes, choose_prefixes
from ragkit.encoders.replicas import Replicas
from ragkit.encoders.tokenizing import TextTokenizer
from ragkit.encoders.tower import Tower
from ragkit.encoders.transformer import TransformerEncoder
from ragkit.errors import CheckpointError, ConfigError
from ragkit.hub import canonical_name, resolve, snapshot_revision

# Fixed, not tuned at start, so that a run can be repeated to the bit. On a CPU larger batches fall
# out of its caches and are slower.
CPU_BATCH_TOKENS = 2048
GPU_BATCH_TOKENS = 32_768


@dataclass(frozen=True, slots=True, kw_only=True)
class ModelParts:
    """What a model folder holds besides the weights of the backbone.

    Args:
        spec: What the folder was asked for by.
        folder: Where it lies.
        backend: The tokenizer as the folder has it.
        tokenizer: The same, which cuts at the maximum length.
        pad_id: Token that fills a batch.
    """

    spec: str
    folder: Path
    layout: Layout
    config: PreTrainedConfig
    backend: Tokenizer
    tokenizer: TextTokenizer
    pad_id: int
    prefixes: Prefixes

    def make_head(self, *, dim: int | None) -> Head:
        """Pooling, dense layers and normalisation, with the weights of the folder."""
        return Head(self.layout, hidden_size=self.config.hidden_size, dim=dim)


def open_model(spec: str, options: EncoderOptions) -> ModelParts:
    """The parts of the model that `spec` names.

    Raises:
        ConfigError: An option does not fit the model.
        CheckpointError: The folder holds no model that can be run.
    """
    code = options.trust_remote_code
    folder = resolve(spec, revision=options.revision, allow_code=code)
    if not folder.is_dir():
        raise CheckpointError(f"{folder} is one file: an encoder is a folder with config.json")
    layout = read_layout(folder)
    config = load_config(layout.backbone, trust_remote_code=code)
    tokenizer = load_tokenizer(layout.backbone, trust_remote_code=code)
    max_seq_length = _choose_length(longest_text(config, tokenizer), layout, options)
    backend: Tokenizer = tokenizer.backend_tokenizer
    return ModelParts(
        spec=spec,
        folder=folder,
        layout=layout,
        config=config,
        backend=backend,
        tokenizer=TextTokenizer(backend, max_seq_length=max_seq_length, lowercase=layout.lowercase),
        pad_id=tokenizer.pad_token_id or 0,
        prefixes=_choose_prefixes(spec, layout, options),
    )


def load_transformer_encoder(spec: str, options: EncoderOptions) -> TransformerEncoder:
    """The encoder in the model folder that `spec` names.

    Raises:
        ConfigError: An option does not fit the model or the machine.
        CheckpointError: The folder holds no model that can be run.
    """
    parts = open_model(spec, options)
    towers = _load_towers(parts, options)
    return TransformerEncoder(
        towers[0] if len(towers) == 1 else Replicas(towers),
        parts.tokenizer,
        prefixes=parts.prefixes,
        identity=cache(partial(_identify, parts, towers[0], options.trust_remote_code)),
    )


def hash_weights(layout: Layout) -> str:
    """SHA-256 of all weights of a model: what its description has as `weights_sha256`."""
    folders = (layout.backbone, *layout.projections)
    return _hash_files(sorted(path for part in folders for path in part.glob("*.safetensors")))


def _load_towers(parts: ModelParts, options: EncoderOptions) -> list[Tower]:
    load = partial(
        load_backbone, parts.layout.backbone, trust_remote_code=options.trust_remote_code
    )
    towers = []
    for device in parse_devices(options.device):
        default = CPU_BATCH_TOKENS if device.type == "cpu" else GPU_BATCH_TOKENS
        tower = Tower(
            load,
            parts.make_head(dim=options.dim),
            device=device,
            precision=choose_precision(options.dtype, device),
            pad_id=parts.pad_id,
            batch_tokens=options.batch_tokens or default,
        )
        towers.append(tower)
    return towers


def _choose_prefixes(spec: str, layout: Layout, options: EncoderOptions) -> Prefixes:
    trained_from = read_object(layout.backbone / "config.json").get("_name_or_path", "")
    # Only the last part of a path or hub id says what the model is.
    names = [Path(canonical_name(spec)).name, Path(trained_from).name]
    if layout.lists_all_prompts:
        names = []
    prefixes = choose_prefixes(
        names, layout.prompts, query=options.query_prefix, passage=options.passage_prefix
    )
    if not layout.pools_prompt and (prefixes.query or prefixes.passage):
        raise ConfigError(
            f"{spec} leaves its prompt out of the pooling, which ragkit does not: pass "
            "query_prefix='' and passage_prefix='', or choose another model"
        )
    return prefixes


def _choose_length(limit: int, layout: Layout, options: EncoderOptions) -> int:
    if options.max_length is not None and options.max_length > limit:
        raise ConfigError(
            f"the model reads at most {limit} tokens, got max_length={options.max_length}: "
            "lower it, and split longer texts"
        )
    return options.max_length or min(layout.max_seq_length or limit, limit)


def _identify(parts: ModelParts, tower: Tower, trust_remote_code: bool) -> dict[str, Any]:
    """The part of an encoder's description that comes from its files."""
    layout, vocabulary = parts.layout, parts.layout.backbone / "tokenizer.json"
    tuned_for = parts.folder / TUNED_FOR
    return {
        "name": canonical_name(parts.spec),
        "revision": snapshot_revision(parts.folder),
        "weights_sha256": hash_weights(layout),
        "tokenizer_sha256": _hash_files([vocabulary])
        if vocabulary.is_file()
        else hashlib.sha256(parts.backend.to_str().encode()).hexdigest(),
        "native_dim": tower.head.native_dim,
        "truncate_dim": tower.head.truncate_dim,
        "pooling": "+".join(layout.pooling),
        "pooling_source": layout.pooling_source,
        "dtype": tower.precision,
        "trust_remote_code": trust_remote_code,
        **(
            {DOCUMENT_WEIGHTS: read_object(tuned_for)[DOCUMENT_WEIGHTS]}
            if tuned_for.is_file()
            else {}
        ),
    }


def _hash_files(paths: Iterable[Path]) -> str:
    """SHA-256 of the files one after the other: of a single file what `sha256sum` prints."""
    digest = hashlib.sha256()
    for path in paths:
        with path.open("rb") as file:
            while block := file.read(1 << 20):
                digest.update(block)
    return digest.hexdigest()
