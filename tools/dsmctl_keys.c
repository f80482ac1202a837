// SPDX-License-Identifier: Apache-2.0
//
// dsmctl keygen and dsmctl authorize: what they do to files is rpc/keyfile.h's; here are the
// arguments and words.
//
// A private key must never end up in an authorized file, and both halves look alike. So authorize
// takes a key's text, or a file whose name ends in .pub, and no other file. Every argument becomes
// one word of a line, so none may hold a space or "#"; everything else about the line is judged by
// the parser that the server uses.
#include <argp.h>
#include <errno.h>
#include <stdio.h>
#include <string.h>

#include "rpc/keyfile.h"
#include "tools/dsmctl.h"

enum { LINE_BYTES = 1024 };

static error_t parse_words(int key, char *argument, struct argp_state *state)
{
    return dsmctl_parse_words(key, argument, state, state->input);
}

int dsmctl_keygen(int argc, char **argv)
{
    const struct argp argp = {
        .parser = parse_words,
        .args_doc = "FILE",
        .doc = "Makes a private key in FILE, which only you can read, and its public half in "
               "FILE.pub; "
               "prints the public key. Never overwrites a file.",
    };
    struct dsmctl_words words = {.least = 1, .most = 1};
    if (argp_parse(&argp, argc, argv, 0, NULL, &words) != 0) {
        return DSMCTL_USAGE;
    }
    struct failure failure = {""};
    char text[KEYFILE_TEXT_BYTES];
    if (keyfile_generate(words.name[0], text, &failure) != 0) {
        return dsmctl_fail(argv, &failure);
    }
    return puts(text) >= 0 && fflush(stdout) == 0 ? DSMCTL_DONE : DSMCTL_FAILED;
}

static bool ends_in(const char *text, const char *end)
{
    size_t length = strlen(text);
    size_t end_length = strlen(end);
    return length >= end_length && strcmp(text + length - end_length, end) == 0;
}

// One line with a key, and nothing behind it.
static int read_public_file(const char *path, char text[KEYFILE_TEXT_BYTES],
                            struct failure *failure)
{
    FILE *file = fopen(path, "re");
    if (file == NULL) {
        int error = errno;
        return failure_set(failure, -error,
                           "%s cannot be opened: %s. Give a public key as text, or the path of a "
                           ".pub file.",
                           path, strerror(error));
    }
    char content[KEYFILE_TEXT_BYTES + 1];
    uint8_t key[NOISE_KEY_BYTES];
    size_t bytes = fread(content, 1, sizeof content - 1, file);
    bool end = fgetc(file) == EOF;
    (void)fclose(file);
    content[bytes] = '\0';
    content[strcspn(content, "\n")] = '\0';
    if (!end || strlen(content) + 1 < bytes || keyfile_decode(content, key) != 0) {
        return failure_set(
            failure, -EINVAL,
            "%s is no public key file: it should hold %d characters of base64 alone. "
            "\"dsmctl keygen\" writes such files.",
            path, KEYFILE_TEXT_BYTES - 1);
    }
    memcpy(text, content, KEYFILE_TEXT_BYTES);
    return 0;
}

static int public_key_text(const char *argument, char text[KEYFILE_TEXT_BYTES],
                           struct failure *failure)
{
    uint8_t key[NOISE_KEY_BYTES];
    if (keyfile_decode(argument, key) == 0) {
        memcpy(text, argument, KEYFILE_TEXT_BYTES);
        return 0;
    }
    if (!ends_in(argument, ".pub")) {
        return failure_set(
            failure, -EINVAL,
            "\"%.100s\" is neither a public key (%d characters of base64) nor the path "
            "of a .pub file. A private key must stay where it is: name its .pub file.",
            argument, KEYFILE_TEXT_BYTES - 1);
    }
    return read_public_file(argument, text, failure);
}

// KEY PRINCIPAL OPTION...: the line of the authorized file.
static int compose_line(const struct dsmctl_words *words, char line[LINE_BYTES],
                        struct failure *failure)
{
    char key[KEYFILE_TEXT_BYTES];
    int error = public_key_text(words->name[1], key, failure);
    if (error != 0) {
        return error;
    }
    size_t at = (size_t)snprintf(line, LINE_BYTES, "%s", key);
    for (int i = 2; i < words->count; i++) {
        const char *word = words->name[i];
        if (word[0] == '\0' || strpbrk(word, " \t\r\n#") != NULL) {
            return failure_set(failure, -EINVAL,
                               "\"%.100s\" must be one word, without spaces and \"#\".", word);
        }
        if (strlen(word) + 1 >= LINE_BYTES - at) {
            return failure_set(failure, -EINVAL, "The arguments are too long for one line.");
        }
        at += (size_t)snprintf(line + at, LINE_BYTES - at, " %s", word);
    }
    return 0;
}

int dsmctl_authorize(int argc, char **argv)
{
    const struct argp argp = {
        .parser = parse_words,
        .args_doc = "AUTHORIZED_FILE KEY PRINCIPAL [quota=SIZE] [rights=LIST] [prefix=TEXT] "
                    "[connections=N]",
        .doc =
            "Adds a line to a server's authorized file, which is made when there is none. KEY is a "
            "public key, or the path of a .pub file; PRINCIPAL says whose it is. SIZE takes K, M, "
            "G "
            "or T; LIST is of create, read, write, migrate, admin (default create,read,write); "
            "TEXT "
            "is what names of its segments begin with. A running dsmd reads the file again on "
            "SIGHUP.",
    };
    struct dsmctl_words words = {.least = 3, .most = 7};
    if (argp_parse(&argp, argc, argv, 0, NULL, &words) != 0) {
        return DSMCTL_USAGE;
    }
    struct failure failure = {""};
    char line[LINE_BYTES];
    if (compose_line(&words, line, &failure) != 0 ||
        key_grants_append(words.name[0], line, &failure) != 0) {
        return dsmctl_fail(argv, &failure);
    }
    return DSMCTL_DONE;
}
