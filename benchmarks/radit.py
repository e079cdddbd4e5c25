"""RA-DIT's four costs against the plain way of each: scoring, decoding, both fine-tunings.

Each part is a program of its own, `benchmarks/radit_PART.py`, whose `--help` names its model and
size; it runs here in a process of its own, on one CPU thread (`--quick`: a part of each). Data are
found as in recipes: `--data`, or `RAGKIT_DATA`, holds `qa/squad11`.

Keys of the JSON object on the last line: `shared_prefix_token_ratio` and `lsr_speedup` (`scoring`),
`rft_speedup` (`rft`) and `packing_speedup` (`packing`), and the others that the parts name.
"""

import argparse
import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

from ragkit.config import data_folder

PARTS = ("scoring", "rft", "packing")


def main() -> None:
    arguments = parse_arguments()
    found: dict[str, Any] = {}
    for part in arguments.parts:
        print(f"{part}:", flush=True)
        found |= run_part(part, data=arguments.data, quick=arguments.quick)
    print(json.dumps(found))


def parse_arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--data", type=Path, default=data_folder(""))
    parser.add_argument("--parts", nargs="+", choices=PARTS, default=PARTS)
    parser.add_argument("--quick", action="store_true", help="a part of each")
    return parser.parse_args()


def run_part(part: str, *, data: Path, quick: bool) -> dict[str, Any]:
    """The figures of one part; what it prints before them is passed on."""
    program = Path(__file__).with_name(f"radit_{part}.py")
    output = subprocess.run(
        [sys.executable, str(program), *(["--quick"] if quick else [])],
        env={**os.environ, "RAGKIT_DATA": str(data), "OMP_NUM_THREADS": "1"},
        stdout=subprocess.PIPE,
        text=True,
        check=True,
    ).stdout
    *lines, result = output.strip().splitlines()
    for line in lines:
        print(f"  {line}", flush=True)
    return json.loads(result)


if __name__ == "__main__":
    main()
