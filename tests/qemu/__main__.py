"""Boots the guest, shows what is checked in it, and ends with status 0 if all of that passed: `python -m tests.qemu`.

Needs root (for virtiofsd) and Debian's qemu-system-x86 and busybox-static; a kernel is downloaded once and unpacked,
not installed. Cost under TCG on 2 cores of 2.5 GHz, with Debian 12's QEMU 7.2 and Linux 6.1: 250 s in all, of which the
boot with 96 CPUs takes 80 s and four ranks of the launcher, three times, 130 s; 1.9 GB of memory; 27 MB of download,
107 MB of files kept.
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
    parser.add_argument("--accel", choices=("tcg", "kvm"), default="tcg", help="kvm is faster where the host has it")
    parser.add_argument("--kernel", type=Path, help="a Debian kernel package to use (default: download one)")
    parser.add_argument("--timeout", type=float, default=900, help="seconds after which the guest is ended")
    options = parser.parse_args()
    try:
        lacking = missing()
        if lacking:
            raise GuestError(lacking)
        # The guest sees this machine's files but writes none: what it is to run has to be there before.
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
