// SPDX-License-Identifier: Apache-2.0
//
// The random sequence of HPC Challenge RandomAccess: powers of x in GF(2)[x] modulo x^64 + x^2 + x + 1.
// Source: the HPC Challenge benchmark's specification (sequence a(i+1) = 2 a(i), xor POLY on carry; a(0) = 1).
#ifndef TESTS_PROGRAMS_GUPS_RANDOM_H
#define TESTS_PROGRAMS_GUPS_RANDOM_H

#include <stdint.h>

#define GUPS_POLY UINT64_C(7)
#define GUPS_PERIOD UINT64_C(1317624576693539401) // from the specification

static inline uint64_t gups_next(uint64_t value)
{
    return (value << 1) ^ ((value >> 63) != 0 ? GUPS_POLY : 0);
}

// Product of two elements: one doubling for each bit of `right`, from the top.
static inline uint64_t gups_multiply(uint64_t left, uint64_t right)
{
    uint64_t product = 0;
    for (int bit = 63; bit >= 0; bit--) {
        product = gups_next(product);
        if (((right >> bit) & 1) != 0) {
            product ^= left;
        }
    }
    return product;
}

// The n-th value, without the n - 1 before it: x^n by squaring.
static inline uint64_t gups_start(uint64_t n)
{
    uint64_t value = 1;
    for (int bit = 63; bit >= 0; bit--) {
        value = gups_multiply(value, value);
        if (((n >> bit) & 1) != 0) {
            value = gups_next(value);
        }
    }
    return value;
}

#endif
