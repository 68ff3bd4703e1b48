/* SPDX-License-Identifier: MIT */
/* What the fuzz targets share: taking an input apart, and a check that stays. */
#ifndef SLURMJCD_FUZZ_H
#define SLURMJCD_FUZZ_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

/* Ends the program, which libFuzzer takes for a finding. */
#define MUST(condition)                                                       \
    do {                                                                      \
        if (!(condition)) {                                                   \
            fprintf(stderr, "%s:%d: does not hold: %s\n", __FILE__, __LINE__, \
                    #condition);                                              \
            abort();                                                          \
        }                                                                     \
    } while (0)

/* What is left of an input; numbers behind its end are 0. */
struct input {
    const uint8_t *p;
    size_t n;
};

static inline uint8_t take_byte(struct input *in)
{
    if (!in->n)
        return 0;
    in->n--;
    return *in->p++;
}

static inline uint32_t take_u32(struct input *in)
{
    uint32_t v = 0;

    for (unsigned i = 0; i < 4; i++)
        v = v << 8 | take_byte(in);
    return v;
}

static inline uint64_t take_u64(struct input *in)
{
    uint64_t v = take_u32(in);

    return v << 32 | take_u32(in);
}

/* At most n bytes. */
static inline struct input take_bytes(struct input *in, size_t n)
{
    struct input out = {in->p, n < in->n ? n : in->n};

    in->p += out.n;
    in->n -= out.n;
    return out;
}

/* Everything up to the next stop byte or the end; the stop byte is dropped. */
static inline struct input take_until(struct input *in, uint8_t stop)
{
    const uint8_t *end = in->n ? memchr(in->p, stop, in->n) : NULL;
    struct input out = take_bytes(in, end ? (size_t)(end - in->p) : in->n);

    if (end)
        take_byte(in);
    return out;
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);
int LLVMFuzzerInitialize(int *argc, char ***argv);

#endif
