"""What makes tiny runs quick."""

import gc

import pytest
import torch


@pytest.fixture(autouse=True, scope="module")
def one_thread():
    """One thread: tiny matrices are faster, and sums have one order."""
    former = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(former)


@pytest.fixture(autouse=True, scope="module")
def less_garbage():
    """Each run collects garbage: spare it what was imported."""
    gc.freeze()
    yield
    gc.unfreeze()
