#!/usr/bin/env bash
# Trains 3DGAN with 8 workers on each node of 128 cores: Lonestar6, Milan nodes (TACC).
#
#   sbatch jobs/lonestar6.sh
#   sbatch -N 128 -p large -t 12:00:00 jobs/lonestar6.sh --epochs 25
#   DATA='/scratch/me/*.h5' OUT=/scratch/me/run sbatch jobs/lonestar6.sh
#
# Note: the guide does not give the number of NUMA domains in a package (NPS); the launcher assumes 1.
# From the environment: DATA (a pattern in quotes), OUT, PROJECT (this repository), VENV, MODULES; options of sbatch win
# over the lines below. What follows the script's name are options of the training.
# Partitions: normal (1-64 nodes, 48 h), large (65-256 nodes, 48 h), development (1-8 nodes, 2 h).
# Rendered by 'python -m launcher script --machine lonestar6-milan --nodes 4': what is special to the machine is in
# launcher/machines/lonestar6-milan.toml, not here.
#SBATCH --job-name=3dgan
#SBATCH --partition=normal
#SBATCH --nodes=4
#SBATCH --ntasks-per-node=8
#SBATCH --time=02:00:00
#SBATCH --output=%x-%j.log
#SBATCH --open-mode=append

set -euo pipefail

fail() {
    echo "Error: $*" >&2
    exit 2
}

# Slurm runs a copy of this script: the folder it was submitted from is the project's.
PROJECT=${PROJECT:-${SLURM_SUBMIT_DIR:-$PWD}}
VENV=${VENV:-$PROJECT/.venv}
MODULES=${MODULES-}
SCRATCH=${SCRATCH:-$PROJECT}
DATA=${DATA:-$SCRATCH/showers/*.h5}
# A job that is put back into the queue keeps its number, and so its folder.
OUT=${OUT:-$SCRATCH/3dgan/${SLURM_JOB_NAME:-3dgan}-${SLURM_JOB_NUM_NODES:-1}n-${SLURM_JOB_ID:-$$}}
WORKERS_PER_NODE=${SLURM_NTASKS_PER_NODE:-8}

[ -d "$PROJECT/launcher" ] || fail "no launcher in $PROJECT; submit from the repository or set PROJECT"
if [ -n "$MODULES" ]; then
    command -v module >/dev/null || fail "this node has no command module; load '$MODULES' before and set MODULES empty"
    # Module systems use variables that are not set.
    set +u
    # shellcheck disable=SC2086  # a list of names
    module load $MODULES || fail "module load $MODULES failed; set MODULES to what this system has"
    set -u
fi
[ -x "$VENV/bin/python" ] || fail "no Python environment in $VENV; make it with 'make env MPI=site' or set VENV"
export PATH="$VENV/bin:$PATH"
cd "$PROJECT"

# What this machine wants; a variable that is set already wins.
export HDF5_USE_FILE_LOCKING=${HDF5_USE_FILE_LOCKING:-FALSE}

echo "3dgan: data $DATA; output $OUT"
exec python -m launcher run --machine lonestar6-milan --workers-per-node "$WORKERS_PER_NODE" \
    train --data "$DATA" --out "$OUT" "$@"
