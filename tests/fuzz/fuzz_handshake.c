// SPDX-License-Identifier: Apache-2.0
//
// libFuzzer: both ends of the handshake on a socket pair. The first byte chooses what is tried with the rest:
//   0  a mask over an honest hello and message 1, fed to the server in portions: only the mask of zeros opens
//   1  the plain text of an authentic client's ATTACH: decoded or refused, and what is decoded is in range
//   2  what a client gets for an answer: it never takes it, and it never waits
//   3  nothing: while the server has an answer for it, the client goes, or does not read
// The second byte is the size of the portions, or which of the two. Nothing here depends on time.
#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#include "rpc/handshake.h"
#include "rpc/handshake_wire.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static struct key_identity client_key = {.private_key = {1}}, server_key = {.private_key = {2}};
static const uint8_t psk[1][NOISE_KEY_BYTES];
static const struct wire_hello hello = {.version = WIRE_VERSION,
                                        .suite = NOISE_CHACHAPOLY,
                                        .role = WIRE_ROLE_CLIENT,
                                        .lane_kind = WIRE_LANE_SOCK,
                                        .cluster = "fuzz"};
static struct handshake_slot *slot;
static struct handshake *server;
static struct noise_handshake *client;

static void require(bool holds)
{
    if (!holds) {
        abort();
    }
}

static void set_up(void)
{
    if (server != NULL) {
        return;
    }
    require(noise_init() == 0);
    require(noise_public_key(client_key.private_key, client_key.public_key) == 0);
    require(noise_public_key(server_key.private_key, server_key.public_key) == 0);
    slot = handshake_slot_create();
    client = noise_handshake_create();
    server = malloc(handshake_bytes());
    require(slot != NULL && client != NULL && server != NULL);
}

static void honest_message_1(uint8_t to[HANDSHAKE_HELLO_1_BYTES])
{
    size_t written;
    wire_hello_encode(&hello, to);
    const struct noise_parameters parameters = {
        .pattern = noise_pattern_find(noise_product_pattern),
        .suite = NOISE_CHACHAPOLY,
        .initiator = true,
        .prologue = to,
        .prologue_bytes = WIRE_HELLO_BYTES,
        .static_private = client_key.private_key,
        .remote_static = server_key.public_key,
        .psks = psk,
        .psk_count = 1,
    };
    require(noise_handshake_start(client, &parameters) == 0);
    require(noise_handshake_write(client, NULL, 0, to + WIRE_HELLO_BYTES, HANDSHAKE_MESSAGE_1_BYTES,
                                  &written) == 0);
}

static enum handshake_state feed(int fd, const uint8_t *bytes, size_t count, size_t portion)
{
    enum handshake_state state = handshake_step(server);
    for (size_t done = 0; done < count && state == HANDSHAKE_WAITING;) {
        size_t part = count - done < portion ? count - done : portion;
        require(send(fd, bytes + done, part, MSG_NOSIGNAL) == (ssize_t)part);
        done += part;
        state = handshake_step(server);
    }
    return state;
}

static void fuzz_message_1(int fd, const uint8_t *mask, size_t size, size_t portion)
{
    uint8_t message[HANDSHAKE_HELLO_1_BYTES];
    bool changed = false;
    honest_message_1(message);
    for (size_t i = 0; i < size && i < sizeof message; i++) {
        message[i] = (uint8_t)(message[i] ^ mask[i]);
        changed |= mask[i] != 0;
    }
    enum handshake_state state = feed(fd, message, sizeof message, portion);
    if (state == HANDSHAKE_MESSAGE_1) {
        state = handshake_open(server, slot, &server_key, psk[0]);
    }
    require(state == (changed ? HANDSHAKE_FAILED : HANDSHAKE_KNOWN));
}

// The honest client up to the verdict; its ciphers.
static void pass_verdict(int fd, struct noise_cipher *seal, struct noise_cipher *open)
{
    uint8_t message[HANDSHAKE_HELLO_1_BYTES], answer[HANDSHAKE_VERDICT_BYTES], nothing[1];
    size_t bytes;
    honest_message_1(message);
    require(feed(fd, message, sizeof message, sizeof message) == HANDSHAKE_MESSAGE_1);
    require(handshake_open(server, slot, &server_key, psk[0]) == HANDSHAKE_KNOWN);
    require(handshake_verdict(server, WIRE_OK, NULL) == HANDSHAKE_SENDING);
    require(handshake_step(server) == HANDSHAKE_WAITING);
    require(recv(fd, answer, sizeof answer, MSG_DONTWAIT) == (ssize_t)sizeof answer);
    require(noise_handshake_read(client, answer, HANDSHAKE_MESSAGE_2_BYTES, nothing, 0, &bytes) ==
            0);
    require(noise_handshake_split(client, seal, open) == 0);
}

static void fuzz_attach(int fd, const uint8_t *plain, size_t size, size_t portion)
{
    uint8_t text[WIRE_HEADER_BYTES + WIRE_ATTACH_BYTES] = {0};
    uint8_t sealed[WIRE_HEADER_SEALED_BYTES + HANDSHAKE_ATTACH_SEALED_BYTES];
    struct noise_cipher *seal = noise_cipher_create(), *open = noise_cipher_create();
    require(seal != NULL && open != NULL);
    pass_verdict(fd, seal, open);
    memcpy(text, plain, size < sizeof text ? size : sizeof text);
    require(noise_seal(seal, text, WIRE_HEADER_BYTES, sealed) == 0);
    require(noise_seal(seal, text + WIRE_HEADER_BYTES, WIRE_ATTACH_BYTES,
                       sealed + WIRE_HEADER_SEALED_BYTES) == 0);
    enum handshake_state state = feed(fd, sealed, sizeof sealed, portion);
    require(state == HANDSHAKE_ATTACHING || state == HANDSHAKE_FAILED);
    if (state == HANDSHAKE_ATTACHING) {
        const struct wire_attach *attach = handshake_attach(server);
        require(attach->lane < LIMIT_LANES_PER_SESSION);
        require(memchr(attach->holder, 0, sizeof attach->holder) != NULL);
        require(handshake_attached(server, WIRE_OK, NULL) == HANDSHAKE_FAILED);
    }
    noise_cipher_destroy(&seal);
    noise_cipher_destroy(&open);
}

static void fuzz_unread(int fds[2], bool gone)
{
    static const uint8_t junk[4096];
    uint8_t message[HANDSHAKE_HELLO_1_BYTES];
    honest_message_1(message);
    require(feed(fds[0], message, sizeof message, sizeof message) == HANDSHAKE_MESSAGE_1);
    require(handshake_open(server, slot, &server_key, psk[0]) == HANDSHAKE_KNOWN);
    while (!gone && send(fds[1], junk, sizeof junk, MSG_NOSIGNAL | MSG_DONTWAIT) > 0) {
    }
    require(handshake_verdict(server, WIRE_OK, NULL) == HANDSHAKE_SENDING);
    if (gone) {
        (void)shutdown(fds[0], SHUT_RDWR);
    }
    require(handshake_step(server) == (gone ? HANDSHAKE_FAILED : HANDSHAKE_SENDING));
}

static void fuzz_client(int fds[2], const uint8_t *answer, size_t size)
{
    struct handshake_client peer = {.identity = &client_key, .hello = hello};
    struct noise_cipher *seal = NULL, *open = NULL;
    struct wire_attached attached;
    struct failure failure;
    enum wire_status refusal;
    memcpy(peer.server_key, server_key.public_key, NOISE_KEY_BYTES);
    require(send(fds[1], answer, size, MSG_NOSIGNAL) == (ssize_t)size);
    shutdown(fds[1], SHUT_WR);
    int error =
        handshake_connect(fds[0], &peer, INT64_MAX, &seal, &open, &attached, &refusal, &failure);
    require(error == (size < HANDSHAKE_MESSAGE_2_BYTES ? -ECONNRESET : -EBADMSG));
    require(seal == NULL && open == NULL);
    require(memchr(failure.text, 0, sizeof failure.text) != NULL);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    int fds[2];
    if (size < 2) {
        return 0;
    }
    set_up();
    require(socketpair(AF_UNIX, SOCK_STREAM, 0, fds) == 0);
    handshake_start(server, fds[1]);
    size_t portion = (size_t)data[1] + 1;
    switch (data[0] % 4) {
    case 0:
        fuzz_message_1(fds[0], data + 2, size - 2, portion);
        break;
    case 1:
        fuzz_attach(fds[0], data + 2, size - 2, portion);
        break;
    case 3:
        fuzz_unread(fds, data[1] % 2 == 0);
        break;
    default:
        fuzz_client(fds, data + 2, size - 2);
        break;
    }
    handshake_end(server);
    close(fds[0]);
    close(fds[1]);
    return 0;
}
