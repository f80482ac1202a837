// SPDX-License-Identifier: Apache-2.0
//
// dsmctl agent: what its parts share. One process listens; each move, and the task that came by it, has a process of its own.
#ifndef TOOLS_DSMCTL_AGENT_H
#define TOOLS_DSMCTL_AGENT_H

#include <sys/types.h>

#include "rpc/keyfile.h"
#include "rpc/setting.h"
#include "tools/mover_link.h"

#define AGENT_CONFIG_PATH "/etc/dsm/agent.conf"

enum { AGENT_LIST_MOST = 16, AGENT_MOST_TASKS = 4096, AGENT_MOST_WAIT_S = 86400 };

struct agent_list {
    setting_path items[AGENT_LIST_MOST];
    unsigned count;
};

#define AGENT_TYPE_TEXT setting_path
#define AGENT_TYPE_LIST struct agent_list
#define AGENT_TYPE_NUMBER uint64_t

struct agent_config {
#define AGENT_SETTING(field, key, kind, initial, meaning) AGENT_TYPE_##kind field;
#include "tools/agent.def"
#undef AGENT_SETTING
    bool switch_user; // to these, for the programs
    uid_t uid;
    gid_t gid;
    char user_name[64], home[256];
};

// Reads it, and looks at all that can be looked at before anybody comes. 0 or -errno with a sentence.
int agent_config_read(const char *path, struct agent_config *config, struct failure *failure);

// The program of this build id among config->binaries. -ENOENT.
int agent_binary_find(const struct agent_config *config, const struct mover_offer *offer,
                      setting_path *path, struct failure *failure);
int agent_binary_check(const char *path, struct failure *failure); // one of config->binaries

// One move, from the offer to the end of the task: in a process of its own. Ends the link. An exit code.
int agent_move(const struct agent_config *config, struct mover_link *link, const char *who);

// Starts it with $DSM_TASK_FD. 0 or -errno with a sentence.
int agent_start(const struct agent_config *config, const char *path, pid_t *pid, int *fd,
                struct failure *failure);

// SIGKILL, once; the caller waits. 0, or -errno when there is no process to send it from.
int agent_end(const struct agent_config *config, pid_t pid);

enum agent_level { AGENT_ERROR = 3, AGENT_WARNING = 4, AGENT_INFO = 6 }; // syslog's
void agent_log(enum agent_level level, const char *format, ...)
    __attribute__((format(printf, 2, 3)));

// Listens until SIGTERM. 0, or -errno with a sentence.
int agent_listen(struct agent_config *config, int ready_fd, struct failure *failure);

#endif
