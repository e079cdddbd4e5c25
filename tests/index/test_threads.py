import functools
import os
import subprocess
import sys
import threading

import pytest

from ragkit.errors import ConfigError
from ragkit.index.threads import physical_cores, resolve_threads, run_all

# Searches in every way with two threads and prints what the thread settings were before and after.
HYGIENE = """
import {first}, {second}
import numpy as np
import faiss, torch
from ragkit.index.exact import search_exact
from ragkit.index.faiss.ann import AnnIndex
from ragkit.index.vectors import Vectors
import ragkit.index.exact

ragkit.index.exact.VALUES_PER_THREAD = 1
faiss.omp_set_num_threads(2)
torch.set_num_threads(2)
settings = lambda: (
    faiss.omp_get_max_threads(),
    torch.get_num_threads(),
    faiss.cvar.distance_compute_blas_threshold,
)
before = settings()
values = np.random.default_rng(0).standard_normal((4000, 8), dtype=np.float32)
for threads in (1, 2):
    for metric in ("ip", "l2"):
        search_exact(Vectors(values), values[:9], k=3, metric=metric, threads=threads)
    ann = AnnIndex.build("IVF8,Flat", Vectors(values), metric="ip", seed=0, threads=threads)
    ann.search(values[:150], k=3, threads=threads)
assert settings() == before, (before, settings())
"""


@pytest.mark.parametrize("order", [("torch", "faiss"), ("faiss", "torch")])
def test_thread_settings_survive_every_call(order):
    code = HYGIENE.format(first=order[0], second=order[1])
    environment = {**os.environ, "OMP_NUM_THREADS": "2"}

    child = subprocess.run(
        [sys.executable, "-c", code], env=environment, capture_output=True, text=True, check=False
    )

    assert child.returncode == 0, child.stderr


def test_import_sets_nothing_and_loads_neither_torch_nor_faiss():
    code = (
        "import sys, ragkit.index, ragkit.index.exact, ragkit.index.faiss.ann, ragkit.index.tune;"
        "sys.exit(bool({'torch', 'faiss', 'numba'} & set(sys.modules)))"
    )

    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0


def test_default_is_the_physical_cores_this_process_may_use(monkeypatch):
    monkeypatch.delenv("RAGKIT_THREADS", raising=False)

    assert resolve_threads(None) == physical_cores() <= len(os.sched_getaffinity(0))


def test_environment_sets_the_default(monkeypatch):
    monkeypatch.setenv("RAGKIT_THREADS", "3")

    assert resolve_threads(None) == 3
    assert resolve_threads(5) == 5


@pytest.mark.parametrize("given", ["0", "many"])
def test_wrong_environment_is_refused(given, monkeypatch):
    monkeypatch.setenv("RAGKIT_THREADS", given)

    with pytest.raises(ConfigError, match=r"unset it|leave it out"):
        resolve_threads(None)


def test_results_keep_the_order_of_the_tasks():
    barrier = threading.Barrier(2)
    tasks = [functools.partial(lambda i: (barrier.wait(timeout=30), i)[1], i) for i in range(4)]

    assert run_all(tasks, threads=2) == [0, 1, 2, 3]


@pytest.mark.skipif(not hasattr(os, "fork"), reason="needs fork")
def test_workers_are_there_after_a_fork():
    code = (
        "import os\n"
        "from ragkit.index.threads import run_all\n"
        "tasks = [lambda: 1, lambda: 2]\n"
        "run_all(tasks, threads=2)\n"
        "child = os.fork()\n"
        "if child == 0:\n"
        "    os._exit(0 if run_all(tasks, threads=2) == [1, 2] else 1)\n"
        "raise SystemExit(os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]))\n"
    )

    assert subprocess.run([sys.executable, "-c", code], check=False, timeout=60).returncode == 0
