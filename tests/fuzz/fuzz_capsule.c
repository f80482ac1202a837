// SPDX-License-Identifier: Apache-2.0
//
// libFuzzer: what somebody may put into a capsule who knows the destination's public key, and what comes over the network. The first
// byte of an input chooses: a body, as it is once the seal was opened; or a whole capsule, for a key that is the same each time.
//
// A body is refused, or keeps the rules and has one spelling: encoding it again gives the same bytes. A body that is taken
// is sealed and opened again, so that what decode believes is something that encode can say.
#include <stdlib.h>
#include <string.h>

#include "tests/unit/capsule_rig.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t bytes);

static void require(bool held)
{
    if (!held) {
        abort();
    }
}

static void try_body(const uint8_t *data, size_t bytes)
{
    struct capsule *capsule = NULL;
    struct failure failure = {""};
    uint8_t *body = malloc(bytes + 1); // of just that size, for the address sanitizer
    uint8_t *again = malloc(bytes + 1);
    require(body != NULL && again != NULL);
    memcpy(body, data, bytes);
    if (capsule_body_decode(body, bytes, &capsule, &failure) == 0) {
        require(capsule_check(capsule, &failure) == 0);
        require(capsule_body_bytes(capsule) == bytes);
        capsule_body_encode(capsule, again);
        require(memcmp(body, again, bytes) == 0);
        capsule_destroy(&capsule);
    } else {
        require(capsule == NULL && failure.text[0] != '\0');
    }
    free(body);
    free(again);
}

static void try_capsule(const struct key_identity *identity, const uint8_t *data, size_t bytes)
{
    struct capsule_memory memory = {.used = bytes, .cut = bytes};
    struct capsule_stream stream = capsule_memory_stream(&memory);
    struct capsule_facts facts;
    struct capsule *capsule = NULL;
    struct failure failure = {""};
    memory.bytes = malloc(bytes + 1);
    require(memory.bytes != NULL);
    memcpy(memory.bytes, data, bytes);
    if (capsule_read_facts(&stream, &facts, &failure) == 0) {
        require(facts.body_bytes > 0 && facts.body_bytes <= LIMIT_CAPSULE_BYTES);
        (void)capsule_expired(&facts, 0, &failure);
        if (capsule_read(&stream, &facts, identity, &capsule, &failure) == 0) {
            require(memory.at == capsule_bytes(capsule));
            capsule_destroy(&capsule);
        }
    }
    free(memory.bytes);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t bytes)
{
    static struct key_identity *identity;
    if (identity == NULL) {
        identity = capsule_destination();
    }
    if (bytes > 0 && data[0] % 2 == 0) {
        try_body(data + 1, bytes - 1);
    } else if (bytes > 0) {
        try_capsule(identity, data + 1, bytes - 1);
    }
    return 0;
}
