// SPDX-License-Identifier: Apache-2.0
//
// libFuzzer: what a client with a key may say to the service once its records open. An input is a row of messages, each with two
// bytes of length before it: a control message as it is, or, where the first byte of the input is odd, a header of the
// wire, whose payload is zeros. Three sessions take turns. Each message is answered once, whatever it is, and at the
// end the store is sound and nobody holds anything.
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "tests/fuzz/fuzz_store_files.h"
#include "tests/unit/service_rig.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t bytes);

enum { SESSIONS = 3, MESSAGES = 24, LENGTH_BYTES = 2, CAPACITY_BYTES = 4 << 20 };

static struct lane_peer peers[SESSIONS];
static const uint8_t keys[SESSIONS][NOISE_KEY_BYTES] = {{1}, {2}, {2}};

static void require(bool holds)
{
    if (!holds) {
        abort();
    }
}

// Two principals: one with all rights, one that may little.
static struct key_grants *grants_of(const char *directory)
{
    char path[256], text[KEYFILE_TEXT_BYTES];
    struct key_grants *grants = NULL;
    struct failure failure = {""};
    (void)snprintf(path, sizeof path, "%s.grants", directory);
    (void)unlink(path);
    for (int i = 0; i < 2; i++) {
        static const char *const rest[] = {"one rights=create,read,write,migrate,admin",
                                           "two quota=64K rights=create,read,write prefix=two/"};
        char line[256];
        keyfile_encode(keys[i], text);
        (void)snprintf(line, sizeof line, "%s %s", text, rest[i]);
        require(key_grants_append(path, line, &failure) == 0);
    }
    require(key_grants_load(path, &grants, &failure) == 0);
    (void)unlink(path);
    return grants;
}

static struct service *start(struct store *store, const char *directory)
{
    struct rig_front front;
    struct key_grants *grants = grants_of(directory);
    struct service *service = NULL;
    const struct service_options options = {
        .store = store, .lease_ms = LIMIT_LEASE_MS, .server_name = "fuzz", .wake = rig_front_woken};
    rig_front_init(&front);
    require(service_create(&options, &grants, &service) == 0);
    for (unsigned i = 0; i < SESSIONS; i++) {
        struct wire_attach attach = {.generation = 1, .holder = "fuzz"};
        struct wire_attached attached = {0};
        struct service_lane *lane;
        attach.instance[0] = (uint8_t)(i + 1);
        require(service_attach(service, keys[i], &attach, 1, &lane, &attached) == WIRE_OK);
        front.coming = &peers[i];
        require(service_lane_start(&lane, &front.front, -1, NULL, NULL) == 0);
    }
    return service;
}

static bool request_of(const uint8_t *message, size_t bytes, bool wire, struct wire_header *request)
{
    uint8_t encoded[WIRE_HEADER_BYTES] = {0};
    *request = (struct wire_header){.op = WIRE_CONTROL, .length = (uint32_t)bytes, .request = 1};
    if (wire) {
        memcpy(encoded, message, bytes < sizeof encoded ? bytes : sizeof encoded);
        if (wire_header_decode(encoded, request) != 0 || request->op == WIRE_CONTROL) {
            return false;
        }
    }
    return wire_request_check(request) == 0;
}

static void say(const uint8_t *data, size_t bytes, bool wire)
{
    static uint8_t payload[LIMIT_RUN_BYTES];
    for (unsigned i = 0; i < MESSAGES && bytes >= LENGTH_BYTES; i++) {
        size_t length = (size_t)(data[0] | data[1] << 8);
        data += LENGTH_BYTES;
        bytes -= LENGTH_BYTES;
        length = length < bytes ? length : bytes;
        struct lane_peer *peer = &peers[i % SESSIONS];
        struct wire_header request;
        if (request_of(data, length, wire, &request)) {
            memset(payload, 0, request.length);
            if (!wire) {
                memcpy(payload, data, length);
            }
            (void)rig_front_ask(peer, &request, payload);
        }
        data += length;
        bytes -= length;
    }
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t bytes)
{
    struct failure failure = {""};
    if (bytes == 0) {
        return 0;
    }
    const char *directory = fuzz_directory();
    struct store *store = fuzz_store_make(directory, CAPACITY_BYTES);
    struct service *service = start(store, directory);
    say(data + 1, bytes - 1, (data[0] & 1) != 0);
    for (unsigned i = 0; i < SESSIONS; i++) {
        service_calls.closed(peers[i].user, -ESHUTDOWN);
    }
    require(store_check(store, &failure) == 0);
    service_destroy(&service);
    require(store_close(&store) == 0);
    return 0;
}
