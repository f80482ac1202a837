#!/bin/bash
# SPDX-License-Identifier: Apache-2.0
# README.md has the table of all hostile cases as the cases themselves have it.
set -euo pipefail
here=$(dirname "$0")
python3 -c 'import cryptography' 2>/dev/null || { echo "SKIPPED: needs python3-cryptography"; exit 77; }
diff <(python3 -B "$here/run.py" --table) <(sed -n '/^| bad input/,$p' "$here/README.md") ||
    { echo "$here/README.md has another table than run.py --table"; exit 1; }
