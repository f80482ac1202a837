// SPDX-License-Identifier: Apache-2.0
//
// A tool's connection to a dsmd: one lane, with the settings of any client (DSM_SERVER and so on), but no pager, no signal
// handler and no thread. One owner at a time.
#ifndef TOOLS_TOOL_CLIENT_H
#define TOOLS_TOOL_CLIENT_H

#include <rpc/dsm.pb-c.h>

#include "rpc/failure.h"
#include "rpc/noise.h"
#include "rpc/wire.h"

struct tool_client;

struct tool_client_facts {
    char server[280]; // HOST:PORT
    enum noise_suite suite;
    enum wire_lane_kind lane_kind;
    struct wire_attached attached; // of the present connection
};

// Connects within LIMIT_CONNECT_MS. server: HOST:PORT, or NULL for DSM_SERVER. 0, or -errno with a sentence.
int tool_client_open(const char *server, struct tool_client **client, struct failure *failure);
void tool_client_close(struct tool_client **client);
void tool_client_facts(const struct tool_client *client, struct tool_client_facts *facts);

// One round trip that asks for nothing. 0, or the connection's error with a sentence.
int tool_client_ping(struct tool_client *client, struct failure *failure);
// One control operation. When the connection is cut, dsmd may be starting again: connects again within
// LIMIT_CONNECT_MS and sends the same once more, which is why creates and deletes carry an operation id. 0 with an answer of the body
// asked for (tool_client_free), or -errno with a sentence: the server's, or the connection's.
int tool_client_control(struct tool_client *client, const Dsm__Control *control,
                        Dsm__ControlAnswer__BodyCase body, Dsm__ControlAnswer **answer,
                        struct failure *failure);
void tool_client_free(Dsm__ControlAnswer **answer);

#endif
