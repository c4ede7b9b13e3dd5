#!/usr/bin/env bash
# Trains 3DGAN with 2 workers on each node: A single node without a batch system.
#
#   bash jobs/single-node.sh --epochs 2
#   DATA='/data/*.h5' OUT=/data/run WORKERS_PER_NODE=4 bash jobs/single-node.sh
#
# From the environment: DATA (a pattern in quotes), OUT, PROJECT (this repository), VENV, MODULES and WORKERS_PER_NODE.
# What follows the script's name are options of the training.
# Rendered by 'python -m launcher script --machine single-node --nodes 1': what is special to the machine is in
# launcher/machines/single-node.toml, not here.

set -euo pipefail

fail() {
    echo "Error: $*" >&2
    exit 2
}

PROJECT=${PROJECT:-$PWD}
VENV=${VENV:-$PROJECT/.venv}
MODULES=${MODULES-}
SCRATCH=${SCRATCH:-$PROJECT}
DATA=${DATA:-$SCRATCH/showers/*.h5}
# The same folder every time: a run that was interrupted goes on.
OUT=${OUT:-$SCRATCH/3dgan/3dgan-1n}
WORKERS_PER_NODE=${WORKERS_PER_NODE:-2}

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

echo "3dgan: data $DATA; output $OUT"
exec python -m launcher run --machine single-node --workers-per-node "$WORKERS_PER_NODE" \
    train --data "$DATA" --out "$OUT" "$@"
