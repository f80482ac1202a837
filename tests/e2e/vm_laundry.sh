#!/bin/bash
# SPDX-License-Identifier: Apache-2.0
# The store fails the first write that reaches it, which is the laundry's.
# shellcheck source=tests/e2e/hold_lib.sh
. "$(dirname "$0")/hold_lib.sh"
hold_setup hold_laundry
DSM_FAILPOINT=write.data:error:1 start_dsmd
hold_run failed
stop_dsmd
