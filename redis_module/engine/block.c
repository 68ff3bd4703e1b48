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
    if (b->late)
        jc_host.free(b->late);
    jc_heap_free(&b->heap);
    jc_host.free(b);
}

static uint64_t *row_at(const struct jc_block *b, uint32_t at)
{
    return b->open + (size_t)at * JC_COLS;
}

/* Rows of a sealed block that has late ones. */
static void part_with_late(const struct jc_block *b, unsigned col,
                           uint32_t from, uint32_t n, uint64_t *out)
{
    uint64_t packed[JC_BLOCK_ROWS];
    uint32_t first = from - jc_late_before(b->late, from);
    uint32_t end = from + n - jc_late_before(b->late, from + n);
    uint32_t start = first & ~UINT32_C(7); /* as jc_sealed_part has it */

    jc_sealed_part(b->sealed, b->late->base[col], col, start, end - start,
                   packed);
    jc_late_weave(b->late, col, from, n, packed + (first - start), out);
}

void jc_block_part(const struct jc_block *b, unsigned col, uint32_t from,
                   uint32_t n, uint64_t *out)
{
    const uint64_t *p;

    if (b->late) {
        part_with_late(b, col, from, n, out);
        return;
    }
    if (b->sealed) {
        jc_sealed_part(b->sealed, b->lo[col], col, from, n, out);
        return;
    }
    p = row_at(b, from) + col;
    for (uint32_t i = 0; i < n; i++, p += JC_COLS)
        out[i] = *p;
}

void jc_block_column(const struct jc_block *b, unsigned col,
                     uint64_t out[JC_BLOCK_ROWS])
{
    jc_block_part(b, col, 0, b->rows, out);
}

uint64_t jc_block_code(const struct jc_block *b, uint32_t at, unsigned col)
{
    const uint64_t *base = b->lo, *row;
    uint32_t before = 0;

    if (!b->sealed)
        return row_at(b, at)[col];
    if (b->late) {
        row = jc_late_row(b->late, at, &before);
        if (row)
            return row[col];
        base = b->late->base;
    }
    return jc_sealed_code(b->sealed, base[col], col, at - before);
}

void jc_block_row(const struct jc_block *b, uint32_t at, uint64_t row[JC_COLS])
{
    const uint64_t *base = b->lo, *codes = NULL;
    uint32_t before = 0;

    if (!b->sealed)
        codes = row_at(b, at);
    else if (b->late)
        codes = jc_late_row(b->late, at, &before);
    if (codes) {
        memcpy(row, codes, ROW_BYTES);
        return;
    }
    if (b->late)
        base = b->late->base;
    for (unsigned col = 0; col < JC_COLS; col++)
        row[col] = jc_sealed_code(b->sealed, base[col], col, at - before);
}

/* Strings of the heap that are packed. */
static uint32_t packed_strings(const struct jc_block *b)
{
    return b->sealed ? b->sealed->heap_count : 0;
}

struct jc_slice jc_block_string(const struct jc_block *b, uint64_t code)
{
    uint32_t i = (uint32_t)(code / 2 - 1), packed = packed_strings(b);

    return i < packed ? jc_sealed_string(b->sealed, i)
                      : jc_heap_get(&b->heap, i - packed);
}

uint64_t jc_block_add_string(struct jc_block *b, struct jc_slice s)
{
    uint64_t i = (uint64_t)jc_heap_add(&b->heap, s) + packed_strings(b);

    return (i + 1) * 2;
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
    if (room > JC_BLOCK_FULL && rows <= JC_BLOCK_ROWS)
        room = rows > JC_BLOCK_FULL ? JC_BLOCK_ROWS : JC_BLOCK_FULL;
    b->open = jc_host.resize(b->open, room * ROW_BYTES);
    b->room = room;
}

void jc_block_insert(struct jc_block *b, uint32_t at,
                     const uint64_t row[JC_COLS])
{
    if (b->sealed) {
        jc_late_insert(&b->late, b->lo, at, row);
    } else {
        make_room(b, b->rows + 1);
        memmove(row_at(b, at) + JC_COLS, row_at(b, at),
                (b->rows - at) * ROW_BYTES);
        memcpy(row_at(b, at), row, ROW_BYTES);
    }
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

/* The heap unpacked, and late rows' strings behind: codes stay what they are. */
static struct jc_heap unpack_heap(const struct jc_block *b)
{
    const struct jc_sealed *s = b->sealed;
    struct jc_heap heap = {0};

    jc_heap_unpack(&heap, s->data + s->heap_at, s->heap_size, s->heap_used,
                   s->heap_count);
    for (uint32_t i = 0; i < b->heap.count; i++)
        jc_heap_add(&heap, jc_heap_get(&b->heap, i));
    return heap;
}

void jc_block_open(struct jc_block *b)
{
    uint64_t column[JC_BLOCK_ROWS];
    struct jc_heap heap;

    if (!b->sealed)
        return;
    make_room(b, b->rows);
    for (unsigned col = 0; col < JC_COLS; col++) {
        jc_block_column(b, col, column);
        for (uint32_t i = 0; i < b->rows; i++)
            row_at(b, i)[col] = column[i];
    }
    heap = unpack_heap(b);
    jc_heap_free(&b->heap);
    b->heap = heap;
    jc_host.free(b->sealed);
    b->sealed = NULL;
    if (b->late)
        jc_host.free(b->late);
    b->late = NULL;
}

size_t jc_block_bytes(const struct jc_block *b)
{
    return jc_host.size_of((void *)b) + jc_size_of(b->open) +
           jc_size_of(b->sealed) + jc_size_of(b->late) +
           jc_heap_bytes(&b->heap);
}
