// SPDX-License-Identifier: Apache-2.0
//
// Whose an image is, when the server's word comes late, never, or not as the capsule has it: a commit is asked for until that is
// known, or the capsule has expired; nothing that the server gave may be left to nobody. The server is this file: it answers each
// question as the test says, and counts.
#include "libdsm/migrate_owner.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>
#include <errno.h>

#include "libdsm/sync/futex.h"

enum {
    PARTS = 2,
    REFUSALS = 8,
    BASE = 1 << 30,
    PAGES = 16,
    BYTES = 4096,
    EPOCH = 5,
    ROUND_MS = 10
};

static struct {
    int errors[REFUSALS]; // of the questions, one after the other; then `ever`
    int ever;
    unsigned asked, reopened, closed, listed;
    bool away[PARTS];
    bool disagrees;   // about the second segment
    bool comes_again; // a connection, with the first answer
    int no_room;      // of the list
} server;
static dsm session;
static dsm_segment segments[PARTS];
static dsm_segment *parts[PARTS];
static struct capsule *capsule;

static int answer(struct image_answer *to)
{
    int error = server.asked < REFUSALS ? server.errors[server.asked] : server.ever;
    assert_true(server.away[0] && server.away[1]); // the keeper must not open them meanwhile
    if (server.asked++ == 0 && server.comes_again) {
        (void)atomic_fetch_add(&session.session.backing.resumed, 1);
    }
    if (error != 0) {
        _Atomic uint32_t never = 0;
        (void)sync_wait(&never, 0, sync_after_ms(ROUND_MS));
        return error;
    }
    *to = (struct image_answer){.count = PARTS};
    for (uint32_t i = 0; i < PARTS; i++) {
        to->segments[i] = (struct control_segment){.id = capsule->segments[i].id,
                                                   .base = capsule->segments[i].base,
                                                   .page_bytes = BYTES,
                                                   .bytes = (uint64_t)PAGES * BYTES,
                                                   .epoch = EPOCH,
                                                   .highest = 70};
    }
    to->segments[1].base += server.disagrees ? BYTES : 0;
    return 0;
}

int __wrap_control_image_commit(struct session *to, const uint8_t *image, const uint8_t *token,
                                struct image_answer *said, struct failure *failure);
int __wrap_control_image_commit(struct session *to, const uint8_t *image, const uint8_t *token,
                                struct image_answer *said, struct failure *failure)
{
    assert_ptr_equal(to, &session.session);
    assert_memory_equal(image, capsule->image, sizeof capsule->image);
    assert_memory_equal(token, capsule->token, sizeof capsule->token);
    (void)failure;
    return answer(said);
}

int __wrap_control_image_abort(struct session *to, const struct image_request *request,
                               struct image_answer *said, struct failure *failure);
int __wrap_control_image_abort(struct session *to, const struct image_request *request,
                               struct image_answer *said, struct failure *failure)
{
    assert_ptr_equal(to, &session.session);
    assert_int_equal(request->count, PARTS);
    (void)failure;
    return answer(said);
}

int __wrap_control_reopen(struct session *to, const struct backing_segment *segment,
                          struct control_segment *info, struct failure *failure);
int __wrap_control_reopen(struct session *to, const struct backing_segment *segment,
                          struct control_segment *info, struct failure *failure)
{
    (void)to, (void)segment, (void)info, (void)failure;
    server.reopened++;
    return 0;
}

int __wrap_control_close(struct session *to, uint64_t id, struct failure *failure);
int __wrap_control_close(struct session *to, uint64_t id, struct failure *failure)
{
    (void)to, (void)id, (void)failure;
    server.closed++;
    return 0;
}

int __wrap_session_list_away(struct session *to, struct backing_segment *segment, const char *name);
int __wrap_session_list_away(struct session *to, struct backing_segment *segment, const char *name)
{
    (void)to, (void)segment, (void)name;
    server.listed++;
    return server.no_room;
}

void __wrap_session_set_away(struct session *to, struct backing_segment *segment, bool away);
void __wrap_session_set_away(struct session *to, struct backing_segment *segment, bool away)
{
    assert_ptr_equal(to, &session.session);
    for (uint32_t i = 0; i < PARTS; i++) {
        if (segment == &segments[i].segment.backing) {
            server.away[i] = away;
            return;
        }
    }
    fail_msg("a segment of nobody");
}

static int set_up(void **state)
{
    (void)state;
    memset(&server, 0, sizeof server);
    memset(&session, 0, sizeof session);
    memset(segments, 0, sizeof segments);
    capsule = capsule_create(PARTS);
    capsule->facts.expires_ms = owner_clock_ms() + 60000;
    capsule->token[0] = 42;
    for (uint32_t i = 0; i < PARTS; i++) {
        struct capsule_segment *s = &capsule->segments[i];
        *s = (struct capsule_segment){.type = i == 0 ? CAPSULE_HEAP : CAPSULE_STACK,
                                      .id = 7 + i,
                                      .base = (uint64_t)BASE * (i + 1),
                                      .pages = PAGES,
                                      .page_bytes = BYTES,
                                      .run_count = 1,
                                      .runs = calloc(1, sizeof *s->runs)};
        s->runs[0] = (struct capsule_run){.pages = PAGES, .place = CAPSULE_BACKING};
        segments[i].session = &session;
        segments[i].segment.backing.id = s->id;
        parts[i] = &segments[i];
    }
    return 0;
}

static int tear_down(void **state)
{
    (void)state;
    capsule_destroy(&capsule);
    return 0;
}

static int commit(void)
{
    struct failure failure = {""};
    return owner_commit(&session, parts, PARTS, capsule, &failure);
}

static void is_here(void)
{
    assert_int_equal(server.closed, 0);
    for (uint32_t i = 0; i < PARTS; i++) {
        assert_false(server.away[i]);
        assert_int_equal(atomic_load(&segments[i].segment.backing.epoch), EPOCH);
        assert_int_equal(atomic_load(&segments[i].segment.backing.next_version), 71);
    }
}

static void the_word_comes_late(void **state)
{
    (void)state;
    server.errors[0] = server.errors[1] = server.errors[2] = -ETIMEDOUT;
    assert_int_equal(commit(), 0);
    assert_int_equal(server.asked, 4);
    assert_int_equal(server.listed, PARTS);
    is_here();
}

static void the_word_never_comes(void **state)
{
    (void)state;
    for (int i = 0; i < REFUSALS; i++) {
        server.errors[i] = -ETIMEDOUT;
    }
    server.ever = -ETIMEDOUT;
    capsule->facts.expires_ms = owner_clock_ms() + 300 * ROUND_MS;
    assert_int_equal(commit(), -ETIMEDOUT);
    assert_true(owner_clock_ms() >= capsule->facts.expires_ms); // from then on nobody can have it
    assert_true(server.asked >= 2);
}

static void a_refusal_is_an_answer(void **state)
{
    static const int refusals[] = {-EALREADY, -ETIME, -EACCES, -EDQUOT, -EIO};
    (void)state;
    for (size_t i = 0; i < sizeof refusals / sizeof *refusals; i++) {
        server.asked = 0;
        server.errors[0] = refusals[i];
        assert_int_equal(commit(), refusals[i]);
        assert_int_equal(server.asked, 1);
    }
    assert_int_equal(server.closed, 0);
}

static void what_cannot_be_used_is_given_back(void **state)
{
    (void)state;
    server.disagrees = true;
    assert_int_equal(commit(), -EBADMSG);
    assert_int_equal(server.closed, PARTS);
}

static void a_connection_comes_again_meanwhile(void **state)
{
    (void)state;
    server.comes_again = true;
    assert_int_equal(commit(), 0);
    assert_int_equal(server.asked, 2); // the list that was opened again had nothing of it
    is_here();
}

static void a_server_that_was_started_again(void **state)
{
    (void)state;
    server.errors[0] = -EBADF;
    assert_int_equal(commit(), 0);
    assert_int_equal(server.asked, 2);
    assert_int_equal(server.reopened, PARTS);
    is_here();
}

static void a_full_list_refuses_before_anything_is_asked(void **state)
{
    (void)state;
    server.no_room = -EMFILE;
    assert_int_equal(commit(), -EMFILE);
    assert_int_equal(server.asked, 0);
}

static void what_is_taken_back_is_whole(void **state)
{
    struct image_request request = {.count = PARTS};
    struct failure failure = {""};
    (void)state;
    atomic_store(&segments[0].segment.backing.fate, BACKING_FENCED); // by an answer meanwhile
    server.errors[0] = -ETIMEDOUT;                                   // the source's to ask again
    assert_int_equal(owner_take_back(&session, parts, PARTS, &request, &failure), -ETIMEDOUT);
    assert_int_equal(server.asked, 1);
    assert_int_equal(owner_take_back(&session, parts, PARTS, &request, &failure), 0);
    assert_int_equal(atomic_load(&segments[0].segment.backing.fate), BACKING_WELL);
    is_here();
}

#define TEST(name) cmocka_unit_test_setup_teardown(name, set_up, tear_down)

int main(void)
{
    const struct CMUnitTest tests[] = {
        TEST(the_word_comes_late),
        TEST(the_word_never_comes),
        TEST(a_refusal_is_an_answer),
        TEST(what_cannot_be_used_is_given_back),
        TEST(a_connection_comes_again_meanwhile),
        TEST(a_server_that_was_started_again),
        TEST(a_full_list_refuses_before_anything_is_asked),
        TEST(what_is_taken_back_is_whole),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
