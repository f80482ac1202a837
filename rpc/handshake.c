// SPDX-License-Identifier: Apache-2.0
//
// The server's end of the handshake: a state machine over a non-blocking socket, which a peer
// without a key may feed with anything, at any pace, for nothing.
//
//   start -> WAITING hello|message 1 -> MESSAGE_1 --open--> KNOWN --verdict--> SENDING
//         -> WAITING header|ATTACH -> ATTACHING --attached--> SENDING -> DONE
//   a refusal: verdict or attached with a status -> SENDING -> REFUSED; everything else -> FAILED
//
// It owns a fixed record (struct handshake) and, from open on, borrows a slot, which holds the
// Noise state. Before message 1 has opened nothing is allocated and nothing is sent. The ciphers
// are made when the verdict is said, so only for a peer that holds the private half of the key that
// it named.
//
// It reads exactly what the next step needs and never a byte more, since what follows belongs to
// the lane, and a descriptor handed to gRPC cannot take bytes back. A client has to wait for the
// verdict and for ATTACHED: bytes (or an end) that are there before we say these end the handshake.
//
// What does not open is FAILED, without an answer and without a difference that a stranger could
// see. The magic is compared as it comes in, so that an HTTP or TLS hello is dropped at its first
// byte.
//
// Deadlines, slots and limits are the caller's. One thread at a time uses a handshake.
//
// Rejected: a blocking handshake on a thread of its own; 5,000 silent connections would be 5,000
// stacks.
#include "rpc/handshake.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>

#include "rpc/handshake_wire.h"

enum {
    IN_BYTES = WIRE_HEADER_SEALED_BYTES + HANDSHAKE_ATTACH_SEALED_BYTES,
    OUT_BYTES = HANDSHAKE_VERDICT_BYTES + HANDSHAKE_ATTACHED_SEALED_BYTES,
};
_Static_assert((int)IN_BYTES >= (int)HANDSHAKE_HELLO_1_BYTES, "one buffer for both");

struct handshake {
    enum handshake_state state;
    enum handshake_state after; // once `out` is sent, or `in` is complete
    int fd;
    uint16_t in_have, in_need;
    uint16_t out_have, out_sent;
    struct handshake_slot *slot; // from open to the verdict
    struct noise_cipher *send, *receive;
    struct wire_hello hello;
    struct wire_attach attach;
    uint8_t client_key[NOISE_KEY_BYTES];
    uint8_t in[IN_BYTES];
    uint8_t out[OUT_BYTES];
};

struct handshake_slot {
    struct noise_handshake *noise;
};

struct handshake_slot *handshake_slot_create(void)
{
    struct handshake_slot *slot = calloc(1, sizeof *slot);
    if (slot != NULL) {
        slot->noise = noise_handshake_create();
        if (slot->noise == NULL) {
            free(slot);
            slot = NULL;
        }
    }
    return slot;
}

void handshake_slot_destroy(struct handshake_slot **slot)
{
    if (*slot != NULL) {
        noise_handshake_destroy(&(*slot)->noise);
        free(*slot);
        *slot = NULL;
    }
}

size_t handshake_bytes(void)
{
    return sizeof(struct handshake);
}

static void expect(struct handshake *h, unsigned bytes, enum handshake_state after)
{
    h->in_have = 0;
    h->in_need = (uint16_t)bytes;
    h->after = after;
    h->state = HANDSHAKE_WAITING;
}

void handshake_start(struct handshake *h, int fd)
{
    memset(h, 0, sizeof *h);
    h->fd = fd;
    expect(h, HANDSHAKE_HELLO_1_BYTES, HANDSHAKE_MESSAGE_1);
}

// Destroys the Noise state, which wipes it; the slot makes a new one when it is used again.
static void slot_wipe(struct handshake *h)
{
    if (h->slot != NULL) {
        noise_handshake_destroy(&h->slot->noise);
        h->slot = NULL;
    }
}

static enum handshake_state fail(struct handshake *h)
{
    slot_wipe(h);
    noise_cipher_destroy(&h->send);
    noise_cipher_destroy(&h->receive);
    h->state = HANDSHAKE_FAILED;
    return h->state;
}

static bool may_come_later(int error)
{
    return error == EAGAIN || error == EWOULDBLOCK || error == EINTR;
}

static bool begins_like_hello(const struct handshake *h)
{
    size_t bytes = h->in_have < WIRE_MAGIC_BYTES ? h->in_have : WIRE_MAGIC_BYTES;
    return h->after != HANDSHAKE_MESSAGE_1 || memcmp(h->in, wire_magic, bytes) == 0;
}

static enum handshake_state hello_done(struct handshake *h)
{
    if (wire_hello_decode(h->in, &h->hello) != 0) {
        return fail(h);
    }
    h->state = HANDSHAKE_MESSAGE_1;
    return h->state;
}

static enum handshake_state attach_done(struct handshake *h)
{
    struct wire_header header;
    uint8_t record[WIRE_ATTACH_BYTES];
    if (handshake_header_open(h->receive, h->in, WIRE_ATTACH, &header) != 0 ||
        header.status != WIRE_OK || header.length != WIRE_ATTACH_BYTES ||
        noise_open(h->receive, h->in + WIRE_HEADER_SEALED_BYTES, HANDSHAKE_ATTACH_SEALED_BYTES,
                   record) != 0 ||
        wire_attach_decode(record, &h->attach) != 0) {
        return fail(h);
    }
    h->state = HANDSHAKE_ATTACHING;
    return h->state;
}

static enum handshake_state step_reading(struct handshake *h)
{
    while (h->in_have < h->in_need) {
        ssize_t got =
            recv(h->fd, h->in + h->in_have, (size_t)(h->in_need - h->in_have), MSG_DONTWAIT);
        if (got < 0 && may_come_later(errno)) {
            return h->state;
        }
        if (got <= 0) {
            return fail(h);
        }
        h->in_have = (uint16_t)(h->in_have + got);
        if (!begins_like_hello(h)) {
            return fail(h);
        }
    }
    return h->after == HANDSHAKE_MESSAGE_1 ? hello_done(h) : attach_done(h);
}

static enum handshake_state step_sending(struct handshake *h)
{
    while (h->out_sent < h->out_have) {
        ssize_t sent = send(h->fd, h->out + h->out_sent, (size_t)(h->out_have - h->out_sent),
                            MSG_DONTWAIT | MSG_NOSIGNAL);
        if (sent < 0 && may_come_later(errno)) {
            return h->state;
        }
        if (sent < 0) {
            return fail(h);
        }
        h->out_sent = (uint16_t)(h->out_sent + sent);
    }
    h->state = h->after;
    if (h->state == HANDSHAKE_WAITING) {
        expect(h, IN_BYTES, HANDSHAKE_ATTACHING);
    }
    return h->state;
}

enum handshake_state handshake_step(struct handshake *h)
{
    if (h->state == HANDSHAKE_WAITING) {
        return step_reading(h);
    }
    return h->state == HANDSHAKE_SENDING ? step_sending(h) : h->state;
}

const struct wire_hello *handshake_hello(const struct handshake *h)
{
    return &h->hello;
}

// Whether the client kept silent, as it must while it is our turn.
static bool peer_waits(const struct handshake *h)
{
    uint8_t byte;
    ssize_t got = recv(h->fd, &byte, 1, MSG_DONTWAIT | MSG_PEEK);
    return got < 0 && may_come_later(errno);
}

static int read_message_1(struct handshake *h, const struct key_identity *identity,
                          const uint8_t *psk)
{
    const struct noise_parameters parameters = {
        .pattern = noise_pattern_find(noise_product_pattern),
        .suite = (enum noise_suite)h->hello.suite,
        .initiator = false,
        .prologue = h->in,
        .prologue_bytes = WIRE_HELLO_BYTES,
        .static_private = identity->private_key,
        .psks = handshake_psks(psk),
        .psk_count = 1,
    };
    uint8_t nothing[1];
    size_t bytes;
    int error = noise_handshake_start(h->slot->noise, &parameters);
    if (error != 0) {
        return error;
    }
    error = noise_handshake_read(h->slot->noise, h->in + WIRE_HELLO_BYTES,
                                 HANDSHAKE_MESSAGE_1_BYTES, nothing, 0, &bytes);
    const uint8_t *key = error == 0 ? noise_handshake_remote_static(h->slot->noise) : NULL;
    if (key == NULL) {
        return -EBADMSG;
    }
    memcpy(h->client_key, key, NOISE_KEY_BYTES);
    return 0;
}

enum handshake_state handshake_open(struct handshake *h, struct handshake_slot *slot,
                                    const struct key_identity *identity, const uint8_t *psk)
{
    if (h->state != HANDSHAKE_MESSAGE_1 ||
        !noise_suite_available((enum noise_suite)h->hello.suite)) {
        return fail(h);
    }
    if (slot->noise == NULL) {
        slot->noise = noise_handshake_create();
    }
    h->slot = slot;
    if (slot->noise == NULL || read_message_1(h, identity, psk) != 0) {
        return fail(h);
    }
    h->state = HANDSHAKE_KNOWN;
    return h->state;
}

const uint8_t *handshake_client_key(const struct handshake *h)
{
    return h->client_key;
}

static int write_message_2(struct handshake *h)
{
    size_t written;
    int error =
        noise_handshake_write(h->slot->noise, NULL, 0, h->out, HANDSHAKE_MESSAGE_2_BYTES, &written);
    if (error != 0 || written != HANDSHAKE_MESSAGE_2_BYTES) {
        return -EPROTO;
    }
    h->send = noise_cipher_create();
    h->receive = noise_cipher_create();
    if (h->send == NULL || h->receive == NULL) {
        return -ENOMEM;
    }
    error = noise_handshake_split(h->slot->noise, h->send, h->receive); // wipes the slot's state
    h->slot = error == 0 ? NULL : h->slot;
    return error;
}

// Appends the answer header and, where there is one, its record to `out`.
static int say(struct handshake *h, enum wire_status status, const struct wire_attached *attached)
{
    uint8_t record[WIRE_ATTACHED_BYTES];
    uint32_t length = 0;
    if (attached != NULL) {
        wire_attached_encode(attached, record);
        length = sizeof record;
    }
    int error = handshake_seal(h->send, WIRE_ATTACH | WIRE_ANSWER, status, record, length,
                               h->out + h->out_have);
    size_t bytes = WIRE_HEADER_SEALED_BYTES + wire_sealed_bytes(length);
    h->out_have = (uint16_t)(h->out_have + bytes);
    return error;
}

static void refusal_fill(struct wire_attached *attached, enum wire_status status, const char *text)
{
    *attached = (struct wire_attached){0};
    if (text == NULL) {
        text = wire_status_text(status);
    }
    strncpy(attached->text, text, sizeof attached->text - 1);
}

enum handshake_state handshake_verdict(struct handshake *h, enum wire_status status,
                                       const char *text)
{
    struct wire_attached refusal;
    if (h->state != HANDSHAKE_KNOWN || !peer_waits(h) || write_message_2(h) != 0) {
        return fail(h);
    }
    if (status == WIRE_OK && h->hello.version != WIRE_VERSION) {
        status = WIRE_OLD_VERSION; // whatever follows its hello may mean something else
        text = NULL;
    }
    refusal_fill(&refusal, status, text);
    h->out_have = HANDSHAKE_MESSAGE_2_BYTES;
    if (say(h, status, status == WIRE_OK ? NULL : &refusal) != 0) {
        return fail(h);
    }
    h->after = status == WIRE_OK ? HANDSHAKE_WAITING : HANDSHAKE_REFUSED;
    h->state = HANDSHAKE_SENDING;
    return h->state;
}

const struct wire_attach *handshake_attach(const struct handshake *h)
{
    return &h->attach;
}

enum handshake_state handshake_attached(struct handshake *h, enum wire_status status,
                                        const struct wire_attached *attached)
{
    if (h->state != HANDSHAKE_ATTACHING || !peer_waits(h)) {
        return fail(h);
    }
    struct wire_attached refusal;
    if (status != WIRE_OK && (attached == NULL || attached->text[0] == '\0')) {
        refusal_fill(&refusal, status, NULL);
        attached = &refusal;
    }
    h->out_have = 0;
    h->out_sent = 0;
    if (attached == NULL || say(h, status, attached) != 0) {
        return fail(h);
    }
    h->after = status == WIRE_OK ? HANDSHAKE_DONE : HANDSHAKE_REFUSED;
    h->state = HANDSHAKE_SENDING;
    return h->state;
}

void handshake_take(struct handshake *h, struct noise_cipher **send, struct noise_cipher **receive)
{
    *send = h->send;
    *receive = h->receive;
    h->send = NULL;
    h->receive = NULL;
}

void handshake_end(struct handshake *h)
{
    (void)fail(h);
    int fd = h->fd;
    noise_wipe(h, sizeof *h);
    h->fd = fd;
    h->state = HANDSHAKE_FAILED;
}
