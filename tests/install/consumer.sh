#!/bin/bash
# SPDX-License-Identifier: Apache-2.0
#
# cmake --install into a prefix of its own; a project that knows nothing else is built there with CMake and with
# pkg-config, in C11 and C++11 without any warning, and runs against the installed dsmd.
# shellcheck source=tests/e2e/lib.sh
. "$(dirname "$0")/../e2e/lib.sh"
need_programs dsmd dsmctl
command -v g++ >/dev/null || skip "needs g++ (Debian package g++)"
here=$(realpath "$(dirname "$0")")
prefix=$work/prefix

cmake --install "$build" --prefix "$prefix" >"$work/install.log" || fail "cmake --install"
library=$(dirname "$(find "$prefix" -name 'libdsm.so.0')")
[ -x "$prefix/sbin/dsmd" ] || fail "no dsmd in sbin"
[ -x "$prefix/bin/dsmctl" ] || fail "no dsmctl in bin"
[ -f "$prefix/include/dsm/dsm.h" ] || fail "no header"
[ -f "$prefix/share/doc/dsm/LICENSE" ] || fail "no licence"
for example in dsmd.conf client.conf; do
    [ -f "$prefix/share/doc/dsm/examples/$example" ] || fail "no example $example"
done
grep -q "^ExecStart=$prefix/sbin/dsmd " "$prefix/lib/systemd/system/dsmd.service" || fail "the unit starts another dsmd"
if [ -e "$prefix/etc" ] || [ -e "$library/pkgconfig/libdsm.pc" ] || [ -e "$library/libdsm.so" ]; then
    fail "installed what belongs to others: the operator's /etc, or names of Debian's libdsm-dev"
fi
if grep -rlI -e "$build" -e "$e2e_root" "$prefix/lib" "$prefix/include"; then
    fail "these files name the build machine's folders"
fi
for binary in "$prefix"/sbin/* "$prefix"/bin/* "$library/libdsm.so.0"; do
    if readelf -d "$binary" | grep -E 'R(UN)?PATH'; then
        fail "$binary has a run path"
    fi
done

say "with CMake"
if ! { cmake -S "$here/consumer" -B "$work/with-cmake" -DCMAKE_PREFIX_PATH="$prefix" &&
    cmake --build "$work/with-cmake"; } >"$work/cmake.log" 2>&1; then
    cat "$work/cmake.log"
    fail "the project does not build with CMake"
fi

say "with pkg-config"
export PKG_CONFIG_PATH=$library/pkgconfig
unset PKG_CONFIG_LIBDIR
version=$(sed -n 's/^project(dsm VERSION \([0-9.]*\).*/\1/p' "$e2e_root/CMakeLists.txt")
[ "$(pkg-config --modversion dsm)" = "$version" ] || fail "dsm.pc has another version than $version"
read -ra flags <<<"$(pkg-config --cflags --libs dsm)"
mkdir "$work/with-pkg-config"
strict=(-Wall -Wextra -pedantic -Werror)
gcc -std=c11 "${strict[@]}" "$here/consumer/consumer.c" -o "$work/with-pkg-config/consumer_c" "${flags[@]}" ||
    fail "the C program does not build"
g++ -std=c++11 "${strict[@]}" "$here/consumer/consumer.cc" -o "$work/with-pkg-config/consumer_cxx" "${flags[@]}" ||
    fail "the C++ program does not build"
for standard in c11 c17 c++11 c++17 c++20; do # the header by itself
    language=c
    [[ $standard == c++* ]] && language=c++
    echo '#include <dsm/dsm.h>' |
        gcc -std=$standard -x $language "${strict[@]}" -fsyntax-only "${flags[0]}" - || fail "dsm.h with -std=$standard"
done

for program in "$work"/with-*/consumer_*; do
    readelf -d "$program" | grep 'NEEDED.*\[libdsm\.so\.0\]' >/dev/null ||
        fail "$program does not ask for libdsm.so.0"
done

say "run"
mkdir "$work/bin"
cp "$prefix/sbin/dsmd" "$prefix/bin/dsmctl" "$work/bin"
build=$work
client_library=$library
chmod -R a+rX "$prefix" "$work"/with-* # a umask of 077 is a machine's own business
export DSM_CACHE=2M HOME=$work # nobody's settings but ours
unset XDG_CONFIG_HOME
make_keys
start_dsmd
for with in with-cmake with-pkg-config; do
    client_bin=$work/$with
    for program in consumer_c consumer_cxx; do
        client 60 $program "$with-$program" || fail "$with/$program"
        grep -qx verified "$client_log" || fail "$with/$program verified nothing"
    done
done
stop_dsmd

say "run with a server of its own: the library finds the installed dsmd"
setpriv --pdeathsig TERM "${as_nobody[@]}" env -u DSM_SERVER "LD_LIBRARY_PATH=$library" timeout 60 \
    "$work/with-cmake/consumer_c" >"$client_log" 2>&1 || fail "without DSM_SERVER: $(cat "$client_log")"
grep -qx verified "$client_log" || fail "nothing was verified without DSM_SERVER"
say "built and run with CMake and pkg-config, in C and C++"
