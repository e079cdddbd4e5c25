"""From a name to an encoder."""

from dataclasses import dataclass

from ragkit.encoders.base import Encoder
from ragkit.encoders.function import FunctionEncoder, import_function
from ragkit.encoders.hashing import HashEncoder
from ragkit.encoders.prefixes import choose_prefixes
from ragkit.errors import ConfigError


@dataclass(frozen=True, slots=True, kw_only=True)
class EncoderOptions:
    """How an encoder is run; `None` and `auto` leave the choice to model and machine."""

    device: str = "auto"
    dtype: str = "auto"
    batch_tokens: int | None = None
    max_length: int | None = None
    query_prefix: str | None = None
    passage_prefix: str | None = None
    dim: int | None = None
    trust_remote_code: bool = False
    revision: str | None = None

    def __post_init__(self) -> None:
        for name in ("batch_tokens", "max_length", "dim"):
            value = getattr(self, name)
            if value is not None and value < 1:
                raise ConfigError(
                    f"{name} must be at least 1, got {value}: leave it out for the default"
                )


def load_encoder(  # noqa: PLR0913 - each is a flag of the command line
    spec: str,
    *,
    device: str = "auto",
    dtype: str = "auto",
    batch_tokens: int | None = None,
    max_length: int | None = None,
    query_prefix: str | None = None,
    passage_prefix: str | None = None,
    dim: int | None = None,
    trust_remote_code: bool = False,
    revision: str | None = None,
) -> Encoder:
    """The encoder that `spec` names.

    Args:
        spec: A folder, a hub id or `package:NAME` of a sentence-transformers or Hugging Face
            encoder; `hash:DIM` for a bag of words without a model; `python:MODULE:NAME` for a
            function from `list[str]` to `[texts, dim]`. The last runs code: never take it from
            a file that someone else wrote.
        device: `auto`, `cpu`, `cuda`, `cuda:1`, or `cuda:0,1` to share the work over several.
        dtype: `auto`, `fp32`, `bf16` or `fp16`; `auto` is bf16 where the device multiplies it.
        batch_tokens: Most tokens of a batch, padding included.
        max_length: Most tokens of a text; at most what the model's position table holds.
        query_prefix: `""` for none; `None` takes the model's own, or the usual one for its name.
        passage_prefix: As `query_prefix`.
        dim: Keep that many leading dimensions, for models trained to be cut (Matryoshka).
        trust_remote_code: Run the Python code that comes with the model.
        revision: Branch, tag or commit of a hub model.

    Raises:
        ConfigError: An option does not fit the model or the machine.
        CheckpointError: The model folder is incomplete.
        HubError: The hub does not have the model or cannot be reached.
        MissingDependencyError: `package:NAME` is not installed.
    """
    options = EncoderOptions(
        device=device,
        dtype=dtype,
        batch_tokens=batch_tokens,
        max_length=max_length,
        query_prefix=query_prefix,
        passage_prefix=passage_prefix,
        dim=dim,
        trust_remote_code=trust_remote_code,
        revision=revision,
    )
    kind, _, rest = spec.partition(":")
    if kind == "hash":
        return _hash_encoder(rest, options)
    if kind == "python":
        return _function_encoder(spec, options)
    # Torch takes seconds to import, and the other two kinds do without it.
    from ragkit.encoders.assemble import load_transformer_encoder

    return load_transformer_encoder(spec, options)


def _hash_encoder(dim: str, options: EncoderOptions) -> HashEncoder:
    if not dim.isdecimal():
        raise ConfigError(f"expected hash:DIM with a number, got hash:{dim}: write hash:256")
    if options.dim is not None:
        raise ConfigError(f"hash:{dim} has its width in its name: write hash:{options.dim}")
    prefixes = choose_prefixes(
        ["hash"], {}, query=options.query_prefix, passage=options.passage_prefix
    )
    if options.max_length is None:
        return HashEncoder(int(dim), prefixes=prefixes)
    return HashEncoder(int(dim), max_seq_length=options.max_length, prefixes=prefixes)


def _function_encoder(spec: str, options: EncoderOptions) -> FunctionEncoder:
    if options.dim is not None:
        raise ConfigError(f"{spec} decides about its width itself: leave dim out")
    prefixes = choose_prefixes(
        [spec], {}, query=options.query_prefix, passage=options.passage_prefix
    )
    function = import_function(spec)
    if options.max_length is None:
        return FunctionEncoder(function, name=spec, prefixes=prefixes)
    return FunctionEncoder(
        function, name=spec, max_seq_length=options.max_length, prefixes=prefixes
    )
