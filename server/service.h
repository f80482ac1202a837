// SPDX-License-Identifier: Apache-2.0
//
// The service: request -> session -> store. It owns the catalog, the authorized keys, and the
// registry of lanes; the fronts call it for every message, the listener for every connection that
// has authenticated itself.
#ifndef SERVER_SERVICE_H
#define SERVER_SERVICE_H

#include "rpc/lane_server.h"
#include "server/catalog.h"
#include "server/log.h"

struct service;
struct tally;
struct service_lane; // one attached connection, or one that waits for its older self to end

struct service_options {
    struct store *store; // borrowed; outlives the service
    int64_t lease_ms;
    const char *server_name;
    void (*wake)(void *context); // any thread: a lane has ended, one that waits for it may go on
    void *wake_context;
    struct log *log; // borrowed; NULL: what clients are refused is not told
};

// What fronts call; `user` is the service_lane.
extern const struct lane_service service_calls;

// Takes over *grants. 0 or -ENOMEM.
int service_create(const struct service_options *options, struct key_grants **grants,
                   struct service **service);
// After the fronts have stopped.
void service_destroy(struct service **service);

// A copy of what the key may do; false: it is not authorized.
bool service_grant(struct service *service, const uint8_t key[NOISE_KEY_BYTES],
                   struct key_grant *grant);
// Takes over *grants, frees the former ones, and ends the sessions of keys that are gone.
void service_regrant(struct service *service, struct key_grants **grants);
void service_drain(struct service *service); // from now on nobody attaches
void service_expire(struct service *service, int64_t now_ms);

struct service_facts {
    uint64_t lanes, pages_read, pages_written;
    bool draining;
};
void service_facts(struct service *service, struct service_facts *facts); // any thread
const struct tally *service_tally(const struct service *service);
size_t service_principals(struct service *service, struct catalog_sums *first, size_t room,
                          struct catalog_totals *totals); // catalog_principals()

// Attaching, on one thread. attach gives a lane in every case of WIRE_OK; then state is asked until
// it is READY (older lanes of the same number have ended) or REFUSED; then start, or abandon.
enum wire_status service_attach(struct service *service, const uint8_t key[NOISE_KEY_BYTES],
                                const struct wire_attach *attach, int64_t now_ms,
                                struct service_lane **lane, struct wire_attached *attached);
enum service_lane_state { SERVICE_LANE_WAITING, SERVICE_LANE_READY, SERVICE_LANE_REFUSED };
enum service_lane_state service_lane_state(struct service_lane *lane);
void service_lane_from(struct service_lane *lane, const char *address); // for the log
void service_lane_abandon(struct service_lane **lane);
// Hands the connection to a front. Takes over fd, ciphers and lane, also on failure.
int service_lane_start(struct service_lane **lane, struct lane_front *front, int fd,
                       struct noise_cipher *send, struct noise_cipher *receive);

#endif
