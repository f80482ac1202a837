// SPDX-License-Identifier: Apache-2.0
//
// The handshake patterns: every row is a pattern of the Noise specification (revision 34, sections
// 7 and 9, appendix 18.1), written as there: which statics are known beforehand, then the tokens of
// each message, the initiator's first. The product runs one of these rows; the published test
// vectors run all of them through the same walker, so they test the code that runs.
//
// A pattern with psk modifiers is a row of its own: "psk0" puts a psk token before the first
// message, "pskN" one at the end of message N, and any of them may be combined. The preprocessor
// writes those rows out from the plain one. The simpler way, a mask that the walker looks at beside
// the row, was rejected: then no row would hold the tokens that are really processed, and the order
// of psk among them would live in two places.
//
// Constant data and one look-up; no state, any thread.
#include <string.h>

#include "rpc/noise_internal.h"

const char noise_product_pattern[] = "IKpsk2";

#define E NOISE_E
#define S NOISE_S
#define EE NOISE_EE
#define ES NOISE_ES
#define SE NOISE_SE
#define SS NOISE_SS
#define PSK NOISE_PSK

// Whose static is known before.
#define NONE NOISE_NONE
#define FIRST NOISE_FIRST
#define SECOND NOISE_SECOND
#define BOTH NOISE_BOTH

// The psk forms of a row. FORMS writes the four of message 1 and hands the messages still to come
// to `next`; THEN_k, with k messages to come, writes the two forms of the first of them. What is
// chosen stands at the end. `bit` is the psk place at the end of that message.
#define TOKENS(...) __VA_ARGS__
#define ROW(name, known, psks, ...) {name, known, psks, {__VA_ARGS__}},
#define FORMS(next, name, known, a, ...)                                                           \
    next(name, known, 0, 4, __VA_ARGS__, {TOKENS a})                                               \
        next(name, known, 1, 4, __VA_ARGS__, {PSK, TOKENS a})                                      \
            next(name, known, 2, 4, __VA_ARGS__, {TOKENS a, PSK})                                  \
                next(name, known, 3, 4, __VA_ARGS__, {PSK, TOKENS a, PSK})
#define THEN_1(name, known, psks, bit, b, ...)                                                     \
    ROW(name, known, psks, __VA_ARGS__, {TOKENS b})                                                \
    ROW(name, known, (psks) | (bit), __VA_ARGS__, {TOKENS b, PSK})
#define THEN_2(name, known, psks, bit, b, c, ...)                                                  \
    THEN_1(name, known, psks, (bit)*2, c, __VA_ARGS__, {TOKENS b})                                 \
    THEN_1(name, known, (psks) | (bit), (bit)*2, c, __VA_ARGS__, {TOKENS b, PSK})
#define THEN_3(name, known, psks, bit, b, c, d, ...)                                               \
    THEN_2(name, known, psks, (bit)*2, c, d, __VA_ARGS__, {TOKENS b})                              \
    THEN_2(name, known, (psks) | (bit), (bit)*2, c, d, __VA_ARGS__, {TOKENS b, PSK})

#define ONE(name, known, a)                                                                        \
    ROW(name, known, 0, {TOKENS a})                                                                \
    ROW(name, known, 1, {PSK, TOKENS a})                                                           \
    ROW(name, known, 2, {TOKENS a, PSK})                                                           \
    ROW(name, known, 3, {PSK, TOKENS a, PSK})
#define TWO(name, known, a, b) FORMS(THEN_1, name, known, a, b)
#define THREE(name, known, a, b, c) FORMS(THEN_2, name, known, a, b, c)
#define FOUR(name, known, a, b, c, d) FORMS(THEN_3, name, known, a, b, c, d)

// clang-format off
static const struct noise_pattern rows[] = {
    // One way.
    ONE("N", SECOND, (E, ES))
    ONE("K", BOTH,   (E, ES, SS))
    ONE("X", SECOND, (E, ES, S, SS))
    // Interactive, fundamental. The product: IK with psk2.
    TWO("NN", NONE,   (E),            (E, EE))
    TWO("NK", SECOND, (E, ES),        (E, EE))
    TWO("NX", NONE,   (E),            (E, EE, S, ES))
    TWO("KN", FIRST,  (E),            (E, EE, SE))
    TWO("KK", BOTH,   (E, ES, SS),    (E, EE, SE))
    TWO("KX", FIRST,  (E),            (E, EE, SE, S, ES))
    TWO("IN", NONE,   (E, S),         (E, EE, SE))
    TWO("IK", SECOND, (E, ES, S, SS), (E, EE, SE))
    TWO("IX", NONE,   (E, S),         (E, EE, SE, S, ES))
    THREE("XN", NONE,   (E),     (E, EE),        (S, SE))
    THREE("XK", SECOND, (E, ES), (E, EE),        (S, SE))
    THREE("XX", NONE,   (E),     (E, EE, S, ES), (S, SE))
    // Interactive, deferred.
    TWO("NK1", SECOND, (E),     (E, EE, ES))
    TWO("KK1", BOTH,   (E),     (E, EE, SE, ES))
    TWO("IK1", SECOND, (E, S),  (E, EE, SE, ES))
    THREE("NX1",  NONE,   (E),        (E, EE, S),     (ES))
    THREE("XK1",  SECOND, (E),        (E, EE, ES),    (S, SE))
    THREE("XX1",  NONE,   (E),        (E, EE, S),     (ES, S, SE))
    THREE("K1N",  FIRST,  (E),        (E, EE),        (SE))
    THREE("K1K",  BOTH,   (E, ES),    (E, EE),        (SE))
    THREE("K1K1", BOTH,   (E),        (E, EE, ES),    (SE))
    THREE("K1X",  FIRST,  (E),        (E, EE, S, ES), (SE))
    THREE("KX1",  FIRST,  (E),        (E, EE, SE, S), (ES))
    THREE("K1X1", FIRST,  (E),        (E, EE, S),     (SE, ES))
    THREE("I1N",  NONE,   (E, S),     (E, EE),        (SE))
    THREE("I1K",  SECOND, (E, ES, S), (E, EE),        (SE))
    THREE("I1K1", SECOND, (E, S),     (E, EE, ES),    (SE))
    THREE("I1X",  NONE,   (E, S),     (E, EE, S, ES), (SE))
    THREE("IX1",  NONE,   (E, S),     (E, EE, SE, S), (ES))
    THREE("I1X1", NONE,   (E, S),     (E, EE, S),     (SE, ES))
    FOUR("X1N",  NONE,   (E),     (E, EE),        (S),     (SE))
    FOUR("X1K",  SECOND, (E, ES), (E, EE),        (S),     (SE))
    FOUR("X1K1", SECOND, (E),     (E, EE, ES),    (S),     (SE))
    FOUR("X1X",  NONE,   (E),     (E, EE, S, ES), (S),     (SE))
    FOUR("X1X1", NONE,   (E),     (E, EE, S),     (ES, S), (SE))
};
// clang-format on

// Writes "psk0+psk2"; NUL-terminated.
static void psk_modifiers(unsigned places, char text[NOISE_PSK_TEXT_BYTES])
{
    char *at = text;
    for (unsigned i = 0; i < NOISE_PSKS; i++) {
        if (places >> i & 1) {
            if (at != text) {
                *at++ = '+';
            }
            memcpy(at, "psk", 3);
            at[3] = (char)('0' + i);
            at += 4;
        }
    }
    *at = '\0';
}

void noise_pattern_name(const struct noise_pattern *pattern, char name[NOISE_PATTERN_NAME_BYTES])
{
    size_t base = strlen(pattern->base);
    memcpy(name, pattern->base, base);
    psk_modifiers(pattern->psk_places, name + base);
}

const struct noise_pattern *noise_pattern_find(const char *name)
{
    for (size_t i = 0; i < sizeof rows / sizeof rows[0]; i++) {
        char candidate[NOISE_PATTERN_NAME_BYTES];
        noise_pattern_name(&rows[i], candidate);
        if (strcmp(candidate, name) == 0) {
            return &rows[i];
        }
    }
    return NULL;
}
