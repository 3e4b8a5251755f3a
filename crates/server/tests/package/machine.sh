# machine.sh DIRECTORY INIT [ARGUMENT...]: a copy-on-write view of this machine's
# file system, in namespaces of its own and without a network, where INIT is the
# first process. `machine PID` tells its name outside, `ready` that it is on.
# SIGTERM ends it, and nothing is left.
set -eu
directory=$1
shift
# All that is written, until the mount namespace is gone.
mount -t tmpfs -o mode=755 machine "$directory"
mkdir "$directory/upper" "$directory/work" "$directory/root" "$directory/groups"

# systemd knows processes by their control groups. It gets a branch of its own,
# the one thing that has to be taken down by hand.
mount -t cgroup2 none "$directory/groups"
branch=$directory/groups/sluicegate-package.$$
mkdir "$branch"

unshare --cgroup --pid --net --uts --ipc --mount --fork --kill-child -- sh -euc '
    branch=$1 inside=$2
    shift 2
    echo 0 >"$branch/cgroup.procs"
    # /proc is still the one outside.
    read -r pid rest </proc/self/stat
    echo "machine $pid"
    exec unshare --cgroup -- sh -euc "$inside" sh "$@"
' sh "$branch" '
    directory=$1 root=$1/root
    shift
    mount -t overlay -o "lowerdir=/,upperdir=$directory/upper,workdir=$directory/work" overlay "$root"
    mount -t proc proc "$root/proc"
    # What is set here holds for the whole machine.
    mount --bind "$root/proc/sys" "$root/proc/sys"
    mount -o remount,bind,ro "$root/proc/sys"
    mount -t sysfs -o ro sysfs "$root/sys"
    mount -t tmpfs groups "$root/sys/fs"
    mkdir "$root/sys/fs/cgroup"
    mount -t cgroup2 none "$root/sys/fs/cgroup"
    mount -t tmpfs -o mode=755 dev "$root/dev"
    for device in null zero full random urandom tty; do
        touch "$root/dev/$device"
        mount --bind "/dev/$device" "$root/dev/$device"
    done
    mkdir "$root/dev/shm" "$root/dev/pts"
    mount -t devpts -o newinstance,ptmxmode=0666 devpts "$root/dev/pts"
    ln -s pts/ptmx "$root/dev/ptmx"
    ln -s /proc/self/fd "$root/dev/fd"
    mount -t tmpfs -o mode=755 run "$root/run"
    mount -t tmpfs -o mode=1777 tmp "$root/tmp"
    # Images of containers have one that forbids to start services.
    rm -f "$root/usr/sbin/policy-rc.d"
    ip link set lo up
    hostname sluicegate-package
    mkdir "$root/.outside"
    cd "$root"
    pivot_root . .outside
    umount -l /.outside
    rmdir /.outside
    echo ready
    # Without what could change the kernel, or its clock, for others.
    exec env -i container=test PATH=/usr/sbin:/usr/bin:/sbin:/bin setpriv --bounding-set \
        -sys_module,-sys_time,-sys_rawio,-sys_boot,-syslog,-audit_control,-audit_read,-audit_write \
        "$@"
' "$directory" "$@" </dev/null &
machine=$!
trap 'kill -KILL "$machine" 2>/dev/null || true' HUP INT TERM
# A signal ends the first wait, the machine the last one.
wait "$machine" || wait "$machine" || true

# Its last processes may need a moment to be gone.
for attempt in 1 2 3 4 5 6 7 8 9 10; do
    ! find "$branch" -depth -type d -exec rmdir {} + 2>/dev/null || exit 0
    sleep 0.2
done
exit 1
