"""A function that embeds, for encoders named `python:...`."""

import numpy as np


def embed(texts):
    """The counts of five letters, and 1, `[texts, 6]`."""
    return np.array([[*(text.count(c) for c in "aeiou"), 1] for text in texts], np.float32)
