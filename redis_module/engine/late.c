/* SPDX-License-Identifier: MIT */
#include "late.h"

#include <string.h>

#define ROW_BYTES (JC_COLS * sizeof(uint64_t))

uint32_t jc_late_before(const struct jc_late *late, uint32_t at)
{
    uint32_t lo = 0, hi = late->rows;

    while (lo < hi) {
        uint32_t mid = lo + (hi - lo) / 2;

        if (late->at[mid] < at)
            lo = mid + 1;
        else
            hi = mid;
    }
    return lo;
}

const uint64_t *jc_late_row(const struct jc_late *late, uint32_t at,
                            uint32_t *before)
{
    *before = jc_late_before(late, at);
    if (*before < late->rows && late->at[*before] == at)
        return late->code + (size_t)*before * JC_COLS;
    return NULL;
}

static struct jc_late *make_room(struct jc_late *late,
                                 const uint64_t lo[JC_COLS])
{
    uint32_t room = late ? late->room * 2 : 4;
    bool fresh = !late;

    if (late && late->rows < late->room)
        return late;
    late = jc_host.resize(late, sizeof(*late) + room * ROW_BYTES);
    late->room = room;
    if (fresh) {
        late->rows = 0;
        memcpy(late->base, lo, sizeof(late->base));
    }
    return late;
}

void jc_late_insert(struct jc_late **where, const uint64_t lo[JC_COLS],
                    uint32_t at, const uint64_t row[JC_COLS])
{
    struct jc_late *late = *where = make_room(*where, lo);
    uint32_t i = jc_late_before(late, at);
    uint64_t *code = late->code + (size_t)i * JC_COLS;

    for (uint32_t j = late->rows; j > i; j--)
        late->at[j] = (uint16_t)(late->at[j - 1] + 1);
    memmove(code + JC_COLS, code, (late->rows - i) * ROW_BYTES);
    memcpy(code, row, ROW_BYTES);
    late->at[i] = (uint16_t)at;
    late->rows++;
}

void jc_late_weave(const struct jc_late *late, unsigned col, uint32_t from,
                   uint32_t n, const uint64_t *packed, uint64_t *out)
{
    uint32_t i = jc_late_before(late, from), at = from, end = from + n;

    while (at < end) {
        uint32_t next = i < late->rows && late->at[i] < end ? late->at[i] : end;

        memcpy(out, packed, (next - at) * sizeof(*out));
        out += next - at;
        packed += next - at;
        if (next < end)
            *out++ = late->code[(size_t)i++ * JC_COLS + col];
        at = next + (next < end);
    }
}
