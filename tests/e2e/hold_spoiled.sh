#!/bin/bash
# SPDX-License-Identifier: Apache-2.0
# hold_spoiled.sh PROGRAM ROLE RATE: over a wire of which RATE portions of a million meet each fault that spoil_proxy has. In the
# end the store has no segment.
# shellcheck source=tests/e2e/hold_lib.sh
. "$(dirname "$0")/hold_lib.sh"
# shellcheck source=tests/e2e/spoil_lib.sh
. "$(dirname "$0")/spoil_lib.sh"
need_programs spoil_proxy
hold_setup "$1"
start_dsmd
start_proxy 7 "$3"
over_proxy hold_start "$2"
hold_await open
spoil
hold_say spoiled
hold_wait "$2"
stop_proxy
[ -z "$(ls "$store/segments")" ] || fail "segments are left: $(ls "$store/segments")"
stop_dsmd
