"""From texts to vectors."""

from ragkit.encoders.base import Encoder, Tokens
from ragkit.encoders.load import load_encoder

__all__ = ["Encoder", "Tokens", "load_encoder"]
