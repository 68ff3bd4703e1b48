/* SPDX-License-Identifier: MIT */
#include "record_buffer.h"

void jc_buffer_free(struct jc_buffer *b)
{
    if (b->p)
        jc_host.free(b->p);
    *b = (struct jc_buffer){0};
}

void jc_buffer_reserve(struct jc_buffer *b, size_t n)
{
    size_t room = b->room ? b->room : 1024;

    if (b->room - b->n >= n)
        return;
    while (room - b->n < n)
        room *= 2;
    b->p = jc_host.resize(b->p, room);
    b->room = room;
}

size_t jc_buffer_add_record(struct jc_buffer *b, const struct jc_record *rec)
{
    struct mp_writer w;
    size_t before = b->n;

    jc_buffer_reserve(b, jc_record_encoded_max(rec));
    mp_writer_init(&w, b->p + b->n, b->room - b->n);
    jc_record_encode(&w, rec);
    b->n = (size_t)(w.pos - b->p);
    return b->n - before;
}

void jc_buffer_add_number(struct jc_buffer *b, uint64_t v)
{
    struct mp_writer w;

    jc_buffer_reserve(b, 9);
    mp_writer_init(&w, b->p + b->n, b->room - b->n);
    mp_write_uint(&w, v);
    b->n = (size_t)(w.pos - b->p);
}
