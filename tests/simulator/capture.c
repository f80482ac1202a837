// SPDX-License-Identifier: Apache-2.0
//
// See capture.h. The formats: wire: a decoder's number and its bytes. control: 0 and control messages, or 1 and headers, each
// behind its length in two bytes. handshake: 1, the size of portions, and the plain text of an ATTACH. record: which end, and
// plain text.
#include "tests/simulator/capture.h"

#include <stdio.h>
#include <string.h>
#include <sys/stat.h>

#include "tests/simulator/virtual_time.h"

enum { OF_A_KIND = 2, OPS = 2 * (WIRE_LAST_OP + 1), ROWS = 6, ROW_MESSAGES = 8, ROW_BYTES = 1400 };
enum { DECODE_HEADER = 1, DECODE_ATTACH, DECODE_ATTACHED }; // as fuzz_wire numbers them

const char *capture_directory;

static void save(const char *target, const char *name, unsigned number, const void *bytes,
                 size_t count)
{
    char path[512];
    (void)snprintf(path, sizeof path, "%s/%s", capture_directory, target);
    (void)mkdir(path, 0777);
    (void)snprintf(path, sizeof path, "%s/%s/%s-%u.seed", capture_directory, target, name, number);
    FILE *file = fopen(path, "we");
    if (file == NULL || fwrite(bytes, 1, count, file) != count || fclose(file) != 0) {
        vt_fail("%s cannot be written", path);
    }
}

static struct row { // messages that came one after the other
    uint8_t bytes[ROW_BYTES + 2];
    size_t used;
    unsigned messages, rows;
} control_row, wire_row;

static void add(struct row *row, uint8_t kind, const char *name, const void *bytes, size_t count)
{
    row->bytes[0] = kind;
    row->used = row->used == 0 ? 1 : row->used;
    if (row->rows == ROWS || row->used + count + 2 > ROW_BYTES) {
        return;
    }
    row->bytes[row->used] = (uint8_t)count;
    row->bytes[row->used + 1] = (uint8_t)(count >> 8);
    memcpy(row->bytes + row->used + 2, bytes, count);
    row->used += count + 2;
    if (++row->messages == ROW_MESSAGES) {
        save("control", name, row->rows++, row->bytes, row->used);
        row->messages = 0;
        row->used = 1;
    }
}

static void save_header(const struct wire_header *header)
{
    static unsigned seen[OPS];
    uint8_t bytes[1 + WIRE_HEADER_BYTES] = {DECODE_HEADER};
    bool answer = (header->op & WIRE_ANSWER) != 0;
    unsigned kind = (header->op & ~(unsigned)WIRE_ANSWER) * 2 + answer;
    wire_header_encode(header, bytes + 1);
    if (kind < OPS && seen[kind] < OF_A_KIND) {
        unsigned number = kind * OF_A_KIND + seen[kind]++;
        save("wire", "header", number, bytes, sizeof bytes);
        bytes[0] = answer ? 0 : 1;
        save("record", "header", number, bytes, sizeof bytes);
    }
}

void capture_request(const struct wire_header *request, const uint8_t *payload)
{
    uint8_t bytes[WIRE_HEADER_BYTES];
    if (capture_directory == NULL) {
        return;
    }
    save_header(request);
    if (request->op == WIRE_CONTROL) {
        add(&control_row, 0, "messages", payload, request->length);
    } else {
        wire_header_encode(request, bytes);
        add(&wire_row, 1, "headers", bytes, sizeof bytes);
    }
}

void capture_answer(const struct wire_header *answer)
{
    if (capture_directory != NULL) {
        save_header(answer);
    }
}

void capture_attach(const struct wire_attach *attach, const struct wire_attached *attached)
{
    static unsigned seen;
    uint8_t bytes[1 + WIRE_ATTACHED_BYTES] = {DECODE_ATTACH};
    uint8_t plain[2 + WIRE_HEADER_BYTES + WIRE_ATTACH_BYTES] = {1, 99};
    const struct wire_header header = {.op = WIRE_ATTACH, .length = WIRE_ATTACH_BYTES};
    if (capture_directory == NULL || seen == OF_A_KIND) {
        return;
    }
    wire_attach_encode(attach, bytes + 1);
    save("wire", "attach", seen, bytes, 1 + WIRE_ATTACH_BYTES);
    memcpy(plain + 2 + WIRE_HEADER_BYTES, bytes + 1, WIRE_ATTACH_BYTES);
    wire_header_encode(&header, plain + 2);
    save("handshake", "attach", seen, plain, sizeof plain);
    bytes[0] = DECODE_ATTACHED;
    wire_attached_encode(attached, bytes + 1);
    save("wire", "attached", seen++, bytes, sizeof bytes);
}
