// SPDX-License-Identifier: Apache-2.0
//
// Messages: every one renews its session's lease, goes through the catalog, and is answered before
// the call returns. A read is sealed straight from the store's pages, so the store's read section
// and the catalog's count both last until the answer is handed over; a write is acknowledged only
// after store_write() has returned.
//
// It must never take the catalog's lock or allocate on the way of a page operation, or answer a
// message twice or not at all, whatever fails. The status says what failed, `done` how far it got.
//
// Threads: the fronts' own, each registered with the store when its first message comes. The number
// of threads is known to the store beforehand, so registering can only fail by a mistake in it;
// then the message is answered with STORE_ERROR.
//
// Queueing requests for a pool of workers was rejected: a hand-over costs more than the store's
// whole work for a page.
#include "server/service_internal.h"

#include <errno.h>
#include <stdlib.h>

#include "server/clock.h"
#include "server/images.h"
#include "server/probes.h"

struct wire_header service_answer(const struct wire_header *request, enum wire_status status)
{
    return (struct wire_header){
        .op = request->op | WIRE_ANSWER,
        .status = (uint16_t)status,
        .request = request->request,
        .segment = request->segment,
        .epoch = request->epoch,
        .page = request->page,
        .count = request->count,
    };
}

static enum wire_status status_of(int error)
{
    switch (error) {
    case 0:
        return WIRE_OK;
    case -ENOSPC:
        return WIRE_NO_SPACE;
    case -EFAULT:
        return WIRE_BOUNDS;
    default:
        return WIRE_STORE_ERROR;
    }
}

static bool thread_registered(const struct service *service)
{
    static _Thread_local uint64_t registered_with;
    if (registered_with != service->serial) {
        if (store_thread_register(service->options.store) != 0) {
            return false;
        }
        registered_with = service->serial;
    }
    return true;
}

// Counted first: who has the answer finds it counted. How long it took is known only afterwards.
void service_reply(struct service_lane *lane, struct lane_peer *peer,
                   const struct wire_header *request, const struct wire_header *answer,
                   const struct iovec *pieces, int count)
{
    struct service *service = lane->service;
    tally_request(service->tally, request, answer);
    (void)lane_peer_answer(peer, answer, pieces, count); // a dead peer is the front's business
    struct lane_cost cost = lane_peer_cost(peer);
    tally_duration(service->tally, request, cost.ns);
    if (probe_request_done_on()) {
        probe_request_done(request->op, answer->status, request->count,
                           request->op == WIRE_WRITE ? request->length : answer->length, cost.ns,
                           cost.cipher_ns, request->segment, request->page);
    }
}

static void answer_alone(struct service_lane *lane, struct lane_peer *peer,
                         const struct wire_header *request, const struct wire_header *answer)
{
    if (answer->status != WIRE_OK) {
        service_say_refused(lane, request, answer, NULL);
    }
    service_reply(lane, peer, request, answer, NULL, 0);
}

// Pages that lie side by side in the store are one piece: a record of them is sealed from where they lie.
static int joined(struct iovec *pieces, unsigned count)
{
    int last = -1;
    for (unsigned i = 0; i < count; i++) {
        if (last >= 0 && (const uint8_t *)pieces[last].iov_base + pieces[last].iov_len ==
                             (const uint8_t *)pieces[i].iov_base) {
            pieces[last].iov_len += pieces[i].iov_len;
        } else {
            pieces[++last] = pieces[i];
        }
    }
    return last + 1;
}

static void serve_read(struct service_lane *lane, struct lane_peer *peer,
                       const struct wire_header *request)
{
    struct service *service = lane->service;
    struct catalog_hold hold;
    struct wire_header answer =
        service_answer(request, catalog_enter(service->catalog, lane->session, request, &hold));
    if (answer.status != WIRE_OK) {
        answer_alone(lane, peer, request, &answer);
        return;
    }
    struct iovec pieces[LIMIT_RUN_PAGES];
    struct store *store = service->options.store;
    store_read_begin(store);
    int error = store_read(store, hold.segment, request->page, request->count, answer.map, pieces,
                           &answer.done);
    if (error != 0) {
        store_read_end(store);
        uint32_t done = answer.done; // these the client asks for again
        answer = service_answer(request, status_of(error));
        answer.done = done;
        answer_alone(lane, peer, request, &answer);
    } else {
        unsigned sent = wire_map_count(answer.map, request->count);
        answer.length = sent * hold.page_bytes;
        answer.done = request->count;
        answer.version = store_segment_highest(hold.segment);
        service_reply(lane, peer, request, &answer, pieces, joined(pieces, sent));
        store_read_end(store);
        atomic_fetch_add_explicit(&service->pages_read, request->count, memory_order_relaxed);
    }
    catalog_exit(service->catalog, &hold);
}

// How much the pages of a thin segment would really grow: those that are zeros until now.
static uint64_t growth_bytes(struct store *store, const struct catalog_hold *hold,
                             const struct wire_header *request)
{
    struct iovec pieces[LIMIT_RUN_PAGES];
    uint8_t map[WIRE_MAP_BYTES] = {0};
    uint32_t done;
    uint64_t pages = 0;
    store_read_begin(store);
    int error = store_read(store, hold->segment, request->page, request->count, map, pieces, &done);
    store_read_end(store);
    for (unsigned i = 0; i < request->count; i++) {
        bool stored = error == 0 && wire_map_get(map, i);
        pages += wire_map_get(request->map, i) && !stored ? 1 : 0;
    }
    return pages * hold->page_bytes;
}

static enum wire_status write_pages(struct store *store, const struct catalog_hold *hold,
                                    const struct wire_header *request, const uint8_t *payload,
                                    uint32_t *done)
{
    uint64_t index = store_segment_index_growth(hold->segment, request->page, request->count);
    uint64_t charged = request->length + index;
    if (hold->thin && catalog_growth_charge(hold, charged) != WIRE_OK) {
        charged = growth_bytes(store, hold, request) + index;
        enum wire_status status = catalog_growth_charge(hold, charged);
        if (status != WIRE_OK) {
            return status;
        }
    }
    int error = store_write(store, hold->segment, request->page, request->count, request->version,
                            request->map, payload, done);
    if (hold->thin) {
        catalog_growth_settle(hold, charged);
    }
    return status_of(error);
}

static enum wire_status discard_pages(struct store *store, const struct catalog_hold *hold,
                                      const struct wire_header *request)
{
    uint64_t index = store_segment_index_growth(hold->segment, request->page, request->count);
    if (hold->thin && catalog_growth_charge(hold, index) != WIRE_OK) {
        return WIRE_OVER_QUOTA;
    }
    int error =
        store_discard(store, hold->segment, request->page, request->count, request->version);
    if (hold->thin) {
        catalog_growth_settle(hold, index);
    }
    return status_of(error);
}

static enum wire_status give_up_pages(struct store *store, const struct catalog_hold *hold,
                                      const struct wire_header *request, uint32_t *done)
{
    uint64_t index = store_segment_index_growth(hold->segment, request->page, request->count);
    if (index > 0 && catalog_growth_charge(hold, index) != WIRE_OK) {
        return WIRE_OVER_QUOTA;
    }
    int error =
        store_give_up(store, hold->segment, request->page, request->count, request->version, done);
    catalog_growth_settle(hold, index);
    return status_of(error);
}

static enum wire_status allocate_pages(struct store *store, const struct catalog_hold *hold,
                                       const struct wire_header *request, uint32_t *done)
{
    uint64_t growth = hold->thin
                          ? 0
                          : store_segment_none_among(hold->segment, request->page, request->count) *
                                hold->page_bytes;
    if (catalog_growth_charge(hold, growth) != WIRE_OK) {
        return WIRE_OVER_QUOTA;
    }
    int error =
        store_allocate(store, hold->segment, request->page, request->count, request->version, done);
    catalog_growth_settle(hold, growth);
    return status_of(error);
}

static enum wire_status change_pages(struct store *store, const struct catalog_hold *hold,
                                     const struct wire_header *request, const uint8_t *payload,
                                     uint32_t *done)
{
    switch (request->op) {
    case WIRE_WRITE:
        return write_pages(store, hold, request, payload, done);
    case WIRE_GIVE_UP:
        return give_up_pages(store, hold, request, done);
    case WIRE_ALLOCATE:
        return allocate_pages(store, hold, request, done);
    default:
        return discard_pages(store, hold, request);
    }
}

static void serve_change(struct service_lane *lane, struct lane_peer *peer,
                         const struct wire_header *request, const uint8_t *payload)
{
    struct service *service = lane->service;
    struct store *store = service->options.store;
    struct catalog_hold hold;
    struct wire_header answer =
        service_answer(request, catalog_enter(service->catalog, lane->session, request, &hold));
    if (answer.status != WIRE_OK) {
        answer_alone(lane, peer, request, &answer);
        return;
    }
    enum wire_status status = change_pages(store, &hold, request, payload, &answer.done);
    answer.status = (uint16_t)status;
    if (status == WIRE_OK) {
        answer.done = request->count;
    }
    answer.version = store_segment_highest(hold.segment);
    catalog_exit(service->catalog, &hold);
    answer_alone(lane, peer, request, &answer);
    atomic_fetch_add_explicit(&service->pages_written, answer.done, memory_order_relaxed);
}

static void service_message(void *user, struct lane_peer *peer, const struct wire_header *request,
                            const uint8_t *payload)
{
    struct service_lane *lane = user;
    struct service *service = lane->service;
    int64_t now_ms = clock_now_ms();
    catalog_session_renew(lane->session, now_ms);
    atomic_fetch_add_explicit(&service->requests, 1, memory_order_relaxed);
    struct wire_header answer;
    if (!thread_registered(service)) {
        answer = service_answer(request, WIRE_STORE_ERROR);
        answer_alone(lane, peer, request, &answer);
        return;
    }
    switch (request->op) {
    case WIRE_READ:
        serve_read(lane, peer, request);
        break;
    case WIRE_WRITE:
    case WIRE_DISCARD:
    case WIRE_GIVE_UP:
    case WIRE_ALLOCATE:
        serve_change(lane, peer, request, payload);
        break;
    case WIRE_CONTROL:
        service_control(lane, peer, request, payload, now_ms);
        break;
    default:
        answer = service_answer(request, request->op == WIRE_PING ? WIRE_OK : WIRE_INVALID);
        answer_alone(lane, peer, request, &answer);
        break;
    }
}

const struct lane_service service_calls = {
    .message = service_message,
    .closed = service_lane_closed,
};

int service_create(const struct service_options *options, struct key_grants **grants,
                   struct service **service)
{
    static _Atomic uint64_t serials;
    struct service *made = calloc(1, sizeof *made);
    if (made == NULL) {
        return -ENOMEM;
    }
    made->serial = atomic_fetch_add(&serials, 1) + 1;
    made->options = *options;
    made->started_ms = clock_now_ms();
    made->tally = tally_create();
    int error = made->tally == NULL ? -ENOMEM
                                    : catalog_create(options->store, options->lease_ms,
                                                     made->started_ms, &made->catalog);
    if (error != 0) {
        tally_destroy(&made->tally);
        free(made);
        return error;
    }
    (void)pthread_mutex_init(&made->grants_lock, NULL);
    (void)pthread_mutex_init(&made->lanes_lock, NULL);
    made->grants = *grants;
    *grants = NULL;
    *service = made;
    return 0;
}

void service_destroy(struct service **service)
{
    struct service *old = *service;
    if (old == NULL) {
        return;
    }
    catalog_destroy(&old->catalog);
    tally_destroy(&old->tally);
    key_grants_destroy(&old->grants);
    (void)pthread_mutex_destroy(&old->lanes_lock);
    (void)pthread_mutex_destroy(&old->grants_lock);
    free(old);
    *service = NULL;
}

bool service_grant(struct service *service, const uint8_t key[NOISE_KEY_BYTES],
                   struct key_grant *grant)
{
    (void)pthread_mutex_lock(&service->grants_lock);
    const struct key_grant *found = key_grants_find(service->grants, key);
    if (found != NULL) {
        *grant = *found;
    }
    (void)pthread_mutex_unlock(&service->grants_lock);
    return found != NULL;
}

void service_drain(struct service *service)
{
    atomic_store(&service->draining, true);
}

void service_expire(struct service *service, int64_t now_ms)
{
    catalog_image_expire(service->catalog, now_ms, clock_unix_ms());
    catalog_expire(service->catalog, now_ms);
}

void service_facts(struct service *service, struct service_facts *facts)
{
    facts->lanes = service_lane_count(service);
    facts->pages_read = atomic_load_explicit(&service->pages_read, memory_order_relaxed);
    facts->pages_written = atomic_load_explicit(&service->pages_written, memory_order_relaxed);
    facts->draining = atomic_load(&service->draining);
}

const struct tally *service_tally(const struct service *service)
{
    return service->tally;
}

size_t service_principals(struct service *service, struct catalog_sums *first, size_t room,
                          struct catalog_totals *totals)
{
    return catalog_principals(service->catalog, first, room, totals);
}
