// SPDX-License-Identifier: Apache-2.0
//
// dsmctl stat: the server's room and load, once. Two parts, because they answer two questions: what the server has, and what
// of it is this principal's. (dsmstat server shows the load over time.)
#include <errno.h>
#include <inttypes.h>

#include "tools/dsmctl.h"
#include "tools/tool_client.h"
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

static json_t *object_of(const struct tool_client_facts *facts, const Dsm__StatInfo *stat)
{
    char id[TOOL_ID_BYTES];
    return json_pack(
        "{s:s, s:s, s:o, s:s, s:o, s:o, s:o, s:o, s:o, s:o, s:o, s:o, s:s, s:o, s:o, "
        "s:o, s:o}",
        "server", facts->server, "server_version", stat->server_version, "uptime_ms",
        tool_json_number(stat->uptime_ms), "store_id", tool_id(facts->attached.store_id, id),
        "incarnation", tool_json_number(stat->incarnation), "capacity_bytes",
        tool_json_number(stat->capacity_bytes), "reserved_bytes",
        tool_json_number(stat->reserved_bytes), "stored_bytes",
        tool_json_number(stat->stored_bytes), "lanes", tool_json_number(stat->lanes), "requests",
        tool_json_number(stat->requests), "pages_read", tool_json_number(stat->pages_read),
        "pages_written", tool_json_number(stat->pages_written), "principal", stat->principal,
        "quota_bytes", tool_json_number(stat->quota_bytes), "charged_bytes",
        tool_json_number(stat->charged_bytes), "segments", tool_json_number(stat->segments),
        "sessions", tool_json_number(stat->sessions));
}

int dsmctl_stat(int argc, char **argv)
{
    struct dsmctl_input input = {0};
    struct failure failure = {""};
    struct tool_client *client = NULL;
    struct tool_client_facts facts;
    Dsm__ControlAnswer *answer = NULL;
    Dsm__Stat stat = DSM__STAT__INIT;
    Dsm__Control control = DSM__CONTROL__INIT;
    control.body_case = DSM__CONTROL__BODY_STAT;
    control.stat = &stat;
    if (dsmctl_parse_json(argc, argv, NULL,
                          "Shows what the server has and does since it was started, and what of it "
                          "belongs to the owner of this key. With --json a quota of null is none.",
                          &input) != 0) {
        return DSMCTL_USAGE;
    }
    int error = tool_client_open(NULL, &client, &failure);
    if (error == 0) {
        error = tool_client_control(client, &control, DSM__CONTROL_ANSWER__BODY_STAT, &answer,
                                    &failure);
    }
    if (error == 0) {
        tool_client_facts(client, &facts);
        if (input.json) {
            (void)tool_json_print(object_of(&facts, answer->stat), true);
        } else {
            print_text(&facts, answer->stat);
        }
    }
    tool_client_free(&answer);
    tool_client_close(&client);
    return dsmctl_end(argv, error, &failure);
}
