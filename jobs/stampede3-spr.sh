#!/usr/bin/env bash
# Trains 3DGAN with 8 workers on each node of 112 cores: Stampede3, Sapphire Rapids nodes with HBM (TACC).
#
#   sbatch jobs/stampede3-spr.sh
#   sbatch -N 32 -t 12:00:00 jobs/stampede3-spr.sh --epochs 25
#   DATA='/scratch/me/*.h5' OUT=/scratch/me/run sbatch jobs/stampede3-spr.sh
#
# Note: the guide gives neither the sub-NUMA mode nor the CPU numbers; the launcher assumes 4 domains in a package.
# From the environment: DATA (a pattern in quotes), OUT, PROJECT (this repository), VENV, MODULES; options of sbatch win
# over the lines below. What follows the script's name are options of the training.
# Partitions: spr (1-32 nodes, 48 h).
# Rendered by 'python -m launcher script --machine stampede3-spr --nodes 4': what is special to the machine is in
# launcher/machines/stampede3-spr.toml, not here.
#SBATCH --job-name=3dgan
#SBATCH --partition=spr
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
exec python -m launcher run --machine stampede3-spr --workers-per-node "$WORKERS_PER_NODE" \
    train --data "$DATA" --out "$OUT" "$@"
