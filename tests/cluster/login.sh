#!/bin/sh
# Become the login node: process 1 of the bed's PID namespace, so that everything in the bed ends with it.
# Standard input is a pipe whose other end the tests hold. It closes when the tests end, even if they are killed.
set -eu
bed=$1 munged=$2 slurmctld=$3
exec 3<&0
hostname login1
mount -t proc proc /proc
mount -t tmpfs -o mode=755 tmpfs /run
mkdir /run/netns
# Nodes with pretended CPUs mount their own /etc/ld.so.preload; the file must exist to be a mount point.
if [ -d "$bed/etc" ]; then mount -t overlay -o "lowerdir=$bed/etc:/etc" overlay /etc; fi
mount --bind "$bed/hosts" /etc/hosts
echo 1 > /proc/sys/net/ipv6/conf/all/disable_ipv6 2> /dev/null || true
ip -batch "$bed/login.ip"
ip -batch "$bed/nodes.ip"
ip -batch "$bed/login-neighbours.ip"
# --force: munged wants its socket in a folder that all users can enter; the bed's folder is for root only.
"$munged" --foreground --force --num-threads=32 --socket="$bed/munge.socket" --key-file="$bed/munge.key" \
    --pid-file="$bed/munged.pid" --seed-file="$bed/munge.seed" > "$bed/logs/munged.log" 2>&1 < /dev/null &
until [ -S "$bed/munge.socket" ]; do sleep 0.01; done
"$slurmctld" -D -f "$bed/slurm.conf" > "$bed/logs/slurmctld.out" 2>&1 < /dev/null &
echo ready
cat <&3 > /dev/null &
# As process 1 this shell inherits orphans; while it waits for the pipe it also reaps them.
wait $!
