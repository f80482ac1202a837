// SPDX-License-Identifier: Apache-2.0
//
// Where pages live when they are not here: the only room that knows servers. This is the path of page data: runs are sent
// over a lane that the caller owns, answers are gathered, and what a cut or a restart of the server undid is sent
// again until the deadline. Handler-safe throughout (over a lane_sock).
//
// A lane's owner is whoever took it, by compare-and-swap. With a lane in hand nobody waits for a page; so waiting for a
// lane while pages are checked out can always end.
//
// Direct: a thread that faulted does its run itself, in its handler, asynchronous signals blocked:
//     lane = backing_direct(backing, until)        NULL: let a worker do it
//     backing_read_send(...), backing_read_receive(...), also writes, on as many runs as are needed
//     each well or failed: backing_give(lane)
//     one of them -EINPROGRESS: the runs, copied to where another thread finds them, and the lane go to a worker; it says
//     backing_take_over(lane), calls the same receive again (the same run first, then the ones after it, in
//     the order of sending), and gives the lane back
// Until backing_take_over() nothing waits beyond `until`, nothing connects, no answer is sent for again.
#ifndef LIBDSM_BACKING_BACKING_H
#define LIBDSM_BACKING_BACKING_H

#include <stdatomic.h>
#include <stdbool.h>
#include <stdint.h>

#include "libdsm/backing/placement.h"
#include "libdsm/stat/stat.h"
#include "rpc/lane.h"
#include "rpc/wire.h"

enum backing_class {
    BACKING_CONTROL,
    BACKING_BULK,
    BACKING_CALL,
    BACKING_FAULT,
    BACKING_CLASS_COUNT
};

struct landing { // how far a read's answer is in; landing.c's own
    bool open;   // the header is here, and some of the pages are not
    struct wire_header answer;
    uint8_t *to;        // of the answer's first page, or NULL
    uint32_t page;      // of the answer's: where the next byte goes,
    uint32_t offset;    // and where in this page
    uint32_t delivered; // pages
    uint32_t left;      // bytes of page data to come
};

enum backing_fate { BACKING_WELL = 0, BACKING_FENCED, BACKING_LOST };

struct backing_lane {
    struct backing *backing;
    enum backing_class class;
    uint32_t number; // of the lane in its session
    _Atomic uint32_t owned;
    _Atomic uint32_t up;        // connection number while it is up, 0 while the keeper is at work
    _Atomic int64_t down_since; // CLOCK_MONOTONIC
    uint32_t connection;        // of the owner: the last one it saw
    uint64_t next_request;      // of the owner
    struct lane *lane;          // the owner's while up, the keeper's while not
    int64_t patience;           // of the owner: 0, or direct until then
    bool leave; // of the owner: the receive that is under way leaves off after this record, too
    struct landing landing; // of the owner: the read's answer that is being taken in
    bool timed;             // of the owner: what its requests cost is added to
    struct lane_times times;
    uint64_t down_ns; // of the owner, when timed: waited for the connection
};

struct backing_segment { // what page operations need to know
    uint64_t id;
    uint32_t number;        // in this process, for probes
    _Atomic uint64_t epoch; // rises when it is opened again after a lapse in which nobody wrote
    uint64_t pages;
    uint32_t page_bytes;
    _Atomic uint32_t fate;         // enum backing_fate
    _Atomic uint64_t next_version; // of the next write
    _Atomic uint64_t acknowledged; // the highest version that the server acknowledged
    _Atomic uint32_t resumes;      // times that the keeper began to open it again
};

struct backing {
    struct counters *stat;
    struct backing_lane lanes[LIMIT_LANES_PER_SESSION];
    uint32_t lane_count;
    _Atomic uint32_t given[BACKING_CLASS_COUNT];  // changes when a lane of the class is given back
    _Atomic uint32_t asleep[BACKING_CLASS_COUNT]; // who waits for one to be given back
    _Atomic uint32_t
        in_line[BACKING_CLASS_COUNT]; // who has waited for one so long that it is their turn
    _Atomic uint32_t resumed;         // changes when the keeper has opened the segments again
    _Atomic uint32_t broken;          // changes when a lane needs the keeper
    _Atomic uint32_t stopping;
    // Further stores by number (this is 0), with lanes of the same numbers and classes; set before anybody takes a lane.
    uint32_t store_count; // 0: no others
    struct backing *others[LIMIT_STORES];
};

struct backing_run {
    struct backing_segment *segment;
    uint64_t page;
    uint32_t count;
    uint64_t hint;           // read: page that comes next, or WIRE_NO_HINT
    uint64_t version;        // write
    const uint8_t *contents; // write: count pages, unchanged until the answer
    uint32_t store;          // to which the lane leads
    // The room's own.
    uint32_t sent_on; // connection number, 0: not sent
    uint64_t request;
    uint64_t epoch;   // under which it was sent
    uint32_t resumes; // of the segment, when it was sent
    uint32_t asked;   // count, at first
    uint32_t done;    // pages done so far, from the first
    int64_t begun;    // when it was sent first
    uint64_t bytes;   // read: of page data that came
};

// Breaks a virtual run (page, count, hint, contents) into the physical ones, in order, at most LIMIT_RUN_PIECES; returns
// how many. The hint goes with the last; each write has a version of its own store's.
uint32_t backing_break(const struct placement *placement, const struct backing_run *whole,
                       struct backing_run *runs);

// What a read does with the pages as they come. place: makes room; *to NULL: fill() takes the data, of one page or of
// several side by side. deliver: the data of these pages is complete and verified.
struct backing_sink {
    int (*place)(void *context, uint64_t page, uint32_t count, void **to);
    int (*fill)(void *context, uint64_t page, uint32_t offset, const void *from, uint32_t bytes);
    void (*deliver)(void *context, uint64_t page, uint32_t count);
};

// A lane of the class, waiting for one until the deadline; NULL then, or when the session stops. try: does not wait. With
// it come the lanes of its number to all other stores: taken one by one, they would be waited for in circles.
struct backing_lane *backing_take(struct backing *backing, enum backing_class class,
                                  int64_t deadline);
struct backing_lane *backing_try(struct backing *backing, enum backing_class class);
void backing_give(struct backing_lane *lane);
// A lane of BACKING_FAULT for the calling thread itself, up, to every store; NULL at once when there is none, or when others
// have waited for one too long (LANES_TURN_MS): 64 threads on 4 lanes cannot keep the workers from them. Until `until`
// receives that have to wait return -EINPROGRESS and lose nothing; so does one whose sink sets `leave`.
struct backing_lane *backing_direct(struct backing *backing, int64_t until);
// By the thread that goes on with a lane where a direct one left it: now it may wait.
void backing_take_over(struct backing_lane *lane);
struct backing_lane *backing_lane_to(struct backing_lane *lane, uint32_t store);
bool backing_up(const struct backing *backing,
                enum backing_class class); // all its lanes, of every store

// send: starts a run; several may be under way on a lane, and are received in the order of sending. Errors of the
// connection are kept for receive, which sends again what was lost, until the deadline.
// receive: 0, or run->done says how many pages from the first were done, and: -EIO no answer, cut, store error
// (hardware); -EREMOTEIO the server refused (software); -DSM_EFENCED, -DSM_ELOST; -ENOSPC, -EDQUOT (writes);
// -ETIMEDOUT; -ENOMEM from the sink. Direct: -EINPROGRESS (above); where a connection was cut, or the server bids to ask
// again, it is left to the next call, too. run may have moved to another place since, sink and context, too.
void backing_read_send(struct backing_lane *lane, struct backing_run *run, int64_t deadline);
int backing_read_receive(struct backing_lane *lane, struct backing_run *run,
                         const struct backing_sink *sink, void *context, int64_t deadline);
void backing_write_send(struct backing_lane *lane, struct backing_run *run, int64_t deadline);
int backing_write_receive(struct backing_lane *lane, struct backing_run *run, int64_t deadline);
// Pages lose their backing (WIRE_GIVE_UP), or have it again (WIRE_ALLOCATE: -ENOSPC and -EDQUOT, none has): any number of them, sent and
// answered; not direct. Results as of a write.
int backing_reserve(struct backing_lane *lane, struct backing_run *run, uint16_t op,
                    int64_t deadline);

// One control message and its answer, on a lane of class BACKING_CONTROL. Returns the bytes of the answer's payload (at
// most capacity) and its status, or -errno; does not send again.
struct backing_exchange {
    const void *request;
    uint32_t request_bytes;
    uint16_t op; // WIRE_CONTROL or WIRE_PING
    void *answer;
    uint32_t capacity;
    enum wire_status status;
};
ssize_t backing_exchange(struct backing_lane *lane, struct backing_exchange *exchange,
                         int64_t deadline);

int backing_fate_errno(enum backing_fate fate);
enum backing_fate backing_fate_of(const struct placement *placement, uint64_t page);
void backing_lane_down(
    struct backing_lane *lane); // by its owner: the keeper is to connect it again
void backing_lane_time(struct backing_lane *lane,
                       bool timed); // by its owner: from now on, from zero

#endif
