// SPDX-License-Identifier: Apache-2.0
//
// dsmctl segments: what there is, in order of name. The server gives as many as fit one message; the next question begins
// after the last name, so segments that come or go in between neither repeat nor hide others.
//
// Only what this key may see is listed: that is the server's rule.
#include <errno.h>
#include <inttypes.h>
#include <stdlib.h>
#include <string.h>

#include "tools/dsmctl.h"
#include "tools/tool_client.h"
#include "tools/tool_text.h"

enum { NORESERVE = 1 }; // SegmentInfo.flags

struct listing { // one of the two
    struct tool_table *table;
    json_t *array;
};

static const struct tool_column columns[] = {
    {"NAME", true, 0},      {"SIZE", false, 0},    {"PAGE", false, 5},  {"STORED", false, 2},
    {"RESERVED", false, 4}, {"READERS", false, 3}, {"EPOCH", false, 6}, {"HOLDER", true, 1},
};
enum { COLUMNS = sizeof columns / sizeof columns[0] };

static int add_row(struct tool_table *table, const Dsm__SegmentInfo *info)
{
    char size[TOOL_SIZE_BYTES], page[TOOL_SIZE_BYTES], stored[TOOL_SIZE_BYTES];
    char reserved[TOOL_SIZE_BYTES], readers[16], epoch[24];
    (void)snprintf(readers, sizeof readers, "%" PRIu32, info->readers);
    (void)snprintf(epoch, sizeof epoch, "%" PRIu64, info->epoch);
    const char *cells[COLUMNS] = {
        info->name,
        tool_size(info->bytes, size),
        tool_size(info->page_bytes, page),
        tool_size(info->stored_bytes, stored),
        (info->flags & NORESERVE) != 0 ? "thin" : tool_size(info->reserved_bytes, reserved),
        readers,
        epoch,
        info->holder[0] != '\0' ? info->holder : "-",
    };
    return tool_table_add(table, cells);
}

static int add_object(json_t *array, const Dsm__SegmentInfo *info)
{
    json_t *object = json_pack(
        "{s:s, s:o, s:o, s:I, s:o, s:o, s:b, s:s, s:I, s:o, s:o, s:o, s:s}", "name", info->name,
        "id", tool_json_number(info->id), "bytes", tool_json_number(info->bytes), "page_bytes",
        (json_int_t)info->page_bytes, "stored_bytes", tool_json_number(info->stored_bytes),
        "reserved_bytes", tool_json_number(info->reserved_bytes), "noreserve",
        (info->flags & NORESERVE) != 0, "holder", info->holder, "readers",
        (json_int_t)info->readers, "epoch", tool_json_number(info->epoch), "highest_version",
        tool_json_number(info->highest), "address", tool_json_number(info->address), "principal",
        info->principal);
    return json_array_append_new(array, object) == 0 ? 0 : -ENOMEM;
}

static int add_all(const struct listing *listing, const Dsm__SegmentList *list)
{
    int error = 0;
    for (size_t i = 0; i < list->n_segment && error == 0; i++) {
        error = listing->array != NULL ? add_object(listing->array, list->segment[i])
                                       : add_row(listing->table, list->segment[i]);
    }
    return error;
}

// One question. *after becomes the last name of the answer; *more whether there is more behind it.
static int add_some(struct tool_client *client, const char *prefix,
                    char after[LIMIT_SEGMENT_NAME_BYTES], const struct listing *listing, bool *more,
                    struct failure *failure)
{
    Dsm__ControlAnswer *answer = NULL;
    Dsm__List list = DSM__LIST__INIT;
    Dsm__Control control = DSM__CONTROL__INIT;
    list.prefix = (char *)(uintptr_t)prefix;
    list.after = after;
    control.body_case = DSM__CONTROL__BODY_LIST;
    control.list = &list;
    int error =
        tool_client_control(client, &control, DSM__CONTROL_ANSWER__BODY_LIST, &answer, failure);
    if (error != 0) {
        return error;
    }
    const Dsm__SegmentList *got = answer->list;
    if (add_all(listing, got) != 0) {
        error = failure_set(failure, -ENOMEM, "Out of memory.");
    }
    *more = got->more && got->n_segment > 0;
    if (*more) { // a server that does not go on would keep us here for ever
        const char *last = got->segment[got->n_segment - 1]->name;
        if (strcmp(last, after) <= 0 || strlen(last) >= LIMIT_SEGMENT_NAME_BYTES) {
            error = failure_set(failure, -EBADMSG, "The server's list is out of order.");
        } else {
            memcpy(after, last, strlen(last) + 1);
        }
    }
    tool_client_free(&answer);
    return error;
}

static int collect(const char *prefix, const struct listing *listing, struct failure *failure)
{
    struct tool_client *client = NULL;
    char after[LIMIT_SEGMENT_NAME_BYTES] = "";
    bool more = true;
    if (strlen(prefix) >= LIMIT_SEGMENT_NAME_BYTES) {
        return failure_set(failure, -EINVAL, "A name has at most %d characters.",
                           LIMIT_SEGMENT_NAME_BYTES - 1);
    }
    int error = tool_client_open(NULL, &client, failure);
    while (error == 0 && more) {
        error = add_some(client, prefix, after, listing, &more, failure);
    }
    tool_client_close(&client);
    return error;
}

int dsmctl_segments(int argc, char **argv)
{
    struct dsmctl_input input = {.words = {.most = 1}};
    struct failure failure = {""};
    struct listing listing = {0};
    if (dsmctl_parse_json(argc, argv, "[PREFIX]",
                          "Lists the segments that this key may see, or those whose names begin "
                          "with PREFIX. HOLDER has the segment open for writing. STORED is what it "
                          "takes on the server: pages of zeros take nothing. On a narrow terminal "
                          "some columns are left out.",
                          &input) != 0) {
        return DSMCTL_USAGE;
    }
    if (input.json) {
        listing.array = json_array();
    } else {
        listing.table = tool_table_create(columns, COLUMNS);
    }
    int error = listing.array == NULL && listing.table == NULL
                    ? failure_set(&failure, -ENOMEM, "Out of memory.")
                    : collect(input.words.count > 0 ? input.words.name[0] : "", &listing, &failure);
    if (error == 0 && input.json) {
        (void)tool_json_print(json_incref(listing.array), true);
    } else if (error == 0) {
        unsigned width, rows;
        tool_terminal(stdout, &width, &rows);
        tool_table_print(listing.table, stdout, width);
    }
    json_decref(listing.array);
    tool_table_destroy(&listing.table);
    return dsmctl_end(argv, error, &failure);
}
