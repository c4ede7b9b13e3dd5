#!/bin/sh
# Becomes a compute node: process 1 in UTS, IPC, PID and mount namespaces of its own, on the node's network.
# MPI libraries take two nodes for one host by any of these: host name, boot_id, IPC, /dev/shm, /tmp.
set -eu
bed=$1 name=$2 address=$3 slurmd=$4
own=$bed/nodes/$name
mkdir -p "$own/tmp" "$bed/spool/$name"
chmod 1777 "$own/tmp"
hostname "$name"
mount -t proc proc /proc
cat /proc/sys/kernel/random/uuid > "$own/boot_id"
mount --bind "$own/boot_id" /proc/sys/kernel/random/boot_id
echo 1 > /proc/sys/net/ipv6/conf/all/disable_ipv6 2> /dev/null || true
ip link set lo up
ip addr add "$address" dev eth0
ip link set eth0 up
ip -batch "$bed/node-neighbours.ip"
mount -t tmpfs -o mode=755 tmpfs /run
mount -t tmpfs -o mode=1777 tmpfs /dev/shm
# A fresh /sys shows this node's network, and none of the control groups that hold the real machine's CPUs.
mount -t sysfs sysfs /sys
if [ -d "$bed/hardware" ]; then
    mount --bind "$bed/hardware/sys/devices/system" /sys/devices/system
    # Here the same files have second names, and the real machine's devices tell which real CPUs they are near to.
    mount -t tmpfs tmpfs /sys/bus
    mkdir -m 1777 /dev/shm/affinity
    mount --bind "$bed/preload" /etc/ld.so.preload
fi
# Its own /tmp, in which only what all nodes share is to be seen.
while read -r shared; do
    mkdir -p "$own$shared"
    mount --bind "$shared" "$own$shared"
done < "$bed/shared"
mount --rbind "$own/tmp" /tmp
"$slurmd" -D -N "$name" -f "$bed/slurm.conf" > "$bed/logs/slurmd.$name.out" 2>&1 < /dev/null &
wait $!
