from itertools import islice

from hypothesis import given
from hypothesis import strategies as st

from ragkit.training.row_order import RowOrder

ROWS, READS = st.integers(1, 12), st.integers(0, 40)


@given(num_rows=ROWS, num_reads=READS, seed=st.integers(0, 3))
def test_each_epoch_reads_every_row_once(num_rows, num_reads, seed):
    order = list(RowOrder(num_rows, num_reads=num_reads, seed=seed))

    assert len(order) == num_reads
    for start in range(0, num_reads - num_rows + 1, num_rows):
        assert sorted(order[start : start + num_rows]) == list(range(num_rows))


@given(num_rows=ROWS, num_reads=READS, seed=st.integers(0, 3) | st.none(), data=st.data())
def test_an_order_goes_on_from_anywhere(num_rows, num_reads, seed, data):
    first = data.draw(st.integers(0, num_reads))

    rest = RowOrder(num_rows, num_reads=num_reads, first_read=first, seed=seed)

    whole = RowOrder(num_rows, num_reads=num_reads, seed=seed)
    assert len(rest) == num_reads - first
    assert list(rest) == list(islice(whole, first, None))


def test_epochs_and_seeds_have_orders_of_their_own():
    epochs = [
        tuple(islice(RowOrder(50, num_reads=150, seed=seed), start, start + 50))
        for seed in (0, 1)
        for start in (0, 50, 100)
    ]

    assert len(set(epochs)) == len(epochs)


def test_without_a_seed_the_dataset_keeps_its_order():
    assert list(RowOrder(3, num_reads=7, seed=None)) == [0, 1, 2, 0, 1, 2, 0]
