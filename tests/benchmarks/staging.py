"""Count the calls to shared files that `--stage-env` saves one rank: `python -m tests.benchmarks.staging`.

The environment is staged into a folder of this machine, as on a node. Then the start of a rank until TensorFlow is
loaded is traced twice: with the shared environment and with the staged one.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path

from launcher.batch.staging import plan_staging, write_archive

__all__ = ["asked_for", "main"]

ROOT = Path(__file__).resolve().parents[2]
START = ("-c", "import launcher.train, mpi4py.MPI, h5py, tensorflow, horovod.tensorflow, gan.training.loop")


def asked_for(python: Sequence[str], shared: Sequence[Path]) -> int:
    """Return the number of calls at the start of a rank that open or test files below the shared folders."""
    with tempfile.TemporaryDirectory() as folder:
        trace = Path(folder, "trace")
        subprocess.run(
            ["strace", "-f", "-s", "400", "-e", "trace=%file", "-o", str(trace), *python, *START],
            cwd=ROOT, env={**os.environ, "TF_CPP_MIN_LOG_LEVEL": "2"}, check=True, capture_output=True,
        )  # fmt: skip
        names = tuple(f'"{path}/' for path in shared)
        return sum(any(name in line for name in names) for line in trace.read_text(errors="replace").splitlines())


def main(arguments: Sequence[str] | None = None) -> None:
    parser = argparse.ArgumentParser(prog="python -m tests.benchmarks.staging", description=__doc__.splitlines()[0])
    parser.add_argument("--json", type=Path, help="JSON file for the figures (default: none)")
    options = parser.parse_args(arguments)
    shared = [Path(sys.prefix), Path(sys.base_prefix), ROOT]
    with tempfile.TemporaryDirectory() as folder:
        archive = Path(folder, "env.tar")
        staging = plan_staging(archive, 1, Path(folder, "nodes"))
        began = time.monotonic()
        write_archive(archive, staging.folder, ROOT)
        written = time.monotonic()
        staging.folder.mkdir()
        subprocess.run(["tar", "-xf", archive, "-C", staging.folder], check=True)
        figures = {
            "archive_mb": round(archive.stat().st_size / 1e6),
            "write_seconds": round(written - began, 1),
            "unpack_seconds": round(time.monotonic() - written, 1),
            "asked_of_shared_files": asked_for([sys.executable], shared),
            "asked_of_shared_files_staged": asked_for([str(staging.python), "-I"], shared),
        }
    for name, value in figures.items():
        print(f"{name.replace('_', ' '):32} {value}")
    if options.json:
        options.json.write_text(json.dumps(figures, indent=2) + "\n")


if __name__ == "__main__":
    main()
