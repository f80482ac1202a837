#!/bin/bash
# SPDX-License-Identifier: Apache-2.0
# What is left to do belongs into an issue, not into the source.
# shellcheck source=tests/check/lib.sh
. "$(dirname "$0")/lib.sh"
words='TO''DO|FIX''ME|X''XX'
while IFS= read -r found; do
    offence "$found"
done < <(sources | xargs grep -nwE "$words" /dev/null || true)
verdict
