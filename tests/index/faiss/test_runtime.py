import logging
import os
import subprocess
import sys
import threading

import faiss
import pytest

from ragkit.errors import MissingDependencyError
from ragkit.index.faiss.chatter import capture_stderr
from ragkit.index.faiss.runtime import installed_wheels, matrix_products_from, openmp_threads

LOAD = "from ragkit.index.faiss.runtime import load; load()"


def load_with(folder):
    """Load faiss in a child process that looks into `folder` first."""
    environment = {**os.environ, "PYTHONPATH": str(folder)}
    return subprocess.run(
        [sys.executable, "-c", LOAD], env=environment, capture_output=True, text=True, check=False
    )


def test_two_wheels_are_refused(tmp_path):
    other = tmp_path / "faiss_gpu_cuvs-1.15.1.dist-info"
    other.mkdir()
    (other / "METADATA").write_text(
        "Metadata-Version: 2.1\nName: faiss-gpu-cuvs\nVersion: 1.15.1\n"
    )

    child = load_with(tmp_path)

    assert MissingDependencyError.__name__ in child.stderr
    assert "pip uninstall -y faiss-cpu faiss-gpu-cuvs" in child.stderr


@pytest.mark.parametrize("fault", ["ImportError('gone')", "RuntimeError('no CUDA runtime')"])
def test_faiss_that_cannot_be_imported_is_a_missing_dependency(fault, tmp_path):
    (tmp_path / "faiss.py").write_text(f"raise {fault}\n")

    child = load_with(tmp_path)

    assert MissingDependencyError.__name__ in child.stderr
    assert "pip install 'ragkit[cpu]'" in child.stderr or "no CUDA runtime" in child.stderr


def test_installed_wheel_is_found():
    assert len(installed_wheels()) == 1


def test_threads_are_restored_after_an_error():
    before = faiss.omp_get_max_threads()

    with pytest.raises(KeyError, match="inside"), openmp_threads(before + 1):
        raise KeyError("inside")

    assert faiss.omp_get_max_threads() == before


def test_last_batch_out_restores_the_rule_for_matrix_products():
    default = faiss.cvar.distance_compute_blas_threshold
    first_in, first_out = threading.Event(), threading.Event()

    def run():
        with matrix_products_from(4, dim=10):
            first_in.set()
            first_out.wait(timeout=30)

    other = threading.Thread(target=run)
    other.start()
    first_in.wait(timeout=30)
    with matrix_products_from(4, dim=7):
        inside = faiss.cvar.distance_compute_blas_threshold
    left = faiss.cvar.distance_compute_blas_threshold
    first_out.set()
    other.join()

    assert (inside, left) == (28, 40)
    assert faiss.cvar.distance_compute_blas_threshold == default


def test_chatter_is_counted_and_does_not_reach_the_terminal(capfd, caplog):
    caplog.set_level(logging.INFO, logger="ragkit")

    with capture_stderr(), capture_stderr():
        for i in range(3):
            os.write(2, b"WARNING %d points\n" % i)
    os.write(2, b"after\n")

    assert capfd.readouterr().err == "after\n"
    assert "3 times: WARNING 0 points" in caplog.text


def test_python_still_writes_to_the_terminal_meanwhile():
    code = (
        "import os, sys\n"
        "from ragkit.index.faiss.chatter import capture_stderr\n"
        "with capture_stderr():\n"
        "    os.write(2, b'chatter\\n')\n"
        "    print('progress', file=sys.stderr)\n"
        "print('after', file=sys.stderr)\n"
    )

    child = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)

    assert child.stderr == "progress\nafter\n"
