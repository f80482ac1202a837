// SPDX-License-Identifier: Apache-2.0
//
// The client's end of the handshake: a straight line with a deadline, since a client has nothing
// else to do with this socket meanwhile. It reads exactly what is due, never more: what follows
// ATTACHED belongs to the lane.
//
// Half of this file is about words. A server drops what does not open without an answer, so a wrong
// server key, a wrong psk and a refused suite look alike from here, as does a port behind which
// somebody else listens; the sentences say what to check, and a refusal that came sealed is passed
// on in the server's own words.
//
// It must never log or keep a secret: the Noise state is destroyed (wiped) on every path, the
// ciphers are handed out only when the whole exchange succeeded. Works on blocking and non-blocking
// sockets alike and leaves that flag as it was.
#include "rpc/handshake.h"

#include <errno.h>
#include <string.h>

#include "rpc/handshake_wire.h"
#include "rpc/tcp.h"

struct attempt {
    int fd;
    int64_t deadline;
    const struct handshake_client *client;
    struct failure *failure;
    struct noise_handshake *noise;
    struct noise_cipher *send, *receive;
    uint8_t hello[WIRE_HELLO_BYTES];
    bool answered; // message 2 came and opened
};

static int timed_out(struct attempt *a)
{
    return failure_set(a->failure, -ETIMEDOUT,
                       a->answered
                           ? "the server stopped answering in the middle of the handshake: is it "
                             "overloaded, or is the network cut?"
                           : "no answer from the server in time: is a dsmd listening at this "
                             "address, and does the network let its answers through?");
}

static int cut(struct attempt *a)
{
    return failure_set(
        a->failure, -ECONNRESET,
        a->answered ? "the server closed the connection after it had let us in: see its log"
                    : "the server closed the connection during the handshake: check DSM_SERVER_KEY "
                      "(is it really this server's public key?), DSM_PSK_FILE and DSM_SUITE");
}

static int malformed(struct attempt *a)
{
    return failure_set(a->failure, -EBADMSG,
                       a->answered
                           ? "the server sent a malformed handshake answer: do client and "
                             "server have the same version?"
                           : "what answered does not hold the private half of DSM_SERVER_KEY, "
                             "or has another DSM_PSK_FILE: check both, and the address");
}

static int no_memory(struct attempt *a)
{
    return failure_set(a->failure, -ENOMEM,
                       "no memory for a handshake: guarded memory counts against RLIMIT_MEMLOCK");
}

// What moving bytes came to, in words.
static int moved(struct attempt *a, int error)
{
    switch (error) {
    case 0:
        return 0;
    case -ENODATA:
        return cut(a);
    case -ETIMEDOUT:
        return timed_out(a);
    default:
        return failure_set(a->failure, error, "the connection failed during the handshake: %s",
                           strerrordesc_np(-error));
    }
}

static int send_all(struct attempt *a, const uint8_t *bytes, size_t count)
{
    return moved(a, tcp_send(a->fd, bytes, count, a->deadline));
}

static int receive_all(struct attempt *a, uint8_t *to, size_t count)
{
    return moved(a, tcp_receive(a->fd, to, count, a->deadline));
}

static int say_hello(struct attempt *a)
{
    uint8_t out[HANDSHAKE_HELLO_1_BYTES];
    struct wire_hello back;
    size_t written;
    wire_hello_encode(&a->client->hello, a->hello);
    if (wire_hello_decode(a->hello, &back) != 0) {
        return failure_set(a->failure, -EINVAL,
                           "cluster and server names must be 1 to 63 visible ASCII characters "
                           "without \"/\" (the server's may be empty)");
    }
    const struct noise_parameters parameters = {
        .pattern = noise_pattern_find(noise_product_pattern),
        .suite = (enum noise_suite)a->client->hello.suite,
        .initiator = true,
        .prologue = a->hello,
        .prologue_bytes = sizeof a->hello,
        .static_private = a->client->identity->private_key,
        .remote_static = a->client->server_key,
        .psks = handshake_psks(a->client->psk),
        .psk_count = 1,
    };
    int error = noise_handshake_start(a->noise, &parameters);
    memcpy(out, a->hello, sizeof a->hello);
    if (error == 0) {
        error = noise_handshake_write(a->noise, NULL, 0, out + WIRE_HELLO_BYTES,
                                      HANDSHAKE_MESSAGE_1_BYTES, &written);
    }
    if (error != 0) {
        return failure_set(
            a->failure, error,
            "DSM_SERVER_KEY is not a usable public key, or this CPU lacks the suite");
    }
    return send_all(a, out, sizeof out);
}

static int refused(struct attempt *a, enum wire_status status, const char *text,
                   enum wire_status *refusal)
{
    *refusal = status;
    return failure_set(a->failure, -EACCES, "the server refused the connection: %s",
                       text[0] != '\0' ? text : wire_status_text(status));
}

static int receive_attached(struct attempt *a, struct wire_attached *attached)
{
    uint8_t sealed[HANDSHAKE_ATTACHED_SEALED_BYTES];
    int error = receive_all(a, sealed, sizeof sealed);
    if (error != 0) {
        return error;
    }
    if (noise_open(a->receive, sealed, sizeof sealed, sealed) != 0 ||
        wire_attached_decode(sealed, attached) != 0) {
        return malformed(a);
    }
    return 0;
}

// A header ATTACH|ANSWER and its record. A verdict of WIRE_OK has none.
static int receive_answer(struct attempt *a, bool verdict, struct wire_attached *attached,
                          enum wire_status *refusal)
{
    uint8_t sealed[WIRE_HEADER_SEALED_BYTES];
    struct wire_header header;
    int error = receive_all(a, sealed, sizeof sealed);
    if (error != 0) {
        return error;
    }
    if (handshake_header_open(a->receive, sealed, WIRE_ATTACH | WIRE_ANSWER, &header) != 0 ||
        header.length != (verdict && header.status == WIRE_OK ? 0 : WIRE_ATTACHED_BYTES)) {
        return malformed(a);
    }
    if (header.length > 0) {
        error = receive_attached(a, attached);
    }
    if (error == 0 && header.status != WIRE_OK) {
        error = refused(a, (enum wire_status)header.status, attached->text, refusal);
    }
    return error;
}

static int receive_message_2(struct attempt *a)
{
    uint8_t message[HANDSHAKE_MESSAGE_2_BYTES], nothing[1];
    size_t bytes;
    int error = receive_all(a, message, sizeof message);
    if (error != 0) {
        return error;
    }
    if (noise_handshake_read(a->noise, message, sizeof message, nothing, 0, &bytes) != 0) {
        return malformed(a);
    }
    a->send = noise_cipher_create();
    a->receive = noise_cipher_create();
    if (a->send == NULL || a->receive == NULL) {
        return no_memory(a);
    }
    a->answered = true;
    return noise_handshake_split(a->noise, a->send, a->receive);
}

static int say_attach(struct attempt *a)
{
    uint8_t record[WIRE_ATTACH_BYTES];
    uint8_t out[WIRE_HEADER_SEALED_BYTES + HANDSHAKE_ATTACH_SEALED_BYTES];
    wire_attach_encode(&a->client->attach, record);
    int error = handshake_seal(a->send, WIRE_ATTACH, WIRE_OK, record, sizeof record, out);
    return error != 0 ? error : send_all(a, out, sizeof out);
}

static int exchange(struct attempt *a, struct wire_attached *attached, enum wire_status *refusal)
{
    int error = say_hello(a);
    if (error == 0) {
        error = receive_message_2(a);
    }
    if (error == 0) {
        error = receive_answer(a, true, attached, refusal);
    }
    if (error == 0) {
        error = say_attach(a);
    }
    if (error == 0) {
        error = receive_answer(a, false, attached, refusal);
    }
    return error;
}

int handshake_connect(int fd, const struct handshake_client *client, int64_t deadline,
                      struct noise_cipher **send, struct noise_cipher **receive,
                      struct wire_attached *attached, enum wire_status *refusal,
                      struct failure *failure)
{
    struct attempt a = {.fd = fd, .deadline = deadline, .client = client, .failure = failure};
    struct wire_attached answer = {0};
    enum wire_status ignored;
    a.noise = noise_handshake_create();
    int error = a.noise == NULL ? no_memory(&a)
                                : exchange(&a, &answer, refusal != NULL ? refusal : &ignored);
    if (a.noise != NULL) {
        noise_handshake_destroy(&a.noise);
    }
    if (error != 0) {
        noise_cipher_destroy(&a.send);
        noise_cipher_destroy(&a.receive);
        return error;
    }
    *send = a.send;
    *receive = a.receive;
    *attached = answer;
    return 0;
}
