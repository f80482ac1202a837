#!/bin/bash
# SPDX-License-Identifier: Apache-2.0
#
# bare_root.sh FOLDER PACKAGE...: prints the path of a root file system in FOLDER that holds this machine's Debian release, as small as
# debootstrap makes it, and the packages. It is made once and must not be changed: mount something over it. Exit code 77,
# and the reason, where it cannot be made.
set -euo pipefail
export LC_ALL=C
folder=$1
shift

skip() {
    echo "SKIPPED: $*" >&2
    exit 77
}

[ "$(id -u)" -eq 0 ] || skip "needs root: makes a root file system"
# shellcheck source=/dev/null
. /etc/os-release
if [ "${ID:-}" != debian ] || [ -z "${VERSION_CODENAME:-}" ]; then
    skip "needs a Debian machine"
fi
root=$folder/$VERSION_CODENAME-$(echo "$@" | md5sum | cut -c 1-12)

mkdir -p "$folder"
exec 8>"$folder/lock"
flock 8
if [ -d "$root" ]; then
    echo "$root"
    exit 0
fi
# What is left of runs that were killed; the lock says that nobody is at work on it.
rm -rf --one-file-system "$folder"/making.*

command -v debootstrap >/dev/null || skip "needs debootstrap"
# shellcheck disable=SC2016
mirror=$(apt-get indextargets --format '$(REPO_URI) $(CODENAME) $(COMPONENT)' 'Created-By: Packages' 2>/dev/null |
    awk -v suite="$VERSION_CODENAME" '$2 == suite && $3 == "main" { print $1; exit }')
[ -n "$mirror" ] || skip "apt names no mirror for $VERSION_CODENAME main: run apt-get update"
making=$folder/making.$$
mkdir "$making"
trap 'rm -rf --one-file-system "$making"' EXIT
/usr/lib/apt/apt-helper -o Acquire::http::Timeout=10 -o Acquire::Retries=1 download-file \
    "${mirror%/}/dists/$VERSION_CODENAME/Release" "$making/Release" >/dev/null 2>&1 ||
    skip "the package mirror $mirror cannot be reached"
include=$(echo "$@" | tr ' ' ,)
# In memory, as dpkg waits for the disk after each file; in a mount namespace, so that no mount is left whatever
# becomes of it.
make_root() {
    mkdir "$making/memory" "$making/root"
    mount -t tmpfs -o mode=0755 tmpfs "$making/memory"
    debootstrap --variant=minbase ${include:+--include="$include"} "$VERSION_CODENAME" "$making/memory" "$mirror"
    rm -rf "$making"/memory/var/cache/apt/archives/*.deb "$making"/memory/var/lib/apt/lists/*
    cp -a --one-file-system "$making/memory/." "$making/root"
}
export -f make_root
export making include VERSION_CODENAME mirror
if ! unshare --mount bash -e -c make_root >"$folder/debootstrap.log" 2>&1; then
    tail -n 15 "$folder/debootstrap.log" >&2
    skip "debootstrap failed with $mirror"
fi
mv "$making/root" "$root"
echo "$root"
