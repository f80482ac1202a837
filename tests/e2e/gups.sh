#!/bin/bash
# SPDX-License-Identifier: Apache-2.0
# RandomAccess on a table larger than the cache is right when replayed; and of its pages some, not more than all, were fetched by
# its updates, as the counters of its work say.
# shellcheck source=tests/e2e/lib.sh
. "$(dirname "$0")/lib.sh"
need_programs dsmd dsmctl gups
make_keys
start_dsmd
client 300 gups --json "$@" || fail "gups: exit $?"
python3 - "$client_log" <<'END' || fail "what gups printed is not so"
import json, sys
text = open(sys.argv[1]).read()
shown = json.loads(text[text.index("{"):])
assert shown["verified"] is True
assert 0 < shown["work"]["swap_in_reads"] <= shown["swap_ins"], shown
assert 0 < shown["work_seconds"] <= shown["seconds"], shown
END
stop_dsmd
