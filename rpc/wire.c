// SPDX-License-Identifier: Apache-2.0
//
// Encode, decode and check of what the two ends say to each other. Every integer is put together
// byte by byte, so neither alignment nor the byte order of the host nor a compiler's padding shows
// on the wire.
//
// Decode is strict: what encode could not have written is refused (a reserved byte that is not
// zero, text after a NUL, a control character in a name). So there is one spelling of each message,
// and a byte that is reserved today can get a meaning later without an old end mistaking it. The
// one exception is the version of the hello, which decode takes as it is: the server can tell a
// newer client what is wrong only when it has read its hello.
//
// decode says what the bytes mean; wire_request_check and wire_answer_check say whether that makes
// sense. They are apart because a header that decodes but makes no sense still has a request id
// which tests and logs want to name. Checks count in 64 bits, and division stands where a product
// could overflow.
//
// Everything here is pure and async-signal-safe: no state, no libc beyond memory functions.
//
// Rejected: a packed struct and a cast. Shorter, but then the wire is the compiler's.
#include "rpc/wire.h"

#include <errno.h>
#include <string.h>

enum { HELLO_RESERVED_BYTES = 19 };
_Static_assert(WIRE_MAGIC_BYTES + 2 + 3 + HELLO_RESERVED_BYTES + LIMIT_CLUSTER_NAME_BYTES +
                       LIMIT_SERVER_NAME_BYTES ==
                   WIRE_HELLO_BYTES,
               "hello: magic, version, suite, role, kind, reserved, two names");
_Static_assert(2 * 2 + 3 * 4 + 6 * 8 + WIRE_MAP_BYTES == WIRE_HEADER_BYTES,
               "header: two 16-bit, three 32-bit and six 64-bit numbers and the map");
enum { ATTACH_RESERVED_BYTES = 36, ATTACHED_RESERVED_BYTES = 32, ATTACHED_TEXT_BYTES = 192 };
_Static_assert(WIRE_ID_BYTES + 8 + 4 + LIMIT_HOLDER_NAME_BYTES + ATTACH_RESERVED_BYTES ==
                   WIRE_ATTACH_BYTES,
               "attach: instance, generation, lane, holder, reserved");
_Static_assert(WIRE_ID_BYTES + 8 + 4 + 4 + ATTACHED_TEXT_BYTES + ATTACHED_RESERVED_BYTES ==
                   WIRE_ATTACHED_BYTES,
               "attached: store id, incarnation, lease, rights, text, reserved");

const uint8_t wire_magic[WIRE_MAGIC_BYTES] = {'d', 's', 'm', '-', 'l', 'a', 'n', 'e'};

// A cursor over the bytes of one message.
struct writer {
    uint8_t *at;
};
struct reader {
    const uint8_t *at;
    bool bad;
};

static void put(struct writer *w, uint64_t value, unsigned bytes)
{
    for (unsigned i = 0; i < bytes; i++) {
        *w->at++ = (uint8_t)(value >> (8 * i));
    }
}

static void put_bytes(struct writer *w, const void *from, size_t bytes)
{
    memcpy(w->at, from, bytes);
    w->at += bytes;
}

static void put_zeros(struct writer *w, size_t bytes)
{
    memset(w->at, 0, bytes);
    w->at += bytes;
}

// A name goes out as it is: one that the rules forbid is refused by the other end.
static void put_name(struct writer *w, const char *name, size_t room)
{
    size_t length = strnlen(name, room - 1);
    put_bytes(w, name, length);
    put_zeros(w, room - length);
}

// Text is for people: what is not printable ASCII becomes "?", and what does not fit is cut.
static void put_text(struct writer *w, const char *text, size_t room)
{
    size_t length = strnlen(text, room - 1);
    for (size_t i = 0; i < length; i++) {
        char c = text[i];
        *w->at++ = (uint8_t)(c >= ' ' && c <= '~' ? c : '?');
    }
    put_zeros(w, room - length);
}

static uint64_t get(struct reader *r, unsigned bytes)
{
    uint64_t value = 0;
    for (unsigned i = 0; i < bytes; i++) {
        value |= (uint64_t)*r->at++ << (8 * i);
    }
    return value;
}

static void get_bytes(struct reader *r, void *to, size_t bytes)
{
    memcpy(to, r->at, bytes);
    r->at += bytes;
}

static void get_zeros(struct reader *r, size_t bytes)
{
    for (size_t i = 0; i < bytes; i++) {
        r->bad |= *r->at++ != 0;
    }
}

// Characters from `lowest` to "~", then zeros to the end of the field, at least one.
static void get_string(struct reader *r, char *to, size_t room, char lowest, char forbidden)
{
    size_t length = strnlen((const char *)r->at, room);
    r->bad |= length == room;
    for (size_t i = 0; i < room; i++) {
        char c = (char)r->at[i];
        bool fits = c >= lowest && c <= '~' && c != forbidden;
        r->bad |= i < length ? !fits : c != 0;
    }
    get_bytes(r, to, room);
}

static void get_name(struct reader *r, char *to, size_t room)
{
    get_string(r, to, room, '!', '/');
}

static void get_text(struct reader *r, char *to, size_t room)
{
    get_string(r, to, room, ' ', '\0');
}

void wire_hello_encode(const struct wire_hello *hello, uint8_t *to)
{
    struct writer w = {to};
    put_bytes(&w, wire_magic, sizeof wire_magic);
    put(&w, hello->version, 2);
    put(&w, hello->suite, 1);
    put(&w, hello->role, 1);
    put(&w, hello->lane_kind, 1);
    put_zeros(&w, HELLO_RESERVED_BYTES);
    put_name(&w, hello->cluster, sizeof hello->cluster);
    put_name(&w, hello->server, sizeof hello->server);
}

static bool hello_means_something(const struct wire_hello *hello)
{
    return hello->version != 0 && hello->suite != 0 && hello->role >= WIRE_ROLE_CLIENT &&
           hello->role <= WIRE_ROLE_MOVER &&
           (hello->lane_kind == WIRE_LANE_SOCK || hello->lane_kind == WIRE_LANE_GRPC) &&
           hello->cluster[0] != '\0';
}

int wire_hello_decode(const uint8_t *from, struct wire_hello *hello)
{
    struct reader r = {from + sizeof wire_magic, memcmp(from, wire_magic, sizeof wire_magic) != 0};
    struct wire_hello h;
    h.version = (uint16_t)get(&r, 2);
    h.suite = (uint8_t)get(&r, 1);
    h.role = (uint8_t)get(&r, 1);
    h.lane_kind = (uint8_t)get(&r, 1);
    get_zeros(&r, HELLO_RESERVED_BYTES);
    get_name(&r, h.cluster, sizeof h.cluster);
    get_name(&r, h.server, sizeof h.server);
    if (r.bad || !hello_means_something(&h)) {
        return -EBADMSG;
    }
    *hello = h;
    return 0;
}

void wire_header_encode(const struct wire_header *header, uint8_t *to)
{
    struct writer w = {to};
    put(&w, header->op, 2);
    put(&w, header->status, 2);
    put(&w, header->length, 4);
    put(&w, header->request, 8);
    put(&w, header->segment, 8);
    put(&w, header->epoch, 8);
    put(&w, header->page, 8);
    put(&w, header->count, 4);
    put(&w, header->done, 4);
    put(&w, header->version, 8);
    if ((header->op & WIRE_ANSWER) != 0) {
        put(&w, header->server_ns, 4);
        put(&w, header->cipher_ns, 4);
    } else {
        put(&w, header->hint, 8);
    }
    put_bytes(&w, header->map, sizeof header->map);
}

int wire_header_decode(const uint8_t *from, struct wire_header *header)
{
    struct reader r = {from, false};
    struct wire_header h;
    h.op = (uint16_t)get(&r, 2);
    h.status = (uint16_t)get(&r, 2);
    h.length = (uint32_t)get(&r, 4);
    h.request = get(&r, 8);
    h.segment = get(&r, 8);
    h.epoch = get(&r, 8);
    h.page = get(&r, 8);
    h.count = (uint32_t)get(&r, 4);
    h.done = (uint32_t)get(&r, 4);
    h.version = get(&r, 8);
    if ((h.op & WIRE_ANSWER) != 0) {
        h.server_ns = (uint32_t)get(&r, 4);
        h.cipher_ns = (uint32_t)get(&r, 4);
    } else {
        h.hint = get(&r, 8);
    }
    get_bytes(&r, h.map, sizeof h.map);
    unsigned op = h.op & ~(unsigned)WIRE_ANSWER;
    if (op < WIRE_ATTACH || op > WIRE_LAST_OP || h.status >= WIRE_STATUS_COUNT) {
        return -EBADMSG;
    }
    *header = h;
    return 0;
}

void wire_attach_encode(const struct wire_attach *attach, uint8_t *to)
{
    struct writer w = {to};
    put_bytes(&w, attach->instance, sizeof attach->instance);
    put(&w, attach->generation, 8);
    put(&w, attach->lane, 4);
    put_text(&w, attach->holder, sizeof attach->holder);
    put_zeros(&w, ATTACH_RESERVED_BYTES);
}

int wire_attach_decode(const uint8_t *from, struct wire_attach *attach)
{
    struct reader r = {from, false};
    struct wire_attach a;
    get_bytes(&r, a.instance, sizeof a.instance);
    a.generation = get(&r, 8);
    a.lane = (uint32_t)get(&r, 4);
    get_text(&r, a.holder, sizeof a.holder);
    get_zeros(&r, ATTACH_RESERVED_BYTES);
    if (r.bad || a.lane >= LIMIT_LANES_PER_SESSION) {
        return -EBADMSG;
    }
    *attach = a;
    return 0;
}

void wire_attached_encode(const struct wire_attached *attached, uint8_t *to)
{
    struct writer w = {to};
    put_bytes(&w, attached->store_id, sizeof attached->store_id);
    put(&w, attached->incarnation, 8);
    put(&w, attached->lease_ms, 4);
    put(&w, attached->rights, 4);
    put_text(&w, attached->text, sizeof attached->text);
    put_zeros(&w, ATTACHED_RESERVED_BYTES);
}

int wire_attached_decode(const uint8_t *from, struct wire_attached *attached)
{
    struct reader r = {from, false};
    struct wire_attached a;
    get_bytes(&r, a.store_id, sizeof a.store_id);
    a.incarnation = get(&r, 8);
    a.lease_ms = (uint32_t)get(&r, 4);
    a.rights = (uint32_t)get(&r, 4);
    get_text(&r, a.text, sizeof a.text);
    get_zeros(&r, ATTACHED_RESERVED_BYTES);
    if (r.bad) {
        return -EBADMSG;
    }
    *attached = a;
    return 0;
}
