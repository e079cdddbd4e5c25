"""A disk that gives out while a run saves; a limit on the size of files stands in for it."""

import resource

import pytest

from ragkit.errors import StorageError
from ragkit.training import NextToken
from tests.limits import limited
from tests.training.tiny import lines_of, run


# The weights take 46 kB, the optimizer's moments twice that.
@pytest.mark.parametrize(
    "size_bytes", [60_000, *(pytest.param(size, marks=pytest.mark.slow) for size in (100, 5_000))]
)
def test_a_checkpoint_that_does_not_fit_leaves_the_run_where_it_was(tmp_path, size_bytes):
    run(tmp_path / "whole")

    with (
        pytest.raises(StorageError, match=r"check the path|are free: free some space"),
        limited("RLIMIT_FSIZE", size_bytes),
    ):
        run(tmp_path / "cut")
    report = run(tmp_path / "cut")

    assert report.finished
    assert lines_of(tmp_path / "cut") == lines_of(tmp_path / "whole")


class Filling(NextToken):
    """Next-token loss that fills the disk up before some update."""

    def __init__(self, calls):
        self._left = calls

    def loss(self, model, batch, *, num_items_in_batch):
        self._left -= 1
        if self._left == 0:
            hard = resource.getrlimit(resource.RLIMIT_FSIZE)[1]
            resource.setrlimit(resource.RLIMIT_FSIZE, (60_000, hard))
        return super().loss(model, batch, num_items_in_batch=num_items_in_batch)


def test_the_checkpoint_before_stays_when_the_next_does_not_fit(tmp_path):
    unlimited = resource.getrlimit(resource.RLIMIT_FSIZE)[0]
    with (
        pytest.raises(StorageError, match=r"check the path|free"),
        limited("RLIMIT_FSIZE", unlimited),
    ):
        run(tmp_path, objective=Filling(14))

    assert run(tmp_path).resumed_from == 4
