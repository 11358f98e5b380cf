#!/bin/sh
# Installs the programs that tests and benchmarks use beside cargo, with apt. May be run again and
# again. Without them, what needs one is skipped and named.
set -eu

# gcc: the C example of the guest contract. wrk: load on web servers. nginx: the web server they are
# compared with. curl: the commands in the documentation. taskset (util-linux), strace, perf: looking
# into what the benchmarks find. iproute2, iperf3, iputils-ping: taps. fio: disks. e2fsprogs: images of file stores.
# qemu-utils: qemu-storage-daemon, a vhost-user back end. qemu-system-x86: a front end.
packages="gcc libc6-dev curl wrk nginx-light util-linux strace linux-perf iproute2 iperf3 iputils-ping fio e2fsprogs
qemu-utils qemu-system-x86"

missing=""
for package in $packages; do
    state=$(dpkg-query -W -f='${db:Status-Status}' "$package" 2>/dev/null || true)
    [ "$state" = installed ] || missing="$missing $package"
done
if [ -z "$missing" ]; then
    echo "everything is installed"
    exit 0
fi

if [ "$(id -u)" -eq 0 ]; then as_root=""; else as_root="sudo"; fi
$as_root apt-get update -q
# A web server that is installed must not start to serve: nothing is started during the installation.
policy=/usr/sbin/policy-rc.d
if [ ! -e "$policy" ]; then
    printf '#!/bin/sh\nexit 101\n' | $as_root tee "$policy" >/dev/null
    $as_root chmod 755 "$policy"
    trap '$as_root rm -f "$policy"' EXIT
fi
# shellcheck disable=SC2086 # a list of words
DEBIAN_FRONTEND=noninteractive $as_root apt-get install -qy --no-install-recommends $missing
