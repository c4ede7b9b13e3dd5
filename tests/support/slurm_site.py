"""Stand-ins for Slurm's commands. They answer from files in a folder, and write their arguments to the file `calls`."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import pytest

COMMANDS = {
    "sbatch": """\
[ -e "$SITE/refuse-after" ] && [ "$(ls "$SITE" | grep -c '^job-')" -ge "$(cat "$SITE/refuse-after")" ] && {
    echo "sbatch: error: Batch job submission failed: Invalid account" >&2; exit 1; }
job=$(( $(cat "$SITE/next") )); echo $((job + 1)) > "$SITE/next"
cat > "$SITE/job-$job.sh"
echo "$job PENDING" >> "$SITE/queue"
echo "Welcome to the cluster"; echo "$job;here"
""",
    "squeue": """\
case "$*" in
    *%x*) cat "$SITE/excluded" ;;
    *%e*) cat "$SITE/ends" ;;
    *%E*) cat "$SITE/waits" ;;
    *) [ -e "$SITE/down" ] && { echo "slurm_load_jobs error: Unable to contact slurm controller" >&2; exit 1; }
       cat "$SITE/queue" ;;
esac
""",
    "sacct": """\
[ -e "$SITE/accounts" ] || { echo "Slurm accounting storage is disabled" >&2; exit 1; }
cat "$SITE/accounts"
""",
    "scontrol": "exit 0",
    "scancel": "exit 0",
}


def write_program(path: Path, text: str) -> Path:
    """Write a shell script that can be executed, and return its path."""
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(f"#!/bin/sh\n{text}\n")
    path.chmod(0o755)
    return path


class Site:
    """The stand-ins in a folder, the files that they answer from, and their calls."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.bin = folder / "bin"
        self.bin.mkdir(parents=True)
        (folder / "next").write_text("41\n")
        (folder / "queue").touch()
        for name, answer in COMMANDS.items():
            write_program(self.bin / name, f'echo "{name} $*" >> "$SITE/calls"\n{answer}')

    @property
    def environ(self) -> dict[str, str]:
        """Environment variables that the stand-ins need."""
        return {"PATH": f"{self.bin}:/usr/bin:/bin", "SITE": str(self.folder)}

    def use(self, monkeypatch: pytest.MonkeyPatch) -> None:
        """Put the stand-ins on the PATH of this test."""
        for name, value in self.environ.items():
            monkeypatch.setenv(name, value)

    def answer(self, name: str, text: str) -> None:
        """Write a file that the stand-ins answer from."""
        (self.folder / name).write_text(text)

    def calls(self, command: str) -> list[str]:
        """Return the arguments of all calls of a command, in order."""
        path = self.folder / "calls"
        lines = path.read_text().splitlines() if path.exists() else []
        return [line.removeprefix(command).strip() for line in lines if line.split()[0] == command]

    def scripts(self) -> dict[int, str]:
        """Return the submitted scripts, by job number."""
        paths = self.folder.glob("job-*.sh")
        return {int(path.stem.removeprefix("job-")): path.read_text() for path in sorted(paths)}

    def set_states(self, state: str, jobs: Sequence[int]) -> None:
        """Set the state of jobs. With an empty state, the queue forgets the job."""
        lines = dict(line.split() for line in (self.folder / "queue").read_text().splitlines())
        lines.update({str(job): state for job in jobs})
        self.answer("queue", "".join(f"{job} {state}\n" for job, state in lines.items() if state))
