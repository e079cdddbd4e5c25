"""An encoder that leaves time to be interrupted, and writes down what it embeds.

Named `python:slow_encoder:embed`; this folder is put on the Python path for that. Environment:
EMBED_LOG is the file to write to, SLOW_ROWS the number of texts that takes PAUSE_S seconds, and
STUBBORN makes it take its time as well when it is asked to stop.
"""

import os
import time
from pathlib import Path

import numpy as np

LETTERS = "aeirst"


def embed(texts):
    """The counts of six letters, and 1, `[texts, 7]`."""
    if len(texts) == int(os.environ["SLOW_ROWS"]):
        _note(f"begin {texts[0]}")
        _take_time(float(os.environ["PAUSE_S"]))
        _note(f"end {texts[0]}")
    return np.array([[*(text.count(c) for c in LETTERS), 1] for text in texts], np.float32)


def _take_time(seconds):
    try:
        time.sleep(seconds)
    finally:
        if os.environ.get("STUBBORN"):
            _note("asked to stop")
            time.sleep(seconds)


def _note(line):
    with Path(os.environ["EMBED_LOG"]).open("a") as log:
        log.write(line + "\n")
