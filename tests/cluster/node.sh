#!/bin/sh
# Become a compute node: process 1 in its own UTS, IPC, PID and mount namespaces, on the node's network.
# MPI libraries take two nodes for one host if they share any of these: host name, boot_id, IPC, /dev/shm, /tmp.
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
# A new /sys shows this node's network and hides the control groups, which list the real machine's CPUs.
mount -t sysfs sysfs /sys
if [ -d "$bed/hardware" ]; then
    mount --bind "$bed/hardware/sys/devices/system" /sys/devices/system
    # /sys/bus shows the same files again, and which real CPUs are near the real devices.
    mount -t tmpfs tmpfs /sys/bus
    mkdir -m 1777 /dev/shm/affinity
    mount --bind "$bed/preload" /etc/ld.so.preload
fi
# The node's own /tmp contains only the folders that all nodes share.
while read -r shared; do
    mkdir -p "$own$shared"
    mount --bind "$shared" "$own$shared"
done < "$bed/shared"
mount --rbind "$own/tmp" /tmp
"$slurmd" -D -N "$name" -f "$bed/slurm.conf" > "$bed/logs/slurmd.$name.out" 2>&1 < /dev/null &
wait $!
