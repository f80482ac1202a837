// SPDX-License-Identifier: Apache-2.0
//
// The seal: Noise's one-way pattern N, in which the sender makes a key pair for this one message and the receiver's public key is
// known. So a capsule has a key of its own, and neither end's connection key has a part in it: the destination's key is one made
// for capsules ("dsmctl keygen"), since a static key is used by its handshake and nothing else.
//
//     header (CAPSULE_HEADER_BYTES, in plain) | key and proof (CAPSULE_OPENING_BYTES) | records of the body, each sealed
//
// The header is the prologue, so the proof covers each of its bits: the expiry, the destination and the length are true once
// that opened. Until then they are only bounded. Records are opened in their order, and the last is shorter than or as long as
// the header says: nothing can be left out, put in or exchanged.
//
// N says nothing about who sealed: that a capsule is of somebody who held the image is known when the server has taken its
// token, not before. ChaCha20-Poly1305 always: nobody can be asked which suite the destination's CPU has.
//
// The body is collected as it comes: a header that claims 16 MiB costs no more than what follows it. Bodies are wiped, for
// they hold the token.
#include <assert.h>
#include <errno.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include "libdsm/migrate/capsule_internal.h"
#include "rpc/wire.h"

static const uint8_t magic[8] = {'d', 's', 'm', '-', 'c', 'a', 'p', 's'};
enum {
    HEADER_VERSION = sizeof magic,
    HEADER_SUITE = HEADER_VERSION + 2,
    HEADER_RESERVED = HEADER_SUITE + 1,
    HEADER_ID = 16,
    HEADER_DESTINATION = HEADER_ID + CAPSULE_ID_BYTES,
    HEADER_EXPIRES = HEADER_DESTINATION + NOISE_KEY_BYTES,
    HEADER_BODY = HEADER_EXPIRES + 8,
    HEADER_SPARE = HEADER_BODY + 8,
    FIRST_ROOM_BYTES = 2 * LIMIT_RECORD_DATA_BYTES,
};
static_assert((int)HEADER_SPARE <= (int)CAPSULE_HEADER_BYTES, "room for the header's fields");

static void put(uint8_t *at, uint64_t value, unsigned bytes)
{
    for (unsigned i = 0; i < bytes; i++) {
        at[i] = (uint8_t)(value >> (8 * i));
    }
}

static uint64_t get(const uint8_t *at, unsigned bytes)
{
    uint64_t value = 0;
    for (unsigned i = bytes; i-- > 0;) {
        value = value << 8 | at[i];
    }
    return value;
}

void capsule_header_encode(const struct capsule_facts *facts, uint8_t header[CAPSULE_HEADER_BYTES])
{
    memset(header, 0, CAPSULE_HEADER_BYTES);
    memcpy(header, magic, sizeof magic);
    put(header + HEADER_VERSION, facts->version, 2);
    header[HEADER_SUITE] = NOISE_CHACHAPOLY;
    memcpy(header + HEADER_ID, facts->id, sizeof facts->id);
    memcpy(header + HEADER_DESTINATION, facts->destination, sizeof facts->destination);
    put(header + HEADER_EXPIRES, facts->expires_ms, 8);
    put(header + HEADER_BODY, facts->body_bytes, 8);
}

uint64_t capsule_bytes(const struct capsule *capsule)
{
    return CAPSULE_HEADER_BYTES + CAPSULE_OPENING_BYTES +
           wire_sealed_bytes((size_t)capsule_body_bytes(capsule));
}

// What both sides of the seal need; made by prepare, whatever that returned released by release.
struct seal {
    struct noise_handshake *handshake;
    struct noise_cipher *cipher, *unused;
    uint8_t *record;
};

static void release(struct seal *seal)
{
    noise_handshake_destroy(&seal->handshake);
    noise_cipher_destroy(&seal->cipher);
    noise_cipher_destroy(&seal->unused);
    if (seal->record != NULL) {
        noise_wipe(seal->record, LIMIT_RECORD_DATA_BYTES + LIMIT_SEAL_BYTES);
        free(seal->record);
    }
}

// identity: of the destination, or NULL to seal.
static int prepare(struct seal *seal, const uint8_t header[CAPSULE_HEADER_BYTES],
                   const uint8_t *destination, const struct key_identity *identity)
{
    const struct noise_parameters parameters = {
        .pattern = noise_pattern_find("N"),
        .suite = NOISE_CHACHAPOLY,
        .initiator = identity == NULL,
        .prologue = header,
        .prologue_bytes = CAPSULE_HEADER_BYTES,
        .static_private = identity != NULL ? identity->private_key : NULL,
        .remote_static = identity == NULL ? destination : NULL,
    };
    *seal = (struct seal){noise_handshake_create(), noise_cipher_create(), noise_cipher_create(),
                          malloc(LIMIT_RECORD_DATA_BYTES + LIMIT_SEAL_BYTES)};
    if (seal->handshake == NULL || seal->cipher == NULL || seal->unused == NULL ||
        seal->record == NULL) {
        return -ENOMEM;
    }
    return noise_handshake_start(seal->handshake, &parameters);
}

// ---- writing

static int seal_records(struct seal *seal, const uint8_t *body, uint64_t bytes, uint8_t *to)
{
    int error = 0;
    for (uint64_t at = 0; at < bytes && error == 0;) {
        size_t piece = bytes - at < LIMIT_RECORD_DATA_BYTES ? (size_t)(bytes - at)
                                                            : (size_t)LIMIT_RECORD_DATA_BYTES;
        error = noise_seal(seal->cipher, body + at, piece, to);
        to += piece + LIMIT_SEAL_BYTES;
        at += piece;
    }
    return error;
}

// Header, opening and records, one behind the other.
static int seal_all(const struct capsule_facts *facts, const uint8_t *body, uint8_t *to)
{
    struct seal seal;
    size_t written = 0;
    uint8_t *opening = to + CAPSULE_HEADER_BYTES;
    capsule_header_encode(facts, to);
    int error = prepare(&seal, to, facts->destination, NULL);
    error = error != 0 ? error
                       : noise_handshake_write(seal.handshake, NULL, 0, opening,
                                               CAPSULE_OPENING_BYTES, &written);
    error = error != 0 ? error : noise_handshake_split(seal.handshake, seal.cipher, seal.unused);
    error = error != 0
                ? error
                : seal_records(&seal, body, facts->body_bytes, opening + CAPSULE_OPENING_BYTES);
    release(&seal);
    return error;
}

// In one piece: of a socket's small writes each would wait until the one before it is acknowledged.
static int write_sealed(const struct capsule_facts *facts, const uint8_t *body,
                        const struct capsule_stream *stream)
{
    const size_t bytes =
        CAPSULE_HEADER_BYTES + CAPSULE_OPENING_BYTES + wire_sealed_bytes((size_t)facts->body_bytes);
    uint8_t *sealed = malloc(bytes);
    if (sealed == NULL) {
        return -ENOMEM;
    }
    int error = seal_all(facts, body, sealed);
    error = error != 0 ? error : stream->put(stream->context, sealed, bytes);
    free(sealed);
    return error;
}

int capsule_write(struct capsule *capsule, const struct capsule_stream *stream,
                  struct failure *failure)
{
    int error = capsule_check(capsule, failure);
    if (error != 0) {
        return error;
    }
    struct capsule_facts *facts = &capsule->facts;
    uint64_t bytes = capsule_body_bytes(capsule);
    if (bytes > LIMIT_CAPSULE_BYTES) {
        return failure_set(failure, -EFBIG,
                           "The capsule would have %" PRIu64 " bytes, more than %d: the states of "
                           "its pages change too often.",
                           bytes, LIMIT_CAPSULE_BYTES);
    }
    uint8_t *body = malloc(bytes);
    if (body == NULL) {
        return failure_set(failure, -ENOMEM, "There is no memory for a capsule.");
    }
    facts->version = CAPSULE_VERSION;
    facts->body_bytes = bytes;
    noise_random(facts->id, sizeof facts->id);
    capsule_body_encode(capsule, body);
    error = write_sealed(facts, body, stream);
    noise_wipe(body, bytes);
    free(body);
    if (error == -EBADMSG) {
        return failure_set(failure, -EINVAL, "The destination's key is none.");
    }
    return error == 0 ? 0
                      : failure_set(failure, error, "The capsule cannot be written: %s.",
                                    strerror(-error));
}

// ---- reading

static int taken(int error, struct failure *failure)
{
    return error == 0 ? 0
           : error == -ENODATA
               ? failure_set(failure, error, "The capsule is cut: its end is missing.")
               : failure_set(failure, error, "The capsule cannot be read: %s.", strerror(-error));
}

static int altered(struct failure *failure)
{
    return failure_set(failure, -EBADMSG,
                       "The capsule was altered after it was sealed. Have it sent again.");
}

int capsule_read_facts(const struct capsule_stream *stream, struct capsule_facts *facts,
                       struct failure *failure)
{
    uint8_t header[CAPSULE_HEADER_BYTES], again[CAPSULE_HEADER_BYTES];
    int error = taken(stream->take(stream->context, header, sizeof header), failure);
    if (error != 0) {
        return error;
    }
    if (memcmp(header, magic, sizeof magic) != 0) {
        return failure_set(failure, -EBADMSG, "This is no capsule.");
    }
    struct capsule_facts read = {.version = (uint16_t)get(header + HEADER_VERSION, 2),
                                 .expires_ms = get(header + HEADER_EXPIRES, 8),
                                 .body_bytes = get(header + HEADER_BODY, 8)};
    if (read.version > CAPSULE_VERSION) {
        return failure_set(failure, -EPROTONOSUPPORT,
                           "The capsule has version %u, and this release knows those up to %d: "
                           "take a newer one here.",
                           read.version, CAPSULE_VERSION);
    }
    memcpy(read.id, header + HEADER_ID, sizeof read.id);
    memcpy(read.destination, header + HEADER_DESTINATION, sizeof read.destination);
    capsule_header_encode(&read, again);
    if (read.version == 0 || memcmp(header, again, sizeof header) != 0) {
        return altered(failure);
    }
    if (read.body_bytes == 0 || read.body_bytes > LIMIT_CAPSULE_BYTES) {
        return failure_set(failure, -EFBIG,
                           "The capsule says that it has %" PRIu64 " bytes; 1 to %d are allowed.",
                           read.body_bytes, LIMIT_CAPSULE_BYTES);
    }
    *facts = read;
    return 0;
}

// Room for `bytes` and more, of at most `most`; what was there is wiped.
static int grow(uint8_t **body, uint64_t *room, uint64_t bytes, uint64_t most)
{
    if (bytes <= *room) {
        return 0;
    }
    uint64_t larger = *room == 0 ? FIRST_ROOM_BYTES : 2 * *room;
    larger = larger < most ? larger : most;
    uint8_t *moved = malloc(larger);
    if (moved == NULL) {
        return -ENOMEM;
    }
    if (*body != NULL) {
        memcpy(moved, *body, *room);
        noise_wipe(*body, *room);
        free(*body);
    }
    *body = moved;
    *room = larger;
    return 0;
}

static int read_records(struct seal *seal, const struct capsule_stream *stream, uint64_t bytes,
                        uint8_t **body, uint64_t *room, struct failure *failure)
{
    for (uint64_t at = 0; at < bytes;) {
        size_t piece = bytes - at < LIMIT_RECORD_DATA_BYTES ? (size_t)(bytes - at)
                                                            : (size_t)LIMIT_RECORD_DATA_BYTES;
        int error =
            taken(stream->take(stream->context, seal->record, piece + LIMIT_SEAL_BYTES), failure);
        if (error != 0) {
            return error;
        }
        if (grow(body, room, at + piece, bytes) != 0) {
            return failure_set(failure, -ENOMEM, "There is no memory for a capsule.");
        }
        if (noise_open(seal->cipher, seal->record, piece + LIMIT_SEAL_BYTES, *body + at) != 0) {
            return altered(failure);
        }
        at += piece;
    }
    return 0;
}

static int open_seal(struct seal *seal, const struct capsule_stream *stream,
                     const struct capsule_facts *facts, const struct key_identity *identity,
                     struct failure *failure)
{
    uint8_t header[CAPSULE_HEADER_BYTES], opening[CAPSULE_OPENING_BYTES];
    size_t payload = 0;
    capsule_header_encode(facts, header);
    int error = prepare(seal, header, NULL, identity);
    if (error != 0) {
        return failure_set(failure, error, "A capsule cannot be opened here: %s.",
                           strerror(-error));
    }
    error = taken(stream->take(stream->context, opening, sizeof opening), failure);
    if (error != 0) {
        return error;
    }
    if (noise_handshake_read(seal->handshake, opening, sizeof opening, NULL, 0, &payload) != 0 ||
        noise_handshake_split(seal->handshake, seal->unused, seal->cipher) != 0) {
        return altered(failure);
    }
    return 0;
}

int capsule_read(const struct capsule_stream *stream, const struct capsule_facts *facts,
                 const struct key_identity *identity, struct capsule **capsule,
                 struct failure *failure)
{
    struct seal seal;
    uint8_t *body = NULL;
    uint64_t room = 0;
    struct capsule *opened = NULL;
    if (memcmp(facts->destination, identity->public_key, sizeof facts->destination) != 0) {
        return failure_set(failure, -EKEYREJECTED,
                           "The capsule is sealed for another key than this.");
    }
    int error = open_seal(&seal, stream, facts, identity, failure);
    error =
        error != 0 ? error : read_records(&seal, stream, facts->body_bytes, &body, &room, failure);
    error =
        error != 0 ? error : capsule_body_decode(body, (size_t)facts->body_bytes, &opened, failure);
    release(&seal);
    if (body != NULL) {
        noise_wipe(body, room);
        free(body);
    }
    if (error == 0) {
        opened->facts = *facts;
        *capsule = opened;
    }
    return error;
}

int capsule_expired(const struct capsule_facts *facts, uint64_t now_ms, struct failure *failure)
{
    char text[32] = "long ago";
    time_t when = (time_t)(facts->expires_ms / 1000);
    struct tm parts;
    if (now_ms < facts->expires_ms) {
        return 0;
    }
    if (gmtime_r(&when, &parts) != NULL) {
        (void)strftime(text, sizeof text, "%F %T UTC", &parts);
    }
    return failure_set(failure, -ETIME,
                       "The capsule expired at %s: the image is its source's again.", text);
}
