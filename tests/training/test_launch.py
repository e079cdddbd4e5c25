"""The accelerate configurations that ship, as `accelerate launch` reads them."""

import os
import subprocess
import sys
from pathlib import Path

import pytest
import torch
import yaml

from tests.training.tiny import lines_of, make_options, run, weights_of

ROOT = Path(__file__).parents[2]
FOLDER = ROOT / "recipes" / "accelerate"
MODULE = "tests.training.launched"


def launch(name, out, *, num_processes):
    """The finished processes of a run on one machine, one row at once on each."""
    program = Path(sys.executable).with_name("accelerate")
    flags = ["--config_file", FOLDER / name, "--num_processes", num_processes]
    return call(program, "launch", *flags, "--main_process_port", "0", "-m", MODULE, out, 1)


def call(*command, **environment):
    """The finished process of a command."""
    return subprocess.run(
        [str(part) for part in command],
        cwd=ROOT,
        env={**os.environ, "OMP_NUM_THREADS": "1", "PYTHONPATH": str(ROOT), **environment},
        capture_output=True,
        text=True,
        timeout=300,
        check=False,
    )


@pytest.mark.parametrize("name", ["ddp.yaml", "fsdp2.yaml"])
def test_a_configuration_leaves_precision_to_the_recipe(name):
    settings = yaml.safe_load((FOLDER / name).read_text(encoding="utf-8"))

    assert settings["mixed_precision"] == "no"


@pytest.mark.slow
def test_ddp_runs_on_two_processes_and_learns_what_one_does(tmp_path):
    run(tmp_path / "alone", options=make_options(use_cpu=True))

    done = launch("ddp.yaml", tmp_path / "two", num_processes=2)

    assert done.returncode == 0, done.stderr
    assert "sharded=False" in done.stdout
    found, expected = lines_of(tmp_path / "two"), lines_of(tmp_path / "alone")
    for line, wanted in zip(found, expected, strict=True):
        assert line == pytest.approx(wanted, rel=1e-4)  # gradients are summed in another order


@pytest.mark.slow
@pytest.mark.skipif(torch.accelerator.is_available(), reason="needs a machine without accelerator")
def test_fsdp_is_refused_on_the_cpu(tmp_path):
    done = launch("fsdp2.yaml", tmp_path / "run", num_processes=2)

    assert done.returncode != 0
    assert "ConfigError: the accelerate configuration asks for FSDP" in done.stderr


@pytest.mark.gpu
@pytest.mark.slow
@pytest.mark.skipif(torch.cuda.device_count() < 2, reason="one device has nothing to shard")
def test_fsdp_shards_the_weights_and_learns_what_one_device_does(tmp_path):
    count = torch.cuda.device_count()

    launched = launch("fsdp2.yaml", tmp_path / "sharded", num_processes=count)
    # Each step reads as many rows; a process that sees two devices is refused.
    lone = call(sys.executable, "-m", MODULE, tmp_path / "alone", count, CUDA_VISIBLE_DEVICES="0")

    assert launched.returncode == 0, launched.stderr
    assert lone.returncode == 0, lone.stderr
    assert "sharded=True" in launched.stdout
    assert "sharded=False" not in launched.stdout
    assert "sharded=False" in lone.stdout
    found, expected = lines_of(tmp_path / "sharded"), lines_of(tmp_path / "alone")
    for line, wanted in zip(found, expected, strict=True):
        assert line == pytest.approx(wanted, rel=1e-3)  # other kernels, other orders of sums
    assert weights_of(tmp_path / "sharded").keys() == weights_of(tmp_path / "alone").keys()
