"""Run one command in a QEMU guest with the CPUs of a Skylake node and this machine's files.

The kernel is Debian's kernel for virtual machines. The rest of the guest is busybox and this machine's root folder,
shared read-only over virtiofs below an overlay in memory. So everything that the guest writes is lost at its end.
"""

from __future__ import annotations

import lzma
import os
import re
import shlex
import shutil
import socket
import subprocess
import tempfile
import threading
import time
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

from launcher.setup.built_wheels import wheel_cache

__all__ = ["Guest", "GuestError", "GuestFiles", "missing", "prepare"]

ROOT = Path(__file__).resolve().parents[2]
PACKAGES = {"qemu-system-x86_64": "qemu-system-x86", "busybox": "busybox-static", "dpkg-deb": "dpkg"}
VIRTIOFSD = ("/usr/lib/qemu/virtiofsd", "/usr/libexec/virtiofsd")
MODULES = (
    *("virtio_ring", "virtio", "virtio_pci_modern_dev", "virtio_pci_legacy_dev", "virtio_pci"),
    *("fuse", "virtiofs", "overlay"),
)
"""Kernel modules, in an order that satisfies their dependencies."""
DOMAIN_MB = 1536
QUICK = "maxcpus=1 mitigations=off nowatchdog tsc=reliable no_timer_check"
"""Kernel options that reduce the work of emulated processors, and skip clock tests that fail on a busy machine.

maxcpus=1: during the boot, the kernel often interrupts all processors to change its own code. With 96 processors
emulated on a few cores the boot often hung (QEMU 7.2). So only one processor boots, and init turns the others on.
"""

# The second serial line, ttyS1, carries the command's output. The first one carries the kernel's messages.
INIT = """#!/bin/busybox sh
busybox mkdir -p /proc /sys /dev
busybox mount -t proc none /proc; busybox mount -t sysfs none /sys; busybox mount -t devtmpfs none /dev
exec > /dev/ttyS1 2>&1
for module in {modules}; do busybox insmod /modules/$module.ko || echo "module $module failed"; done
busybox mkdir -p /below /above /host
busybox mount -t virtiofs -o ro root /below || echo 'mounting the root folder failed'
busybox mount -t tmpfs none /above && busybox mkdir /above/upper /above/work
busybox mount -t overlay -o lowerdir=/below,upperdir=/above/upper,workdir=/above/work none /host
for folder in proc sys dev; do busybox mount --move /$folder /host/$folder; done
for folder in shm pts; do busybox mkdir -p /host/dev/$folder; done
busybox mount -t devpts none /host/dev/pts
busybox mount -t tmpfs none /host/dev/shm
busybox ip link set lo up
busybox hostname {host}
for cpu in /host/sys/devices/system/cpu/cpu[0-9]*/online; do echo 1 > $cpu; done
echo "booted in $(busybox cut -d' ' -f1 /host/proc/uptime) s of its own time"
busybox chroot /host /bin/sh -c {command}
echo "ended with $?"
busybox poweroff -f
"""


class GuestError(RuntimeError):
    """The guest cannot run. The message says what was seen and what to do."""


@dataclass(frozen=True, kw_only=True, slots=True)
class GuestFiles:
    """Files that a guest boots from."""

    folder: Path
    kernel: Path
    modules: Path
    """Folder of the kernel's modules."""

    @property
    def size_mb(self) -> float:
        return sum(path.stat().st_size for path in self.folder.rglob("*") if path.is_file()) / 1e6


def missing() -> str:
    """Return what is missing on this machine for a guest, and how to install it; empty if nothing is missing."""
    packages = [package for program, package in PACKAGES.items() if shutil.which(program) is None]
    packages += ["qemu-system-common"] * (_virtiofsd() is None)
    if packages:
        return f"QEMU or its helpers are missing: apt-get install --no-install-recommends {' '.join(packages)}"
    return "" if os.getuid() == 0 else "only root can share the root folder with a guest (virtiofsd): become root"


def prepare(package: Path | None = None) -> GuestFiles:
    """Unpack kernel and modules from a Debian package into the user's cache. Without a package, download it.

    Raises:
        GuestError: the package cannot be downloaded or has no kernel.
    """
    cache = wheel_cache(os.environ).with_name("qemu")
    name = package.stem if package else _newest_kernel()
    folder = cache / name
    if not folder.exists():
        cache.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(prefix=".unpacking-", dir=cache) as scratch:
            source = package or _download(name, Path(scratch))
            _run(["dpkg-deb", "-x", str(source), f"{scratch}/kernel"])
            Path(scratch, "kernel").rename(folder)
    kernel, modules = next(folder.glob("boot/vmlinuz-*"), None), next(folder.glob("**/lib/modules/*/kernel"), None)
    if kernel is None or modules is None:
        raise GuestError(f"{folder} has no boot/vmlinuz-* or no lib/modules; remove it, or give another --kernel")
    return GuestFiles(folder=folder, kernel=kernel, modules=modules)


def _newest_kernel() -> str:
    told = _run(["apt-cache", "depends", "linux-image-cloud-amd64"])
    found = re.search(r"Depends: (linux-image-\S+-cloud-amd64)", told)
    if found is None:
        raise GuestError("apt-cache knows no linux-image-cloud-amd64; run apt-get update, or give a --kernel package")
    return found[1]


def _download(name: str, folder: Path) -> Path:
    _run(["apt-get", "download", name], cwd=folder)
    return next(folder.glob("*.deb"))


def _run(argv: Sequence[str], cwd: Path | None = None) -> str:
    try:
        return subprocess.run(argv, cwd=cwd, capture_output=True, text=True, check=True).stdout
    except (OSError, subprocess.CalledProcessError) as error:
        words = getattr(error, "stderr", "") or str(error)
        raise GuestError(f"{shlex.join(argv)} failed: {words.strip()}") from error


def _virtiofsd() -> str | None:
    return next((path for path in VIRTIOFSD if os.access(path, os.X_OK)), None)


@dataclass(slots=True)
class Guest:
    """The guest, which boots for one command."""

    files: GuestFiles
    accelerator: str
    peak_mb: float = field(default=0.0, init=False)
    """Largest memory of QEMU in MB."""

    def run(self, command: Sequence[str], timeout: float) -> bool:
        """Boot, run a command in the project's folder, print its output, and return True if it ended with status 0.

        Raises:
            GuestError: the guest ended before the command. The message has the kernel's last lines.
        """
        with tempfile.TemporaryDirectory(prefix="qemu-") as scratch:
            folder = Path(scratch)
            initramfs = self._initramfs(folder, command)
            share = subprocess.Popen(
                [str(_virtiofsd()), f"--socket-path={folder}/share", "-o", "source=/,cache=always,sandbox=chroot"],
                stdout=subprocess.DEVNULL,
                stderr=subprocess.DEVNULL,
            )
            try:
                _wait_for(folder / "share")
                return self._boot(folder, initramfs, timeout)
            finally:
                share.terminate()
                share.wait()

    def _boot(self, folder: Path, initramfs: Path, timeout: float) -> bool:
        console = folder / "console"
        process = subprocess.Popen(
            self._argv(folder, initramfs, console),
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=(folder / "qemu").open("w"),
            text=True,
            errors="replace",
        )
        limit = threading.Timer(timeout, process.kill)
        limit.start()
        status = None
        try:
            for line in process.stdout or ():
                ended = re.match(r"ended with (\d+)", line)
                if ended:
                    status = int(ended[1])
                else:
                    print("  " + line.rstrip(), flush=True)
                self.peak_mb = max(self.peak_mb, _resident_mb(process.pid))
            process.wait()
        finally:
            limit.cancel()
            process.kill()
            process.wait()
        if status is None:
            warnings = [line for line in (folder / "qemu").read_text().splitlines() if "doesn't support" not in line]
            words = "\n".join([*warnings, console.read_text(errors="replace")[-1500:]])
            raise GuestError(f"the guest did not get to the end of its command within {timeout:.0f} s:\n{words}")
        return status == 0

    def _argv(self, folder: Path, initramfs: Path, console: Path) -> list[str]:
        """Return QEMU's command line: a Xeon 8160 node, but the threads of a core have consecutive CPU numbers."""
        argv = ["qemu-system-x86_64", "-nodefaults", "-no-user-config", "-display", "none", "-no-reboot"]
        argv += ["-accel", self.accelerator, "-machine", "q35,hpet=off", "-cpu", "Skylake-Server-v4"]
        argv += ["-smp", "96,sockets=2,cores=24,threads=2", "-m", str(2 * DOMAIN_MB)]
        for domain, cpus in enumerate(("0-47", "48-95")):
            # share=on is needed because virtiofsd reads and writes the guest's memory.
            argv += ["-object", f"memory-backend-memfd,id=memory{domain},size={DOMAIN_MB}M,share=on"]
            argv += ["-numa", f"node,nodeid={domain},cpus={cpus},memdev=memory{domain}"]
        argv += ["-numa", "dist,src=0,dst=1,val=21"]
        argv += ["-chardev", f"socket,id=share,path={folder}/share"]
        argv += ["-device", "vhost-user-fs-pci,chardev=share,tag=root"]
        argv += ["-serial", f"file:{console}", "-serial", "stdio"]
        return [
            *argv,
            *("-kernel", str(self.files.kernel), "-initrd", str(initramfs)),
            *("-append", f"console=ttyS0 panic=-1 quiet {QUICK}"),
        ]

    def _initramfs(self, folder: Path, command: Sequence[str]) -> Path:
        tree = folder / "initramfs"
        for name in ("bin", "modules"):
            (tree / name).mkdir(parents=True)
        shutil.copy(str(shutil.which("busybox")), tree / "bin" / "busybox")
        for module in MODULES:
            packed = next(self.files.modules.rglob(f"{module}.ko*"), None)
            if packed is None:
                raise GuestError(f"the kernel {self.files.kernel.name} has no module {module}; give another --kernel")
            content = packed.read_bytes()
            (tree / "modules" / f"{module}.ko").write_bytes(
                lzma.decompress(content) if packed.suffix == ".xz" else content
            )
        inside = {"HOME": "/root", "XDG_CACHE_HOME": str(wheel_cache(os.environ).parents[1])}
        inside |= {"PATH": os.environ["PATH"], "LANG": "C.UTF-8", "PYTHONDONTWRITEBYTECODE": "1"}
        told = shlex.join(["env", "-i", *(f"{name}={value}" for name, value in inside.items()), *command])
        init = tree / "init"
        init.write_text(
            INIT.format(
                modules=" ".join(MODULES),
                # The guest has no name service, and uses this machine's /etc/hosts, so it needs this machine's name.
                host=socket.gethostname(),
                command=shlex.quote(f"cd {shlex.quote(str(ROOT))} && {told}"),
            )
        )
        init.chmod(0o755)
        packed = folder / "initramfs.cpio"
        with packed.open("wb") as out:
            names = "\n".join(str(path.relative_to(tree)) for path in [tree, *sorted(tree.rglob("*"))]) + "\n"
            subprocess.run(
                ["busybox", "cpio", "-o", "-H", "newc"],
                cwd=tree, input=names.encode(), stdout=out, stderr=subprocess.DEVNULL, check=True,
            )  # fmt: skip
        return packed


def _wait_for(path: Path, seconds: float = 10.0) -> None:
    until = time.monotonic() + seconds
    while not path.exists():
        if time.monotonic() > until:
            raise GuestError(f"virtiofsd made no socket within {seconds:.0f} s; is it allowed to make namespaces?")
        time.sleep(0.05)


def _resident_mb(pid: int) -> float:
    try:
        found = re.search(r"VmHWM:\s+(\d+) kB", Path(f"/proc/{pid}/status").read_text())
    except OSError:
        return 0.0
    return int(found[1]) / 1024 if found else 0.0
