// SPDX-License-Identifier: Apache-2.0
//
// The question "how are you" to a dsmd. Three commands ask it (dsmctl ping and stat, dsmstat server), so that the names of the
// fields in JSON are the same in all of them.
#include "tools/tool_server.h"

#include "tools/tool_text.h"

int tool_server_ask(struct tool_client *client, Dsm__ControlAnswer **answer,
                    struct failure *failure)
{
    Dsm__Stat stat = DSM__STAT__INIT;
    Dsm__Control control = DSM__CONTROL__INIT;
    control.body_case = DSM__CONTROL__BODY_STAT;
    control.stat = &stat;
    return tool_client_control(client, &control, DSM__CONTROL_ANSWER__BODY_STAT, answer, failure);
}

json_t *tool_server_json(const struct tool_client *client, const Dsm__StatInfo *stat)
{
    char id[TOOL_ID_BYTES];
    struct tool_client_facts facts;
    tool_client_facts(client, &facts);
    const struct {
        const char *name;
        uint64_t number;
    } numbers[] = {
        {"uptime_ms", stat->uptime_ms},
        {"incarnation", stat->incarnation},
        {"capacity_bytes", stat->capacity_bytes},
        {"reserved_bytes", stat->reserved_bytes},
        {"stored_bytes", stat->stored_bytes},
        {"lanes", stat->lanes},
        {"requests", stat->requests},
        {"pages_read", stat->pages_read},
        {"pages_written", stat->pages_written},
        {"quota_bytes", stat->quota_bytes},
        {"charged_bytes", stat->charged_bytes},
        {"segments", stat->segments},
        {"sessions", stat->sessions},
    };
    json_t *object = json_pack("{s:s, s:s, s:s, s:s}", "server", facts.server, "server_version",
                               stat->server_version, "store_id",
                               tool_id(facts.attached.store_id, id), "principal", stat->principal);
    for (size_t i = 0; i < sizeof numbers / sizeof numbers[0]; i++) {
        (void)json_object_set_new(object, numbers[i].name, tool_json_number(numbers[i].number));
    }
    return object;
}
