// SPDX-License-Identifier: Apache-2.0
//
// The lines of a scenario that say what is there before the first call. Whatever is not understood is said with its
// line: a scenario that is silently another one tests nothing.
#include <ctype.h>
#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "tests/scenarios/scenario.h"

int scenario_split(char *line, char **words)
{
    int count = 0;
    line[strcspn(line, "#\n")] = '\0';
    char *rest = NULL;
    for (char *word = strtok_r(line, " \t", &rest); word != NULL;
         word = strtok_r(NULL, " \t", &rest)) {
        if (count == SCENARIO_WORDS) {
            return -EINVAL;
        }
        words[count++] = word;
    }
    return count;
}

int scenario_number(struct scenario *s, const char *word, uint64_t *number)
{
    char *end;
    errno = 0;
    unsigned long long value = strtoull(word, &end, 10);
    if (errno != 0 || end == word || *end != '\0' || !isdigit((unsigned char)*word)) {
        scenario_say(s, "\"%s\" is not a number", word);
        return -EINVAL;
    }
    *number = value;
    return 0;
}

int scenario_buffer(struct scenario *s, char **words, int count)
{
    uint64_t pages;
    if (count != 2 || scenario_number(s, words[1], &pages) != 0 || pages < 1 || pages > 256) {
        scenario_say(s, "%s takes a number of pages, 1 to 256", words[0]);
        return -EINVAL;
    }
    if (strcmp(words[0], "segment") == 0) {
        s->segment_pages = pages;
    } else if (strcmp(words[0], "gap") == 0) {
        s->gap = (uint32_t)pages;
    } else {
        s->buffer = (uint32_t)pages;
    }
    return 0;
}

int scenario_pages(struct scenario *s, char **words, int count)
{
    for (int i = 1; i < count; i++) {
        const char *word = words[i];
        bool fails = strcmp(word + 1, "!") == 0;
        if (strchr("OUCDPNR", word[0]) == NULL || (word[1] != '\0' && !fails) ||
            s->page_count == 100) {
            scenario_say(
                s, "\"%s\" is not a page: O U C D P N R, O! if its read fails, at most 100", word);
            return -EINVAL;
        }
        s->pages[s->page_count++] = (struct scenario_page){.state = word[0], .fails = fails};
    }
    return 0;
}

int scenario_frames(struct scenario *s, char **words, int count)
{
    for (int i = 1; i < count; i++) {
        char *end;
        const char *word = words[i];
        bool is_free = strcmp(word, "free") == 0;
        unsigned long page = is_free ? 0 : strtoul(word, &end, 10);
        if (!is_free &&
            (end == word || page < 100 || page >= SCENARIO_PAGES || (*end != 'C' && *end != 'D') ||
             (end[1] != '\0' && strcmp(end + 1, "!") != 0))) {
            scenario_say(s, "\"%s\" is not a frame: 100C, 101D, 102D! or free; pages 100 to 255",
                         word);
            return -EINVAL;
        }
        if (s->frame_count == SCENARIO_FRAMES) {
            scenario_say(s, "more than %d frames", SCENARIO_FRAMES);
            return -EINVAL;
        }
        struct scenario_frame *frame = &s->frames[s->frame_count++];
        *frame = (struct scenario_frame){.page = page, .state = 'F'};
        if (!is_free) {
            frame->state = *end;
            frame->fails = end[1] == '!';
        }
    }
    return 0;
}
