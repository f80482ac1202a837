// SPDX-License-Identifier: Apache-2.0
//
// Runs published Noise test vectors: noise_vectors FILE...
//
// A file is the JSON that Noise libraries exchange: an object with a list "vectors", each with
// fixed keys and the messages that must come of them. Both sides are run: what the sending side
// writes must be the given ciphertext to the byte, the receiving side must read the given payload
// from it, and where a handshake hash is given both must end in it. Everything but the name and the
// messages may be left out: prologues are then empty, a psk list is the other side's, and a remote
// static is the public half of the other side's static key. Other keys of a vector are not ours and
// are passed over.
//
// Messages alternate, the initiator's first, through the handshake and after it; in a one-way
// pattern all are the initiator's. A vector whose handshake does not end, a file without vectors
// and a file that cannot be read count as failed: what was not tested must not look as if it had
// passed. Each failure is a line with the vector's name; the last line is the count. Exit code 0
// only when nothing failed; 2 when there was nothing to run.
//
// One thread, a few buffers in the largest size of a message.
#include <jansson.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "rpc/noise.h"

enum { PSKS_MAX = 8, PATTERN_BYTES = 64, INITIATOR = 0, RESPONDER = 1 };

struct bytes {
    size_t count;
    bool given;
    uint8_t data[NOISE_MESSAGE_MAX];
};

struct side {
    struct bytes prologue, static_private, ephemeral, remote_static;
    uint8_t psks[PSKS_MAX][NOISE_KEY_BYTES];
    size_t psk_count;
    struct noise_handshake *handshake;
    struct noise_cipher *send, *receive;
};

struct run {
    struct side sides[2];
    struct bytes payload, ciphertext, hash;
    uint8_t sent[NOISE_MESSAGE_MAX], received[NOISE_MESSAGE_MAX];
    bool one_way;
    bool transport; // the handshake is over on both sides
    const char *why;
};

static bool fail(struct run *run, const char *why)
{
    run->why = why;
    return false;
}

static int hex_digit(char c)
{
    static const char digits[] = "0123456789abcdef";
    const char *at = c == '\0' ? NULL : strchr(digits, c >= 'A' && c <= 'F' ? c - 'A' + 'a' : c);
    return at == NULL ? -1 : (int)(at - digits);
}

static bool hex_decode(const char *text, uint8_t *to, size_t capacity, size_t *count)
{
    size_t length = strlen(text);
    if (length % 2 != 0 || length / 2 > capacity) {
        return false;
    }
    for (size_t i = 0; i < length; i += 2) {
        int high = hex_digit(text[i]);
        int low = hex_digit(text[i + 1]);
        if (high < 0 || low < 0) {
            return false;
        }
        to[i / 2] = (uint8_t)(high << 4 | low);
    }
    *count = length / 2;
    return true;
}

// A key that is left out gives no bytes; one that is not hexadecimal is an error.
static bool get_bytes(const json_t *object, const char *prefix, const char *name, struct bytes *to)
{
    char key[64];
    (void)snprintf(key, sizeof key, "%s%s", prefix, name);
    const json_t *value = json_object_get(object, key);
    to->count = 0;
    to->given = value != NULL && !json_is_null(value);
    if (!to->given) {
        return true;
    }
    return json_is_string(value) &&
           hex_decode(json_string_value(value), to->data, sizeof to->data, &to->count);
}

static bool get_key(const json_t *object, const char *prefix, const char *name, struct bytes *to)
{
    return get_bytes(object, prefix, name, to) && (!to->given || to->count == NOISE_KEY_BYTES);
}

static bool get_psks(const json_t *object, const char *prefix, struct side *side)
{
    char key[64];
    (void)snprintf(key, sizeof key, "%spsks", prefix);
    const json_t *list = json_object_get(object, key);
    side->psk_count = json_array_size(list); // 0 for NULL
    if (side->psk_count > PSKS_MAX) {
        return false;
    }
    for (size_t i = 0; i < side->psk_count; i++) {
        size_t count;
        const char *text = json_string_value(json_array_get(list, i));
        if (text == NULL || !hex_decode(text, side->psks[i], NOISE_KEY_BYTES, &count) ||
            count != NOISE_KEY_BYTES) {
            return false;
        }
    }
    return true;
}

static bool get_side(const json_t *vector, const char *prefix, struct side *side)
{
    return get_bytes(vector, prefix, "prologue", &side->prologue) &&
           get_key(vector, prefix, "static", &side->static_private) &&
           get_key(vector, prefix, "ephemeral", &side->ephemeral) &&
           get_key(vector, prefix, "remote_static", &side->remote_static) &&
           get_psks(vector, prefix, side);
}

// Fills in what a side leaves out and the other side says.
static void complete_side(struct side *side, const struct side *other)
{
    if (!side->remote_static.given && other->static_private.given) {
        (void)noise_public_key(other->static_private.data, side->remote_static.data);
        side->remote_static.count = NOISE_KEY_BYTES;
        side->remote_static.given = true;
    }
    if (side->psk_count == 0) {
        memcpy(side->psks, other->psks, sizeof side->psks);
        side->psk_count = other->psk_count;
    }
}

// Noise_PATTERN_25519_CIPHER_BLAKE2b.
static bool parse_name(const char *name, char pattern[PATTERN_BYTES], enum noise_suite *suite)
{
    char cipher[16];
    int end = 0;
    if (sscanf(name, "Noise_%63[^_]_25519_%15[^_]_BLAKE2b%n", pattern, cipher, &end) != 2 ||
        end == 0 || name[end] != '\0') {
        return false;
    }
    *suite = strcmp(cipher, "AESGCM") == 0 ? NOISE_AESGCM : NOISE_CHACHAPOLY;
    return *suite == NOISE_AESGCM || strcmp(cipher, "ChaChaPoly") == 0;
}

static bool start_side(struct side *side, const struct noise_pattern *pattern,
                       enum noise_suite suite, bool initiator)
{
    struct noise_parameters p = {
        .pattern = pattern,
        .suite = suite,
        .initiator = initiator,
        .prologue = side->prologue.data,
        .prologue_bytes = side->prologue.count,
        .static_private = side->static_private.given ? side->static_private.data : NULL,
        .remote_static = side->remote_static.given ? side->remote_static.data : NULL,
        .psks = (const uint8_t(*)[NOISE_KEY_BYTES])side->psks,
        .psk_count = side->psk_count,
        .ephemeral_private = side->ephemeral.given ? side->ephemeral.data : NULL,
    };
    return noise_handshake_start(side->handshake, &p) == 0;
}

static bool start(struct run *run, const json_t *vector, const char *name)
{
    char pattern_name[PATTERN_BYTES];
    enum noise_suite suite;
    if (!parse_name(name, pattern_name, &suite)) {
        return fail(run, "not a protocol of 25519, AESGCM or ChaChaPoly, BLAKE2b");
    }
    if (!noise_suite_available(suite)) {
        return fail(run, "this CPU lacks the cipher");
    }
    const struct noise_pattern *pattern = noise_pattern_find(pattern_name);
    if (pattern == NULL) {
        return fail(run, "unknown pattern");
    }
    run->one_way = strchr("NKX", pattern_name[0]) != NULL &&
                   (pattern_name[1] == '\0' || pattern_name[1] == 'p');
    run->transport = false;
    if (!get_side(vector, "init_", &run->sides[INITIATOR]) ||
        !get_side(vector, "resp_", &run->sides[RESPONDER]) ||
        !get_bytes(vector, "", "handshake_hash", &run->hash)) {
        return fail(run, "a field is not of the right form");
    }
    complete_side(&run->sides[INITIATOR], &run->sides[RESPONDER]);
    complete_side(&run->sides[RESPONDER], &run->sides[INITIATOR]);
    if (!start_side(&run->sides[INITIATOR], pattern, suite, true) ||
        !start_side(&run->sides[RESPONDER], pattern, suite, false)) {
        return fail(run, "a key that the pattern needs is missing, or there are too many psks");
    }
    return true;
}

static bool hash_agrees(const struct run *run, const struct side *side)
{
    return !run->hash.given ||
           (run->hash.count == NOISE_HASH_BYTES &&
            memcmp(noise_handshake_hash(side->handshake), run->hash.data, NOISE_HASH_BYTES) == 0);
}

static bool finish_handshake(struct run *run)
{
    for (int i = 0; i < 2; i++) {
        struct side *side = &run->sides[i];
        if (!noise_handshake_done(side->handshake)) {
            return fail(run, "one side's handshake is over, the other's is not");
        }
        if (!hash_agrees(run, side)) {
            return fail(run, "handshake hash differs");
        }
        if (noise_handshake_split(side->handshake, side->send, side->receive) != 0) {
            return fail(run, "handshake did not split");
        }
    }
    run->transport = true;
    return true;
}

static int write_message(struct run *run, struct side *from, size_t *sent)
{
    const struct bytes *payload = &run->payload;
    if (run->transport) {
        *sent = payload->count + NOISE_TAG_BYTES;
        return noise_seal(from->send, payload->data, payload->count, run->sent);
    }
    return noise_handshake_write(from->handshake, payload->data, payload->count, run->sent,
                                 sizeof run->sent, sent);
}

static int read_message(struct run *run, struct side *to, size_t *received)
{
    const struct bytes *message = &run->ciphertext;
    if (run->transport) {
        *received = message->count - NOISE_TAG_BYTES;
        return noise_open(to->receive, message->data, message->count, run->received);
    }
    return noise_handshake_read(to->handshake, message->data, message->count, run->received,
                                sizeof run->received, received);
}

static bool run_message(struct run *run, const json_t *message, size_t index)
{
    int sender = run->one_way || index % 2 == 0 ? INITIATOR : RESPONDER;
    struct side *from = &run->sides[sender];
    struct side *to = &run->sides[1 - sender];
    if (!get_bytes(message, "", "payload", &run->payload) ||
        !get_bytes(message, "", "ciphertext", &run->ciphertext) || !run->ciphertext.given) {
        return fail(run, "not of the right form");
    }
    size_t bytes = 0;
    if (write_message(run, from, &bytes) != 0) {
        return fail(run, "could not be written");
    }
    if (bytes != run->ciphertext.count || memcmp(run->sent, run->ciphertext.data, bytes) != 0) {
        return fail(run, "ciphertext differs");
    }
    if (read_message(run, to, &bytes) != 0) {
        return fail(run, "could not be read");
    }
    if (bytes != run->payload.count || memcmp(run->received, run->payload.data, bytes) != 0) {
        return fail(run, "payload differs");
    }
    return run->transport || !noise_handshake_done(from->handshake) || finish_handshake(run);
}

static bool run_vector(struct run *run, const json_t *vector, const char *file, const char *name)
{
    size_t index;
    json_t *message;
    if (!start(run, vector, name)) {
        printf("FAILED %s: %s: %s\n", file, name, run->why);
        return false;
    }
    json_array_foreach(json_object_get(vector, "messages"), index, message)
    {
        if (!run_message(run, message, index)) {
            printf("FAILED %s: %s: message %zu: %s\n", file, name, index + 1, run->why);
            return false;
        }
    }
    if (!run->transport) {
        printf("FAILED %s: %s: the messages end before the handshake does\n", file, name);
    }
    return run->transport;
}

static void run_file(struct run *run, const char *file, unsigned *passed, unsigned *failed)
{
    json_error_t error;
    json_t *root = json_load_file(file, 0, &error);
    if (root == NULL) {
        printf("FAILED %s: line %d: %s\n", file, error.line, error.text);
        *failed += 1;
        return;
    }
    const json_t *vectors = json_is_array(root) ? root : json_object_get(root, "vectors");
    if (json_array_size(vectors) == 0) {
        printf("FAILED %s: holds no list of vectors\n", file);
        *failed += 1;
    }
    size_t index;
    json_t *vector;
    json_array_foreach(vectors, index, vector)
    {
        const char *name = json_string_value(json_object_get(vector, "protocol_name"));
        if (name == NULL) {
            name = json_string_value(json_object_get(vector, "name"));
        }
        if (run_vector(run, vector, file, name != NULL ? name : "(vector without a name)")) {
            *passed += 1;
        } else {
            *failed += 1;
        }
    }
    json_decref(root);
}

static bool create_side(struct side *side)
{
    side->handshake = noise_handshake_create();
    side->send = noise_cipher_create();
    side->receive = noise_cipher_create();
    return side->handshake != NULL && side->send != NULL && side->receive != NULL;
}

static void destroy_side(struct side *side)
{
    noise_cipher_destroy(&side->receive);
    noise_cipher_destroy(&side->send);
    noise_handshake_destroy(&side->handshake);
}

int main(int argc, char **argv)
{
    if (argc < 2) {
        (void)fprintf(stderr, "Usage: noise_vectors FILE...\n");
        return 2;
    }
    struct run *run = calloc(1, sizeof *run);
    if (noise_init() != 0 || run == NULL || !create_side(&run->sides[INITIATOR]) ||
        !create_side(&run->sides[RESPONDER])) {
        (void)fprintf(stderr, "noise_vectors: not enough memory\n");
        return 2;
    }
    unsigned passed = 0;
    unsigned failed = 0;
    for (int i = 1; i < argc; i++) {
        run_file(run, argv[i], &passed, &failed);
    }
    destroy_side(&run->sides[RESPONDER]);
    destroy_side(&run->sides[INITIATOR]);
    free(run);
    printf("%u passed, %u failed\n", passed, failed);
    return failed == 0 ? 0 : 1;
}
