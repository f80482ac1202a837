// SPDX-License-Identifier: Apache-2.0
//
// Whose the image is: what the two ends of a move ask the server, and what they make of its word. A commit and an abort are each
// one transaction of the server, and the same request may be sent any number of times; so nothing here may fail once one was
// taken, or the image would belong to a process that cannot use it.
//
// Threads: the caller's; the keeper looks at the session's list meanwhile.
#include "libdsm/migrate_owner.h"

#include <errno.h>
#include <time.h>

#include "libdsm/sync/futex.h"

uint64_t owner_clock_ms(void)
{
    struct timespec now;
    (void)clock_gettime(CLOCK_REALTIME, &now);
    return (uint64_t)now.tv_sec * 1000 + (uint64_t)now.tv_nsec / 1000000;
}

// As the keeper sees them: what is away it does not open again when a connection comes anew.
void owner_set_away(dsm_segment *const *segments, uint32_t count, bool away)
{
    for (uint32_t i = 0; i < count; i++) {
        if (segments[i] != NULL) {
            session_set_away(&segments[i]->session->session, &segments[i]->segment.backing, away);
        }
    }
}

// What the server says of a segment that this session has again, or for the first time.
static void hold(dsm_segment *segment, const struct control_segment *info)
{
    struct backing_segment *backing = &segment->segment.backing;
    atomic_store(&backing->epoch, info->epoch);
    atomic_store(&backing->next_version, info->highest + 1);
    atomic_store(&backing->acknowledged, info->highest);
    atomic_store(&backing->fate, BACKING_WELL);
    segment->ephemeral = (info->flags & CONTROL_EPHEMERAL) != 0;
}

static bool as_said(const struct capsule_segment *from, const struct control_segment *info)
{
    uint64_t none = 0;
    for (uint32_t i = 0; i < from->run_count; i++) {
        none += from->runs[i].place == CAPSULE_NONE ? from->runs[i].pages : 0;
    }
    return info->id == from->id && info->base == from->base &&
           info->page_bytes == from->page_bytes && info->bytes == from->pages * from->page_bytes &&
           info->none_pages == none;
}

// Of what was asked for with a capsule, or back (NULL): can it be used?
static int check_answer(const struct image_answer *answer, uint32_t count,
                        const struct capsule *capsule, struct failure *failure)
{
    if (answer->count != count) {
        return failure_set(failure, -EBADMSG, "The server's answer has no sense.");
    }
    const struct capsule_segment *moved = capsule != NULL ? capsule->segments : NULL;
    moved += moved != NULL && moved->type == CAPSULE_CODE; // which stays, and comes first
    for (uint32_t i = 0; i < count && moved != NULL; i++) {
        if (!as_said(&moved[i], &answer->segments[i])) {
            return failure_set(failure, -EBADMSG,
                               "The server and the capsule disagree on segment %s.", moved[i].name);
        }
    }
    return 0;
}

// dsmd was started again and does not know that this session has the segments; the keeper leaves alone what is away. What goes wrong here
// the request that follows tells.
static void open_again(dsm *session, dsm_segment *const *segments, uint32_t count)
{
    const struct timespec pause = {.tv_nsec =
                                       20000000}; // the code, which is not away, is the keeper's
    struct control_segment info;
    for (uint32_t i = 0; i < count; i++) {
        (void)control_reopen(&session->session, &segments[i]->segment.backing, &info, NULL);
    }
    (void)nanosleep(&pause, NULL);
}

int owner_park(dsm *session, dsm_segment *const *segments, uint32_t count,
               const struct image_request *request, const struct owner_capsule *capsule,
               struct image_answer *answer, struct failure *failure)
{
    const int64_t deadline = sync_after_ms(LIMIT_FAILOVER_MS);
    int error;
    owner_set_away(segments, count, true); // a connection that comes again must not open them
    while ((error = control_image_park(&session->session, request, capsule->token,
                                       capsule->lifetime_ms, "", answer, failure)) == -EBADF &&
           sync_now() < deadline) {
        open_again(session, segments, count);
    }
    return error;
}

// The commit of that capsule, or (NULL) the abort of what this session parked.
static int ask(dsm *session, const struct capsule *capsule, const struct image_request *back,
               struct image_answer *answer, struct failure *failure)
{
    return capsule != NULL ? control_image_commit(&session->session, capsule->image, capsule->token,
                                                  answer, failure)
                           : control_image_abort(&session->session, back, answer, failure);
}

// The image is this session's once the server says so; all that could fail here was done before: the segments are mapped, and listed as
// away. A connection that came anew between the server's word and the list's knew nothing of them: then all is asked again, which
// is the same request.
static int get_image(dsm *session, dsm_segment *const *segments, uint32_t count,
                     const struct capsule *capsule, const struct image_request *back,
                     struct failure *failure)
{
    struct image_answer answer;
    uint32_t resumed;
    do {
        resumed = atomic_load(&session->session.backing.resumed);
        owner_set_away(segments, count, true);
        const int64_t deadline = sync_after_ms(LIMIT_FAILOVER_MS);
        int error;
        while ((error = ask(session, capsule, back, &answer, failure)) == -EBADF &&
               sync_now() < deadline) {
            open_again(session, segments, count);
        }
        if (capsule != NULL && error == 0) {
            (void)migrate_step(&session->steps, MIGRATE_DEENCAP_ANSWERED);
        }
        error = error != 0 ? error : check_answer(&answer, count, capsule, failure);
        if (error != 0) {
            return error;
        }
        for (uint32_t i = 0; i < count; i++) {
            hold(segments[i], &answer.segments[i]);
        }
        owner_set_away(segments, count, false);
    } while (resumed != atomic_load(&session->session.backing.resumed));
    return 0;
}

int owner_take_back(dsm *session, dsm_segment *const *segments, uint32_t count,
                    const struct image_request *request, struct failure *failure)
{
    return get_image(session, segments, count, NULL, request, failure);
}

// Until it is known: whether the commit was taken while the server could not be asked, nobody else can say. Once the capsule
// has expired a commit that is still on its way is refused.
int owner_commit(dsm *session, dsm_segment *const *segments, uint32_t count,
                 const struct capsule *capsule, struct failure *failure)
{
    int error = 0;
    for (uint32_t i = 0; i < count && error == 0; i++) {
        error = session_list_away(&session->session, &segments[i]->segment.backing,
                                  segments[i]->segment.name);
    }
    if (error != 0) {
        return failure_set(failure, error, "This process has %d segments open, the most allowed.",
                           LIMIT_SESSION_SEGMENTS);
    }
    do {
        error = get_image(session, segments, count, capsule, NULL, failure);
    } while (error == -ETIMEDOUT && capsule_expired(&capsule->facts, owner_clock_ms(), NULL) == 0);
    for (uint32_t i = 0; i < count && error == -EBADMSG; i++) { // what cannot be used here another
        (void)control_close(&session->session, segments[i]->segment.backing.id, NULL); // may open
    }
    return error;
}
