"""Try one part of the environment and print the findings as one line of JSON: `python -m launcher.probe horovod`.

Each trial runs as a separate program, so that a crash or a missing library does not end the caller. `launcher.doctor`
and `launcher.setup.environment` evaluate the findings. Only the trials import packages outside the standard library:
`launcher.setup.environment` uses this module before anything is installed.
"""

import json
import sys
from collections.abc import Callable
from importlib import metadata
from pathlib import Path
from typing import Any

__all__ = ["TRIALS", "main", "mpi_environment"]


def mpi_environment(uid: int, cores: int) -> dict[str, str]:
    """Return the variables that Open MPI needs to start two ranks as root or on one core."""
    variables: dict[str, str] = {}
    if uid == 0:
        for library in ("OMPI", "PRTE"):
            variables |= {f"{library}_ALLOW_RUN_AS_ROOT": "1", f"{library}_ALLOW_RUN_AS_ROOT_CONFIRM": "1"}
    if cores < 2:
        # Open MPI 5 reads the first variable, Open MPI 4 the second.
        variables |= {
            "PRTE_MCA_rmaps_default_mapping_policy": ":oversubscribe",
            "OMPI_MCA_rmaps_base_oversubscribe": "1",
        }
    return variables


def try_tensorflow() -> dict[str, Any]:
    """Import TensorFlow and multiply two matrices."""
    import tensorflow as tf

    total = float(tf.reduce_sum(tf.matmul(tf.ones((4, 4)), tf.ones((4, 4)))))
    return {"version": tf.__version__, "keras": metadata.version("keras"), "works": total == 64.0}


def try_mpi() -> dict[str, Any]:
    """Start MPI in one process and return the version of its library."""
    from mpi4py import MPI

    return {
        "mpi4py": metadata.version("mpi4py"),
        # MPICH adds many lines with its build options.
        "library": MPI.Get_library_version().strip("\0\n ").splitlines()[0],
        "standard": ".".join(str(part) for part in MPI.Get_version()),
    }


def try_horovod() -> dict[str, Any]:
    """Import Horovod and return the TensorFlow version that it was built against, from its own metadata."""
    import horovod
    import horovod.tensorflow as hvd
    import tensorflow as tf

    built = json.loads(Path(horovod.__file__).with_name("metadata.json").read_text())
    return {
        "version": horovod.__version__,
        "mpi": bool(hvd.mpi_built()),
        "gloo": bool(hvd.gloo_built()),
        "tensorflow": tf.__version__,
        "built_against": built.get("tensorflow", ""),
    }


def try_hdf5() -> dict[str, Any]:
    """Write and read a file in the temporary folder, with the file locking that the environment sets."""
    import tempfile

    import h5py
    import numpy as np

    cells = np.arange(8, dtype=np.float32)
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder, "trial.h5")
        with h5py.File(path, "w") as file:
            file["ECAL"] = cells
        with h5py.File(path, "r") as file:
            works = bool((file["ECAL"][()] == cells).all())
    return {"h5py": h5py.__version__, "hdf5": h5py.version.hdf5_version, "works": works}


def try_allreduce() -> dict[str, Any] | None:
    """Sum the rank numbers of all ranks through mpi4py, and through Horovod if it is installed.

    Run it under mpirun. Rank 0 returns the findings, the other ranks return None.
    """
    import numpy as np
    from mpi4py import MPI

    world = MPI.COMM_WORLD
    expected = world.size * (world.size - 1) / 2
    total = np.zeros(1, dtype=np.float32)
    world.Allreduce(np.array([world.rank], dtype=np.float32), total, op=MPI.SUM)
    findings: dict[str, Any] = {"size": world.size, "mpi4py": bool(total[0] == expected)}
    if importable("horovod"):
        import horovod.tensorflow as hvd
        import tensorflow as tf

        hvd.init()
        summed = hvd.allreduce(tf.constant([float(world.rank)]), op=hvd.Sum).numpy()[0]
        findings |= {"horovod": bool(summed == expected and hvd.size() == world.size)}
        hvd.shutdown()
    return findings if world.rank == 0 else None


def importable(package: str) -> bool:
    """Return True if a package is installed. The package is not imported."""
    from importlib.util import find_spec

    return find_spec(package) is not None


TRIALS: dict[str, Callable[[], dict[str, Any] | None]] = {
    "tensorflow": try_tensorflow,
    "mpi": try_mpi,
    "horovod": try_horovod,
    "hdf5": try_hdf5,
    "allreduce": try_allreduce,
}


def main() -> int:
    """Run the trial that the command line names, and return the exit status."""
    if len(sys.argv) != 2 or sys.argv[1] not in TRIALS:
        print(f"Error: expected one of {', '.join(TRIALS)}, got {' '.join(sys.argv[1:])!r}", file=sys.stderr)
        return 2
    findings = TRIALS[sys.argv[1]]()
    if findings is not None:
        print(json.dumps(findings), flush=True)
    return 0


if __name__ == "__main__":
    sys.exit(main())
