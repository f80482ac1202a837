// SPDX-License-Identifier: Apache-2.0
//
// See the header. A message is a sealed head (what it is, how long the rest is) and, where there is any, one sealed record. Nothing is
// taken from the socket but what the head says, and the head is bounded before anything is read.
//
// A peer that is silent, or does not read, costs its deadline and no more (rpc/tcp.h).
#include "tools/mover_link.h"

#include <errno.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

#include "rpc/deadline.h"
#include "rpc/tcp.h"
#include "rpc/wire.h"

enum { HEAD_BYTES = 8, SAY_MS = 30000, OFFER_FIXED_BYTES = 4 };

void mover_link_end(struct mover_link *link)
{
    noise_cipher_destroy(&link->send);
    noise_cipher_destroy(&link->receive);
    if (link->fd >= 0) {
        (void)close(link->fd);
        link->fd = -1;
    }
}

int mover_say(struct mover_link *link, enum mover_message message, const void *bytes, size_t count)
{
    uint8_t out[HEAD_BYTES + MOVER_MOST_BYTES + 2 * LIMIT_SEAL_BYTES];
    size_t total = HEAD_BYTES + LIMIT_SEAL_BYTES;
    memset(out, 0, HEAD_BYTES);
    out[0] = (uint8_t)message;
    for (unsigned i = 0; i < 4; i++) {
        out[4 + i] = (uint8_t)(count >> (8 * i));
    }
    int error = count > MOVER_MOST_BYTES ? -EMSGSIZE : noise_seal(link->send, out, HEAD_BYTES, out);
    if (error == 0 && count > 0) {
        error = noise_seal(link->send, bytes, count, out + total);
        total += count + LIMIT_SEAL_BYTES;
    }
    return error != 0 ? error : tcp_send(link->fd, out, total, deadline_after_ms(SAY_MS));
}

int mover_hear(struct mover_link *link, int64_t deadline, enum mover_message *message, uint8_t *to,
               size_t *count)
{
    uint8_t head[HEAD_BYTES + LIMIT_SEAL_BYTES];
    uint8_t sealed[MOVER_MOST_BYTES + LIMIT_SEAL_BYTES];
    int error = tcp_receive(link->fd, head, sizeof head, deadline);
    if (error != 0) {
        return error;
    }
    if (noise_open(link->receive, head, sizeof head, head) != 0) {
        return -EBADMSG;
    }
    size_t bytes =
        (size_t)head[4] | (size_t)head[5] << 8 | (size_t)head[6] << 16 | (size_t)head[7] << 24;
    if (head[0] == 0 || head[0] > MOVER_LAST || (head[1] | head[2] | head[3]) != 0 ||
        bytes > MOVER_MOST_BYTES) {
        return -EBADMSG;
    }
    if (bytes > 0) {
        error = tcp_receive(link->fd, sealed, bytes + LIMIT_SEAL_BYTES, deadline);
        if (error == 0 && noise_open(link->receive, sealed, bytes + LIMIT_SEAL_BYTES, to) != 0) {
            error = -EBADMSG;
        }
    }
    if (error == 0) {
        to[bytes] = 0;
        *message = (enum mover_message)head[0];
        *count = bytes;
    }
    return error;
}

// version (2), bytes of the build id (2), the build id, the name to the end
size_t mover_offer_encode(const struct mover_offer *offer, uint8_t *to)
{
    size_t name = strlen(offer->name);
    to[0] = MOVER_VERSION;
    to[1] = 0;
    to[2] = (uint8_t)offer->build_id_bytes;
    to[3] = 0;
    memcpy(to + OFFER_FIXED_BYTES, offer->build_id, offer->build_id_bytes);
    memcpy(to + OFFER_FIXED_BYTES + offer->build_id_bytes, offer->name, name);
    return OFFER_FIXED_BYTES + offer->build_id_bytes + name;
}

int mover_offer_decode(const uint8_t *from, size_t count, struct mover_offer *offer)
{
    memset(offer, 0, sizeof *offer);
    if (count < OFFER_FIXED_BYTES || from[0] != MOVER_VERSION || from[1] != 0 || from[3] != 0 ||
        from[2] == 0 || from[2] > LIMIT_BUILD_ID_BYTES ||
        count < (size_t)OFFER_FIXED_BYTES + from[2]) {
        return -EBADMSG;
    }
    size_t name = count - OFFER_FIXED_BYTES - from[2];
    if (name >= sizeof offer->name) {
        return -EBADMSG;
    }
    offer->build_id_bytes = from[2];
    memcpy(offer->build_id, from + OFFER_FIXED_BYTES, from[2]);
    memcpy(offer->name, from + OFFER_FIXED_BYTES + from[2], name);
    return wire_segment_name_valid(offer->name) ? 0 : -EBADMSG;
}

int mover_split(const char *address, char host[256], char port[8])
{
    const char *colon = strrchr(address, ':');
    bool bracketed = address[0] == '[';
    const char *end = bracketed ? strchr(address, ']') : colon;
    if (bracketed && (end == NULL || (end[1] != 0 && end[1] != ':'))) {
        return -EINVAL;
    }
    if (!bracketed && colon != NULL && strchr(address, ':') != colon) {
        end = NULL; // an IPv6 address alone
        colon = NULL;
    }
    const char *number = bracketed && end[1] == 0 ? NULL : colon;
    const char *start = bracketed ? address + 1 : address;
    size_t bytes = end != NULL ? (size_t)(end - start) : strlen(start);
    if (bytes == 0 || bytes >= 256 ||
        (number != NULL && (number[1] == 0 || strlen(number + 1) > 5))) {
        return -EINVAL;
    }
    memcpy(host, start, bytes);
    host[bytes] = 0;
    (void)snprintf(port, 8, "%d", MOVER_PORT);
    if (number != NULL) {
        (void)snprintf(port, 8, "%s", number + 1);
    }
    return strspn(port, "0123456789") == strlen(port) ? 0 : -EINVAL;
}
