/* SPDX-License-Identifier: MIT */
#include <math.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>

#include "sha256.h"

static uint32_t initial[8], constants[64];

/* The first 32 bits behind the point of a root of the n-th prime. */
static uint32_t root_bits(unsigned prime, int cube)
{
    long double root = cube ? cbrtl((long double)prime)
                            : sqrtl((long double)prime);

    return (uint32_t)((root - floorl(root)) * 4294967296.0L);
}

static void make_tables(void)
{
    unsigned found = 0;

    for (unsigned n = 2; found < 64; n++) {
        int is_prime = 1;

        for (unsigned d = 2; d * d <= n; d++)
            is_prime &= n % d != 0;
        if (!is_prime)
            continue;
        if (found < 8)
            initial[found] = root_bits(n, 0);
        constants[found++] = root_bits(n, 1);
    }
}

static uint32_t rotate(uint32_t x, int n)
{
    return x >> n | x << (32 - n);
}

static void compress(uint32_t state[8], const uint8_t block[64])
{
    uint32_t w[64], s[8];

    for (int i = 0; i < 16; i++)
        w[i] = (uint32_t)block[4 * i] << 24 | (uint32_t)block[4 * i + 1] << 16
             | (uint32_t)block[4 * i + 2] << 8 | block[4 * i + 3];
    for (int i = 16; i < 64; i++) {
        uint32_t a = w[i - 15], b = w[i - 2];

        w[i] = w[i - 16] + (rotate(a, 7) ^ rotate(a, 18) ^ a >> 3)
             + w[i - 7] + (rotate(b, 17) ^ rotate(b, 19) ^ b >> 10);
    }
    memcpy(s, state, sizeof(s));
    for (int i = 0; i < 64; i++) {
        uint32_t t1 = s[7] + (rotate(s[4], 6) ^ rotate(s[4], 11)
                              ^ rotate(s[4], 25))
                    + ((s[4] & s[5]) ^ (~s[4] & s[6])) + constants[i] + w[i];
        uint32_t t2 = (rotate(s[0], 2) ^ rotate(s[0], 13) ^ rotate(s[0], 22))
                    + ((s[0] & s[1]) ^ (s[0] & s[2]) ^ (s[1] & s[2]));

        memmove(s + 1, s, 7 * sizeof(*s));
        s[4] += t1;
        s[0] = t1 + t2;
    }
    for (int i = 0; i < 8; i++)
        state[i] += s[i];
}

void sha256_hex(const void *bytes, size_t size, char hex[65])
{
    const uint8_t *p = bytes;
    uint32_t state[8];
    uint8_t last[128] = {0};
    size_t left = size % 64, padded = left < 56 ? 64 : 128;

    if (!constants[0])
        make_tables();
    memcpy(state, initial, sizeof(state));
    for (size_t i = 0; i + 64 <= size; i += 64)
        compress(state, p + i);
    memcpy(last, p + size - left, left);
    last[left] = 0x80;
    for (int i = 0; i < 8; i++)
        last[padded - 1 - (size_t)i] = (uint8_t)((uint64_t)size * 8 >> 8 * i);
    for (size_t i = 0; i < padded; i += 64)
        compress(state, last + i);
    for (int i = 0; i < 8; i++)
        sprintf(hex + 8 * i, "%08x", state[i]);
}
