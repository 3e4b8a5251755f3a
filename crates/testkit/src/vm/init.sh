#!/bin/busybox sh
# The first process of the guest. The archive that it is unpacked from is made by
# image.rs: busybox, the modules in the order of their names, and the programs.
#
# Whatever fails here ends it, and the end of the first process is the end of the
# machine: the last lines on the console tell why.
set -eu
/bin/busybox mkdir -p /proc /sys /dev /tmp /etc
/bin/busybox --install -s /bin
export PATH=/bin HOME=/tmp
mount -t proc proc /proc
mount -t sysfs sys /sys
mount -t devtmpfs dev /dev
mount -t tmpfs tmp /tmp
echo '127.0.0.1 localhost' >/etc/hosts

for module in /modules/*.ko; do
    insmod "$module"
done
ip link set dev lo up
ip address add @GUEST@/24 dev eth0
ip link set dev eth0 up

# Each line from the host is a command of a shell, and the answer to it is its
# output and then its status. The serial line has to carry bytes as they are.
exec 3<>/dev/ttyS1
stty -F /dev/ttyS1 raw -echo
echo "@READY@ $(uname -r)" >&3
while read -r command <&3; do
    status=0
    # In parentheses: what this shell says of a signal belongs on the console.
    (exec sh -c "$command" </dev/null >&3 2>&1 3>&-) || status=$?
    printf '\n%s %d\n' '@STATUS@' "$status" >&3
done
