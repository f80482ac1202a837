#!/bin/bash
# SPDX-License-Identifier: Apache-2.0
# hold_lost.sh PROGRAM ROLE: dsmd comes back, with the same key and port, on a store that lacks what it had acknowledged:
# another one, the emptied directory, or an older copy of the store (which was taken while dsmd was stopped).
# shellcheck source=tests/e2e/hold_lib.sh
. "$(dirname "$0")/hold_lib.sh"
role=$2
hold_setup "$1"
start_dsmd
hold_start "$role"
hold_await written
stop_dsmd
cp -a "$store" "$store_parent/copy"
start_dsmd
hold_say go-on
hold_await acknowledged
stop_dsmd
case $role in
another) store=$store_parent/another ;;
emptied) rm -rf "${store:?}"/* ;;
older)
    rm -rf "$store"
    mv "$store_parent/copy" "$store"
    ;;
esac
start_dsmd
hold_say replaced
hold_wait "$role"
stop_dsmd
