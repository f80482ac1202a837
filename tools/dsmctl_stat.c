// SPDX-License-Identifier: Apache-2.0
//
// dsmctl stat: the server's room and load, once. Two parts, because they answer two questions: what the server has, and what
// of it is this principal's. (dsmstat server shows the load over time.)
#include <errno.h>
#include <inttypes.h>

#include "tools/dsmctl.h"
#include "tools/tool_server.h"
#include "tools/tool_text.h"

static void print_text(const struct tool_client_facts *facts, const Dsm__StatInfo *stat)
{
    char a[TOOL_SIZE_BYTES], b[TOOL_SIZE_BYTES], id[TOOL_ID_BYTES];
    uint64_t left = stat->capacity_bytes > stat->reserved_bytes
                        ? stat->capacity_bytes - stat->reserved_bytes
                        : 0;
    printf("server     %s, dsmd %s, up %s\n", facts->server,
           stat->server_version[0] != '\0' ? stat->server_version : "of an unknown version",
           tool_duration(stat->uptime_ms, a));
    printf("store      %s, incarnation %" PRIu64 "\n", tool_id(facts->attached.store_id, id),
           stat->incarnation);
    printf("capacity   %s\n", tool_size(stat->capacity_bytes, a));
    printf("reserved   %s, so %s can still be promised\n", tool_size(stat->reserved_bytes, a),
           tool_size(left, b));
    printf("stored     %s\n", tool_size(stat->stored_bytes, a));
    printf("lanes      %" PRIu64 "\n", stat->lanes);
    printf("requests   %" PRIu64 "; pages read %" PRIu64 ", written %" PRIu64 "\n", stat->requests,
           stat->pages_read, stat->pages_written);
    printf("\n%s has\n", stat->principal[0] != '\0' ? stat->principal : "this key's owner");
    printf("quota      %s\n",
           stat->quota_bytes == UINT64_MAX ? "none" : tool_size(stat->quota_bytes, a));
    printf("charged    %s\n", tool_size(stat->charged_bytes, a));
    printf("segments   %" PRIu64 "\n", stat->segments);
    printf("sessions   %" PRIu64 ", this one counted\n", stat->sessions);
}

int dsmctl_stat(int argc, char **argv)
{
    struct dsmctl_input input = {0};
    struct failure failure = {""};
    struct tool_client *client = NULL;
    struct tool_client_facts facts;
    Dsm__ControlAnswer *answer = NULL;
    if (dsmctl_parse_json(argc, argv, NULL,
                          "Shows what the server has and does since it was started, and what of it "
                          "belongs to the owner of this key. With --json a quota of null is none.",
                          &input) != 0) {
        return DSMCTL_USAGE;
    }
    int error = tool_client_open(NULL, &client, &failure);
    error = error != 0 ? error : tool_server_ask(client, &answer, &failure);
    if (error == 0) {
        tool_client_facts(client, &facts);
        if (input.json) {
            (void)tool_json_print(tool_server_json(client, answer->stat), true);
        } else {
            print_text(&facts, answer->stat);
        }
    }
    tool_client_free(&answer);
    tool_client_close(&client);
    return dsmctl_end(argv, error, &failure);
}
