// SPDX-License-Identifier: Apache-2.0
//
// What comes off the wire, once opened, may hold anything that a peer with a key likes. Each decoder must take or
// refuse it without reading past its fixed size; and what it takes must be canonical: encoding it again gives the same
// bytes, so that no two encodings of one message exist. A header that passes the checks must keep what the rest of
// the code relies on: counts and lengths within limits, and page + count without overflow.
//
// The first byte of an input chooses the decoder. The bytes are copied to a buffer of exactly the decoder's size, so
// that the address sanitizer sees a read past it.
#include <stdlib.h>
#include <string.h>

#include "rpc/wire.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static void require(bool held)
{
    if (!held) {
        abort();
    }
}

static void check_hello(const uint8_t *bytes)
{
    struct wire_hello hello;
    uint8_t again[WIRE_HELLO_BYTES];
    if (wire_hello_decode(bytes, &hello) == 0) {
        require(memchr(hello.cluster, 0, sizeof hello.cluster) != NULL);
        require(memchr(hello.server, 0, sizeof hello.server) != NULL);
        wire_hello_encode(&hello, again);
        require(memcmp(bytes, again, sizeof again) == 0);
    }
}

static void check_header(const uint8_t *bytes)
{
    struct wire_header header;
    uint8_t again[WIRE_HEADER_BYTES];
    if (wire_header_decode(bytes, &header) != 0) {
        return;
    }
    wire_header_encode(&header, again);
    require(memcmp(bytes, again, sizeof again) == 0);
    if (wire_request_check(&header) == 0) {
        require((header.op & WIRE_ANSWER) == 0);
        require(header.length <= LIMIT_RUN_BYTES);
        if (header.op == WIRE_READ || header.op == WIRE_WRITE || header.op == WIRE_DISCARD) {
            require(header.count > 0 && header.count <= UINT64_MAX - header.page);
            require(header.op == WIRE_DISCARD || header.count <= LIMIT_RUN_PAGES);
        }
    }
    struct wire_header request = {.op = header.op & (uint16_t)~WIRE_ANSWER,
                                  .request = header.request,
                                  .segment = header.segment,
                                  .epoch = header.epoch,
                                  .page = header.page,
                                  .count = header.count};
    if (wire_answer_check(&header, &request) == 0) {
        require(header.length <= LIMIT_RUN_BYTES);
        require(header.done <= header.count);
    }
}

static void check_attach(const uint8_t *bytes)
{
    struct wire_attach attach;
    uint8_t again[WIRE_ATTACH_BYTES];
    if (wire_attach_decode(bytes, &attach) == 0) {
        require(attach.lane < LIMIT_LANES_PER_SESSION);
        require(memchr(attach.holder, 0, sizeof attach.holder) != NULL);
        wire_attach_encode(&attach, again);
        require(memcmp(bytes, again, sizeof again) == 0);
    }
}

static void check_attached(const uint8_t *bytes)
{
    struct wire_attached attached;
    uint8_t again[WIRE_ATTACHED_BYTES];
    if (wire_attached_decode(bytes, &attached) == 0) {
        require(memchr(attached.text, 0, sizeof attached.text) != NULL);
        wire_attached_encode(&attached, again);
        require(memcmp(bytes, again, sizeof again) == 0);
    }
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    static const struct {
        size_t bytes;
        void (*check)(const uint8_t *bytes);
    } decoders[] = {
        {WIRE_HELLO_BYTES, check_hello},
        {WIRE_HEADER_BYTES, check_header},
        {WIRE_ATTACH_BYTES, check_attach},
        {WIRE_ATTACHED_BYTES, check_attached},
    };
    if (size < 1) {
        return 0;
    }
    size_t which = data[0] % (sizeof decoders / sizeof decoders[0]);
    size_t bytes = decoders[which].bytes;
    uint8_t *exact = calloc(1, bytes);
    if (exact == NULL) {
        return 0;
    }
    memcpy(exact, data + 1, size - 1 < bytes ? size - 1 : bytes);
    decoders[which].check(exact);
    free(exact);
    return 0;
}
