"""Runs of tiny models are quick here for the same reasons as in the trainer's own tests."""

from tests.training.conftest import less_garbage, one_thread

__all__ = ["less_garbage", "one_thread"]
