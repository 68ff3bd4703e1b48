/* SPDX-License-Identifier: MIT */
/* Records one behind the other in a growing buffer: for replies, RDB, AOF. */
#ifndef SLURMJCD_RECORD_BUFFER_H
#define SLURMJCD_RECORD_BUFFER_H

#include "engine/segment.h"

struct jc_buffer {
    uint8_t *p;
    size_t n;
    size_t room;
};

void jc_buffer_free(struct jc_buffer *b);

/* Room for n more bytes. */
void jc_buffer_reserve(struct jc_buffer *b, size_t n);

/* Appends a record in its MessagePack form; returns its bytes. */
size_t jc_buffer_add_record(struct jc_buffer *b, const struct jc_record *rec);

/* Appends a number in its MessagePack form. */
void jc_buffer_add_number(struct jc_buffer *b, uint64_t v);

#endif
