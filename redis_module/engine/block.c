/* SPDX-License-Identifier: MIT */
#include "block.h"

#include <string.h>

#define ROW_BYTES (JC_COLS * sizeof(uint64_t))

struct jc_block *jc_block_new(uint32_t id)
{
    struct jc_block *b = jc_host.alloc(sizeof(*b));

    memset(b, 0, sizeof(*b));
    memset(b->lo, 0xff, sizeof(b->lo));
    b->id = id;
    return b;
}

void jc_block_free(struct jc_block *b)
{
    if (b->open)
        jc_host.free(b->open);
    jc_host.free(b);
}

static uint64_t *row_at(const struct jc_block *b, uint32_t at)
{
    return b->open + (size_t)at * JC_COLS;
}

void jc_block_column(const struct jc_block *b, unsigned col,
                     uint64_t out[JC_BLOCK_ROWS])
{
    const uint64_t *p = b->open + col;

    for (uint32_t i = 0; i < b->rows; i++, p += JC_COLS)
        out[i] = *p;
}

uint64_t jc_block_code(const struct jc_block *b, uint32_t at, unsigned col)
{
    return row_at(b, at)[col];
}

void jc_block_row(const struct jc_block *b, uint32_t at, uint64_t row[JC_COLS])
{
    memcpy(row, row_at(b, at), ROW_BYTES);
}

static void widen(struct jc_block *b, const uint64_t row[JC_COLS])
{
    for (unsigned col = 0; col < JC_COLS; col++) {
        if (row[col] < b->lo[col])
            b->lo[col] = row[col];
        if (row[col] > b->hi[col])
            b->hi[col] = row[col];
    }
}

static void make_room(struct jc_block *b, uint32_t rows)
{
    uint32_t room = b->room ? b->room : 1;

    if (rows <= b->room)
        return;
    while (room < rows)
        room *= 2;
    b->open = jc_host.resize(b->open, room * ROW_BYTES);
    b->room = room;
}

void jc_block_insert(struct jc_block *b, uint32_t at,
                     const uint64_t row[JC_COLS])
{
    make_room(b, b->rows + 1);
    memmove(row_at(b, at) + JC_COLS, row_at(b, at),
            (b->rows - at) * ROW_BYTES);
    memcpy(row_at(b, at), row, ROW_BYTES);
    b->rows++;
    widen(b, row);
}

void jc_block_remove(struct jc_block *b, uint32_t at)
{
    b->rows--;
    memmove(row_at(b, at), row_at(b, at) + JC_COLS,
            (b->rows - at) * ROW_BYTES);
}

void jc_block_set(struct jc_block *b, uint32_t at, unsigned col, uint64_t code)
{
    row_at(b, at)[col] = code;
    if (code < b->lo[col])
        b->lo[col] = code;
    if (code > b->hi[col])
        b->hi[col] = code;
}

void jc_block_split(struct jc_block *b, uint32_t at, struct jc_block *to)
{
    uint32_t rows = b->rows - at;

    make_room(to, rows);
    memcpy(to->open, row_at(b, at), rows * ROW_BYTES);
    to->rows = rows;
    b->rows = at;
    for (uint32_t i = 0; i < rows; i++)
        widen(to, row_at(to, i));
}

size_t jc_block_bytes(const struct jc_block *b)
{
    return jc_host.size_of((void *)b) + jc_size_of(b->open);
}
