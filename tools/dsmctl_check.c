// SPDX-License-Identifier: Apache-2.0
//
// dsmctl check: a store that no dsmd uses, looked through by the code that dsmd uses: opened as dsmd would (which reads every
// index and refuses what is damaged), counted again by store_check(), closed again.
//
// What it leaves behind: the store counts one start more, and is marked as stopped in order, which is then true. It is
// opened with durability = power, so that the mark of use which it makes promises nothing that is not on the medium:
// everything is synced first, and nothing is written after.
//
// Root takes the identity of the directory's owner beforehand: a store must never get a file that its dsmd cannot open.
#include <errno.h>
#include <grp.h>
#include <inttypes.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "server/store/store.h"
#include "tools/dsmctl.h"
#include "tools/tool_text.h"

struct verdict {
    struct store_facts facts;
    uint64_t segments, segment_bytes;
};

static int become_owner(const char *directory, struct failure *failure)
{
    struct stat facts;
    if (geteuid() != 0 || stat(directory, &facts) != 0 || facts.st_uid == 0) {
        return 0; // what cannot be looked at is for store_open() to refuse
    }
    if (setgroups(0, NULL) != 0 || setgid(facts.st_gid) != 0 || setuid(facts.st_uid) != 0) {
        return failure_set(failure, -errno, "The identity of the owner of %s cannot be taken: %s.",
                           directory, strerror(errno));
    }
    return 0;
}

static void count(struct store *store, struct verdict *verdict)
{
    struct store_segment *segment = NULL;
    while ((segment = store_segment_next(store, segment)) != NULL) {
        verdict->segments++;
        verdict->segment_bytes += store_segment_record(segment)->bytes;
    }
    store_facts(store, &verdict->facts);
}

static int check(const char *directory, struct verdict *verdict, struct failure *failure)
{
    struct store *store = NULL;
    const struct store_options options = {
        .directory = directory, .durability = STORE_DURABILITY_POWER, .threads = 1};
    int error = become_owner(directory, failure);
    error = error != 0 ? error : store_open(&options, &store, failure);
    if (error == -EBUSY) {
        dsmctl_advise(failure, "Stop that dsmd first: a store is checked while nobody uses it.");
    }
    if (error != 0) {
        return error;
    }
    error = store_check(store, failure);
    count(store, verdict);
    int closed = store_close(&store);
    if (error == 0 && closed != 0) {
        error = failure_set(failure, closed, "The store in %s could not be closed in order: %s.",
                            directory, strerror(-closed));
    }
    return error;
}

static void print_text(const char *directory, const struct verdict *verdict)
{
    const struct store_facts *facts = &verdict->facts;
    char a[TOOL_SIZE_BYTES], b[TOOL_SIZE_BYTES], c[TOOL_SIZE_BYTES], id[TOOL_ID_BYTES];
    printf("%s: whole\n", directory);
    printf("store      %s, last stopped %s\n", tool_id(facts->store_id, id),
           facts->clean ? "in order" : "without order (a crash or kill -9)");
    printf("segments   %" PRIu64 ", of %s together\n", verdict->segments,
           tool_size(verdict->segment_bytes, a));
    printf("capacity   %s, of it reserved %s, stored %s\n", tool_size(facts->capacity_bytes, a),
           tool_size(facts->reserved_bytes, b), tool_size(facts->stored_bytes, c));
}

static json_t *object_of(const struct verdict *verdict)
{
    const struct store_facts *facts = &verdict->facts;
    char id[TOOL_ID_BYTES];
    return json_pack("{s:b, s:s, s:b, s:o, s:o, s:o, s:o, s:o}", "whole", 1, "store_id",
                     tool_id(facts->store_id, id), "stopped_in_order", (int)facts->clean,
                     "segments", tool_json_number(verdict->segments), "segment_bytes",
                     tool_json_number(verdict->segment_bytes), "capacity_bytes",
                     tool_json_number(facts->capacity_bytes), "reserved_bytes",
                     tool_json_number(facts->reserved_bytes), "stored_bytes",
                     tool_json_number(facts->stored_bytes));
}

int dsmctl_check(int argc, char **argv)
{
    struct dsmctl_input input = {.words = {.least = 1, .most = 1}};
    struct verdict verdict = {0};
    struct failure failure = {""};
    if (dsmctl_parse_json(argc, argv, "STORE-DIRECTORY",
                          "Checks a store while no dsmd uses it: every index, every slot and all "
                          "sums. Changes no page. Exit code 0: whole; 1: damaged, in use, or no "
                          "store.",
                          &input) != 0) {
        return DSMCTL_USAGE;
    }
    int error = check(input.words.name[0], &verdict, &failure);
    if (error == 0 && input.json) {
        (void)tool_json_print(object_of(&verdict), true);
    } else if (error == 0) {
        print_text(input.words.name[0], &verdict);
    }
    return dsmctl_end(argv, error, &failure);
}
