// SPDX-License-Identifier: Apache-2.0
//
// What a server says of itself, asked for and written as JSON in one place.
#ifndef TOOLS_TOOL_SERVER_H
#define TOOLS_TOOL_SERVER_H

#include <jansson.h>

#include "tools/tool_client.h"

// 0 with answer->stat (tool_client_free), or -errno with a sentence.
int tool_server_ask(struct tool_client *client, Dsm__ControlAnswer **answer,
                    struct failure *failure);
json_t *tool_server_json(const struct tool_client *client, const Dsm__StatInfo *stat);

#endif
