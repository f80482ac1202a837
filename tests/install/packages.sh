#!/bin/bash
# SPDX-License-Identifier: Apache-2.0
#
# The Debian packages through their life, in a bare root file system without systemd: made, installed, dsmd started by the
# package; pages written; upgraded to the next revision while a program works; pages read; removed and installed
# again; pages read; purged, and nothing is left.
#
# Everything happens in mount, network and process namespaces of this test's own, over a root that stays as it is
# (bare_root.sh), so what the packages do to it is seen exactly and gone afterwards.
# shellcheck source=tests/e2e/lib.sh
. "$(dirname "$0")/../e2e/lib.sh"
here=$(realpath "$(dirname "$0")")

need_root "makes a root file system and namespaces"
need_programs dsmd dsmctl pagecheck install_keep
for program in dpkg-deb dpkg-shlibdeps unshare ip; do
    command -v $program >/dev/null || skip "needs $program (deploy/install-packages test)"
done
unshare --mount --net --pid --fork true 2>/dev/null || skip "cannot make namespaces"
umask 077 # what is in a package does not depend on it
for release in 1 2; do
    say "packages, revision $release"
    cpack --config "$build/CPackConfig.cmake" -G DEB -B "$work/packages-$release" \
        -D CPACK_DEBIAN_PACKAGE_RELEASE=$release >"$work/cpack.log" 2>&1 || fail "cpack: $(cat "$work/cpack.log")"
    rm -rf "$work/packages-$release/_CPack_Packages"
done
umask 022
mapfile -t depends < <(for package in "$work"/packages-1/*.deb; do
    dpkg-deb -f "$package" Depends
done | tr ',' '\n' | awk '$1 !~ /^(libdsm-remote|dsm-)/ { print $1 }' | sort -u)
say "a bare root with ${depends[*]}"
root=$("$here/bare_root.sh" "$build/bare-root" "${depends[@]}")

# lib.sh itself must not be sourced in a process namespace: it would take other tests for dead.
export -f say skip fail alive ended wait_until
build=$build work=$work bare=$root unshare --mount --net --pid --fork --kill-child --mount-proc \
    "$here/packages_inside.sh" &
pids+=($!)
status=0
wait $! || status=$?
exit $status
