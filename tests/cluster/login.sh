#!/bin/sh
# Becomes the login node: process 1 of the bed's PID namespace, so that everything in the bed ends with it.
# Standard input is a pipe whose other end the tests hold. When they end, however they end, it reads the end.
set -eu
bed=$1 munged=$2 slurmctld=$3
exec 3<&0
hostname login1
mount -t proc proc /proc
mount -t tmpfs -o mode=755 tmpfs /run
mkdir /run/netns
# The nodes of a pretended machine preload a library; the file that says so must exist before one can be laid over it.
if [ -d "$bed/etc" ]; then mount -t overlay -o "lowerdir=$bed/etc:/etc" overlay /etc; fi
mount --bind "$bed/hosts" /etc/hosts
echo 1 > /proc/sys/net/ipv6/conf/all/disable_ipv6 2> /dev/null || true
ip -batch "$bed/login.ip"
ip -batch "$bed/nodes.ip"
ip -batch "$bed/login-neighbours.ip"
# --force: the key and the socket are in a folder of root's alone, where munged wants everybody to reach it.
"$munged" --foreground --force --num-threads=32 --socket="$bed/munge.socket" --key-file="$bed/munge.key" \
    --pid-file="$bed/munged.pid" --seed-file="$bed/munge.seed" > "$bed/logs/munged.log" 2>&1 < /dev/null &
until [ -S "$bed/munge.socket" ]; do sleep 0.01; done
"$slurmctld" -D -f "$bed/slurm.conf" > "$bed/logs/slurmctld.out" 2>&1 < /dev/null &
echo ready
cat <&3 > /dev/null &
# Waiting for the pipe also clears away processes whose parents have died.
wait $!
