"""How a command ends, whatever it does."""

import json
import subprocess
import sys

INTERRUPTED_COMMAND = """
import signal, typer
from ragkit.cli.running import reporting

app = typer.Typer()

@app.command()
def work():
    with reporting(as_json=True, resumable=True):
        signal.raise_signal(signal.SIGTERM)

app()
"""


def test_an_interrupt_is_an_error_object_for_programs():
    command = [sys.executable, "-c", INTERRUPTED_COMMAND]

    ran = subprocess.run(command, capture_output=True, text=True, check=False)

    hint = "stopped by signal 15; go on with: -c"
    assert ran.returncode == 143
    assert ran.stderr == f"{hint}\n"
    assert json.loads(ran.stdout) == {
        "schema": "ragkit.error/1",
        "ok": False,
        "code": "Interrupted",
        "exit": 143,
        "hint": hint,
    }
