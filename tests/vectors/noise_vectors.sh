#!/bin/bash
# SPDX-License-Identifier: Apache-2.0
#
# noise_vectors itself: what the format may leave out may be left out, and what is wrong in a file is found and
# counted, whichever field it stands in. Usage: noise_vectors.sh PROGRAM FOLDER-OF-VECTORS
set -u
program=$1
vectors=$2
work=$(mktemp -d) || exit 1
trap 'rm -rf "$work"' EXIT
failures=0
source=$vectors/noise_25519_ChaChaPoly_BLAKE2b.json

# expect TEXT CODE COUNTS FILE...: the last line of the output is COUNTS alone, the exit code CODE.
expect() {
    local text=$1 code=$2 counts=$3 output got
    shift 3
    output=$("$program" "$@")
    got=$?
    if [ "$got" -ne "$code" ] || [ "$(tail -n 1 <<<"$output")" != "$counts" ]; then
        echo "FAILED: $text: exit code $got, last line: $(tail -n 1 <<<"$output")"
        failures=$((failures + 1))
    fi
}

grep -v '"handshake_hash"' "$source" >"$work/no-hash"
grep -v '_remote_static"' "$source" >"$work/no-remote"
expect 'as published' 0 '59 passed, 0 failed' "$source"
expect 'without handshake hashes' 0 '59 passed, 0 failed' "$work/no-hash"
expect 'without remote statics' 0 '59 passed, 0 failed' "$work/no-remote"
expect 'two files' 0 '118 passed, 0 failed' "$source" "$work/no-hash"

# One digit changed in every field of that name: so many vectors must fail.
wrong() { # FIELD VECTORS
    sed -E "s/^(\"$1\": \".{4})[0-7]/\18/; t; s/^(\"$1\": \".{4})[89a-f]/\10/" "$source" >"$work/wrong"
    expect "a digit of $1 changed" 1 "$((59 - $2)) passed, $2 failed" "$work/wrong"
}
for field in init_prologue resp_prologue init_ephemeral handshake_hash payload ciphertext; do
    wrong $field 59
done
wrong resp_ephemeral 53
wrong init_static 47
wrong resp_static 45
wrong init_remote_static 27
wrong resp_remote_static 17

sed -E '/_psks/{n; s/^(".{4})[0-7]/\18/; t; s/^(".{4})[89a-f]/\10/}' "$source" >"$work/wrong"
expect 'a digit of both psks changed' 1 '38 passed, 21 failed' "$work/wrong"
sed -E '/init_psks/{N; N; d}; /resp_psks/{N; N; d}' "$source" >"$work/wrong"
expect 'no psks' 1 '38 passed, 21 failed' "$work/wrong"
sed -E 's/_ChaChaPoly_/_AESGCM_/' "$source" >"$work/wrong"
expect 'another cipher' 1 '0 passed, 59 failed' "$work/wrong"
sed -E 's/"Noise_/"Noise_Q/' "$source" >"$work/wrong"
expect 'unknown patterns' 1 '0 passed, 59 failed' "$work/wrong"
sed -E 's/^("ciphertext": ").*"/\1"/' "$source" >"$work/wrong"
expect 'empty ciphertexts' 1 '0 passed, 59 failed' "$work/wrong"
sed -E 's/^("payload": ".)/\1x/' "$source" >"$work/wrong"
expect 'payloads that are not hexadecimal' 1 '0 passed, 59 failed' "$work/wrong"

echo '{"vectors": [{"protocol_name": "Noise_XX_25519_ChaChaPoly_BLAKE2b", "messages": []}]}' >"$work/wrong"
expect 'keys that are missing' 1 '0 passed, 1 failed' "$work/wrong"
echo '{"vectors": [{"protocol_name": "Noise_NN_25519_ChaChaPoly_BLAKE2b", "messages": []}]}' >"$work/wrong"
expect 'a handshake that does not end' 1 '0 passed, 1 failed' "$work/wrong"
echo '{"vectors": [{"messages": []}, 7]}' >"$work/wrong"
expect 'vectors that are none' 1 '0 passed, 2 failed' "$work/wrong"
echo '{"vectors": []}' >"$work/wrong"
expect 'a file without vectors' 1 '0 passed, 1 failed' "$work/wrong"
head -c 5000 "$source" >"$work/wrong"
expect 'a file cut off' 1 '59 passed, 1 failed' "$source" "$work/wrong"
expect 'a file that is not there' 1 '0 passed, 1 failed' "$work/absent"

[ $failures -eq 0 ]
