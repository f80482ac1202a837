// SPDX-License-Identifier: Apache-2.0
//
// The registry of lanes. At most one connection of a (session, lane number) is ever at work. A
// newer one, of a higher generation, dooms the older: its peer is shut, and until its closed() has
// come, which the front calls only when no message of it runs any more, the newer one is WAITING
// and its client has no answer. So what the older connection still had in hand is finished or
// dropped before the newer one's first answer (architecture.md, invariant 9). Nobody waits on a
// condition for that: the listener asks for the state again when `wake` rings.
//
//   attach -> WAITING -> READY -> start -> (messages) -> closed
//                 \------> REFUSED (a still newer one came, or the key is gone) -> abandon
//
// Here too: how many connections there are, in all and of a key, and what a changed authorized file
// does to those that are there.
//
// An attach holds G from looking its key up to being in the registry. So a changed authorized file
// either comes before, and is what is looked at, or finds the session and the lane and ends them.
//
// Locks: R for all of it; the fronts' locks may be taken under R (lane_peer_shut), never R under
// theirs. service_lane_start() lets go of R around front->add(), since a front may call back at
// once; `starting` keeps the lane's memory until it has returned.
#include "server/service_internal.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "server/clock.h"

static size_t lane_bucket(const uint8_t instance[WIRE_ID_BYTES], uint32_t number)
{
    uint32_t hash = 2166136261U ^ number;
    for (size_t i = 0; i < WIRE_ID_BYTES; i++) {
        hash = (hash ^ instance[i]) * 16777619U;
    }
    return hash % SERVICE_LANE_BUCKETS;
}

static struct service_key **key_place(struct service *service, const uint8_t *key)
{
    size_t bucket = (key[0] | (unsigned)key[1] << 8) % SERVICE_KEY_BUCKETS;
    struct service_key **link = &service->keys[bucket];
    while (*link != NULL && memcmp((*link)->key, key, NOISE_KEY_BYTES) != 0) {
        link = &(*link)->next;
    }
    return link;
}

static int key_count_up(struct service *service, const uint8_t *key)
{
    struct service_key **place = key_place(service, key);
    if (*place == NULL) {
        struct service_key *made = calloc(1, sizeof *made);
        if (made == NULL) {
            return -ENOMEM;
        }
        memcpy(made->key, key, NOISE_KEY_BYTES);
        *place = made;
    }
    (*place)->count++;
    service->lane_count++;
    return 0;
}

static void key_count_down(struct service *service, const uint8_t *key)
{
    struct service_key **place = key_place(service, key);
    struct service_key *entry = *place;
    service->lane_count--;
    if (entry != NULL && --entry->count == 0) {
        *place = entry->next;
        free(entry);
    }
}

static bool same_lane(const struct service_lane *lane, const uint8_t instance[WIRE_ID_BYTES],
                      uint32_t number)
{
    return lane->number == number && memcmp(lane->instance, instance, WIRE_ID_BYTES) == 0;
}

static void doom(struct service_lane *lane, int reason)
{
    if (!lane->doomed) {
        lane->doomed = true;
        if (lane->peer != NULL && !lane->closed) {
            lane_peer_shut(lane->peer, reason);
        }
    }
}

static void unlink_lane(struct service_lane *lane)
{
    struct service *service = lane->service;
    struct service_lane **link = &service->lanes[lane_bucket(lane->instance, lane->number)];
    while (*link != lane) {
        link = &(*link)->next;
    }
    *link = lane->next;
    key_count_down(service, lane->key);
}

// STALE when there is one at least as new; else *replaced says whether there are older ones.
static enum wire_status check_generation(struct service *service, const struct wire_attach *attach,
                                         bool *replaced)
{
    struct service_lane *lane = service->lanes[lane_bucket(attach->instance, attach->lane)];
    *replaced = false;
    for (; lane != NULL; lane = lane->next) {
        if (same_lane(lane, attach->instance, attach->lane)) {
            if (lane->generation >= attach->generation) {
                return WIRE_STALE_GENERATION;
            }
            *replaced = true;
        }
    }
    return WIRE_OK;
}

static void doom_older(struct service *service, const struct wire_attach *attach)
{
    struct service_lane *lane = service->lanes[lane_bucket(attach->instance, attach->lane)];
    for (; lane != NULL; lane = lane->next) {
        if (same_lane(lane, attach->instance, attach->lane)) {
            doom(lane, -ECONNRESET);
        }
    }
}

static enum wire_status register_locked(struct service *service, const struct wire_attach *attach,
                                        const struct key_grant *grant, struct service_lane *lane)
{
    bool replaced;
    enum wire_status status = check_generation(service, attach, &replaced);
    if (status != WIRE_OK) {
        return status;
    }
    const struct service_key *key = *key_place(service, grant->public_key);
    bool full = service->lane_count >= LIMIT_CONNECTIONS ||
                (key != NULL && key->count >= grant->connections);
    if ((full && !replaced) || key_count_up(service, grant->public_key) != 0) {
        return WIRE_TOO_MANY;
    }
    doom_older(service, attach);
    struct service_lane **bucket = &service->lanes[lane_bucket(attach->instance, attach->lane)];
    lane->next = *bucket;
    *bucket = lane;
    return WIRE_OK;
}

static enum wire_status refuse(struct wire_attached *attached, enum wire_status status,
                               const char *text)
{
    (void)snprintf(attached->text, sizeof attached->text, "%s", text);
    return status;
}

static enum wire_status session_refused(struct wire_attached *attached, int error)
{
    if (error == -EACCES) {
        return refuse(attached, WIRE_NOT_ALLOWED, "This session belongs to another key.");
    }
    return refuse(attached, WIRE_TOO_MANY, "The server has as many sessions as it can keep.");
}

static void fill_attached(struct service *service, const struct key_grant *grant,
                          struct wire_attached *attached)
{
    struct store_facts facts;
    store_facts(service->options.store, &facts);
    memcpy(attached->store_id, facts.store_id, WIRE_ID_BYTES);
    attached->incarnation = facts.incarnation;
    attached->lease_ms = (uint32_t)service->options.lease_ms;
    attached->rights = grant->rights;
}

static struct service_lane *lane_make(struct service *service, const struct wire_attach *attach,
                                      const uint8_t *key)
{
    struct service_lane *lane = calloc(1, sizeof *lane);
    if (lane != NULL) {
        lane->service = service;
        lane->generation = attach->generation;
        lane->number = attach->lane;
        memcpy(lane->instance, attach->instance, WIRE_ID_BYTES);
        memcpy(lane->key, key, NOISE_KEY_BYTES);
        memcpy(lane->holder, attach->holder, sizeof lane->holder);
    }
    return lane;
}

static enum wire_status attach_granted(struct service *service, const struct wire_attach *attach,
                                       const struct key_grant *grant, int64_t now_ms,
                                       struct service_lane *lane, struct wire_attached *attached)
{
    int error = catalog_session_get(service->catalog, attach->instance, grant, attach->holder,
                                    now_ms, &lane->session);
    if (error != 0) {
        return session_refused(attached, error);
    }
    (void)pthread_mutex_lock(&service->lanes_lock);
    enum wire_status status = register_locked(service, attach, grant, lane);
    (void)pthread_mutex_unlock(&service->lanes_lock);
    if (status != WIRE_OK) {
        catalog_session_put(service->catalog, lane->session, now_ms);
        return refuse(attached, status, wire_status_text(status));
    }
    memcpy(lane->principal, grant->principal, sizeof lane->principal);
    fill_attached(service, grant, attached);
    return WIRE_OK;
}

enum wire_status service_attach(struct service *service, const uint8_t key[NOISE_KEY_BYTES],
                                const struct wire_attach *attach, int64_t now_ms,
                                struct service_lane **lane, struct wire_attached *attached)
{
    if (atomic_load(&service->draining)) {
        return refuse(attached, WIRE_DRAINING, "The server is about to stop.");
    }
    if (attach->lane >= LIMIT_LANES_PER_SESSION || attach->generation == 0) {
        return refuse(attached, WIRE_INVALID, "Lane or generation is out of range.");
    }
    struct service_lane *made = lane_make(service, attach, key);
    if (made == NULL) {
        return refuse(attached, WIRE_TOO_MANY, "The server is out of memory.");
    }
    (void)pthread_mutex_lock(&service->grants_lock);
    const struct key_grant *grant = key_grants_find(service->grants, key);
    enum wire_status status =
        grant != NULL ? attach_granted(service, attach, grant, now_ms, made, attached)
                      : refuse(attached, WIRE_UNAUTHORIZED, wire_status_text(WIRE_UNAUTHORIZED));
    (void)pthread_mutex_unlock(&service->grants_lock);
    if (status != WIRE_OK) {
        free(made);
        return status;
    }
    *lane = made;
    return WIRE_OK;
}

enum service_lane_state service_lane_state(struct service_lane *lane)
{
    struct service *service = lane->service;
    (void)pthread_mutex_lock(&service->lanes_lock);
    enum service_lane_state state = SERVICE_LANE_READY;
    const struct service_lane *other = service->lanes[lane_bucket(lane->instance, lane->number)];
    for (; other != NULL; other = other->next) {
        if (other != lane && same_lane(other, lane->instance, lane->number)) {
            state = SERVICE_LANE_WAITING;
        }
    }
    if (lane->doomed) {
        state = SERVICE_LANE_REFUSED;
    }
    (void)pthread_mutex_unlock(&service->lanes_lock);
    return state;
}

void service_lane_from(struct service_lane *lane, const char *address)
{
    (void)snprintf(lane->address, sizeof lane->address, "%s", address);
}

// The lane has left the registry: lets go of its session, and tells whoever waited for it.
static void lane_end(struct service_lane *lane)
{
    struct service *service = lane->service;
    catalog_session_put(service->catalog, lane->session, clock_now_ms());
    free(lane);
    service->options.wake(service->options.wake_context);
}

void service_lane_abandon(struct service_lane **lane)
{
    struct service_lane *old = *lane;
    if (old == NULL) {
        return;
    }
    *lane = NULL;
    (void)pthread_mutex_lock(&old->service->lanes_lock);
    unlink_lane(old);
    (void)pthread_mutex_unlock(&old->service->lanes_lock);
    lane_end(old);
}

int service_lane_start(struct service_lane **lane, struct lane_front *front, int fd,
                       struct noise_cipher *send, struct noise_cipher *receive)
{
    struct service_lane *started = *lane;
    struct service *service = started->service;
    struct lane_peer *peer = NULL;
    (void)pthread_mutex_lock(&service->lanes_lock);
    started->started = true;
    started->starting = true;
    (void)pthread_mutex_unlock(&service->lanes_lock);
    int error = front->ops->add(front, fd, send, receive, started, &peer);
    if (error != 0) {
        service_lane_abandon(lane);
        return error;
    }
    *lane = NULL;
    (void)pthread_mutex_lock(&service->lanes_lock);
    started->starting = false;
    bool closed = started->closed;
    if (!closed) {
        started->peer = peer;
        if (started->doomed) {
            lane_peer_shut(peer, -ECONNRESET);
        }
    } else {
        unlink_lane(started);
    }
    (void)pthread_mutex_unlock(&service->lanes_lock);
    if (closed) {
        lane_end(started);
    }
    return 0;
}

void service_lane_closed(void *user, int reason)
{
    struct service_lane *lane = user;
    struct service *service = lane->service;
    service_say_ended(lane, reason);
    (void)pthread_mutex_lock(&service->lanes_lock);
    lane->closed = true;
    lane->peer = NULL;
    bool starting = lane->starting;
    if (!starting) {
        unlink_lane(lane);
    }
    (void)pthread_mutex_unlock(&service->lanes_lock);
    if (!starting) {
        lane_end(lane);
    }
}

void service_regrant(struct service *service, struct key_grants **grants)
{
    (void)pthread_mutex_lock(&service->grants_lock);
    struct key_grants *former = service->grants;
    service->grants = *grants;
    *grants = NULL;
    (void)pthread_mutex_unlock(&service->grants_lock);
    catalog_regrant(service->catalog, service->grants); // only this function changes the pointer
    (void)pthread_mutex_lock(&service->lanes_lock);
    for (size_t i = 0; i < SERVICE_LANE_BUCKETS; i++) {
        for (struct service_lane *lane = service->lanes[i]; lane != NULL; lane = lane->next) {
            if (catalog_session_revoked(lane->session)) {
                doom(lane, -EACCES);
            }
        }
    }
    (void)pthread_mutex_unlock(&service->lanes_lock);
    key_grants_destroy(&former);
    service->options.wake(service->options.wake_context);
}

unsigned service_lane_count(struct service *service)
{
    (void)pthread_mutex_lock(&service->lanes_lock);
    unsigned count = service->lane_count;
    (void)pthread_mutex_unlock(&service->lanes_lock);
    return count;
}
