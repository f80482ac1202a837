#!/bin/bash
# SPDX-License-Identifier: Apache-2.0
#
# dsmctl keygen and authorize as a user meets them: what they print, what they leave, what they refuse, and the
# exit codes 0 (done), 1 (refused) and 2 (used wrongly). Usage: dsmctl.sh PROGRAM
set -u
export LC_ALL=C
program=$(realpath "$1")
work=$(mktemp -d) || exit 1
trap 'rm -rf "$work"' EXIT
cd "$work" || exit 1
umask 022
failures=0

wrong() {
    echo "FAILED: $*"
    failures=$((failures + 1))
}

# says CODE TEXT COMMAND...: the exit code is CODE, and TEXT is part of what is said on standard error, or nothing is
# when TEXT is empty. A refusal leaves the folder as it was.
says() {
    local code=$1 text=$2 got before
    shift 2
    before=$(state)
    "$@" >out 2>err
    got=$?
    [ "$got" -eq "$code" ] || wrong "$*: exit code $got, not $code"
    if [ -z "$text" ]; then
        [ ! -s err ] || wrong "$*: said: $(cat err)"
    else
        grep -qF -- "$text" err || wrong "$*: does not say \"$text\" but: $(cat err)"
    fi
    [ "$code" -eq 0 ] || [ "$(state)" = "$before" ] || wrong "$*: changed something"
}

state() {
    find . -type f ! -name out ! -name err -printf '%p %m ' -exec cat '{}' ';'
}

dsmctl=$program
says 0 '' "$dsmctl" keygen server
[ "$(cat out)" = "$(cat server.pub)" ] || wrong 'keygen does not print the public key'
[ "$(stat -c %a server server.pub | xargs)" = '600 644' ] || wrong 'modes of a key pair'
[ "$(stat -c %s server server.pub | xargs)" = '45 45' ] || wrong 'sizes of a key pair'
cmp -s server server.pub && wrong 'both halves are the same'
says 0 '' "$dsmctl" keygen alice
says 0 '' "$dsmctl" keygen bob
cmp -s alice bob && wrong 'two keys are the same'
says 1 'server exists, and keys are never overwritten' "$dsmctl" keygen server
touch carol.pub
says 1 'carol.pub exists' "$dsmctl" keygen carol
says 1 'No such file or directory' "$dsmctl" keygen no/folder/key
limited() { (trap '' XFSZ && ulimit -f 0 && exec "$dsmctl" keygen full 2>&1); }
before=$(state)
limited | grep 'cannot be written' >/dev/null || wrong 'a full disk is not noticed'
[ "$(state)" = "$before" ] || wrong 'a full disk leaves a part of a key'

says 0 '' "$dsmctl" authorize clients alice.pub alice quota=64G rights=read,write
[ -s out ] && wrong 'authorize prints something'
says 0 '' "$dsmctl" authorize clients "$(cat bob.pub)" bob prefix=bob/ connections=8
[ "$(stat -c %a clients)" = 600 ] || wrong 'mode of an authorized file'
printf '%s alice quota=64G rights=read,write\n%s bob prefix=bob/ connections=8\n' \
    "$(cat alice.pub)" "$(cat bob.pub)" >expected
cmp clients expected || wrong 'lines of an authorized file'
says 1 'line 1: this key stands there already, for principal alice' "$dsmctl" authorize clients alice.pub mallory
says 1 'another quota' "$dsmctl" authorize clients server.pub alice quota=1G
says 1 'line 2: this key stands' "$dsmctl" authorize clients bob.pub bob

says 1 'name its .pub file' "$dsmctl" authorize clients server mallory
cp server private.pub.not
says 1 'name its .pub file' "$dsmctl" authorize clients private.pub.not mallory
says 1 'cannot be opened' "$dsmctl" authorize clients absent.pub mallory
says 1 'is no public key file' "$dsmctl" authorize clients carol.pub carol
printf '%s\n%s\n' "$(cat server.pub)" "$(cat server.pub)" >two.pub
says 1 'is no public key file' "$dsmctl" authorize clients two.pub carol
says 1 'must be one word' "$dsmctl" authorize clients server.pub 'mallory rights=admin'
says 1 'must be one word' "$dsmctl" authorize clients server.pub ''
says 1 'must be one word' "$dsmctl" authorize clients server.pub "m#
$(cat server.pub) mallory"
says 1 'is no principal' "$dsmctl" authorize clients server.pub a/b
says 1 'is not a size' "$dsmctl" authorize clients server.pub carol quota=1Q
says 1 'is none' "$dsmctl" authorize clients server.pub carol rights=root
says 1 'is not known' "$dsmctl" authorize clients server.pub carol size=1
says 1 'given twice' "$dsmctl" authorize clients server.pub carol quota=1 quota=1
chmod 644 clients
says 1 'chmod 600' "$dsmctl" authorize clients server.pub carol
chmod 600 clients
echo nonsense >>clients
says 1 'line 3: ' "$dsmctl" authorize clients server.pub carol

says 2 'say which command' "$dsmctl"
says 2 'there is no command "keygne"' "$dsmctl" keygne x
says 2 'too few arguments' "$dsmctl" keygen
says 2 'one argument too many' "$dsmctl" keygen a b
says 2 'too few arguments' "$dsmctl" authorize clients alice.pub
says 2 'one argument too many' "$dsmctl" authorize clients alice.pub alice 1 2 3 4 5
says 2 'unrecognized option' "$dsmctl" keygen --force server
says 2 'unrecognized option' "$dsmctl" --force keygen server
for command in '' keygen authorize; do
    # shellcheck disable=SC2086 # no command is no argument
    says 0 '' "$dsmctl" $command --help
    grep -q "^Usage: dsmctl" out || wrong "$command --help"
done
says 0 '' "$dsmctl" --help
for command in keygen authorize; do
    grep -q "^  $command " out || wrong "help does not list $command"
done
says 0 '' "$dsmctl" --version
grep -Eq '^dsmctl [0-9]+\.[0-9]+\.[0-9]+$' out || wrong 'version'

[ $failures -eq 0 ]
