/* SPDX-License-Identifier: GPL-2.0-or-later */
/* Records as the ring and the spill file hold them, made of an input. */
#ifndef SLURMJCD_FUZZ_RING_BYTES_H
#define SLURMJCD_FUZZ_RING_BYTES_H

#include "crc32c.h"
#include "fuzz.h"
#include "ring.h"

/* Small, so that numbers meet, or a few bits set anywhere. */
static inline uint64_t take_place(struct input *in)
{
    uint8_t b = take_byte(in);

    if (b < 240)
        return b;
    if (b < 250)
        return (uint64_t)take_byte(in) << (b - 240) * 4;
    return take_u64(in);
}

static inline void set_record_crc(struct ring_rec_head *head)
{
    head->crc = crc32c(&head->len, sizeof(*head) -
                       offsetof(struct ring_rec_head, len) + head->len);
}

/* Fills size bytes, a multiple of RING_ALIGN, with whole records, damaged ones,
 * pads and anything else. */
static inline void fill_records(struct input *in, uint8_t *data, size_t size)
{
    size_t at = 0;

    memset(data, 0, size);
    while (in->n && at + sizeof(struct ring_rec_head) <= size) {
        struct ring_rec_head *head = (struct ring_rec_head *)(data + at);
        size_t room = size - at - sizeof(*head);
        uint8_t kind = take_byte(in);
        struct input bytes;

        if (kind >= 240) { /* nothing */
            at += (size_t)(kind - 239) * RING_ALIGN;
            continue;
        }
        if (kind >= 232) {
            head->magic = RING_PAD_MAGIC;
            at += RING_ALIGN;
            continue;
        }
        bytes = take_bytes(in, take_byte(in) % 100);
        *head = (struct ring_rec_head){
            .magic = RING_RECORD_MAGIC,
            .len = (uint32_t)bytes.n,
            .job_id = kind,
            .seq = take_place(in),
        };
        if (kind & 1)
            head->seq = at / RING_ALIGN + 1; /* in order, as if all were 32 */
        if (bytes.n > room)
            return;
        if (bytes.n)
            memcpy(head + 1, bytes.p, bytes.n);
        set_record_crc(head);
        if ((kind & 0xf0) == 0xe0) /* damaged behind its sum */
            data[at + take_byte(in) % (sizeof(*head) + bytes.n)] ^=
                (uint8_t)(1 << (kind & 7));
        if ((kind & 0xf0) == 0xd0) /* says that it is longer */
            head->len = take_u32(in);
        at += ring_rec_bytes((uint32_t)bytes.n);
    }
}

#endif
