import threading
from concurrent.futures import ThreadPoolExecutor

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gcsam_med.inference.model import batches
from gcsam_med.inference.predict import ahead


def test_order_is_kept_and_no_more_than_depth_is_read_ahead():
    """Oracle: results in order; a counter of items read minus items given out."""
    read = 0

    def items():
        nonlocal read
        for i in range(50):
            read += 1
            yield i

    with ThreadPoolExecutor(4) as pool:
        for given_out, value in enumerate(ahead(pool, lambda x: x * x, items(), depth=5)):
            assert value == given_out**2
            assert read - given_out <= 5
    assert read == 50


def test_a_fault_of_the_work_is_raised_and_what_waits_is_dropped():
    """Oracle: the exception itself; work begun after it is not waited for."""
    started = threading.Event()

    def work(i):
        started.set()
        if i == 2:
            raise ValueError("two")
        return i

    with ThreadPoolExecutor(1) as pool, pytest.raises(ValueError, match="two"):
        list(ahead(pool, work, range(100), depth=3))
    assert started.is_set()


@given(st.lists(st.integers(), max_size=40), st.integers(1, 9))
def test_batches_hold_everything_in_order(values, size):
    """Oracle: joined together they are the list; all but the last are full."""
    parts = list(batches(values, size))
    assert [x for part in parts for x in part] == values
    assert all(len(part) == size for part in parts[:-1])
