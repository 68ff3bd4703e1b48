/* SPDX-License-Identifier: MIT */
#include "segment_inside.h"

#include <stdio.h>

#define COOL_LOOK 256 /* blocks looked at for late rows in one go */

struct jc_segment *jc_segment_new(int64_t day)
{
    static uint64_t serial;
    struct jc_segment *s = jc_host.alloc(sizeof(*s));

    memset(s, 0, sizeof(*s));
    s->day = day;
    s->serial = ++serial;
    s->lowest_id = UINT32_MAX;
    return s;
}

void jc_segment_free(struct jc_segment *s)
{
    for (uint32_t i = 0; i < s->blocks; i++)
        jc_block_free(s->order[i]);
    if (s->order)
        jc_host.free(s->order);
    if (s->by_id)
        jc_host.free(s->by_id);
    for (unsigned col = 0; col < JC_FIELD_COUNT; col++)
        jc_dict_free(&s->dict[col]);
    jc_idindex_free(&s->index);
    if (s->seen)
        jc_host.free(s->seen);
    jc_host.free(s);
}

bool jc_segment_full(const struct jc_segment *s)
{
    for (unsigned col = 0; col < JC_FIELD_COUNT; col++)
        if (jc_dict_crowded(&s->dict[col]))
            return true;
    return s->ids > (1u << 22) - 64; /* 4 billion rows */
}

/* ---- ids a row is found under ---- */

/* Fills ids with the distinct ids of a row; returns how many (1 to 3). */
static unsigned ids_of(const uint64_t row[JC_COLS], uint32_t ids[3])
{
    uint64_t array = row[JC_FIELD_ARRAY_JOB_ID];
    uint64_t het = row[JC_FIELD_HET_JOB_ID];
    unsigned n = 0;

    ids[n++] = (uint32_t)row[JC_FIELD_JOB_ID];
    if (array && array - 1 != ids[0])
        ids[n++] = (uint32_t)(array - 1);
    if (het && het - 1 != ids[0] && het != array)
        ids[n++] = (uint32_t)(het - 1);
    return n;
}

void jc_segment_index_row(struct jc_segment *s, const uint64_t row[JC_COLS],
                      uint32_t block_id)
{
    uint32_t ids[3];
    unsigned n = ids_of(row, ids);

    for (unsigned i = 0; i < n; i++) {
        jc_idindex_add(&s->index, ids[i], block_id);
        if (ids[i] < s->lowest_id)
            s->lowest_id = ids[i];
        if (ids[i] > s->highest_id)
            s->highest_id = ids[i];
    }
}

void jc_segment_unindex(struct jc_segment *s, const struct jc_block *b)
{
    uint64_t row[JC_COLS];
    uint32_t ids[3];

    for (uint32_t i = 0; i < b->rows; i++) {
        jc_block_row(b, i, row);
        for (unsigned n = ids_of(row, ids); n-- > 0;)
            jc_idindex_remove(&s->index, ids[n], b->id);
    }
}

void jc_segment_index(struct jc_segment *s, const struct jc_block *b)
{
    uint64_t row[JC_COLS];

    for (uint32_t i = 0; i < b->rows; i++) {
        jc_block_row(b, i, row);
        jc_segment_index_row(s, row, b->id);
    }
}

/* ---- blocks ---- */

/* A new block at place at of the order. */
struct jc_block *jc_segment_add_block(struct jc_segment *s, uint32_t at)
{
    struct jc_block *b;
    uint32_t id = s->ids;

    if (s->blocks == s->order_room) {
        s->order_room = s->order_room ? s->order_room * 2 : 1;
        s->order = jc_host.resize(s->order,
                                  s->order_room * sizeof(*s->order));
    }
    if (s->ids == s->ids_room) {
        s->ids_room = s->ids_room ? s->ids_room * 2 : 1;
        s->by_id = jc_host.resize(s->by_id, s->ids_room * sizeof(*s->by_id));
    }
    b = jc_block_new(id);
    s->by_id[s->ids++] = b;
    memmove(s->order + at + 1, s->order + at,
            (s->blocks - at) * sizeof(*s->order));
    s->order[at] = b;
    s->blocks++;
    return b;
}

static void seal_block(struct jc_segment *s, struct jc_block *b)
{
    if (b->sealed)
        return;
    jc_block_seal(b);
    if (b->sealed)
        s->sealed_bytes += jc_block_bytes(b);
}

static void open_block(struct jc_segment *s, struct jc_block *b)
{
    if (b->sealed)
        s->sealed_bytes -= jc_block_bytes(b);
    s->late_blocks -= b->late != NULL;
    jc_block_open(b);
}

/* Opens b for change, and seals what was not changed for longest. */
void jc_segment_heat(struct jc_segment *s, struct jc_block *b)
{
    uint32_t last = b->id + 1;

    for (unsigned i = 0; i < JC_HOT_BLOCKS; i++) {
        uint32_t id = s->hot[i];

        s->hot[i] = last;
        last = id;
        if (id == b->id + 1)
            return;
    }
    if (last && s->by_id[last - 1])
        seal_block(s, s->by_id[last - 1]);
    open_block(s, b);
}

static void drop_seen(struct jc_segment *s)
{
    if (s->seen)
        jc_host.free(s->seen);
    s->seen = NULL;
    s->seen_size = 0;
}

/* Packs one block that has late rows, if it is found among the next some. */
static bool cool_late(struct jc_segment *s)
{
    for (unsigned i = 0; i < COOL_LOOK && s->late_blocks; i++) {
        uint32_t at = s->late_from < s->blocks ? s->late_from : 0;

        s->late_from = at + 1;
        if (!s->order[at]->late)
            continue;
        jc_segment_merge_late(s, at);
        return true;
    }
    return false;
}

bool jc_segment_cool(struct jc_segment *s)
{
    for (unsigned i = JC_HOT_BLOCKS; i-- > 0;) {
        uint32_t id = s->hot[i];

        s->hot[i] = 0;
        if (!id || !s->by_id[id - 1])
            continue;
        seal_block(s, s->by_id[id - 1]);
        return true;
    }
    if (cool_late(s))
        return true;
    if (!s->late_blocks)
        drop_seen(s);
    return false;
}

void jc_segment_seal(struct jc_segment *s)
{
    for (unsigned i = 0; i < JC_HOT_BLOCKS; i++) {
        if (s->hot[i] && s->by_id[s->hot[i] - 1])
            seal_block(s, s->by_id[s->hot[i] - 1]);
        s->hot[i] = 0;
    }
    for (uint32_t at = 0; at < s->blocks && s->late_blocks; at++)
        if (s->order[at]->late)
            jc_segment_merge_late(s, at);
    drop_seen(s);
}

static void drop_block(struct jc_segment *s, uint32_t at)
{
    for (unsigned i = 0; i < JC_HOT_BLOCKS; i++)
        if (s->hot[i] == s->order[at]->id + 1)
            s->hot[i] = 0;
    s->by_id[s->order[at]->id] = NULL;
    if (s->order[at]->sealed)
        s->sealed_bytes -= jc_block_bytes(s->order[at]);
    s->late_blocks -= s->order[at]->late != NULL;
    jc_block_free(s->order[at]);
    s->blocks--;
    memmove(s->order + at, s->order + at + 1,
            (s->blocks - at) * sizeof(*s->order));
}

/* ---- order of completion ---- */

static struct jc_slice cluster_of(const struct jc_segment *s,
                                  const uint64_t row[JC_COLS])
{
    uint64_t code = row[JC_FIELD_CLUSTER];

    if (!code)
        return (struct jc_slice){NULL, 0};
    return jc_dict_get(&s->dict[JC_FIELD_CLUSTER], (uint32_t)(code >> 1));
}

int jc_compare_slices(struct jc_slice a, struct jc_slice b)
{
    uint32_t n = a.n < b.n ? a.n : b.n;
    int c = !!a.p - !!b.p;

    if (c || !a.p)
        return c;
    c = memcmp(a.p, b.p, n);
    return c ? c : (a.n > b.n) - (a.n < b.n);
}

static const unsigned order_columns[] = {
    JC_FIELD_END, JC_FIELD_JOB_ID, JC_FIELD_SUBMIT, JC_FIELD_START,
    JC_FIELD_RESTART_COUNT,
};

/* <0, 0, >0 as row a comes before, is the same run and end as, or comes after
 * the row at of b. */
static int compare_row(const struct jc_segment *s, const uint64_t a[JC_COLS],
                       const struct jc_block *b, uint32_t at)
{
    uint64_t row[JC_COLS];

    for (size_t i = 0; i < sizeof(order_columns) / sizeof(*order_columns);
         i++) {
        uint64_t code = jc_block_code(b, at, order_columns[i]);

        if (a[order_columns[i]] != code)
            return a[order_columns[i]] < code ? -1 : 1;
    }
    row[JC_FIELD_CLUSTER] = jc_block_code(b, at, JC_FIELD_CLUSTER);
    return jc_compare_slices(cluster_of(s, a), cluster_of(s, row));
}

/* The first row of b that comes after row. */
uint32_t jc_segment_row_after(const struct jc_segment *s,
                              const struct jc_block *b,
                              const uint64_t row[JC_COLS])
{
    uint32_t lo = 0, hi = b->rows;

    if (hi && compare_row(s, row, b, hi - 1) >= 0)
        return hi; /* jobs mostly arrive in order */
    while (lo < hi) {
        uint32_t mid = lo + (hi - lo) / 2;

        if (compare_row(s, row, b, mid) < 0)
            hi = mid;
        else
            lo = mid + 1;
    }
    return lo;
}

/* The last block whose first row does not come after row; 0 if none. */
uint32_t jc_segment_block_for(const struct jc_segment *s,
                          const uint64_t row[JC_COLS])
{
    uint32_t lo = 0, hi = s->blocks;

    if (hi && compare_row(s, row, s->order[hi - 1], 0) >= 0)
        return hi - 1;
    while (lo < hi) {
        uint32_t mid = lo + (hi - lo) / 2;

        if (compare_row(s, row, s->order[mid], 0) < 0)
            hi = mid;
        else
            lo = mid + 1;
    }
    return lo ? lo - 1 : 0;
}

/* Where b stands in the order, by its first row. */
static uint32_t order_of(const struct jc_segment *s, const struct jc_block *b)
{
    uint64_t row[JC_COLS];

    jc_block_row(b, 0, row);
    return jc_segment_block_for(s, row);
}

void jc_segment_stamp(const struct jc_segment *s, char stamp[JC_STAMP_BYTES])
{
    snprintf(stamp, JC_STAMP_BYTES, "%llu.%llu.%llu",
             (unsigned long long)s->serial, (unsigned long long)s->layout,
             (unsigned long long)s->rows);
}

/* ---- rows ---- */

void jc_segment_remove(struct jc_segment *s, struct jc_place place)
{
    struct jc_block *b = s->order[place.block];
    uint64_t row[JC_COLS];
    uint32_t ids[3];

    jc_block_row(b, place.row, row);
    if (b->rows == 1) {
        for (unsigned n = ids_of(row, ids); n-- > 0;)
            jc_idindex_remove(&s->index, ids[n], b->id);
        drop_block(s, place.block);
    } else {
        jc_segment_heat(s, b);
        jc_block_remove(b, place.row); /* others may need its index pairs */
    }
    s->rows--;
    s->layout++;
}

static bool same_run(const struct jc_segment *s, const struct jc_block *b,
                     uint32_t at, const struct jc_record *rec)
{
    uint64_t row[JC_COLS];

    if (jc_block_code(b, at, JC_FIELD_SUBMIT) !=
            rec->number[JC_FIELD_SUBMIT].value ||
        jc_block_code(b, at, JC_FIELD_START) !=
            rec->number[JC_FIELD_START].value ||
        jc_block_code(b, at, JC_FIELD_RESTART_COUNT) !=
            rec->number[JC_FIELD_RESTART_COUNT].value)
        return false;
    row[JC_FIELD_CLUSTER] = jc_block_code(b, at, JC_FIELD_CLUSTER);
    return !jc_compare_slices(cluster_of(s, row),
                           rec->string[JC_FIELD_CLUSTER]);
}

/* False when no row of b can be rec's run. */
static bool may_hold(const struct jc_block *b, const struct jc_record *rec)
{
    static const unsigned columns[] = {JC_FIELD_JOB_ID, JC_FIELD_SUBMIT,
                                       JC_FIELD_START};

    for (size_t i = 0; i < sizeof(columns) / sizeof(*columns); i++) {
        uint64_t v = rec->number[columns[i]].value;

        if (v < b->lo[columns[i]] || v > b->hi[columns[i]])
            return false;
    }
    return true;
}

static uint64_t looked;

uint64_t jc_segment_blocks_looked(void)
{
    return looked;
}

bool jc_segment_find_run(const struct jc_segment *s,
                         const struct jc_record *rec, struct jc_place *place)
{
    uint64_t ids[JC_BLOCK_ROWS], id = rec->number[JC_FIELD_JOB_ID].value;
    uint32_t state = 0, block;

    if (id < s->lowest_id || id > s->highest_id)
        return false;
    while (jc_idindex_next(&s->index, (uint32_t)id, &state, &block)) {
        const struct jc_block *b = s->by_id[block];

        if (!b || !may_hold(b, rec))
            continue;
        looked++;
        jc_block_column(b, JC_FIELD_JOB_ID, ids);
        for (uint32_t i = 0; i < b->rows; i++) {
            if (ids[i] != id || !same_run(s, b, i, rec))
                continue;
            place->block = order_of(s, b);
            place->row = i;
            return true;
        }
    }
    return false;
}

void jc_segment_get(const struct jc_segment *s, struct jc_place place,
                    struct jc_record *rec, uint64_t *ttl)
{
    const struct jc_block *b = s->order[place.block];
    uint64_t row[JC_COLS];

    memset(rec, 0, sizeof(*rec));
    jc_block_row(b, place.row, row);
    jc_row_to_numbers(rec, row);
    for (unsigned col = 0; col < JC_FIELD_COUNT; col++) {
        struct jc_slice str;

        if (!jc_column_is_string(col) || !row[col])
            continue;
        str = jc_code_is_dict(row[col])
                  ? jc_dict_get(&s->dict[col], (uint32_t)(row[col] >> 1))
                  : jc_block_string(b, row[col]);
        if (col == JC_FIELD_EXTRA)
            rec->extra = str;
        else
            rec->string[col] = str;
    }
    *ttl = row[JC_COL_TTL];
}

uint64_t jc_segment_expires(const struct jc_segment *s)
{
    if (s->for_ever || !s->rows)
        return 0;
    return ((uint64_t)s->day + 1) * JC_DAY_SECONDS + s->longest_ttl;
}
