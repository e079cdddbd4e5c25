"""Opens and searches an index in a process that may crash without harm."""

import numpy as np

from ragkit.errors import RagkitError
from ragkit.retrieval.retriever import Retriever


def try_to_search(index, verify):
    """What a reader is told: `ok`, or the name of the error and its message."""
    try:
        with Retriever.open(index, with_encoder=False, verify=verify) as retriever:
            hits = retriever.search(np.ones(retriever.info().dim, np.float32), k=len(retriever))
            return "ok", "".join(hit.text for hit in hits)
    except RagkitError as error:
        return type(error).__name__, str(error)
