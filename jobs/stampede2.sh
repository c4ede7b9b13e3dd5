#!/usr/bin/env bash
# Trains 3DGAN on the SKX nodes of Stampede2 (2 x Xeon 8160, 24 cores each): 4 workers a node, 12 cores each.
#
#   sbatch jobs/stampede2.sh                                    4 nodes, defaults
#   sbatch -N 256 -p skx-large jobs/stampede2.sh --epochs 25    what sbatch and the launcher take, as usual
#   DATA='/scratch/me/*.h5' OUT=/scratch/me/run sbatch jobs/stampede2.sh
#
# From the environment: DATA, OUT, PROJECT (this repository), VENV, MODULES, RANK_STARTER (ibrun, srun or mpirun).
# Arguments go to `python -m launcher`; `sbatch` options given on the command line win over the lines below.
#SBATCH --job-name=3dgan
#SBATCH --partition=skx-normal
#SBATCH --nodes=4
#SBATCH --ntasks-per-node=4
#SBATCH --time=02:00:00
#SBATCH --output=3dgan-%j.log

set -euo pipefail

fail() {
    echo "Error: $*" >&2
    exit 2
}

# Slurm runs a copy of this script, so the place it was submitted from says where the project is.
PROJECT=${PROJECT:-${SLURM_SUBMIT_DIR:-$PWD}}
VENV=${VENV:-$PROJECT/.venv}
SCRATCH=${SCRATCH:-$PROJECT}
DATA=${DATA:-$SCRATCH/showers/*.h5}
OUT=${OUT:-$SCRATCH/3dgan/${SLURM_JOB_NAME:-3dgan}-${SLURM_JOB_NUM_NODES:-1}n-${SLURM_JOB_ID:-$$}}
WORKERS_PER_NODE=${SLURM_NTASKS_PER_NODE:-4}
NODES=${SLURM_JOB_NUM_NODES:-1}
WORKERS=$((NODES * WORKERS_PER_NODE))

[ -d "$PROJECT/launcher" ] || fail "no launcher in $PROJECT; submit from the repository or set PROJECT"
if [ -n "${MODULES:-}" ] && command -v module >/dev/null; then
    # shellcheck disable=SC2086  # a list of names
    module load $MODULES
fi
[ -x "$VENV/bin/python" ] || fail "no Python environment in $VENV; make it with 'make env MPI=site' or set VENV"
PATH=$VENV/bin:$PATH
cd "$PROJECT"

# The fabric of the talk's appendix, I_MPI_FABRICS=tmi with PSM2, in the names of today's libraries.
export I_MPI_FABRICS=${I_MPI_FABRICS:-shm:ofi}
if [ -e /dev/hfi1_0 ]; then
    export FI_PROVIDER=${FI_PROVIDER:-psm2}
    export OMPI_MCA_mtl=${OMPI_MCA_mtl:-psm2}
fi
# The launcher binds the ranks inside their NUMA domains; Intel MPI's own pinning would come in between.
export I_MPI_PIN=${I_MPI_PIN:-off}
# The parallel file system has no locks.
export HDF5_USE_FILE_LOCKING=${HDF5_USE_FILE_LOCKING:-FALSE}
# One fused message for all gradients; the launcher's own default, named here because the talk names it.
export HOROVOD_FUSION_THRESHOLD=${HOROVOD_FUSION_THRESHOLD:-134217728}

if [ -z "${RANK_STARTER:-}" ]; then
    for RANK_STARTER in ibrun srun mpirun; do
        command -v "$RANK_STARTER" >/dev/null && break
    done
fi
command -v "$RANK_STARTER" >/dev/null || fail "none of ibrun, srun and mpirun is on PATH; load the site's MPI (MODULES=...)"

OPEN_MPI=no
mpirun --version 2>/dev/null | grep -q 'Open MPI\|open-mpi' && OPEN_MPI=yes
case $(basename "$RANK_STARTER") in
    ibrun)
        # It takes nodes and tasks from the job; its own -n goes only together with an offset.
        start=(ibrun) ;;
    srun)
        # Each MPI library speaks one of Slurm's PMI dialects; with the wrong one every rank believes it is alone.
        if [ $OPEN_MPI = yes ]; then pmi=pmix; else pmi=pmi2; fi
        start=(srun --ntasks="$WORKERS" --ntasks-per-node="$WORKERS_PER_NODE" --mpi="${SLURM_MPI_TYPE:-$pmi}"
            --cpu-bind=none --kill-on-bad-exit=1) ;;
    mpirun)
        if [ $OPEN_MPI = yes ]; then
            start=(mpirun -np "$WORKERS" --map-by "ppr:$WORKERS_PER_NODE:node" --bind-to none)
        else
            start=(mpirun -np "$WORKERS" -ppn "$WORKERS_PER_NODE")
        fi ;;
    *)
        fail "RANK_STARTER is $RANK_STARTER; expected ibrun, srun or mpirun" ;;
esac

echo "$WORKERS workers on $NODES nodes; data $DATA; output $OUT"
set -x
exec "${start[@]}" python -m launcher train --workers-per-node "$WORKERS_PER_NODE" --data "$DATA" --out "$OUT" "$@"
