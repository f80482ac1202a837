// SPDX-License-Identifier: Apache-2.0
//
// See jacobi.h. No reordering of the sum: the compiler may not either, without -ffast-math.
#include "tests/programs/jacobi.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

double jacobi_start(uint64_t row, uint64_t column, uint64_t rows, uint64_t columns)
{
    if (row == 0) {
        return 100.0 + (double)(column % 17);
    }
    return row + 1 == rows || column == 0 || column + 1 == columns ? (double)(row % 5) : 0.0;
}

void jacobi_row(double *to, const double *above, const double *row, const double *below,
                uint64_t columns)
{
    to[0] = row[0];
    for (uint64_t i = 1; i + 1 < columns; i++) {
        to[i] = 0.25 * ((above[i] + below[i]) + (row[i - 1] + row[i + 1]));
    }
    to[columns - 1] = row[columns - 1];
}

double *jacobi_local(uint64_t rows, uint64_t columns, unsigned steps)
{
    double *old = calloc(rows * columns, sizeof(double));
    double *new = calloc(rows * columns, sizeof(double));
    if (old == NULL || new == NULL) {
        free(old);
        free(new);
        return NULL;
    }
    for (uint64_t i = 0; i < rows * columns; i++) {
        old[i] = new[i] = jacobi_start(i / columns, i % columns, rows, columns);
    }
    for (unsigned step = 0; step < steps; step++) {
        for (uint64_t row = 1; row + 1 < rows; row++) {
            const double *at = old + row * columns;
            jacobi_row(new + row *columns, at - columns, at, at + columns, columns);
        }
        double *other = old;
        old = new;
        new = other;
    }
    free(new);
    return old;
}

static uint64_t bits(double value)
{
    uint64_t word;
    memcpy(&word, &value, sizeof word);
    return word;
}

uint64_t jacobi_differences(const char *program, const double *found, const double *expected,
                            uint64_t values)
{
    enum { SHOWN = 10 };
    uint64_t count = 0;
    for (uint64_t i = 0; i < values; i++) {
        if (bits(found[i]) != bits(expected[i]) && count++ < SHOWN) {
            fprintf(stderr, "%s: value %llu is %.17g, not %.17g\n", program, (unsigned long long)i,
                    found[i], expected[i]);
        }
    }
    return count;
}
