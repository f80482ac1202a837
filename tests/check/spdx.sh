#!/bin/bash
# SPDX-License-Identifier: Apache-2.0
# Every source says its licence in its first three lines.
# shellcheck source=tests/check/lib.sh
. "$(dirname "$0")/lib.sh"
line='SPDX-License-Identifier: Apache-2.0'
while read -r file; do
    if ! grep -qF "$line" <<<"$(head -n 3 "$file")"; then
        offence "$file:1: has no line '$line'"
    fi
done < <(sources)
verdict
