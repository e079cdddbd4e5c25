"""How good is it: metrics and the runs that compute them."""

from ragkit.evaluation.judgements import read_qrels, read_queries
from ragkit.evaluation.retrieval import RetrievalReport, evaluate_index, evaluate_retrieval

__all__ = [
    "RetrievalReport",
    "evaluate_index",
    "evaluate_retrieval",
    "read_qrels",
    "read_queries",
]
