// SPDX-License-Identifier: Apache-2.0
//
// The client's end of a lane: one authenticated connection of a session, used by one thread at a time (its
// owner; ownership is the pager's business, by compare-and-swap). The owner may send several requests
// before it takes the answers: a lane answers in the order in which it was asked.
//
// Deadlines are CLOCK_MONOTONIC nanoseconds (LANE_NO_DEADLINE = wait for ever). After any error but
// -EAGAIN and -EINPROGRESS the lane is dead: only shut and destroy remain. -EINVAL (not a request, or nothing was asked) leaves it
// as it was. At most 64 requests wait for their answers (more: -EAGAIN). A server keeps up to
// LIMIT_LANE_IN_FLIGHT_BYTES of answers that nobody takes and then reads no more: who asks for more than that
// before taking answers may wait in send until its deadline.
//
// Patience: a thread that may not wait for long (it sits in a signal handler) sets lane->patience. When it has passed,
// receive and receive_data of a lane_sock return -EINPROGRESS with nothing lost, at a record's or at any other byte:
// whoever owns the lane then calls the same operation again, on any thread, and gets what this call would have got. So
// a late answer never meets another question. A send is not divided so: a socket that takes no bytes for that long is
// -ETIMEDOUT, and the lane is dead. Other lanes have no patience to lose, and wait until the deadline.
//
// Errors: -ETIMEDOUT deadline passed, -ECONNRESET cut, -ESHUTDOWN closed in order by the peer, -EBADMSG not
// authentic or malformed, -ENOTCONN dead already.
//
// send, receive and receive_data of lane_sock and lane_loop are async-signal-safe and allocate nothing:
// everything is preallocated by create. lane_grpc allocates per message.
#ifndef RPC_LANE_H
#define RPC_LANE_H

#include <stdint.h>
#include <sys/uio.h>

#include "rpc/noise.h"
#include "rpc/spin.h"
#include "rpc/wire.h"

#define LANE_NO_DEADLINE INT64_MAX

struct lane;

struct lane_ops {
    // Seals and sends the header and header->length payload bytes gathered from `pieces`.
    int (*send)(struct lane *lane, const struct wire_header *header, const struct iovec *pieces,
                int count, int64_t deadline);
    // The next answer's header. Whatever is left of the present answer's payload is opened and dropped.
    int (*receive)(struct lane *lane, struct wire_header *header, int64_t deadline);
    // The next record of the present answer's payload, opened into `to` when that is not NULL (it must have room
    // for LIMIT_RECORD_DATA_BYTES or for what is left of the payload), else into the lane's own buffer, valid
    // until the next call. *data says where it is; returns its bytes, 0 at the end of the payload.
    ssize_t (*receive_data)(struct lane *lane, void *to, const void **data, int64_t deadline);
    // Makes every present and later operation fail with -ENOTCONN. Any thread, any time before destroy.
    void (*shut)(struct lane *lane);
    // Says CLOSE when the lane is healthy, then frees. Not while another thread is in an operation.
    void (*destroy)(struct lane *lane);
};

struct lane_counts {     // of this lane, by its owner
    uint64_t sent_bytes; // on the wire, sealed
    uint64_t received_bytes;
    uint64_t requests;
};

struct lane_times {     // where a request's time went, added up by the owner's operations
    uint64_t io_ns;     // sending, and waiting for bytes
    uint64_t cipher_ns; // sealing and opening, at this end
    // As the answers' headers say.
    uint64_t server_ns;        // at the server, its cipher included
    uint64_t server_cipher_ns; // of these
    uint64_t data_bytes;       // of payload, opened
};

struct lane { // the head of every implementation's struct
    const struct lane_ops *ops;
    struct lane_counts counts;
    uint32_t ahead; // sealed bytes that are here already, of what receive_data will open next
    struct lane_times *times; // the owner's; NULL: nothing is timed
    struct spin spin;         // the owner's; its share is NULL at first: a lane_sock does not spin
    int64_t patience;         // the owner's; CLOCK_MONOTONIC, LANE_NO_DEADLINE (at first): for ever
};

// Each takes over fd and both cipher states (on failure, too, they are released). fd: connected stream socket.
// NULL and errno on failure.
struct lane *lane_sock_create(int fd, struct noise_cipher *send, struct noise_cipher *receive);
struct lane *lane_grpc_create(int fd, struct noise_cipher *send, struct noise_cipher *receive);

// lane_loop: in-process, for tests. Every request goes to `answer`, on the caller's thread at the time of its
// receive(), sealed and opened on the way as on any lane. answer gets the request's opened payload and fills in
// the answer's header and up to LIMIT_RUN_BYTES of payload; a return < 0 breaks the lane with that error.
typedef int lane_loop_answer(void *context, const struct wire_header *request, const void *payload,
                             struct wire_header *answer, void *answer_payload);
struct lane *lane_loop_create(lane_loop_answer *answer, void *context);

// gRPC's start and stop, for whoever creates the first and destroys the last lane_grpc.
void lane_grpc_library_get(void);
void lane_grpc_library_put(void);

static inline void lane_destroy(struct lane **lane)
{
    if (*lane != NULL) {
        (*lane)->ops->destroy(*lane);
        *lane = NULL;
    }
}

#endif
