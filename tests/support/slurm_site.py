"""Stand-ins for Slurm's commands: shell scripts that print answers from files and record their arguments."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

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


class Site:
    """Stand-ins in a folder, their answers and the calls they received."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.bin = folder / "bin"
        self.bin.mkdir(parents=True)
        (folder / "next").write_text("41\n")
        (folder / "queue").touch()
        for name, says in COMMANDS.items():
            path = self.bin / name
            path.write_text(f'#!/bin/sh\necho "{name} $*" >> "$SITE/calls"\n{says}\n')
            path.chmod(0o755)

    @property
    def environ(self) -> dict[str, str]:
        """Environment variables with which programs use the stand-ins."""
        return {"PATH": f"{self.bin}:/usr/bin:/bin", "SITE": str(self.folder)}

    def answer(self, name: str, text: str) -> None:
        """Write a file with the answer that the stand-ins will give."""
        (self.folder / name).write_text(text)

    def calls(self, command: str) -> list[str]:
        """Return the arguments of all calls of a command, in order."""
        path = self.folder / "calls"
        lines = path.read_text().splitlines() if path.exists() else []
        return [line.removeprefix(command).strip() for line in lines if line.split()[0] == command]

    def scripts(self) -> dict[int, str]:
        """Return the submitted scripts by job number."""
        paths = self.folder.glob("job-*.sh")
        return {int(path.stem.removeprefix("job-")): path.read_text() for path in sorted(paths)}

    def set_states(self, state: str, jobs: Sequence[int]) -> None:
        """Set the state of jobs in the queue. An empty state removes them."""
        lines = dict(line.split() for line in (self.folder / "queue").read_text().splitlines())
        lines.update({str(job): state for job in jobs})
        self.answer("queue", "".join(f"{job} {state}\n" for job, state in lines.items() if state))
