// SPDX-License-Identifier: Apache-2.0
//
// Failed handshakes by address: a token bucket each, in a table of fixed size. Only failures take a
// token, since one node of a cluster starts hundreds of good ranks at once. An address without a
// token left is not let in until one has grown.
//
// The table is a small set-associative cache, indexed by a hash with a random seed, so that a
// stranger cannot choose whom to push out; the entry of a set that was seen longest ago is
// replaced. Being forgotten that way only means a full bucket again. IPv6 counts by its first 64
// bits, which one customer owns as a whole.
//
// Used by the listener's thread only.
#include <string.h>

#include "server/listener_internal.h"

static size_t set_of(const struct rate *rate, const struct address_key *address)
{
    uint64_t hash = rate->seed;
    for (size_t i = 0; i < sizeof address->bytes; i++) {
        hash = (hash ^ address->bytes[i]) * 0x100000001b3ULL;
        hash ^= hash >> 29;
    }
    return hash % LISTENER_RATE_SETS;
}

static struct rate_entry *find(struct rate *rate, const struct address_key *address)
{
    struct rate_entry *set = rate->entries[set_of(rate, address)];
    for (size_t i = 0; i < LISTENER_RATE_WAYS; i++) {
        if (set[i].seen_ms != 0 && memcmp(&set[i].address, address, sizeof *address) == 0) {
            return &set[i];
        }
    }
    return NULL;
}

static void refill(struct rate_entry *entry, int64_t now_ms)
{
    entry->tokens += (double)(now_ms - entry->seen_ms) * LIMIT_HANDSHAKE_FAILURES_PER_S / 1000.0;
    if (entry->tokens > LIMIT_HANDSHAKE_FAILURES_BURST) {
        entry->tokens = LIMIT_HANDSHAKE_FAILURES_BURST;
    }
    entry->seen_ms = now_ms;
}

bool rate_exceeded(struct rate *rate, const struct address_key *address, int64_t now_ms)
{
    struct rate_entry *entry = find(rate, address);
    if (entry == NULL) {
        return false;
    }
    refill(entry, now_ms);
    return entry->tokens < 1.0;
}

void rate_failed(struct rate *rate, const struct address_key *address, int64_t now_ms)
{
    struct rate_entry *entry = find(rate, address);
    if (entry == NULL) {
        struct rate_entry *set = rate->entries[set_of(rate, address)];
        entry = &set[0];
        for (size_t i = 1; i < LISTENER_RATE_WAYS; i++) {
            entry = set[i].seen_ms < entry->seen_ms ? &set[i] : entry;
        }
        *entry = (struct rate_entry){
            .address = *address, .seen_ms = now_ms, .tokens = LIMIT_HANDSHAKE_FAILURES_BURST};
    }
    refill(entry, now_ms);
    entry->tokens = entry->tokens > 1.0 ? entry->tokens - 1.0 : 0.0;
}
