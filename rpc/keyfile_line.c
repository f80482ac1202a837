// SPDX-License-Identifier: Apache-2.0
//
// One line of an authorized file:
//     KEY PRINCIPAL [quota=SIZE] [rights=LIST] [prefix=TEXT] [connections=N]
//
// This line decides who may do what, so nothing in it is guessed: an unknown word, an option given
// twice, an empty value, a number with anything behind it, a byte that is not printable ASCII, all
// end in a sentence that says what was expected. There is no quoting: no value may hold a space or
// "#". A principal's name holds no "=", so that a forgotten name shows instead of "quota=1G"
// becoming one.
//
// Options are rows of a table, one function each. Pure functions; any thread.
#include <errno.h>
#include <string.h>

#include "rpc/keyfile_internal.h"
#include "rpc/wire.h"

// Takes the next word off the line; false at its end. No word is longer than its line.
static bool next_word(const char **line, char word[KEYFILE_LINE_BYTES])
{
    *line += strspn(*line, " \t");
    size_t length = strcspn(*line, " \t");
    memcpy(word, *line, length);
    word[length] = '\0';
    *line += length;
    return length > 0;
}

// Digits only, no sign, no space. -EINVAL, -ERANGE.
static int parse_digits(const char **text, uint64_t *value)
{
    const char *at = *text;
    uint64_t result = 0;
    while (*at >= '0' && *at <= '9') {
        if (__builtin_mul_overflow(result, 10U, &result) ||
            __builtin_add_overflow(result, (unsigned)(*at - '0'), &result)) {
            return -ERANGE;
        }
        at++;
    }
    if (at == *text) {
        return -EINVAL;
    }
    *text = at;
    *value = result;
    return 0;
}

// Bytes, or with K, M, G or T (either case) that many times 2^10, 2^20, 2^30 or 2^40.
static int parse_size(const char *text, uint64_t *bytes)
{
    static const char suffixes[] = "KMGTkmgt";
    uint64_t value;
    int error = parse_digits(&text, &value);
    if (error != 0) {
        return error;
    }
    const char *suffix = *text == '\0' ? NULL : strchr(suffixes, *text);
    if (suffix != NULL) {
        unsigned shift = 10U * (unsigned)((suffix - suffixes) % 4 + 1);
        if (value > UINT64_MAX >> shift) {
            return -ERANGE;
        }
        value <<= shift;
        text++;
    }
    if (*text != '\0') {
        return -EINVAL;
    }
    *bytes = value;
    return value == UINT64_MAX ? -ERANGE : 0; // that value means "no quota"
}

static int parse_quota(const char *value, struct key_grant *grant, struct failure *failure)
{
    int error = parse_size(value, &grant->quota_bytes);
    if (error == -ERANGE) {
        return failure_set(failure, -EINVAL,
                           "quota=%.40s is too large; leave quota out for no limit", value);
    }
    if (error != 0) {
        return failure_set(failure, -EINVAL,
                           "quota=%.40s is not a size; say a number of bytes, or one with K, M, G "
                           "or T behind it, as in quota=64G",
                           value);
    }
    return 0;
}

static const struct {
    const char *name;
    enum key_right right;
} rights[] = {
    {"create", KEY_RIGHT_CREATE},   {"read", KEY_RIGHT_READ},   {"write", KEY_RIGHT_WRITE},
    {"migrate", KEY_RIGHT_MIGRATE}, {"admin", KEY_RIGHT_ADMIN},
};

// 0 when there is no such right.
static unsigned right_find(const char *name, size_t length)
{
    for (size_t i = 0; i < sizeof rights / sizeof rights[0]; i++) {
        if (strlen(rights[i].name) == length && memcmp(rights[i].name, name, length) == 0) {
            return rights[i].right;
        }
    }
    return 0;
}

static int parse_rights(const char *value, struct key_grant *grant, struct failure *failure)
{
    unsigned given = 0;
    for (;;) {
        size_t length = strcspn(value, ",");
        unsigned right = right_find(value, length);
        if (right == 0) {
            return failure_set(failure, -EINVAL,
                               "rights: \"%.*s\" is none; the rights are create, read, write, "
                               "migrate and admin, with commas between them",
                               (int)(length < 40 ? length : 40), value);
        }
        if (given & right) {
            return failure_set(failure, -EINVAL, "rights: \"%.*s\" stands there twice", (int)length,
                               value);
        }
        given |= right;
        if (value[length] == '\0') {
            grant->rights = given;
            return 0;
        }
        value += length + 1;
    }
}

// A prefix is what a valid name may begin with.
static int parse_prefix(const char *value, struct key_grant *grant, struct failure *failure)
{
    char name[LIMIT_SEGMENT_NAME_BYTES];
    size_t length = strlen(value);
    bool fits = length + 1 < sizeof name;
    if (fits) {
        memcpy(name, value, length);
        name[length] = 'x';
        name[length + 1] = '\0';
    }
    if (!fits || !wire_segment_name_valid(name)) {
        return failure_set(failure, -EINVAL,
                           "prefix=%.40s cannot begin a segment's name, which has at most %d bytes "
                           "of A-Z, a-z, 0-9 and ._@:+=- in parts joined by single \"/\"",
                           value, LIMIT_SEGMENT_NAME_BYTES - 1);
    }
    memcpy(grant->prefix, value, length + 1);
    return 0;
}

static int parse_connections(const char *value, struct key_grant *grant, struct failure *failure)
{
    uint64_t count = 0;
    const char *end = value;
    if (parse_digits(&end, &count) != 0 || *end != '\0' || count < 1 || count > LIMIT_CONNECTIONS) {
        return failure_set(failure, -EINVAL,
                           "connections=%.40s is out of range; say a number from 1 to %d", value,
                           LIMIT_CONNECTIONS);
    }
    grant->connections = (unsigned)count;
    return 0;
}

static const struct {
    const char *name;
    int (*parse)(const char *value, struct key_grant *grant, struct failure *failure);
} options[] = {
    {"quota", parse_quota},
    {"rights", parse_rights},
    {"prefix", parse_prefix},
    {"connections", parse_connections},
};
enum { OPTIONS = sizeof options / sizeof options[0] };

// `seen` has a bit for each option that stood before.
static int parse_option(const char *word, unsigned *seen, struct key_grant *grant,
                        struct failure *failure)
{
    size_t length = strcspn(word, "=");
    for (unsigned i = 0; word[length] == '=' && i < OPTIONS; i++) {
        if (strlen(options[i].name) != length || memcmp(options[i].name, word, length) != 0) {
            continue;
        }
        if (*seen & 1U << i) {
            return failure_set(failure, -EINVAL, "%s= is given twice", options[i].name);
        }
        *seen |= 1U << i;
        if (word[length + 1] == '\0') {
            return failure_set(failure, -EINVAL, "%s= has no value; leave it out for the default",
                               options[i].name);
        }
        return options[i].parse(word + length + 1, grant, failure);
    }
    return failure_set(failure, -EINVAL,
                       "\"%.40s\" is not known; after the principal may come quota=, rights=, "
                       "prefix= and connections=",
                       word);
}

static bool principal_valid(const char *name)
{
    static const char characters[] =
        "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789"
        "._@:+-";
    size_t length = strlen(name);
    return length > 0 && length < LIMIT_PRINCIPAL_NAME_BYTES && name[0] != '.' &&
           strspn(name, characters) == length;
}

static int parse_words(const char *line, struct key_grant *grant, struct failure *failure)
{
    char word[KEYFILE_LINE_BYTES];
    (void)next_word(&line, word);
    if (keyfile_decode(word, grant->public_key) != 0) {
        return failure_set(failure, -EINVAL,
                           "the line does not begin with a public key: %d characters of base64, as "
                           "in the .pub file",
                           KEYFILE_TEXT_BYTES - 1);
    }
    if (!next_word(&line, word)) {
        return failure_set(failure, -EINVAL,
                           "a principal's name must follow the key: say whose key it is");
    }
    if (!principal_valid(word)) {
        return failure_set(failure, -EINVAL,
                           "\"%.40s\" is no principal's name, which has 1 to %d bytes of A-Z, a-z, "
                           "0-9 and ._@:+- and begins with no dot",
                           word, LIMIT_PRINCIPAL_NAME_BYTES - 1);
    }
    memcpy(grant->principal, word, strlen(word) + 1);
    unsigned seen = 0;
    int error = 0;
    while (error == 0 && next_word(&line, word)) {
        error = parse_option(word, &seen, grant, failure);
    }
    return error;
}

// Copies the line up to a comment, in which any byte may stand; false when what is before it holds
// a byte that none may have.
static bool copy_line(const char *line, size_t bytes, char *to)
{
    const char *comment = memchr(line, '#', bytes);
    size_t kept = comment != NULL ? (size_t)(comment - line) : bytes;
    for (size_t i = 0; i < kept; i++) {
        if (line[i] != '\t' && (line[i] < ' ' || line[i] > '~')) {
            return false;
        }
    }
    memcpy(to, line, kept);
    to[kept] = '\0';
    return true;
}

int keyfile_grant_parse(const char *line, size_t bytes, struct key_grant *grant, bool *empty,
                        struct failure *failure)
{
    char text[KEYFILE_LINE_BYTES];
    if (bytes >= sizeof text) {
        return failure_set(failure, -EINVAL, "the line has more than %zu bytes", sizeof text - 1);
    }
    if (!copy_line(line, bytes, text)) {
        return failure_set(
            failure, -EINVAL,
            "the line has a byte that is not printable ASCII (line ends are LF alone)");
    }
    if (text[strspn(text, " \t")] == '\0') {
        *empty = true;
        return 0;
    }
    struct key_grant parsed = {
        .quota_bytes = UINT64_MAX,
        .rights = KEY_RIGHT_CREATE | KEY_RIGHT_READ | KEY_RIGHT_WRITE,
        .connections = LIMIT_CONNECTIONS_PER_KEY,
    };
    int error = parse_words(text, &parsed, failure);
    if (error == 0) {
        *empty = false;
        *grant = parsed;
    }
    return error;
}
