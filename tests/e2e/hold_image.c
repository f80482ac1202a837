// SPDX-License-Identifier: Apache-2.0
//
// Process images change hands over the wire, against a running dsmd, by the requests that the library makes: to another process, which
// finds every page that was acknowledged; back to the source; code, made once. And while dsmd dies at every step. It is told of the image
// by a file, as a capsule would tell it.
#include <spawn.h>
#include <stdlib.h>
#include <sys/wait.h>
#include <unistd.h>

#include "libdsm/backing/control_image.h"
#include "libdsm/session_api.h"
#include "tests/e2e/hold_rig.h"

enum { PAGES = 64, CACHE = 256 * PAGE, MEMBERS = 3, LIFETIME_MS = 60000 };

struct note { // what the destination is told
    struct image_request image;
    uint8_t token[WIRE_TOKEN_BYTES];
};

static dsm *session;
static dsm_segment *parts[MEMBERS]; // heap, stack, data
static struct note note;
static struct image_answer answer;
static struct failure failure;

static void told(const char *text)
{
    CHECK(strstr(failure.text, text) != NULL, "\"%s\" is not in: %s", text, failure.text);
}

static void make_typed(unsigned member, const char *name, enum control_type type)
{
    struct control_segment info;
    OK(control_create_typed(&session->session, name, (uint64_t)PAGES * PAGE, PAGE, type, 0, &info,
                            &failure));
    note.image.members[member] = (struct image_member){info.id, info.epoch};
    OK(segment_attach(session, name, &info, true, &parts[member], &failure));
}

static void fill(uint64_t version)
{
    for (unsigned i = 0; i < MEMBERS; i++) {
        hold_fill_all(parts[i], version);
    }
}

static void clean(void)
{
    for (unsigned i = 0; i < MEMBERS; i++) {
        OK(dsm_clean(parts[i], hold_all(parts[i]), NULL));
    }
}

static void check(uint64_t version)
{
    for (unsigned i = 0; i < MEMBERS; i++) {
        hold_check_all(parts[i], version);
    }
}

static void close_all(int expected)
{
    for (unsigned i = 0; i < MEMBERS; i++) {
        RESULT(dsm_segment_close(parts[i]), expected);
    }
}

// An image of heap, stack and data, written and cleaned.
static void begin(void)
{
    session = hold_open(CACHE);
    make_typed(0, "heap", CONTROL_HEAP);
    make_typed(1, "stack", CONTROL_STACK);
    make_typed(2, "data", CONTROL_DATA);
    fill(1);
    clean();
    note.image.count = MEMBERS;
    noise_random(note.image.image, sizeof note.image.image);
    noise_random(note.token, sizeof note.token);
}

static int park(void)
{
    return control_image_park(&session->session, &note.image, note.token, LIFETIME_MS, "", &answer,
                              &failure);
}

static int commit(const uint8_t token[WIRE_TOKEN_BYTES])
{
    return control_image_commit(&session->session, note.image.image, token, &answer, &failure);
}

static int take_back(void)
{
    return control_image_abort(&session->session, &note.image, &answer, &failure);
}

static void use_epochs(void)
{
    CHECK(answer.count == MEMBERS);
    for (unsigned i = 0; i < MEMBERS; i++) {
        CHECK(answer.segments[i].id == note.image.members[i].segment);
        note.image.members[i].epoch = answer.segments[i].epoch;
    }
}

static void attach_all(void)
{
    static const char *const names[MEMBERS] = {"heap", "stack", "data"};
    for (unsigned i = 0; i < MEMBERS; i++) {
        OK(segment_attach(session, names[i], &answer.segments[i], true, &parts[i], &failure));
    }
}

// This process has them again, under the answer's epochs: goes on with what is mapped, unless the library learnt that it was fenced.
static void go_on(void)
{
    static const char *const names[MEMBERS] = {"heap", "stack", "data"};
    use_epochs();
    for (unsigned i = 0; i < MEMBERS; i++) {
        if (atomic_load(&parts[i]->segment.backing.fate) == BACKING_WELL) {
            parts[i]->segment.backing.epoch = answer.segments[i].epoch;
        } else {
            RESULT(dsm_segment_close(parts[i]), -DSM_EFENCED);
            OK(segment_attach(session, names[i], &answer.segments[i], true, &parts[i], &failure));
        }
    }
}

static const char *note_path(void)
{
    static char path[512];
    (void)snprintf(path, sizeof path, "%s/note", getenv("HOLD_TALK"));
    return path;
}

// Another process, which was not there when the image was made, takes it over.
static void run_destination(void)
{
    uint8_t wrong[WIRE_TOKEN_BYTES] = {0};
    FILE *file = fopen(note_path(), "re");
    CHECK(file != NULL && fread(&note, sizeof note, 1, file) == 1);
    (void)fclose(file);
    session = hold_open(CACHE);
    dsm_segment *none;
    RESULT(dsm_segment_open(session, "data", 0, &none), -EBUSY);
    CHECK(strstr(dsm_error()->text, "is in a capsule") != NULL, "%s", dsm_error()->text);
    RESULT(dsm_segment_open(session, "data", DSM_TAKEOVER, &none), -EBUSY);
    RESULT(dsm_segment_delete(session, "heap"), -EBUSY);
    RESULT(commit(wrong), -EACCES);
    told("not the token");
    OK(commit(note.token));
    OK(commit(note.token)); // the answer might have been lost
    use_epochs();
    attach_all();
    check(1); // all that the source had cleaned
    fill(2);
    clean();
    close_all(0);
    hold_close(session);
}

static void spawn_destination(void)
{
    extern char **environ;
    char *arguments[] = {"hold_image", "destination", NULL};
    pid_t child;
    int status = 0;
    FILE *file = fopen(note_path(), "we");
    CHECK(file != NULL && fwrite(&note, sizeof note, 1, file) == 1 && fclose(file) == 0);
    CHECK(posix_spawn(&child, "/proc/self/exe", NULL, NULL, arguments, environ) == 0);
    CHECK(waitpid(child, &status, 0) == child);
    CHECK(WIFEXITED(status) && WEXITSTATUS(status) == 0, "destination: status %#x",
          (unsigned)status);
}

static void run_hand_over(void)
{
    begin();
    OK(control_image_check(&session->session, &note.image, &failure));
    OK(park());
    CHECK(answer.expires_unix_ms > 0 && answer.segments[0].epoch == 2);
    for (unsigned i = 0; i < MEMBERS; i++) {
        hold_fill(parts[i], 0, 9); // resident: it does not know yet
    }
    spawn_destination();
    for (unsigned i = 0; i < MEMBERS; i++) {
        RESULT(dsm_clean(parts[i], hold_all(parts[i]), NULL), -DSM_EFENCED);
    }
    CHECK(strstr(dsm_strerror(-DSM_EFENCED), "another process owns the segment") != NULL);
    close_all(-DSM_EFENCED);
    RESULT(commit(note.token), -EALREADY);
    told("used before");
    RESULT(take_back(), -EALREADY);
    told("goes on elsewhere");
    RESULT(park(), -DSM_EFENCED);
    parts[0] = hold_segment(session, "heap", 0);
    parts[1] = hold_segment(session, "stack", 0);
    parts[2] = hold_segment(session, "data", 0);
    check(2); // what the destination wrote, and nothing of the fenced source
    close_all(0);
    hold_close_after_errors(session);
}

static void run_back(void)
{
    begin();
    const struct image_request first = note.image;
    OK(park());
    OK(take_back());
    OK(take_back());
    go_on();
    CHECK(note.image.members[0].epoch == 2);
    RESULT(commit(note.token), -EALREADY);
    told("taken back");
    const struct image_request now = note.image;
    note.image = first;
    RESULT(park(), -DSM_EFENCED); // it comes too late
    note.image = now;
    fill(3);
    clean();
    OK(take_back()); // without a park: so that one on its way comes too late
    go_on();
    CHECK(note.image.members[0].epoch == 3);
    fill(4);
    close_all(0);
    hold_close_after_errors(session);
}

// A capsule that nobody redeems: its image goes back to the principal, of whom anybody may open it then; the source comes too late.
static void run_expired(void)
{
    dsm_segment *heap = NULL;
    int error;
    begin();
    OK(control_image_park(&session->session, &note.image, note.token, LIMIT_CAPSULE_MIN_MS, "",
                          &answer, &failure));
    (void)usleep(2 * LIMIT_CAPSULE_MIN_MS * 1000);
    RESULT(commit(note.token), -ETIME);
    told("has expired");
    for (unsigned i = 0; i < MEMBERS; i++) {
        hold_fill(parts[i], 0, 9);
        RESULT(dsm_clean(parts[i], hold_all(parts[i]), NULL), -DSM_EFENCED);
    }
    close_all(-DSM_EFENCED);
    for (int tries = 0; (error = dsm_segment_open(session, "heap", 0, &heap)) == -EBUSY; tries++) {
        CHECK(tries < 600, "it does not come back: %s", dsm_error()->text);
        (void)usleep(100000);
    }
    OK(error);
    hold_check_all(heap, 1);
    RESULT(take_back(), -DSM_EFENCED);
    told("another process opened");
    OK(dsm_segment_close(heap));
    hold_close_after_errors(session);
}

static void run_right(void)
{
    begin();
    RESULT(control_image_check(&session->session, &note.image, &failure), -EACCES);
    told("no right to migrate");
    RESULT(park(), -EACCES);
    RESULT(take_back(), -EACCES);
    RESULT(commit(note.token), -EACCES);
    fill(4);
    close_all(0);
    hold_close(session);
}

// dsmd dies at one of the steps of park, commit, park, abort: each request is answered all the same, and each page is there.
static void run_killed(void)
{
    begin();
    OK(park());
    OK(commit(note.token)); // by the same process: it is as good as another
    go_on();
    check(1);
    fill(2);
    clean();
    OK(park());
    OK(take_back());
    go_on();
    CHECK(note.image.members[2].epoch == 3);
    check(2);
    fill(3);
    clean();
    hold_await("killed");
    check(3);
    RESULT(commit(note.token), -EALREADY);
    close_all(0);
    hold_close_after_errors(session);
}

static void run_code(void)
{
    uint8_t identity[WIRE_DIGEST_BYTES];
    struct control_segment info;
    dsm_segment *code;
    noise_random(identity, sizeof identity);
    session = hold_open(CACHE);
    OK(control_code(&session->session, identity, (uint64_t)PAGES * PAGE, PAGE, &info, &failure));
    CHECK(info.writer, "it is found before it was made");
    OK(segment_attach(session, "code", &info, true, &code, &failure));
    hold_fill_all(code, 1);
    OK(dsm_clean(code, hold_all(code), NULL));
    const struct image_member made = {info.id, info.epoch};
    OK(control_seal(&session->session, &made, &info, &failure));
    hold_fill(code, 3, 2);
    RESULT(dsm_clean(code, hold_all(code), NULL), -EREMOTEIO);
    OK(control_code(&session->session, identity, (uint64_t)PAGES * PAGE, PAGE, &info, &failure));
    CHECK(!info.writer && info.id == made.segment && info.epoch == made.epoch);
    RESULT(control_code(&session->session, identity, PAGE, PAGE, &info, &failure), -EINVAL);
    hold_close_after_errors(session);
}

static const struct hold_role roles[] = {{"hand-over", run_hand_over},
                                         {"destination", run_destination},
                                         {"back", run_back},
                                         {"right", run_right},
                                         {"expired", run_expired},
                                         {"killed", run_killed},
                                         {"code", run_code}};

int main(int argc, char **argv)
{
    return hold_main(argc, argv, roles, sizeof roles / sizeof *roles);
}
