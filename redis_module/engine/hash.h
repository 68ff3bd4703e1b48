/* SPDX-License-Identifier: MIT */
/* Hashes for the engine's tables; never stored, so they may change. */
#ifndef SLURMJCD_HASH_H
#define SLURMJCD_HASH_H

#include <stddef.h>
#include <stdint.h>
#include <string.h>

static inline uint64_t jc_fold(uint64_t a, uint64_t b)
{
    unsigned __int128 m = (unsigned __int128)a * b;

    return (uint64_t)m ^ (uint64_t)(m >> 64);
}

/* Keyed, because users choose job names and directories. Bit 5 of each byte is
 * left out, so that strings that differ only in the case of letters meet. */
static inline uint64_t jc_hash_bytes(const void *bytes, size_t n,
                                     uint64_t seed)
{
    const uint8_t *p = (const uint8_t *)bytes;
    uint64_t h = seed ^ (UINT64_C(0xa0761d6478bd642f) * (n + 1));
    const uint64_t ones = UINT64_C(0x2020202020202020);
    uint64_t a, b;

    while (n > 16) {
        memcpy(&a, p, 8);
        memcpy(&b, p + 8, 8);
        h = jc_fold((a | ones) ^ h, (b | ones) ^ UINT64_C(0xe7037ed1a0b428db));
        p += 16;
        n -= 16;
    }
    if (n >= 8) {
        memcpy(&a, p, 8);
        memcpy(&b, p + n - 8, 8);
    } else if (n >= 4) {
        uint32_t lo, hi;

        memcpy(&lo, p, 4);
        memcpy(&hi, p + n - 4, 4);
        a = lo;
        b = hi;
    } else {
        a = n ? (uint64_t)p[0] << 16 | (uint64_t)p[n / 2] << 8 | p[n - 1] : 0;
        b = 0;
    }
    h = jc_fold((a | ones) ^ h, (b | ones) ^ UINT64_C(0x8ebc6af09c88c6e3));
    return jc_fold(h, seed ^ UINT64_C(0x589965cc75374cc3));
}

/* A bijection on 32 bits that spreads neighbouring ids. */
static inline uint32_t jc_hash_id(uint32_t x)
{
    x ^= x >> 16;
    x *= UINT32_C(0x7feb352d);
    x ^= x >> 15;
    x *= UINT32_C(0x846ca68b);
    x ^= x >> 16;
    return x;
}

#endif
