#!/bin/bash
# SPDX-License-Identifier: Apache-2.0
# hold_disk.sh PROGRAM CASE: a store on a small file system of this test's own (in a mount namespace), which gets into trouble:
#   full-tmpfs | full-disk   somebody else's file takes all that is free
#   write-errors             the disk below takes no more blocks: a sparse image on a tmpfs that is full; dsmd promises power
#   sync-errors              the same, but it takes them again soon, and the file system has no journal that would end it
#   read-errors              the end of the disk below is not there any more
# dsmd says so when it is started on the full one; otherwise the program tells what it sees.
[ -n "${HOLD_OWN_MOUNTS:-}" ] || {
    [ "$(id -u)" -eq 0 ] || { echo "SKIPPED: needs root: mounts file systems" && exit 77; }
    unshare --mount true 2>/dev/null || { echo "SKIPPED: cannot make a mount namespace" && exit 77; }
    HOLD_OWN_MOUNTS=1 exec unshare --mount --propagation private "$0" "$@"
}
# shellcheck source=tests/e2e/hold_lib.sh
. "$(dirname "$0")/hold_lib.sh"
case=$2
role=no-writes
options=(--capacity 20M)
format=()
case $case in
write-errors) options+=(--durability power) ;;
sync-errors)
    role=no-sync
    options+=(--durability power)
    format=(-O ^has_journal)
    ;;
read-errors) role=no-reads ;;
esac
hold_setup "$1"

memory=$work/memory # a tmpfs, on which the store or the disk lies
disk=$work/disk
image=$memory/image
mkdir "$memory" "$disk"
trap 'status=$?; set +e; umount -l "$disk" "$memory" 2>/dev/null; (exit $status); e2e_end' EXIT
mount -t tmpfs -o size=150M,mode=755 none "$memory" 2>"$work/mount.log" || skip "no mounts: $(head -n 1 "$work/mount.log")"
if [ "$case" = full-tmpfs ]; then
    store=$memory/store
    mount -o remount,size=100M "$memory"
else
    for program in mkfs.ext4 e2fsck filefrag; do
        command -v "$program" >/dev/null || skip "needs $program (Debian package e2fsprogs)"
    done
    truncate -s 140M "$image"
    mkfs.ext4 -q -F -b 4096 -E nodiscard "${format[@]}" "$image"
    mount -o loop,noatime "$image" "$disk" 2>"$work/mount.log" || skip "no loop device: $(head -n 1 "$work/mount.log")"
    # A request of which only the first part was written is no error to the loop device of Linux 6.18: so it has one part.
    if [[ $case = *-errors ]]; then
        device=$(findmnt -no SOURCE "$disk")
        echo 4 >"/sys/block/${device##*/}/queue/max_sectors_kb" || skip "the loop device's requests cannot be made small"
    fi
    store=$disk/store
fi
mkdir -m 0700 "$store"

fill() { # DIRECTORY: to the last block
    dd if=/dev/zero of="$1/filler" bs=1M status=none 2>"$work/dd.log" && fail "$1 does not run full"
    dd if=/dev/zero of="$1/filler" bs=4K oflag=append conv=notrunc status=none 2>/dev/null || true
    sync -f "$1/filler" || true
}

# Where the pages lie on the disk; in the middle of that it ends.
cut_disk() {
    local pages middle
    pages=$(find "$store" -type f -size +1M -printf '%b %p\n' | sort -n | tail -n 1 | cut -d' ' -f2)
    sync -f "$pages"
    middle=$(filefrag -b1 -v "$pages" | awk -F'[ :.]+' '$2 ~ /^[0-9]+$/ { n++; at[n] = $5; bytes[n] = $7; all += $7 }
        END { for (i = 1; i <= n; i++) { if (sum + bytes[i] > all / 2) { printf "%d", at[i] + all / 2 - sum; exit } sum += bytes[i] } }')
    [ "${middle:-0}" -gt 0 ] || fail "where the pages lie is not known"
    middle=$((middle / 4096 * 4096))
    tail -c +$((middle + 1)) "$image" >"$work/tail"
    truncate -s "$middle" "$image"
    dd if="$pages" iflag=nocache count=0 status=none
}

start_refused() { # dsmd, on a file system without room: it must say so and end
    local status=0
    "$build/bin/dsmd" --listen 127.0.0.1:0 --store "$store" --key "$work/server.key" --authorized "$work/authorized" \
        --config '' "${options[@]}" >"$work/refused.log" 2>&1 </dev/null || status=$?
    cat "$work/refused.log"
    [ $status -ne 0 ] || fail "dsmd serves without room"
    grep -q 'lower the capacity or make room' "$work/refused.log" || fail "dsmd does not say what is missing"
}

start_dsmd "${options[@]}"
hold_start "$role"
hold_await break
case $case in
full-tmpfs) fill "$memory" ;;
full-disk) fill "$disk" ;;
write-errors | sync-errors) fill "$memory" ;;
read-errors) cut_disk ;;
esac
hold_say broken
hold_await mend
case $case in
full-*)
    kill_dsmd
    start_refused
    rm -f "$memory/filler" "$disk/filler"
    start_dsmd "${options[@]}"
    ;;
write-errors) # a file system that could not write its journal has to be mounted again
    kill_dsmd
    umount "$disk"
    rm "$memory/filler"
    e2fsck -p "$image" || [ $? -le 2 ] || fail "the file system is not sound"
    mount -o loop,noatime "$image" "$disk"
    start_dsmd "${options[@]}"
    ;;
sync-errors) rm "$memory/filler" ;;
read-errors) cat "$work/tail" >>"$image" ;;
esac
[ "$case" = read-errors ] || grep 'refused a write' "$work/dsmd.log" || fail "dsmd's log does not tell of the trouble"
hold_say mended
hold_await restart
kill_dsmd
if [ "$case" = sync-errors ]; then # without a journal, what the file system says of itself has to be put right
    umount "$disk"
    e2fsck -fy "$image" >"$work/fsck.log" 2>&1 || [ $? -le 2 ] || fail "the file system is not sound"
    mount -o loop,noatime "$image" "$disk"
fi
start_dsmd "${options[@]}"
hold_say restarted
if [ "$case" = sync-errors ]; then
    hold_await again
    kill_dsmd
    start_dsmd "${options[@]}"
    hold_say once-more
fi
hold_wait "$role"
stop_dsmd
