#!/bin/sh
# Becomes systemd, as the first process of its namespaces, in another root: systemd.sh ROOT BPFFS. What the kernel shows
# of the machine is read-only, as in any container: systemd changes sysctls where it can.
set -e
root=$1
mount -t proc proc "$root/proc"
mount --bind "$root/proc/sys" "$root/proc/sys"
mount -o remount,bind,ro "$root/proc/sys"
mount -t sysfs sysfs "$root/sys"
mount -t cgroup2 cgroup2 "$root/sys/fs/cgroup"
mount --bind "$2" "$root/sys/fs/bpf"
mount -o remount,bind,ro "$root/sys"
mount -t tmpfs tmpfs "$root/run"
mount -t tmpfs tmpfs "$root/dev"
for device in null zero full random urandom tty; do
    touch "$root/dev/$device"
    mount --bind "/dev/$device" "$root/dev/$device"
done
mkdir "$root/dev/pts" "$root/dev/shm"
mount -t devpts -o newinstance,ptmxmode=0666 devpts "$root/dev/pts"
ln -s pts/ptmx "$root/dev/ptmx"
ln -s /proc/self/fd "$root/dev/fd"
# Units of this machine are none of the test's.
rm -rf "$root"/etc/systemd/system/*.wants "$root"/etc/systemd/system/*.requires
cd "$root"
pivot_root . mnt
umount -l /mnt
# So that units see what is mounted later; on a machine, but not in a container, systemd does that itself.
mount --make-rshared /
exec env -i container=lab PATH=/usr/sbin:/usr/bin:/sbin:/bin \
    /lib/systemd/systemd --unit=basic.target --show-status=0 --log-target=journal
