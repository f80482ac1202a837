// SPDX-License-Identifier: Apache-2.0
//
// From a connected stream socket to an authenticated, attached one: hello, Noise message 1, message 2, then a sealed
// ATTACH and a sealed ATTACHED, all on the raw socket, in fixed buffers. Only what comes out of here goes on
// to a lane.
//
//   client                                server
//   hello (plain) | message 1 (96)  -->
//                                   <--   message 2 (48) | sealed verdict header (op ATTACH|ANSWER, status)
//   sealed header ATTACH + record   -->   (only after a verdict of WIRE_OK)
//                                   <--   sealed header ATTACH|ANSWER, status + attached record
//
// What does not open is dropped without an answer. What opens but may not come in gets message 2, a verdict header
// whose status says why with an `attached` record whose text is a sentence, and the end of the connection.
#ifndef RPC_HANDSHAKE_H
#define RPC_HANDSHAKE_H

#include "rpc/failure.h"
#include "rpc/keyfile.h"
#include "rpc/noise.h"
#include "rpc/wire.h"

struct handshake_client {
    const struct key_identity *identity;
    uint8_t server_key[NOISE_KEY_BYTES];
    const uint8_t *psk;      // NOISE_KEY_BYTES, where keys may lie; NULL: zeros
    struct wire_hello hello; // suite included
    struct wire_attach attach;
};

// Runs the client's part on fd (blocking or not) until `deadline` (CLOCK_MONOTONIC ns). On success both ciphers are
// made and *attached is filled in; else the failure's text says what to do, and -ETIMEDOUT, -ECONNRESET (dropped
// without an answer: wrong server key, psk or suite, or no dsmd), -EACCES (refused; text from the server),
// -EBADMSG. fd stays the caller's.
int handshake_connect(int fd, const struct handshake_client *client, int64_t deadline,
                      struct noise_cipher **send, struct noise_cipher **receive,
                      struct wire_attached *attached, enum wire_status *refusal,
                      struct failure *failure);

// The server's part: a state machine over a non-blocking socket, with fixed memory.
struct handshake;

enum handshake_state {
    HANDSHAKE_WAITING,   // needs more bytes (poll for reading)
    HANDSHAKE_SENDING,   // has bytes to send (poll for writing)
    HANDSHAKE_MESSAGE_1, // hello and message 1 are complete: give it a slot with handshake_open()
    HANDSHAKE_KNOWN,     // the client's key is known: say handshake_verdict()
    HANDSHAKE_ATTACHING, // the first transport record decrypted: say handshake_attached()
    HANDSHAKE_DONE,      // attached was sent: take the ciphers
    HANDSHAKE_REFUSED,   // a refusal was sent: close
    HANDSHAKE_FAILED,    // drop without an answer
};

struct
    handshake_slot; // the expensive part: a noise handshake in guarded memory; made at start, reused
struct handshake_slot *handshake_slot_create(void);
void handshake_slot_destroy(struct handshake_slot **slot);

size_t handshake_bytes(void); // of a struct handshake, for whoever keeps an array of them
void handshake_start(struct handshake *handshake, int fd);
// Reads or writes what fd allows. Never blocks.
enum handshake_state handshake_step(struct handshake *handshake);
const struct wire_hello *handshake_hello(const struct handshake *handshake); // from MESSAGE_1 on
// HANDSHAKE_MESSAGE_1 -> KNOWN or FAILED. identity and psk (NULL: zeros) are only read during the call.
enum handshake_state handshake_open(struct handshake *handshake, struct handshake_slot *slot,
                                    const struct key_identity *identity, const uint8_t *psk);
const uint8_t *handshake_client_key(const struct handshake *handshake); // from KNOWN on
// HANDSHAKE_KNOWN -> SENDING; text may be NULL when status is WIRE_OK.
enum handshake_state handshake_verdict(struct handshake *handshake, enum wire_status status,
                                       const char *text);
const struct wire_attach *handshake_attach(const struct handshake *handshake); // from ATTACHING on
// HANDSHAKE_ATTACHING -> SENDING.
enum handshake_state handshake_attached(struct handshake *handshake, enum wire_status status,
                                        const struct wire_attached *attached);
// DONE: hands over both ciphers. The slot is free again.
void handshake_take(struct handshake *handshake, struct noise_cipher **send,
                    struct noise_cipher **receive);
// Any state: wipes, and frees ciphers that nobody took. The fd stays the caller's.
void handshake_end(struct handshake *handshake);

#endif
