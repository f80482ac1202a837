// SPDX-License-Identifier: Apache-2.0
//
// libFuzzer: records whose seal is good and whose contents are a hostile peer's. The first byte chooses the end: a client's
// lane that asked for pages and gets this for an answer, or a server's peer that gets this for a request. The rest is
// plain text, cut into a header and records of the length that it names, each sealed as it should be; what the last
// records lack is missing. Neither end may take more than was asked for, wait for ever, or go on after the end.
#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#include "rpc/lane.h"
#include "rpc/lane_peer.h"
#include "rpc/noise_pair.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t bytes);

enum { MOST_RECORDS = 8 };

static void require(bool holds)
{
    if (!holds) {
        abort();
    }
}

// Seals and sends the plain text; false: not all of it fits into the socket.
static void send_records(int fd, struct noise_cipher *seal, const uint8_t *plain, size_t bytes)
{
    uint8_t sealed[RECORD_SEALED_MAX];
    for (int i = 0; i < MOST_RECORDS && bytes > 0; i++) {
        uint8_t header[WIRE_HEADER_BYTES] = {0};
        size_t now = bytes < sizeof header ? bytes : sizeof header;
        if (i % 2 == 0) {
            memcpy(header, plain, now);
            require(noise_seal(seal, header, sizeof header, sealed) == 0);
            (void)send(fd, sealed, WIRE_HEADER_SEALED_BYTES, MSG_NOSIGNAL | MSG_DONTWAIT);
        } else {
            now = bytes < LIMIT_RECORD_DATA_BYTES ? bytes : LIMIT_RECORD_DATA_BYTES;
            require(noise_seal(seal, plain, now, sealed) == 0);
            (void)send(fd, sealed, now + LIMIT_SEAL_BYTES, MSG_NOSIGNAL | MSG_DONTWAIT);
        }
        plain += now;
        bytes -= now;
    }
    (void)shutdown(fd, SHUT_WR);
}

static void fuzz_client(struct noise_pair *pair, const uint8_t *plain, size_t bytes)
{
    int fds[2];
    require(socketpair(AF_UNIX, SOCK_STREAM | SOCK_NONBLOCK, 0, fds) == 0);
    struct lane *lane = lane_sock_create(fds[0], pair->send[0], pair->receive[0]);
    require(lane != NULL);
    pair->send[0] = pair->receive[0] = NULL;
    const struct wire_header request = {
        .op = WIRE_READ, .request = 7, .segment = 1, .epoch = 1, .count = 16, .hint = WIRE_NO_HINT};
    struct wire_header answer;
    require(lane->ops->send(lane, &request, NULL, 0, LANE_NO_DEADLINE) == 0);
    send_records(fds[1], pair->send[1], plain, bytes);
    int error = lane->ops->receive(lane, &answer, LANE_NO_DEADLINE);
    if (error == 0) {
        size_t got = 0;
        ssize_t n;
        const void *data;
        require(answer.request == 7 && answer.length <= LIMIT_RUN_BYTES && answer.count <= 16);
        while ((n = lane->ops->receive_data(lane, NULL, &data, LANE_NO_DEADLINE)) > 0) {
            require((size_t)n <= LIMIT_RECORD_DATA_BYTES);
            got += (size_t)n;
        }
        require(n < 0 || got == answer.length);
        error = (int)n;
    }
    if (error < 0) {
        require(lane->ops->receive(lane, &answer, LANE_NO_DEADLINE) < 0);
    }
    lane_destroy(&lane);
    (void)close(fds[1]);
}

static void fuzz_server(struct noise_pair *pair, const uint8_t *plain, size_t bytes)
{
    static uint8_t buffer[LANE_PAYLOAD_BUFFER_BYTES];
    static const struct lane_peer_ops none;
    uint8_t sealed[RECORD_SEALED_MAX], header[WIRE_HEADER_BYTES] = {0};
    struct lane_peer peer;
    struct wire_header request;
    lane_peer_init(&peer, &none, &lane_wear_product, pair->send[0], pair->receive[0], NULL);
    pair->send[0] = pair->receive[0] = NULL;
    size_t now = bytes < sizeof header ? bytes : sizeof header;
    memcpy(header, plain, now);
    plain += now;
    bytes -= now;
    require(noise_seal(pair->send[1], header, sizeof header, sealed) == 0);
    int error = lane_peer_open_header(&peer, sealed, &request);
    if (error == 0) {
        struct lane_intake intake;
        uint8_t *to;
        require(request.length <= LIMIT_RUN_BYTES);
        lane_intake_start(&intake, buffer, request.length);
        for (size_t want; error == 0 && (want = lane_intake_want(&intake, &to)) > 0;) {
            require(want > LIMIT_SEAL_BYTES && want <= sizeof sealed);
            require(to >= buffer && to + want <= buffer + sizeof buffer);
            memset(to, 0, want);
            memcpy(to, plain, bytes < want - LIMIT_SEAL_BYTES ? bytes : want - LIMIT_SEAL_BYTES);
            require(noise_seal(pair->send[1], to, want - LIMIT_SEAL_BYTES, to) == 0);
            to[0] ^= bytes == 1 ? 1 : 0;
            error = lane_intake_took(&intake, &peer, want);
        }
        require(error == 0 || error == -EBADMSG);
    }
    lane_peer_clear(&peer);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t bytes)
{
    struct noise_pair pair;
    if (bytes < 2) {
        return 0;
    }
    require(noise_pair_create(&pair, NOISE_CHACHAPOLY) == 0);
    if (data[0] % 2 == 0) {
        fuzz_client(&pair, data + 1, bytes - 1);
    } else {
        fuzz_server(&pair, data + 1, bytes - 1);
    }
    noise_pair_destroy(&pair);
    return 0;
}
