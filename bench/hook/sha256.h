/* SPDX-License-Identifier: MIT */
/* SHA-256 (FIPS 180-4), for the oracle's log; speed does not matter here. */
#ifndef HOOK_SHA256_H
#define HOOK_SHA256_H

#include <stddef.h>

/* Writes the digest of size bytes as 64 hexadecimal digits and a NUL. */
void sha256_hex(const void *bytes, size_t size, char hex[65]);

#endif
