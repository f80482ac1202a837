// SPDX-License-Identifier: Apache-2.0
//
// dsmctl create and dsmctl delete: segments made and deleted without a program. Both carry an operation id, so that one that
// is sent again after a cut is done once.
//
// A create opens the segment for writing (the server's rule: made and opened is one step); the command closes it, else
// the next program would find it held by a process that is gone.
//
// delete asks nothing: it is for scripts. The server refuses while anybody has the segment open, and names the holder.
#include <argp.h>
#include <errno.h>
#include <string.h>
#include <unistd.h>

#include "libdsm/settings.h"
#include "rpc/noise.h"
#include "tools/dsmctl.h"
#include "tools/tool_client.h"
#include "tools/tool_text.h"

enum { FLAG_NORESERVE = 1, KEY_NORESERVE = 256 };

struct create {
    struct dsmctl_words words;
    uint64_t bytes, page_bytes;
    bool noreserve;
};

static error_t parse_create(int key, char *argument, struct argp_state *state)
{
    struct create *create = state->input;
    switch (key) {
    case 'p':
        if (settings_parse_bytes(argument, &create->page_bytes) != 0 ||
            create->page_bytes < LIMIT_PAGE_MIN_BYTES ||
            create->page_bytes > LIMIT_PAGE_MAX_BYTES ||
            (create->page_bytes & (create->page_bytes - 1)) != 0) {
            argp_error(state, "--page-size is \"%s\": it must be a power of two from 4K to 1M",
                       argument);
        }
        return 0;
    case KEY_NORESERVE:
        create->noreserve = true;
        return 0;
    case ARGP_KEY_ARG:
        if (create->words.count == 1 &&
            (settings_parse_bytes(argument, &create->bytes) != 0 || create->bytes == 0 ||
             create->bytes > LIMIT_SEGMENT_BYTES)) {
            argp_error(state, "the size is \"%s\": it must be one such as 512M, at most %lluT",
                       argument, LIMIT_SEGMENT_BYTES >> 40);
        }
        break;
    default:
        break;
    }
    return dsmctl_parse_words(key, argument, state, &create->words);
}

static int check_name(const char *name, struct failure *failure)
{
    if (wire_segment_name_valid(name)) {
        return 0;
    }
    return failure_set(failure, -EINVAL,
                       "\"%.100s\" is no name for a segment: it has 1 to %d of A-Z a-z 0-9 . _ @ : "
                       "+ = -, in parts joined by \"/\".",
                       name, LIMIT_SEGMENT_NAME_BYTES - 1);
}

static int close_segment(struct tool_client *client, uint64_t id, struct failure *failure)
{
    Dsm__ControlAnswer *answer = NULL;
    Dsm__Close close = DSM__CLOSE__INIT;
    Dsm__Control control = DSM__CONTROL__INIT;
    close.segment = id;
    control.body_case = DSM__CONTROL__BODY_CLOSE;
    control.close = &close;
    int error =
        tool_client_control(client, &control, DSM__CONTROL_ANSWER__BODY__NOT_SET, &answer, failure);
    tool_client_free(&answer);
    return error;
}

static void advise_create(int error, struct failure *failure)
{
    switch (error) {
    case -EEXIST:
        dsmctl_advise(failure, "Choose another name, or delete that one first.");
        break;
    case -ENOSPC:
        dsmctl_advise(failure, "\"dsmctl stat\" shows its room; --noreserve takes room only "
                               "for pages that are written.");
        break;
    case -EDQUOT:
        dsmctl_advise(failure, "Delete segments (\"dsmctl segments\"), or ask for a larger quota "
                               "in the server's authorized file.");
        break;
    default:
        break;
    }
}

static int create_segment(const struct create *input, struct failure *failure)
{
    struct tool_client *client = NULL;
    Dsm__ControlAnswer *answer = NULL;
    uint8_t id[WIRE_ID_BYTES];
    Dsm__Create create = DSM__CREATE__INIT;
    Dsm__Control control = DSM__CONTROL__INIT;
    noise_random(id, sizeof id);
    create.operation = (ProtobufCBinaryData){sizeof id, id};
    create.name = (char *)(uintptr_t)input->words.name[0];
    create.bytes = input->bytes;
    create.page_bytes = (uint32_t)input->page_bytes;
    create.flags = input->noreserve ? FLAG_NORESERVE : 0;
    control.body_case = DSM__CONTROL__BODY_CREATE;
    control.create = &create;
    int error = tool_client_open(NULL, &client, failure);
    if (error == 0) {
        error = tool_client_control(client, &control, DSM__CONTROL_ANSWER__BODY_SEGMENT, &answer,
                                    failure);
        advise_create(error, failure);
    }
    if (error == 0) {
        char size[TOOL_SIZE_BYTES], page[TOOL_SIZE_BYTES];
        const Dsm__SegmentInfo *info = answer->segment;
        error = close_segment(client, info->id, failure);
        printf("%s: %s in pages of %s%s\n", info->name, tool_size(info->bytes, size),
               tool_size(info->page_bytes, page), input->noreserve ? ", no room reserved" : "");
    }
    tool_client_free(&answer);
    tool_client_close(&client);
    return error;
}

int dsmctl_create(int argc, char **argv)
{
    static const struct argp_option options[] = {
        {"page-size", 'p', "SIZE", 0,
         "The unit of transfer, a power of two from 4K to 1M (default: this system's page)", 0},
        {"noreserve", KEY_NORESERVE, NULL, 0,
         "Promise no room: a later write may find the server full", 0},
        {0}};
    const struct argp argp = {
        .options = options,
        .parser = parse_create,
        .args_doc = "NAME SIZE",
        .doc =
            "Makes a segment of SIZE bytes (K, M, G, T for binary multiples; rounded up to whole "
            "pages), and leaves it closed. Its pages are zeros.",
    };
    struct create create = {.words = {.least = 2, .most = 2},
                            .page_bytes = (uint64_t)sysconf(_SC_PAGESIZE)};
    struct failure failure = {""};
    if (argp_parse(&argp, argc, argv, 0, NULL, &create) != 0) {
        return DSMCTL_USAGE;
    }
    int error = check_name(create.words.name[0], &failure);
    error = error != 0 ? error : create_segment(&create, &failure);
    return dsmctl_end(argv, error, &failure);
}

static error_t parse_delete(int key, char *argument, struct argp_state *state)
{
    return dsmctl_parse_words(key, argument, state, state->input);
}

static int delete_segment(const char *name, struct failure *failure)
{
    struct tool_client *client = NULL;
    Dsm__ControlAnswer *answer = NULL;
    uint8_t id[WIRE_ID_BYTES];
    Dsm__Delete delete = DSM__DELETE__INIT;
    Dsm__Control control = DSM__CONTROL__INIT;
    noise_random(id, sizeof id);
    delete.operation = (ProtobufCBinaryData){sizeof id, id};
    delete.name = (char *)(uintptr_t)name;
    control.body_case = DSM__CONTROL__BODY_DELETE;
    control.delete_ = &delete;
    int error = tool_client_open(NULL, &client, failure);
    if (error == 0) {
        error = tool_client_control(client, &control, DSM__CONTROL_ANSWER__BODY__NOT_SET, &answer,
                                    failure);
        if (error == -EBUSY) {
            dsmctl_advise(failure, "Let it close the segment, or end it; a process that was lost "
                                   "holds it for 60 s.");
        } else if (error == -ENOENT) {
            dsmctl_advise(failure, "\"dsmctl segments\" lists what there is.");
        }
    }
    tool_client_free(&answer);
    tool_client_close(&client);
    return error;
}

int dsmctl_delete(int argc, char **argv)
{
    const struct argp argp = {
        .parser = parse_delete,
        .args_doc = "NAME",
        .doc = "Deletes a segment and all of its pages, for good and without asking. Refused while "
               "a process has it open.",
    };
    struct dsmctl_words words = {.least = 1, .most = 1};
    struct failure failure = {""};
    if (argp_parse(&argp, argc, argv, 0, NULL, &words) != 0) {
        return DSMCTL_USAGE;
    }
    int error = check_name(words.name[0], &failure);
    error = error != 0 ? error : delete_segment(words.name[0], &failure);
    return dsmctl_end(argv, error, &failure);
}
