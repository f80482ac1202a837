#!/bin/bash
# SPDX-License-Identifier: Apache-2.0
#
# What packages.sh does inside its namespaces, of which this is the first process: when it ends, so does all that it
# started, and what it mounted is gone.
set -euo pipefail
export LC_ALL=C
# From packages.sh: its functions, and these.
: "${build:?}" "${work:?}" "${bare:?}"
system=$work/system
mkdir "$system" "$work/top"
mount -t tmpfs -o mode=0755 tmpfs "$work/top"
mkdir "$work/top/changed" "$work/top/scratch"
mount -t overlay overlay -o "lowerdir=$bare,upperdir=$work/top/changed,workdir=$work/top/scratch" "$system" 2>"$work/mount.log" ||
    skip "no overlay file system: $(head -n 1 "$work/mount.log")"
mount -t proc proc "$system/proc"
mount -t tmpfs tmpfs "$system/run"
mount -t tmpfs -o mode=1777 tmpfs "$system/tmp" # what the test itself puts there is no package's
ip link set lo up

in_root() {
    env -i PATH=/usr/sbin:/usr/bin:/sbin:/bin LC_ALL=C DEBIAN_FRONTEND=noninteractive chroot "$system" "$@"
}

packaging() { # dpkg's ARGUMENT...
    in_root dpkg "$@" >"$work/dpkg.log" 2>&1 || {
        cat "$work/dpkg.log"
        fail "dpkg $*"
    }
}

install_revision() {
    say "install revision $1"
    mkdir -p "$system/tmp/packages-$1"
    cp "$work/packages-$1"/*.deb "$system/tmp/packages-$1"
    packaging --install --recursive "/tmp/packages-$1"
}

# Files with owner and mode, but for dpkg's own and what it keeps of /etc/passwd before a change.
files() {
    in_root find / -xdev '(' -path /var/lib/dpkg -o -path /var/log/dpkg.log -o -path /var/cache/ldconfig \
        -o -path /proc -o -path /run -o -path /tmp ')' -prune -o ! -name '*-' -printf '%p %u %g %m\n' | sort
}

accounts() {
    in_root cat /etc/passwd /etc/group /etc/shadow /etc/gshadow | sort
}

dsmd_running() { # sets $dsmd
    dsmd=$(cat "$system/run/dsmd.pid" 2>/dev/null) && [ -n "$dsmd" ] && alive "$dsmd"
}

as_client() {
    in_root setpriv --reuid=nobody --regid=nogroup --clear-groups env HOME=/ DSM_SERVER=127.0.0.1:7412 \
        DSM_SERVER_KEY=/etc/dsm/server.key.pub DSM_KEY_FILE=/tmp/client/key DSM_CACHE=4M timeout 60 "$@"
}

read_pages() {
    as_client /tmp/client/install_keep verify kept || fail "the pages are not there $1"
}

# A root without init starts no service unless its administrator says that it may.
printf '#!/bin/sh\nexit 0\n' >"$system/usr/sbin/policy-rc.d"
chmod 0755 "$system/usr/sbin/policy-rc.d"

files >"$work/files.before"
accounts >"$work/accounts.before"

install_revision 1
dsmd_running || fail "dsmd does not run after the installation: $(cat "$work/dpkg.log")"
[ "$(stat -c %U:%a "$system/etc/dsm/server.key")" = "$(stat -c %U "$system/var/lib/dsm"):600" ] || fail "mode of the key"
user=$(in_root id -u dsm)
[ "$user" -ne 0 ] || fail "dsm is root"
[ "$(awk '/^Uid:/ { print $2, $3, $4 }' "/proc/$dsmd/status")" = "$user $user $user" ] || fail "dsmd does not run as dsm"
[ -L "$system/etc/systemd/system/multi-user.target.wants/dsmd.service" ] || fail "the unit is not enabled"
in_root service dsmd status || fail "service dsmd status"

say "an unknown client is refused, an authorized one is not"
install -d -m 0755 -o nobody "$system/tmp/client"
cp "$build/bin/install_keep" "$build/bin/pagecheck" "$system/tmp/client"
as_client dsmctl keygen /tmp/client/key >/dev/null || fail "dsmctl keygen"
if as_client /tmp/client/install_keep write kept 2>"$work/refused.log"; then
    fail "a client that nobody has authorized was let in"
fi
cat "$work/refused.log"
in_root dsmctl authorize /etc/dsm/authorized "$(cat "$system/tmp/client/key.pub")" tester >/dev/null ||
    fail "dsmctl authorize"
in_root service dsmd reload || fail "service dsmd reload"
authorized() {
    as_client /tmp/client/install_keep write kept
}
wait_until 10 authorized || fail "the authorized client is not let in"

say "upgrade under load"
echo "# the operator's own line" >>"$system/etc/dsm/dsmd.conf"
as_client /tmp/client/pagecheck --seconds 12 --pages 4096 >"$work/pagecheck.log" 2>&1 &
load=$!
sleep 2
before=$dsmd
install_revision 2
dsmd_running || fail "dsmd does not run after the upgrade"
[ "$dsmd" != "$before" ] || fail "the old dsmd still runs"
in_root dpkg-query -W dsm-server | grep -- '-2$' >/dev/null || fail "no upgrade took place"
grep -q "the operator's own line" "$system/etc/dsm/dsmd.conf" || fail "the operator's settings were replaced"
read_pages "after the upgrade"
alive "$load" || fail "the load was over before the upgrade was"
wait "$load" || {
    cat "$work/pagecheck.log"
    fail "a program failed because of the upgrade"
}
grep -w verified "$work/pagecheck.log" || fail "pagecheck verified nothing"

say "remove keeps pages, keys and settings"
packaging --remove dsm-server
ended "$dsmd" || fail "dsmd runs after the removal"
install_revision 2
dsmd_running || fail "dsmd does not run after the second installation"
read_pages "after removal and installation"

say "a configuration that is wrong: said, and the package is installed"
echo "no-such-key = 1" >>"$system/etc/dsm/dsmd.conf"
install_revision 2
grep -q "dsmd is not running" "$work/dpkg.log" || fail "a dsmd that does not start is not mentioned"
sed -i '/^no-such-key/d' "$system/etc/dsm/dsmd.conf"
in_root service dsmd start || fail "service dsmd start"
dsmd_running || fail "dsmd does not run"

say "purge"
packaging --purge dsm-server dsm-tools libdsm-remote-dev libdsm-remote0
ended "$dsmd" || fail "dsmd runs after the purge"
files >"$work/files.after"
accounts >"$work/accounts.after"
diff "$work/files.before" "$work/files.after" || fail "purge leaves (>) or takes away (<) these files"
diff "$work/accounts.before" "$work/accounts.after" || fail "purge leaves these accounts"
say "installed, upgraded under load, removed, purged; the pages were kept and nothing else"
