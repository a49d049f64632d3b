#!/usr/bin/env bash
# A hundred hosts of a fleet for eight hours, one GPU each: sbatch slurm.sh
# Slurm asks them to stop ten minutes before it ends them; what they have in hand goes back into the queue.
#SBATCH --job-name=batchsr
#SBATCH --array=1-100
#SBATCH --ntasks=1
#SBATCH --gpus-per-task=1
#SBATCH --cpus-per-task=8
#SBATCH --mem=32G
#SBATCH --time=08:30:00
#SBATCH --signal=TERM@600
#SBATCH --output=batchsr-%A_%a.log
set -euo pipefail
export BATCHSR_FLEET=${BATCHSR_FLEET:-postgresql://batchsr@db.example.org/batchsr}
export BATCHSR_ROOTS=${BATCHSR_ROOTS:-archive=/mnt/archive}
export BATCHSR_FLEET_FOLDER=${SLURM_TMPDIR:-${TMPDIR:-/tmp}}/batchsr
exec srun batchsr work --for 8h
