// SPDX-License-Identifier: Apache-2.0
//
// A 5-point Jacobi step, shared by the stencil programs. Each new value depends on old ones only, so however the rows are
// dealt out the result is the same to the last bit: it is compared with the one of a plain run in local memory.
#ifndef TESTS_PROGRAMS_JACOBI_H
#define TESTS_PROGRAMS_JACOBI_H

#include <stdint.h>

// Rows are `columns` doubles each. The border keeps its values: hot above, cold elsewhere, uneven so that a swapped row shows.
double jacobi_start(uint64_t row, uint64_t column, uint64_t rows, uint64_t columns);
void jacobi_row(double *to, const double *above, const double *row, const double *below,
                uint64_t columns);
// The whole grid after `steps` steps, in local memory; NULL: no memory. To be freed.
double *jacobi_local(uint64_t rows, uint64_t columns, unsigned steps);
// Compares and says what differs; the number of values that do.
uint64_t jacobi_differences(const char *program, const double *found, const double *expected,
                            uint64_t values);

#endif
