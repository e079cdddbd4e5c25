import pytest
import torch

from ragkit.errors import StorageError
from ragkit.models.memory import memory_errors

CPU = torch.device("cpu")


def allocate():
    torch.empty(1 << 60)


def fill_gpu():
    raise torch.OutOfMemoryError("CUDA out of memory")


def fill_python():
    raise MemoryError


@pytest.mark.parametrize("cause", [allocate, fill_gpu, fill_python])
def test_a_lack_of_memory_names_the_device_and_the_mend(cause):
    with (
        pytest.raises(StorageError, match="cpu ran out of memory: lower batch_size"),
        memory_errors(CPU, mend="lower batch_size"),
    ):
        cause()


def test_other_errors_stay_as_they_are():
    with pytest.raises(RuntimeError, match="shapes"), memory_errors(CPU, mend="lower batch_size"):
        torch.zeros(2, 3) @ torch.zeros(2, 3)
