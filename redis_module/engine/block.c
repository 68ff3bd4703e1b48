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
    if (b->sealed)
        jc_host.free(b->sealed);
    jc_heap_free(&b->heap);
    jc_host.free(b);
}

static uint64_t *row_at(const struct jc_block *b, uint32_t at)
{
    return b->open + (size_t)at * JC_COLS;
}

void jc_block_column(const struct jc_block *b, unsigned col,
                     uint64_t out[JC_BLOCK_ROWS])
{
    const uint64_t *p;

    if (b->sealed) {
        jc_sealed_column(b->sealed, b->lo[col], col, b->rows, out);
        return;
    }
    p = b->open + col;
    for (uint32_t i = 0; i < b->rows; i++, p += JC_COLS)
        out[i] = *p;
}

uint64_t jc_block_code(const struct jc_block *b, uint32_t at, unsigned col)
{
    if (b->sealed)
        return jc_sealed_code(b->sealed, b->lo[col], col, at);
    return row_at(b, at)[col];
}

void jc_block_row(const struct jc_block *b, uint32_t at, uint64_t row[JC_COLS])
{
    if (!b->sealed) {
        memcpy(row, row_at(b, at), ROW_BYTES);
        return;
    }
    for (unsigned col = 0; col < JC_COLS; col++)
        row[col] = jc_sealed_code(b->sealed, b->lo[col], col, at);
}

struct jc_slice jc_block_string(const struct jc_block *b, uint64_t code)
{
    uint32_t i = (uint32_t)(code / 2 - 1);

    return b->sealed ? jc_sealed_string(b->sealed, i)
                     : jc_heap_get(&b->heap, i);
}

uint64_t jc_block_add_string(struct jc_block *b, struct jc_slice s)
{
    return ((uint64_t)jc_heap_add(&b->heap, s) + 1) * 2;
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
    b->loose = true;
}

void jc_block_set(struct jc_block *b, uint32_t at, unsigned col, uint64_t code)
{
    row_at(b, at)[col] = code;
    b->loose = true;
    if (code < b->lo[col])
        b->lo[col] = code;
    if (code > b->hi[col])
        b->hi[col] = code;
}

/* The strings of a row of from, which b takes over, into b's heap. */
static void move_strings(struct jc_block *b, uint64_t row[JC_COLS],
                         const struct jc_heap *from)
{
    for (unsigned col = 0; col < JC_FIELD_COUNT; col++)
        if (jc_column_has_heap(col) && row[col] && !jc_code_is_dict(row[col]))
            row[col] = jc_block_add_string(
                b, jc_heap_get(from, (uint32_t)(row[col] / 2 - 1)));
}

void jc_block_split(struct jc_block *b, uint32_t at, struct jc_block *to)
{
    uint32_t rows = b->rows - at;

    make_room(to, rows);
    memcpy(to->open, row_at(b, at), rows * ROW_BYTES);
    to->rows = rows;
    b->rows = at;
    b->loose = true;
    for (uint32_t i = 0; i < rows; i++) {
        move_strings(to, row_at(to, i), &b->heap);
        widen(to, row_at(to, i));
    }
}

/* ---- sealing ---- */

/* Makes the heap anew, column by column so that it packs well, without the
 * strings no row has any more. */
static void tidy_heap(struct jc_block *b)
{
    struct jc_heap old = b->heap;

    b->heap = (struct jc_heap){0};
    for (unsigned col = 0; col < JC_FIELD_COUNT; col++) {
        if (!jc_column_has_heap(col))
            continue;
        for (uint32_t i = 0; i < b->rows; i++) {
            uint64_t *code = &row_at(b, i)[col];

            if (*code && !jc_code_is_dict(*code))
                *code = jc_block_add_string(
                    b, jc_heap_get(&old, (uint32_t)(*code / 2 - 1)));
        }
    }
    jc_heap_free(&old);
}

/* Makes lo and hi of one column as narrow as they can be. */
static void narrow(struct jc_block *b, unsigned col)
{
    uint64_t lo = UINT64_MAX, hi = 0;

    for (uint32_t i = 0; i < b->rows; i++) {
        uint64_t code = row_at(b, i)[col];

        lo = code < lo ? code : lo;
        hi = code > hi ? code : hi;
    }
    b->lo[col] = lo;
    b->hi[col] = hi;
}

void jc_block_seal(struct jc_block *b)
{
    if (b->sealed || !b->rows)
        return;
    tidy_heap(b);
    for (unsigned col = 0; col < JC_COLS; col++)
        if (b->loose || jc_column_has_heap(col))
            narrow(b, col);
    b->loose = false;
    b->sealed = jc_sealed_new(b->open, b->rows, b->lo, b->hi, &b->heap);
    jc_heap_free(&b->heap);
    jc_host.free(b->open);
    b->open = NULL;
    b->room = 0;
}

void jc_block_open(struct jc_block *b)
{
    struct jc_sealed *s = b->sealed;
    uint64_t column[JC_BLOCK_ROWS];

    if (!s)
        return;
    make_room(b, b->rows);
    for (unsigned col = 0; col < JC_COLS; col++) {
        jc_sealed_column(s, b->lo[col], col, b->rows, column);
        for (uint32_t i = 0; i < b->rows; i++)
            row_at(b, i)[col] = column[i];
    }
    jc_heap_unpack(&b->heap, s->data + s->heap_at, s->heap_size, s->heap_used,
                   s->heap_count);
    b->sealed = NULL;
    jc_host.free(s);
}

size_t jc_block_bytes(const struct jc_block *b)
{
    return jc_host.size_of((void *)b) + jc_size_of(b->open) +
           jc_size_of(b->sealed) + jc_heap_bytes(&b->heap);
}
