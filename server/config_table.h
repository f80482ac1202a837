// SPDX-License-Identifier: Apache-2.0
//
// What the files of the configuration share: the table that settings.def makes.
#ifndef SERVER_CONFIG_TABLE_H
#define SERVER_CONFIG_TABLE_H

#include "server/config.h"

enum config_kind { KIND_TEXT, KIND_CHOICE, KIND_SIZE, KIND_NUMBER, KIND_FLAG, KIND_LIST };
enum config_change { CHANGE_START, CHANGE_RELOAD, CHANGE_OPTION };

struct config_row {
    const char *key, *initial, *argument, *meaning;
    uint64_t lowest, highest;
    size_t offset;
    enum config_kind kind;
    enum config_change change;
};

extern const struct config_row config_rows[CONFIG_COUNT];

void *config_value(struct config *config, size_t index);
// Checks and sets; a value from a source of lower rank than the present one's is checked only.
int config_take(struct config *config, size_t index, const char *text,
                const struct setting_source *source, struct failure *failure);
// CONFIG_COUNT: there is none.
size_t config_find(const char *key);
void config_text(const struct config *config, size_t index, char *to, size_t room);

#endif
