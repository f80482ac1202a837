#!/bin/bash
# SPDX-License-Identifier: Apache-2.0
# Plants one offence for each rule into a small sound tree, and expects the check to find just that one.
set -euo pipefail
here=$(cd "$(dirname "$0")" && pwd)
tree=$(mktemp -d)
trap 'rm -rf "$tree"' EXIT
failed=0

sound_tree() {
    rm -rf "${tree:?}"/*
    mkdir -p "$tree"/{rpc,libdsm/{page,policy,trap,backing,pager},server,tests/unit}
    printf '# SPDX-License-Identifier: Apache-2.0\n' >"$tree/CMakeLists.txt"
    local file
    for file in rpc/lane.h libdsm/page/run.h libdsm/pager/pager.h libdsm/backing/backing.h; do
        printf '// SPDX-License-Identifier: Apache-2.0\n' >"$tree/$file"
    done
    cat >"$tree/libdsm/page/run.c" <<'END'
// SPDX-License-Identifier: Apache-2.0
#include <string.h>

#include "libdsm/page/run.h"

int run(void)
{
    return 0;
}
END
    sed 's|libdsm/page/run.h|rpc/lane.h|' "$tree/libdsm/page/run.c" >"$tree/libdsm/backing/send.c"
}

expect() { # CHECK OFFENCES WHAT
    local output status=0 found
    output=$("$here/$1.sh" "$tree" 2>&1) || status=$?
    found=$(grep -cE '^[^ ]+:[0-9]+:' <<<"$output" || true)
    if [ "$found" -ne "$2" ] || [ "$status" -ne $(($2 > 0 ? 1 : 0)) ]; then
        echo "$1: $3: expected $2 offences, found $found (exit $status):"
        echo "$output"
        failed=1
    fi
}

plant() { # CHECK WHAT FILE LINE...: appends the lines to the file
    local check=$1 what=$2 file=$3
    shift 3
    sound_tree
    mkdir -p "$(dirname "$tree/$file")"
    if [ ! -e "$tree/$file" ]; then
        echo '// SPDX-License-Identifier: Apache-2.0' >"$tree/$file"
    fi
    printf '%s\n' "$@" >>"$tree/$file"
    expect "$check" 1 "$what"
}

sound_tree
for check in spdx words sizes arrows; do
    expect $check 0 "a sound tree"
done

sound_tree
echo 'int licence;' >"$tree/rpc/bare.c"
expect spdx 1 "a source without a licence"
sound_tree
printf '#!/bin/sh\n' >"$tree/tests/bare"
expect spdx 1 "a script without a licence"

plant words "a note to do" rpc/lane.h '// TO''DO: more'
plant words "a note to fix, in a script" tests/unit/a.sh '# FIX''ME later'

mapfile -t many < <(seq -f 'int v%.0f;' 500)
plant sizes "a file of 501 lines" rpc/long.c "${many[@]}"
plant sizes "a function of 71 lines" rpc/long.c 'void f(void)' '{' "${many[@]:0:68}" '}'

plant arrows "page sees rpc" libdsm/page/run.c '#include "rpc/lane.h"'
plant arrows "page sees the pager by a relative path" libdsm/page/run.c '#include "../pager/pager.h"'
plant arrows "policy sees page" libdsm/policy/clock.c '#include "libdsm/page/run.h"'
plant arrows "trap sees page" libdsm/trap/trap.c '#  include "libdsm/page/run.h"'
plant arrows "the pager sees a lane" libdsm/pager/pager.c '#include "rpc/lane.h"'
plant arrows "the server sees the library" server/main.c '#include "libdsm/page/run.h"'
plant arrows "a new room without arrows" libdsm/novel/novel.c '#include "rpc/lane.h"'
plant arrows "gRPC elsewhere" rpc/lane_sock.c '#include <grpc/grpc.h>'
plant arrows "libsodium elsewhere" server/store.c '#include <sodium.h>'
plant arrows "protobuf elsewhere" libdsm/pager/pager.c '#include <protobuf-c/protobuf-c.h>'
plant arrows "generated messages elsewhere" libdsm/pager/pager.c '#include "rpc/dsm.pb-c.h"'

# The closure: reached directly, through another object, from a static root; and what is not reached does not count.
cat >"$tree/fault.c" <<'END'
#include <stdlib.h>
#include <unistd.h>
int helper(int x);
int pager_fault(int x);
void unreached(void);
int pager_fault(int x) { return helper(x); }
static long op_send(int x) { return write(x, "x", 1); }
static void op_destroy(void *p) { free(p); }
struct ops { long (*send)(int); void (*destroy)(void *); };
extern const struct ops ops;
const struct ops ops = {op_send, op_destroy};
void unreached(void) { abort(); }
END
cat >"$tree/helper.c" <<'END'
#include <unistd.h>
#include <stdlib.h>
int helper(int x);
void *other(void);
int helper(int x) { return close(x); }
void *other(void) { return malloc(1); }
END
for file in fault helper; do
    gcc -O2 -fPIC -ffunction-sections -fdata-sections -c -o "$tree/$file.c.o" "$tree/$file.c"
done

expect_closure() { # EXIT ROOTS ALLOWED TEXT
    local output status=0
    tr ' ' '\n' <<<"$3" >"$tree/list"
    output=$(CLOSURE_ROOTS=$2 CLOSURE_LIST=$tree/list "$here/closure.sh" "$tree"/*.o 2>&1) || status=$?
    if [ $status -ne "$1" ] || ! grep -q "$4" <<<"$output"; then
        echo "closure of $2, allowed $3: exit $status, expected $1 and '$4':"
        echo "$output"
        failed=1
    fi
}
expect_closure 0 "fault.c:pager_fault" "close" "1 symbols"
expect_closure 0 "fault.c:pager_fault fault.c:op_send" "close write" "2 symbols"
expect_closure 1 "fault.c:pager_fault fault.c:op_send" "close" "reaches write"
expect_closure 1 "fault.c:pager_fault fault.c:op_destroy" "close" "reaches free"
expect_closure 1 "fault.c:pager_fault helper.c:other" "close" "reaches malloc"
expect_closure 1 "fault.c:pager_fault" "close read" "no longer reaches"
expect_closure 1 "fault.c:pager_fault fault.c:absent" "close" "defined nowhere"

exit $failed
