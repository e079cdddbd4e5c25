"""Functions that run in processes of their own, which start from one that has loaded torch."""

import multiprocessing
import os
import socket
import sys
from pathlib import Path

ROOT = str(Path(__file__).parents[2])
PATIENCE_S = 120

_context = multiprocessing.get_context("forkserver")
_context.set_forkserver_preload(["ragkit.training.run", "ragkit.models"])


def run_alone(function, *arguments):
    """The exit code of a process that calls a function; -9 if it was killed."""
    return _wait([_start(function, arguments, {})])[0]


def run_together(count, function, *arguments):
    """The exit codes of processes that call a function as one distributed run."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    shared = {"WORLD_SIZE": count, "MASTER_ADDR": "127.0.0.1", "MASTER_PORT": port}
    ranks = [{"RANK": rank, "LOCAL_RANK": rank, **shared} for rank in range(count)]
    return _wait([_start(function, arguments, rank) for rank in ranks])


def _start(function, arguments, environment):
    if ROOT not in sys.path:
        sys.path.insert(0, ROOT)  # children look there for the function
    process = _context.Process(target=_call, args=(function, arguments, environment))
    process.start()
    return process


def _call(function, arguments, environment):
    import torch

    # Workers that are forked from this process, not by the server, end when it is killed.
    multiprocessing.set_start_method("fork", force=True)
    os.environ.update({name: str(value) for name, value in environment.items()})
    torch.set_num_threads(1)
    function(*arguments)
    if torch.distributed.is_initialized():
        torch.distributed.destroy_process_group()


def _wait(processes):
    for process in processes:
        process.join(PATIENCE_S)
        if process.is_alive():
            process.kill()
            process.join()
    return [process.exitcode for process in processes]
