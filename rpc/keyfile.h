// SPDX-License-Identifier: Apache-2.0
//
// Key files, as with ssh and WireGuard: a private key is one line of base64 in a file of mode 0600, its
// public half stands in PATH.pub; the server's authorized file (0600, or 0640 with a group of the server's
// user) has a line per client key:
//     KEY PRINCIPAL [quota=SIZE] [rights=create,read,write,migrate,admin] [prefix=TEXT] [connections=N]
// "#" starts a comment. Several keys may share a principal (rotation): they share quota and segments, and
// lines of one principal that disagree on quota are an error.
#ifndef RPC_KEYFILE_H
#define RPC_KEYFILE_H

#include "rpc/failure.h"
#include "rpc/limits.h"
#include "rpc/noise.h"

enum { KEYFILE_TEXT_BYTES = 45 }; // base64 of 32 bytes, NUL included

enum key_right {
    KEY_RIGHT_CREATE = 1 << 0,
    KEY_RIGHT_READ = 1 << 1,
    KEY_RIGHT_WRITE = 1 << 2,
    KEY_RIGHT_MIGRATE = 1 << 3,
    KEY_RIGHT_ADMIN = 1 << 4,
};

struct key_identity { // lives in guarded memory
    uint8_t private_key[NOISE_KEY_BYTES];
    uint8_t public_key[NOISE_KEY_BYTES];
};

struct key_grant { // one line of an authorized file
    uint8_t public_key[NOISE_KEY_BYTES];
    char principal[LIMIT_PRINCIPAL_NAME_BYTES];
    uint64_t quota_bytes;                  // UINT64_MAX: none
    unsigned rights;                       // of enum key_right; default create,read,write
    char prefix[LIMIT_SEGMENT_NAME_BYTES]; // names it may use begin with this; default ""
    unsigned connections;                  // default LIMIT_CONNECTIONS_PER_KEY
    unsigned line;
};

struct key_grants; // a parsed authorized file, immutable

// Makes a new private key file (0600, never overwrites: -EEXIST) and PATH.pub (0644).
int keyfile_generate(const char *path, char public_text[KEYFILE_TEXT_BYTES],
                     struct failure *failure);
// Refuses a file that others may read (-EPERM), that is malformed (-EINVAL) or absent (-ENOENT).
int keyfile_load(const char *path, struct key_identity **identity, struct failure *failure);
// A new pair that is in no file: a throw-away key. -ENOMEM.
int key_identity_create(struct key_identity **identity);
void key_identity_destroy(struct key_identity **identity);
int keyfile_decode(const char *text, uint8_t key[NOISE_KEY_BYTES]); // -EINVAL
void keyfile_encode(const uint8_t key[NOISE_KEY_BYTES], char text[KEYFILE_TEXT_BYTES]);

int key_grants_load(const char *path, struct key_grants **grants, struct failure *failure);
int key_grants_create(const struct key_grant *grant,
                      struct key_grants **grants); // this one; -ENOMEM
void key_grants_destroy(struct key_grants **grants);
const struct key_grant *key_grants_find(const struct key_grants *grants,
                                        const uint8_t public_key[NOISE_KEY_BYTES]);
// Appends one line to an authorized file (made 0600 when absent), whole or not at all; -EEXIST when the
// key stands there already. The line is parsed by the same code before it is written.
int key_grants_append(const char *path, const char *line, struct failure *failure);

#endif
