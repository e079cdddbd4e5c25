import logging
import os
import sys
import textwrap

import pytest

from ragkit.errors import ConfigError, StorageError
from ragkit.index.faiss.ann import AnnIndex
from ragkit.index.faiss.probe import Gpus, find_fault, parse_device, resolve_device
from ragkit.index.vectors import Vectors

# A module that takes the place of faiss in the child process.
ABORTS = """
import os
def get_num_gpus(): return 1
def StandardGpuResources(): os.abort()
"""
HANGS = """
import time
def get_num_gpus(): time.sleep(600)
"""
RAISES = """
def get_num_gpus(): return 1
def StandardGpuResources(): raise RuntimeError("CUDA driver is too old")
"""
GPU_WHEEL = "Metadata-Version: 2.1\nName: faiss-gpu-cuvs\nVersion: 1.15.1\n"


@pytest.fixture
def fake_faiss(tmp_path, monkeypatch):
    def install(code):
        (tmp_path / "faiss.py").write_text(textwrap.dedent(code))
        monkeypatch.setenv("PYTHONPATH", str(tmp_path))

    return install


@pytest.mark.parametrize(
    ("device", "gpus"),
    [
        ("cpu", None),
        ("cuda", Gpus(cuvs=False)),
        ("cuda:0,3", Gpus(cuvs=False, devices=(0, 3))),
        ("cuvs:1", Gpus(cuvs=True, devices=(1,))),
    ],
)
def test_device_names(device, gpus):
    assert parse_device(device) == gpus
    assert gpus is None or str(gpus) == device


@pytest.mark.parametrize("device", ["gpu", "cuda:x", "cuda:0,", "cpu:1", ""])
def test_unknown_device_names_are_refused(device):
    with pytest.raises(ConfigError, match="auto, cpu, cuda or cuvs"):
        parse_device(device)


@pytest.mark.parametrize(
    ("code", "fault"), [(ABORTS, "signal 6"), (RAISES, "CUDA driver is too old")]
)
def test_device_that_fails_is_found_without_harm(code, fault, fake_faiss):
    fake_faiss(code)

    assert fault in find_fault(Gpus(cuvs=False))


def test_device_that_hangs_is_given_up(fake_faiss):
    fake_faiss(HANGS)

    assert "no answer" in find_fault(Gpus(cuvs=False), timeout_s=1.5)


def test_device_asked_for_by_name_must_work(fake_faiss):
    fake_faiss(ABORTS)

    with pytest.raises(StorageError, match="use the faiss device cpu"):
        AnnIndex.build("Flat", Vectors(_ones()), metric="ip", seed=0, threads=1, device="cuda:0")


def test_cpu_takes_over_with_a_warning_where_the_gpu_aborts(
    fake_faiss, tmp_path, monkeypatch, caplog
):
    fake_faiss(ABORTS)
    (tmp_path / "faiss_gpu_cuvs-1.15.1.dist-info").mkdir()
    (tmp_path / "faiss_gpu_cuvs-1.15.1.dist-info" / "METADATA").write_text(GPU_WHEEL)
    monkeypatch.setattr(sys, "path", [str(tmp_path), *sys.path])
    monkeypatch.setattr(logging.getLogger("ragkit"), "propagate", True)

    assert resolve_device("auto") is None
    assert "building on the CPU instead" in caplog.text


def test_auto_is_the_cpu_without_a_gpu_wheel():
    assert resolve_device("auto") is None


def test_wheel_without_devices_says_so():
    assert "faiss sees 0 CUDA devices" in find_fault(Gpus(cuvs=False))


def test_child_sees_the_environment_of_the_parent(fake_faiss):
    fake_faiss("raise ImportError('only here')")

    assert "PYTHONPATH" in os.environ
    assert "MissingDependencyError" in find_fault(Gpus(cuvs=False))


def _ones():
    import numpy as np

    return np.ones((9, 4), np.float32)
