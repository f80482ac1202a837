// SPDX-License-Identifier: Apache-2.0
//
// Both ends of a sealed connection within one process, with throw-away keys: for lane_loop and for
// tests.
#ifndef RPC_NOISE_PAIR_H
#define RPC_NOISE_PAIR_H

#include "rpc/noise.h"

struct noise_pair {
    struct noise_cipher *send[2]; // what send[i] seals, receive[1 - i] opens
    struct noise_cipher *receive[2];
};

// 0, -ENOMEM, -ENOTSUP (suite) or -EIO. The ciphers are the caller's, each by itself.
int noise_pair_create(struct noise_pair *pair, enum noise_suite suite);
void noise_pair_destroy(struct noise_pair *pair); // those that are not NULL

#endif
