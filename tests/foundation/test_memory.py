"""Memory that runs out is known, and work goes on in smaller parts."""

import errno

import pytest
import torch

from dpvae_cli.foundation.errors import DpvaeError, UsageError
from dpvae_cli.foundation.memory import is_out_of_memory, map_in_chunks, oom_context

LACKS = [
    MemoryError(),
    torch.OutOfMemoryError("what a new version may say"),
    RuntimeError("CUDA out of memory. Tried to allocate 2.00 GiB"),
    RuntimeError("[enforce fail at alloc_cpu.cpp:117] DefaultCPUAllocator: can't allocate memory"),
    RuntimeError("DefaultCPUAllocator: not enough memory: you tried to allocate 4 bytes"),
    RuntimeError("std::bad_alloc"),
    RuntimeError("CUDA error: CUBLAS_STATUS_ALLOC_FAILED when calling cublasCreate"),
    OSError(errno.ENOMEM, "Cannot allocate memory"),
]
OTHERS = [RuntimeError("shapes do not fit"), ValueError("out of memory"), OSError(errno.ENOSPC, "")]


@pytest.mark.parametrize("error", LACKS, ids=str)
def test_memory_that_runs_out_is_known(error):
    assert is_out_of_memory(error)


def test_what_torch_really_raises_is_known():
    with pytest.raises(RuntimeError) as caught:
        torch.empty(2**60)
    assert is_out_of_memory(caught.value)


@pytest.mark.parametrize("error", OTHERS, ids=str)
def test_other_errors_are_not_taken_for_it(error):
    assert not is_out_of_memory(error)


class Small:
    """Computes rows, up to a limit at a time."""

    def __init__(self, most, error=None):
        self.most, self.tried, self.error = most, [], error or MemoryError("none left")

    def __call__(self, rows):
        self.tried.append(rows.stop - rows.start)
        if rows.stop - rows.start > self.most:
            raise self.error
        return list(range(rows.start, rows.stop))


@pytest.mark.parametrize("total", [0, 1, 2, 7, 64, 65])
@pytest.mark.parametrize("most", [1, 3, 100])
def test_every_row_is_computed_once_in_order(total, most):
    parts = map_in_chunks(Small(most), total, size=16, what="rows")
    assert [row for part in parts for row in part] == list(range(total))


def test_the_size_is_halved_and_stays_there():
    small = Small(5)
    list(map_in_chunks(small, 40, size=16, what="rows"))
    assert small.tried == [16, 8, *[4] * 10]


def test_what_fits_is_done_in_one_go():
    small = Small(100)
    list(map_in_chunks(small, 40, size=64, what="rows"))
    assert small.tried == [40]


def test_a_single_row_that_does_not_fit_is_an_error_that_says_of_what():
    with pytest.raises(DpvaeError, match=r"memory ran out: decoding of one row \(none left\)"):
        list(map_in_chunks(Small(0), 8, size=4, what="decoding"))


def test_other_errors_are_not_tried_again():
    small = Small(1, RuntimeError("a bug"))
    with pytest.raises(RuntimeError, match="a bug"):
        list(map_in_chunks(small, 8, size=4, what="rows"))
    assert small.tried == [4]


def test_the_explanation_names_what_to_lower():
    with (
        pytest.raises(UsageError, match=r"memory ran out in a step \(none left\)") as caught,
        oom_context("in a step", hint="Lower it.", kind=UsageError),
    ):
        raise MemoryError("none left\nand a long stack")
    assert caught.value.hint == "Lower it."
    with pytest.raises(RuntimeError, match="a bug"), oom_context("in a step"):
        raise RuntimeError("a bug")
