#!/usr/bin/env bash
# A matrix on this machine: bash launch/local.sh MATRIX [RESULTS] [arguments of bench run]
# Without a GPU the ranks are processes on the CPU that share its cores.
source "$(dirname "${BASH_SOURCE[0]}")/setup.sh"
setup
matrix="${1:?usage: bash launch/local.sh MATRIX [RESULTS] [arguments of bench run]}"
results="${2:-results}"
bench run "$matrix" --results "$results" "${@:3}"
