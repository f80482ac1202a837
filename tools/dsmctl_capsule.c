// SPDX-License-Identifier: Apache-2.0
//
// dsmctl capsule show: what a capsule says of itself. Without the destination's key that is what stands outside the seal, and it
// is only claimed: nothing proves it. With the key the seal is opened, so all of it is true, and the contents are shown, too,
// but for two things: the token, which is as good as the image, and the task's registers, which would tell where its secrets lie.
//
// Looking takes nothing: the server does not hear of it, and the capsule can still be used. So an expired one is shown, and said
// to be expired, where every other use refuses it.
#include <argp.h>
#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

#include "libdsm/migrate/capsule.h"
#include "tools/dsmctl.h"
#include "tools/tool_text.h"

static const char *const types[] = {"", "code", "heap", "stack", "data"};
static const char *const places[] = {"none", "zero", "backing", "template"};

struct show {
    struct dsmctl_words words;
    const char *key;
    bool json;
};

struct seen {
    struct capsule_facts facts;
    struct capsule *capsule; // NULL: there was no key
    bool expired;
};

static int read_capsule(const struct show *show, int fd, struct seen *seen, struct failure *failure)
{
    struct capsule_descriptor descriptor = {fd, INT64_MAX};
    struct capsule_stream stream = capsule_stream_of(&descriptor);
    struct key_identity *identity = NULL;
    int error = capsule_read_facts(&stream, &seen->facts, failure);
    if (error != 0 || show->key == NULL) {
        return error;
    }
    error = keyfile_load(show->key, &identity, failure);
    if (error == 0) {
        error = capsule_read(&stream, &seen->facts, identity, &seen->capsule, failure);
        key_identity_destroy(&identity);
    }
    return error != 0 ? error : capsule_descriptor_end(&descriptor, failure);
}

static int look(const struct show *show, struct seen *seen, struct failure *failure)
{
    const char *path = show->words.name[1];
    bool input = strcmp(path, "-") == 0;
    int fd = input ? STDIN_FILENO : open(path, O_RDONLY | O_CLOEXEC | O_NOCTTY);
    if (fd < 0) {
        return failure_set(failure, -errno, "%s cannot be opened: %s.", path, strerror(errno));
    }
    int error = read_capsule(show, fd, seen, failure);
    uint64_t now_ms = (uint64_t)(tool_wall_clock() * 1000);
    seen->expired = error == 0 && capsule_expired(&seen->facts, now_ms, NULL) != 0;
    if (!input) {
        (void)close(fd);
    }
    return error;
}

static uint64_t sealed_bytes(const struct capsule_facts *facts)
{
    return CAPSULE_HEADER_BYTES + CAPSULE_OPENING_BYTES +
           wire_sealed_bytes((size_t)facts->body_bytes);
}

static const char *time_text(uint64_t ms, char text[TOOL_SIZE_BYTES])
{
    time_t when = (time_t)(ms / 1000);
    struct tm parts;
    if (ms / 1000 > INT32_MAX * 100ULL || gmtime_r(&when, &parts) == NULL ||
        strftime(text, TOOL_SIZE_BYTES, "%F %T UTC", &parts) == 0) {
        (void)snprintf(text, TOOL_SIZE_BYTES, "never");
    }
    return text;
}

static const char *hex(const uint8_t *bytes, size_t count, char *text)
{
    for (size_t i = 0; i < count; i++) {
        (void)snprintf(text + 2 * i, 3, "%02x", bytes[i]);
    }
    text[2 * count] = 0;
    return text;
}

static void count_pages(const struct capsule_segment *segment, uint64_t pages[4])
{
    memset(pages, 0, 4 * sizeof *pages);
    for (uint32_t i = 0; i < segment->run_count; i++) {
        pages[segment->runs[i].place] += segment->runs[i].pages;
    }
}

// ---- text

static void print_segment(const struct capsule_segment *segment)
{
    char size[TOOL_SIZE_BYTES], page[TOOL_SIZE_BYTES];
    uint64_t pages[4];
    count_pages(segment, pages);
    printf("%-10s %s: %s in pages of %s at %#" PRIx64 "\n", types[segment->type], segment->name,
           tool_size(segment->pages * segment->page_bytes, size),
           tool_size(segment->page_bytes, page), segment->base);
    printf("           ");
    for (int i = 0; i < 4; i++) {
        printf("%s%s %" PRIu64, i > 0 ? ", " : "", places[i], pages[i]);
    }
    printf(" pages, %u runs\n", segment->run_count);
}

static void print_text(const struct seen *seen)
{
    char key[KEYFILE_TEXT_BYTES], id[TOOL_ID_BYTES], size[TOOL_SIZE_BYTES], when[TOOL_SIZE_BYTES];
    char build[2 * LIMIT_BUILD_ID_BYTES + 1];
    const struct capsule *capsule = seen->capsule;
    keyfile_encode(seen->facts.destination, key);
    printf("capsule    %s, version %u, %s\n", tool_id(seen->facts.id, id), seen->facts.version,
           tool_size(sealed_bytes(&seen->facts), size));
    printf("for key    %s\n", key);
    printf("expires    %s%s\n", time_text(seen->facts.expires_ms, when),
           seen->expired ? " (it has)" : "");
    if (capsule == NULL) {
        printf("contents   sealed; show them with the destination's key: --key FILE\n");
        return;
    }
    printf("from       %s, %s\n", capsule->source, time_text(capsule->created_ms, when));
    printf("binary     %s\n", hex(capsule->build_id, capsule->build_id_bytes, build));
    printf("task       %s\n", capsule->task_bytes > 0 ? "yes" : "no");
    for (uint32_t i = 0; i < capsule->segment_count; i++) {
        print_segment(&capsule->segments[i]);
    }
}

// ---- JSON

static json_t *segment_object(const struct capsule_segment *segment)
{
    uint64_t pages[4];
    json_t *counts = json_object();
    count_pages(segment, pages);
    for (int i = 0; i < 4; i++) {
        (void)json_object_set_new(counts, places[i], tool_json_number(pages[i]));
    }
    return json_pack("{s:s, s:s, s:o, s:o, s:o, s:I, s:o, s:I}", "type", types[segment->type],
                     "name", segment->name, "base", tool_json_number(segment->base), "bytes",
                     tool_json_number(segment->pages * segment->page_bytes), "epoch",
                     tool_json_number(segment->epoch), "page_bytes",
                     (json_int_t)segment->page_bytes, "pages", counts, "runs",
                     (json_int_t)segment->run_count);
}

static json_t *contents_object(const struct capsule *capsule)
{
    char build[2 * LIMIT_BUILD_ID_BYTES + 1];
    json_t *segments = json_array();
    for (uint32_t i = 0; i < capsule->segment_count; i++) {
        (void)json_array_append_new(segments, segment_object(&capsule->segments[i]));
    }
    return json_pack("{s:s, s:o, s:s, s:i, s:I, s:b, s:o}", "source", capsule->source, "created_ms",
                     tool_json_number(capsule->created_ms), "build_id",
                     hex(capsule->build_id, capsule->build_id_bytes, build), "machine",
                     (int)capsule->machine, "system_page_bytes",
                     (json_int_t)capsule->system_page_bytes, "task", capsule->task_bytes > 0,
                     "segments", segments);
}

static json_t *object_of(const struct seen *seen)
{
    char key[KEYFILE_TEXT_BYTES], id[TOOL_ID_BYTES];
    keyfile_encode(seen->facts.destination, key);
    return json_pack("{s:i, s:s, s:s, s:o, s:b, s:o, s:o}", "version", (int)seen->facts.version,
                     "id", tool_id(seen->facts.id, id), "destination", key, "expires_ms",
                     tool_json_number(seen->facts.expires_ms), "expired", (int)seen->expired,
                     "bytes", tool_json_number(sealed_bytes(&seen->facts)), "contents",
                     seen->capsule != NULL ? contents_object(seen->capsule) : json_null());
}

// ---- the command

static error_t parse(int key, char *argument, struct argp_state *state)
{
    struct show *show = state->input;
    switch (key) {
    case 'j':
        show->json = true;
        return 0;
    case 'k':
        show->key = argument;
        return 0;
    case ARGP_KEY_ARG:
        if (show->words.count == 0 && strcmp(argument, "show") != 0) {
            argp_error(state, "\"%s\" is nothing to do with a capsule: say show", argument);
        }
        break;
    default:
        break;
    }
    return dsmctl_parse_words(key, argument, state, &show->words);
}

int dsmctl_capsule(int argc, char **argv)
{
    static const struct argp_option options[] = {
        {"json", 'j', NULL, 0, "Print JSON, with sizes in bytes", 0},
        {"key", 'k', "FILE", 0, "Open it with this private key, and show its contents, too", 0},
        {0}};
    const struct argp argp = {
        .options = options,
        .parser = parse,
        .args_doc = "show FILE",
        .doc = "Shows a capsule, the sealed state of a program on its way; FILE may be - for the "
               "standard input. Without the destination's private key, what is shown is what the "
               "capsule says of itself; with it, what is proved, and what is in it. The capsule "
               "can still be used.",
    };
    struct show show = {.words = {.least = 2, .most = 2}};
    struct seen seen = {.capsule = NULL};
    struct failure failure = {""};
    if (argp_parse(&argp, argc, argv, 0, NULL, &show) != 0) {
        return DSMCTL_USAGE;
    }
    int error = look(&show, &seen, &failure);
    if (error == 0 && show.json) {
        (void)tool_json_print(object_of(&seen), true);
    } else if (error == 0) {
        print_text(&seen);
    }
    capsule_destroy(&seen.capsule);
    return dsmctl_end(argv, error, &failure);
}
