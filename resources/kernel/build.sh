#!/bin/sh
# Builds the small Linux with which tests boot a guest that nobody here wrote: a kernel from Debian's
# package linux-source-6.1, and an initial file system of a shell (busybox) and init.sh.
#
# The result is kept outside the source tree, in $XDG_CACHE_HOME/denali/kernel (or ~/.cache/denali/kernel;
# $DENALI_KERNEL_DIR overrides it): `vmlinux` and `initrd.cpio`. What is up to date is not built again.
# The kernel takes about three minutes on two processors, and 1.5 GB while it is built.
set -eu

version=6.1
here=$(CDPATH='' cd -- "$(dirname -- "$0")" && pwd)
cache=${DENALI_KERNEL_DIR:-${XDG_CACHE_HOME:-$HOME/.cache}/denali/kernel}
archive=/usr/src/linux-source-$version.tar.xz
work=$cache/build
jobs=$(nproc)

say() { echo "build.sh: $*"; }

die() {
    echo "build.sh: $*" >&2
    exit 1
}

install_packages() {
    missing=""
    for package in "$@"; do
        state=$(dpkg-query -W -f='${db:Status-Status}' "$package" 2>/dev/null || true)
        [ "$state" = installed ] || missing="$missing $package"
    done
    [ -n "$missing" ] || return 0
    say "installing$missing"
    if [ "$(id -u)" -eq 0 ]; then as_root=""; else as_root="sudo"; fi
    $as_root apt-get update -q
    # shellcheck disable=SC2086 # a list of words
    DEBIAN_FRONTEND=noninteractive $as_root apt-get install -qy --no-install-recommends $missing
}

# What the kernel is built from; when it changes, the kernel is built again.
recipe() {
    dpkg-query -W -f='${Version}\n' "linux-source-$version"
    cat "$here/linux.config"
}

configure() {
    make -s -C "$1" ARCH=x86_64 O="$work/out" tinyconfig
    (cd "$work/out" && "$1/scripts/kconfig/merge_config.sh" -m -O . .config "$here/linux.config" >merge.log)
    make -s -C "$1" ARCH=x86_64 O="$work/out" olddefconfig
    # An option that another one rules out would be dropped in silence.
    while read -r line; do
        case $line in
        CONFIG_*) grep -qxF "$line" "$work/out/.config" || die "linux.config: $line is not possible" ;;
        esac
    done <"$here/linux.config"
}

build_kernel() {
    say "unpacking $archive"
    rm -rf "$work"
    mkdir -p "$work/out"
    tar -C "$work" -xf "$archive"
    source=$work/linux-source-$version
    configure "$source"
    say "building vmlinux with $jobs jobs; its messages are in $cache/build.log"
    if ! nice make -s -C "$source" ARCH=x86_64 O="$work/out" -j"$jobs" vmlinux >"$cache/build.log" 2>&1; then
        tail -n 20 "$cache/build.log" >&2
        die "the kernel could not be built"
    fi
    strip -o "$cache/vmlinux.new" "$work/out/vmlinux"
    mv "$cache/vmlinux.new" "$cache/vmlinux"
    rm -rf "$work"
}

build_initrd() {
    root=$(mktemp -d)
    trap 'rm -rf "$root"' EXIT
    mkdir -p "$root/bin" "$root/dev" "$root/proc" "$root/sys" "$root/tmp" "$root/mnt"
    cp "$(command -v busybox)" "$root/bin/busybox"
    # The kernel starts /init, whose first line names the shell.
    ln -s busybox "$root/bin/sh"
    install -m 755 "$here/init.sh" "$root/init"
    (cd "$root" && find . | sort | cpio --quiet -o -H newc -R 0:0 --reproducible) >"$cache/initrd.cpio.new"
    mv "$cache/initrd.cpio.new" "$cache/initrd.cpio"
}

case ${1:-} in
"") ;;
-h | --help)
    echo "usage: build.sh    builds vmlinux and initrd.cpio in $cache"
    exit 0
    ;;
*) die "no arguments are understood but --help" ;;
esac

install_packages "linux-source-$version" gcc libc6-dev make flex bison bc libelf-dev xz-utils \
    busybox-static cpio
mkdir -p "$cache"
if [ -e "$cache/vmlinux" ] && [ "$(recipe)" = "$(cat "$cache/recipe" 2>/dev/null || true)" ]; then
    say "$cache/vmlinux is up to date"
else
    build_kernel
    recipe >"$cache/recipe"
fi
build_initrd
say "built $cache/vmlinux and $cache/initrd.cpio"
