"""Every fenced Python block of the README runs, one after the other, in an empty folder."""

import re
import subprocess
import sys
from pathlib import Path

README = Path(__file__).parents[1] / "README.md"
BLOCK = re.compile(r"^```python\n(.*?)^```$", re.MULTILINE | re.DOTALL)
MAX_LINES = 200


def test_the_python_blocks_run_as_one_program(tmp_path):
    blocks = BLOCK.findall(README.read_text(encoding="utf-8"))
    program = tmp_path / "readme.py"
    program.write_text("\n".join(blocks), encoding="utf-8")

    ran = subprocess.run(
        [sys.executable, program], cwd=tmp_path, capture_output=True, text=True, check=False
    )

    assert blocks
    assert ran.returncode == 0, ran.stderr


def test_the_readme_can_be_read_in_one_sitting():
    assert len(README.read_text(encoding="utf-8").splitlines()) <= MAX_LINES
