// SPDX-License-Identifier: Apache-2.0
//
// dsmctl ping: is the server there, is it the right one, does it let this key in, and how long does an answer take. It is what
// a user runs first when something does not work, so it says everything that both ends agreed on.
//
// The round trips are of the smallest message on one connection, one after the other: what a fault pays besides its page. Least,
// median and greatest, because a mean hides the one that waited for a sleeping processor.
#include <argp.h>
#include <errno.h>
#include <inttypes.h>
#include <stdlib.h>

#include "libdsm/sync/futex.h"
#include "rpc/keyfile.h"
#include "tools/dsmctl.h"
#include "tools/tool_server.h"
#include "tools/tool_text.h"

enum { PINGS_DEFAULT = 20, PINGS_MOST = 100000 };

struct ping {
    struct dsmctl_input input;
    size_t count;
    int64_t *round_trips_ns; // sorted once all are in
    struct tool_client_facts facts;
    Dsm__ControlAnswer *answer;
};

static error_t parse(int key, char *argument, struct argp_state *state)
{
    struct ping *ping = state->input;
    char *end = NULL;
    switch (key) {
    case 'c':
        ping->count = strtoul(argument, &end, 10);
        if (argument[0] < '0' || argument[0] > '9' || *end != '\0' || ping->count < 1 ||
            ping->count > PINGS_MOST) {
            argp_error(state, "--count is \"%s\": it must be 1 to %d", argument, PINGS_MOST);
        }
        return 0;
    case 'j':
        ping->input.json = true;
        return 0;
    default:
        return dsmctl_parse_words(key, argument, state, &ping->input.words);
    }
}

static int compare(const void *a, const void *b)
{
    const int64_t *left = a;
    const int64_t *right = b;
    return (*left > *right) - (*left < *right);
}

static int measure(struct ping *ping, struct failure *failure)
{
    struct tool_client *client = NULL;
    int error = tool_client_open(NULL, &client, failure);
    error = error != 0 ? error : tool_server_ask(client, &ping->answer, failure);
    for (size_t i = 0; i < ping->count && error == 0; i++) {
        int64_t before = sync_now();
        error = tool_client_ping(client, failure);
        ping->round_trips_ns[i] = sync_now() - before;
    }
    if (error == 0) {
        tool_client_facts(client, &ping->facts);
        qsort(ping->round_trips_ns, ping->count, sizeof ping->round_trips_ns[0], compare);
    }
    tool_client_close(&client);
    return error;
}

static const char *cipher_name(const struct ping *ping)
{
    return ping->facts.suite == NOISE_AESGCM ? "AES-256-GCM" : "ChaCha20-Poly1305";
}

static const char *lane_name(const struct ping *ping)
{
    return ping->facts.lane_kind == WIRE_LANE_GRPC ? "grpc" : "sock";
}

static double microseconds(const struct ping *ping, size_t rank)
{
    return (double)ping->round_trips_ns[rank] / 1000;
}

static const struct {
    unsigned right;
    const char *name;
} rights[] = {{KEY_RIGHT_CREATE, "create"},
              {KEY_RIGHT_READ, "read"},
              {KEY_RIGHT_WRITE, "write"},
              {KEY_RIGHT_MIGRATE, "migrate"},
              {KEY_RIGHT_ADMIN, "admin"}};
enum { RIGHTS = sizeof rights / sizeof rights[0] };

static void print_text(const struct ping *ping)
{
    const Dsm__StatInfo *stat = ping->answer->stat;
    const struct wire_attached *attached = &ping->facts.attached;
    char id[TOOL_ID_BYTES];
    printf("server       %s, dsmd %s\n", ping->facts.server,
           stat->server_version[0] != '\0' ? stat->server_version : "of an unknown version");
    printf("store        %s, incarnation %" PRIu64 "\n", tool_id(attached->store_id, id),
           attached->incarnation);
    printf("protocol     version %d, %s, over %s\n", WIRE_VERSION, cipher_name(ping),
           lane_name(ping));
    printf("you are      %s, with the rights", stat->principal[0] != '\0' ? stat->principal : "?");
    for (size_t i = 0, shown = 0; i < RIGHTS; i++) {
        if ((attached->rights & rights[i].right) != 0) {
            printf("%s %s", shown++ > 0 ? "," : "", rights[i].name);
        }
    }
    printf("%s\n", attached->rights == 0 ? " to nothing" : "");
    printf("round trip   least %.1f us, median %.1f us, greatest %.1f us, of %zu\n",
           microseconds(ping, 0), microseconds(ping, ping->count / 2),
           microseconds(ping, ping->count - 1), ping->count);
}

static int print_json(const struct ping *ping)
{
    const Dsm__StatInfo *stat = ping->answer->stat;
    const struct wire_attached *attached = &ping->facts.attached;
    char id[TOOL_ID_BYTES];
    json_t *may = json_array();
    for (size_t i = 0; i < RIGHTS; i++) {
        if ((attached->rights & rights[i].right) != 0) {
            (void)json_array_append_new(may, json_string(rights[i].name));
        }
    }
    return tool_json_print(
        json_pack("{s:s, s:s, s:i, s:s, s:s, s:s, s:o, s:s, s:o, s:I, s:f, s:f, s:f}", "server",
                  ping->facts.server, "server_version", stat->server_version, "protocol_version",
                  WIRE_VERSION, "cipher", cipher_name(ping), "lane", lane_name(ping), "store_id",
                  tool_id(attached->store_id, id), "incarnation",
                  tool_json_number(attached->incarnation), "principal", stat->principal, "rights",
                  may, "count", (json_int_t)ping->count, "min_us", microseconds(ping, 0),
                  "median_us", microseconds(ping, ping->count / 2), "max_us",
                  microseconds(ping, ping->count - 1)),
        true);
}

int dsmctl_ping(int argc, char **argv)
{
    static const struct argp_option options[] = {
        {"count", 'c', "N", 0, "Measure N round trips (default 20)", 0},
        {"json", 'j', NULL, 0, "Print JSON", 0},
        {0}};
    const struct argp argp = {.options = options,
                              .parser = parse,
                              .doc = "Connects to the server as a program would, says who it is "
                                     "and what this key may do, and measures round trips."};
    struct ping ping = {.count = PINGS_DEFAULT};
    struct failure failure = {""};
    if (argp_parse(&argp, argc, argv, 0, NULL, &ping) != 0) {
        return DSMCTL_USAGE;
    }
    ping.round_trips_ns = calloc(ping.count, sizeof *ping.round_trips_ns);
    int error = ping.round_trips_ns == NULL ? failure_set(&failure, -ENOMEM, "Out of memory.")
                                            : measure(&ping, &failure);
    if (error == 0 && ping.input.json) {
        (void)print_json(&ping);
    } else if (error == 0) {
        print_text(&ping);
    }
    tool_client_free(&ping.answer);
    free(ping.round_trips_ns);
    return dsmctl_end(argv, error, &failure);
}
