// SPDX-License-Identifier: Apache-2.0
//
// A scenario of virtual memory: what a file says is there before (scenario_file.c reads it), the session that it becomes
// (scenario_stage.c), and what the wire saw (scenario_wire.c). The format is described in tests/README.md.
#ifndef TESTS_SCENARIOS_SCENARIO_H
#define TESTS_SCENARIOS_SCENARIO_H

#include <dsm/dsm.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "libdsm/backing/placement.h"

enum {
    SCENARIO_PAGES = 256,
    SCENARIO_FRAMES = 128,
    SCENARIO_WORDS = 160,
    SCENARIO_IO = 512,
    SCENARIO_ROWS = 32
};

struct scenario_page { // before
    char state;        // O U C D P N R; 0: not spoken of
    bool fails;        // its next read fails, once
};
struct scenario_frame { // in the order in which they are claimed
    uint64_t page;
    char state; // C D; F: free
    bool fails; // its next write fails, once
};

struct scenario {
    const char *file;
    unsigned line;
    uint32_t buffer, gap;
    struct scenario_page pages[SCENARIO_PAGES];
    uint32_t page_count; // of those spoken of
    struct scenario_frame frames[SCENARIO_FRAMES];
    uint32_t frame_count;
    struct placement_row rows[SCENARIO_ROWS];
    uint32_t row_count, stores; // 0: all pages lie in one
    // the stage
    dsm *session;
    dsm_segment *segment;
    dsm_statistics before;
    uint64_t segment_pages;
    // of the last call
    int error;
    uint64_t failed_page;
    bool called;
    uint64_t swap_in_faults, clean_faults; // calls that ended at a page they may not have
    bool differs;
};

// "FILE:LINE: text" on standard output, and the scenario has failed.
void scenario_say(struct scenario *s, const char *format, ...)
    __attribute__((format(printf, 2, 3)));

// ---- scenario_file.c: 0, or -EINVAL: the line is not understood, said ----
int scenario_buffer(struct scenario *s, char **words, int count);
int scenario_pages(struct scenario *s, char **words, int count);
int scenario_frames(struct scenario *s, char **words, int count);
// A line in words, without its comment; "|" is a word. -EINVAL: too many.
int scenario_split(char *line, char **words);
int scenario_number(struct scenario *s, const char *word, uint64_t *number);

// ---- scenario_stage.c ----
int scenario_open(struct scenario *s); // makes what the file says, and forgets what that counted
char scenario_state(struct scenario *s, uint64_t page);
void scenario_check_contents(struct scenario *s);
void scenario_close(struct scenario *s);

// ---- scenario_stores.c ----
int scenario_placement(struct scenario *s, char **words, int count); // as in scenario_file.c
int scenario_stores_open(struct scenario *s, const char *name);      // of the segment
void scenario_stores_close(struct scenario *s);

// ---- scenario_wire.c: stands between the library and its lanes (linked by --wrap) ----
void scenario_wire_start(const struct scenario *s); // failures are planned, nothing was seen
void scenario_wire_fail(bool write, uint64_t page); // one more failure
// What was sent since the last question, as "R0+3 W101+1", with a placement "R0+3@A W101+1@B"; the text is the room's.
const char *scenario_wire_seen(void);

#endif
