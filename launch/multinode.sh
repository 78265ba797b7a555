#!/usr/bin/env bash
# A matrix on several hosts: bash launch/multinode.sh HOSTFILE MATRIX RESULTS [arguments of bench run]
#
# Every host needs: this checkout with its .venv at the same path, RESULTS on a file system that all share, and ssh
# from here without a password (deepspeed starts the ranks through pdsh). On hosts with several networks set
# NCCL_SOCKET_IFNAME or GLOO_SOCKET_IFNAME; these and the like (see README.md) reach all ranks. `bench doctor --hostfile
# HOSTFILE --results RESULTS` says beforehand what is wrong.
source "$(dirname "${BASH_SOURCE[0]}")/setup.sh"
usage="usage: bash launch/multinode.sh HOSTFILE MATRIX RESULTS [arguments of bench run]"
hostfile="${1:?$usage}" matrix="${2:?$usage}" results="${3:?$usage}"
setup
bench run "$matrix" --results "$results" --hostfile "$hostfile" "${@:4}"
