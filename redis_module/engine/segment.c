/* SPDX-License-Identifier: MIT */
#include "segment.h"

#include "hash.h"

#define SEEN_MAX 65536 /* hashes of strings that came once; 256 KiB */

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

static void index_row(struct jc_segment *s, const uint64_t row[JC_COLS],
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

/* Forgets every pair of the block b; index_block makes them anew. */
static void unindex_block(struct jc_segment *s, const struct jc_block *b)
{
    uint64_t row[JC_COLS];
    uint32_t ids[3];

    for (uint32_t i = 0; i < b->rows; i++) {
        jc_block_row(b, i, row);
        for (unsigned n = ids_of(row, ids); n-- > 0;)
            jc_idindex_remove(&s->index, ids[n], b->id);
    }
}

static void index_block(struct jc_segment *s, const struct jc_block *b)
{
    uint64_t row[JC_COLS];

    for (uint32_t i = 0; i < b->rows; i++) {
        jc_block_row(b, i, row);
        index_row(s, row, b->id);
    }
}

/* ---- blocks ---- */

/* A new block at place at of the order. */
static struct jc_block *add_block(struct jc_segment *s, uint32_t at)
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

/* Opens b for change, and seals what was not changed for longest. */
static void heat(struct jc_segment *s, struct jc_block *b)
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
        jc_block_seal(s->by_id[last - 1]);
    jc_block_open(b);
}

void jc_segment_seal(struct jc_segment *s)
{
    for (unsigned i = 0; i < JC_HOT_BLOCKS; i++) {
        if (s->hot[i] && s->by_id[s->hot[i] - 1])
            jc_block_seal(s->by_id[s->hot[i] - 1]);
        s->hot[i] = 0;
    }
    if (s->seen)
        jc_host.free(s->seen);
    s->seen = NULL;
    s->seen_size = 0;
}

static void drop_block(struct jc_segment *s, uint32_t at)
{
    for (unsigned i = 0; i < JC_HOT_BLOCKS; i++)
        if (s->hot[i] == s->order[at]->id + 1)
            s->hot[i] = 0;
    s->by_id[s->order[at]->id] = NULL;
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

static int compare_slices(struct jc_slice a, struct jc_slice b)
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
    return compare_slices(cluster_of(s, a), cluster_of(s, row));
}

/* The first row of b that comes after row. */
static uint32_t row_after(const struct jc_segment *s, const struct jc_block *b,
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
static uint32_t block_for(const struct jc_segment *s,
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
    return block_for(s, row);
}

/* ---- strings ---- */

static struct jc_slice string_of(const struct jc_record *rec, unsigned col)
{
    static const char EMPTY_MAP[] = "\x80";

    if (col != JC_FIELD_EXTRA)
        return rec->string[col];
    return rec->extra.p ? rec->extra : (struct jc_slice){EMPTY_MAP, 1};
}

static void grow_seen(struct jc_segment *s)
{
    uint32_t size = s->seen_size ? s->seen_size * 4 : 256;

    if (s->seen)
        jc_host.free(s->seen);
    s->seen = jc_host.alloc(size * sizeof(*s->seen));
    memset(s->seen, 0, size * sizeof(*s->seen));
    s->seen_size = size;
}

/* Did the string come before? A dictionary is for strings that come again. */
static bool seen_before(struct jc_segment *s, struct jc_slice str)
{
    uint64_t hash = jc_hash_bytes(str.p, str.n, jc_host.hash_seed);
    uint32_t tag = (uint32_t)(hash >> 32) | 1, *slot;

    if (s->rows >= s->seen_size && s->seen_size < SEEN_MAX)
        grow_seen(s);
    slot = &s->seen[hash & (s->seen_size - 1)];
    if (*slot == tag)
        return true;
    *slot = tag;
    return false;
}

/* The code of a string in a row that b takes. */
static uint64_t string_code(struct jc_segment *s, struct jc_block *b,
                            unsigned col, struct jc_slice str)
{
    struct jc_dict *d = &s->dict[col];
    uint32_t id;

    if (!str.p)
        return 0;
    if (!jc_column_has_heap(col))
        return jc_code_dict(jc_dict_add(d, str));
    id = jc_dict_find(d, str);
    if (id != JC_DICT_NONE)
        return jc_code_dict(id);
    if (seen_before(s, str))
        return jc_code_dict(jc_dict_add(d, str));
    return jc_block_add_string(b, str);
}

/* ---- rows ---- */

/* Splits the full block at place at of the order, unless a row for its place
 * *pos can go into a new one behind it. The block for the row, which is open;
 * *pos is where in it. */
static struct jc_block *split(struct jc_segment *s, uint32_t at, uint32_t *pos)
{
    struct jc_block *b = s->order[at], *next = add_block(s, at + 1);
    uint32_t half = b->rows / 2;

    if (*pos == b->rows) { /* in order: leave b full */
        heat(s, next);
        *pos = 0;
        return next;
    }
    heat(s, b);
    heat(s, next);
    unindex_block(s, b);
    jc_block_split(b, half, next);
    index_block(s, b);
    index_block(s, next);
    if (*pos < half || !half)
        return b;
    *pos -= half;
    return next;
}

/* row has the numbers of rec and its cluster; the other strings follow. */
static void insert_row(struct jc_segment *s, uint64_t row[JC_COLS],
                       const struct jc_record *rec)
{
    uint32_t at = s->blocks ? block_for(s, row) : 0, pos;
    struct jc_block *b = s->blocks ? s->order[at] : add_block(s, 0);

    pos = row_after(s, b, row);
    if (pos < b->rows || at + 1 < s->blocks)
        s->layout++;
    if (jc_block_full(b))
        b = split(s, at, &pos);
    heat(s, b);
    for (unsigned col = 0; col < JC_FIELD_COUNT; col++)
        if (jc_column_is_string(col))
            row[col] = string_code(s, b, col, string_of(rec, col));
    jc_block_insert(b, pos, row);
    index_row(s, row, b->id);
    s->rows++;
    if (row[JC_FIELD_END] < row[JC_FIELD_START] ||
        row[JC_FIELD_END] < row[JC_FIELD_SUBMIT])
        s->backward = true;
}

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
        heat(s, b);
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
    return !compare_slices(cluster_of(s, row),
                           rec->string[JC_FIELD_CLUSTER]);
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

        if (!b || id < b->lo[JC_FIELD_JOB_ID] || id > b->hi[JC_FIELD_JOB_ID])
            continue;
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

/* The longer of two times to live, 0 being for ever. */
static uint64_t longer_ttl(uint64_t a, uint64_t b)
{
    if (!a || !b)
        return 0;
    return a > b ? a : b;
}

static void note_ttl(struct jc_segment *s, uint64_t ttl)
{
    if (!ttl)
        s->for_ever = true;
    else if (ttl > s->longest_ttl)
        s->longest_ttl = ttl;
}

/* Does the row at place hold exactly rec, whose numbers are in row? */
static bool same_record(const struct jc_segment *s, struct jc_place place,
                        const uint64_t row[JC_COLS],
                        const struct jc_record *rec)
{
    const struct jc_block *b = s->order[place.block];
    struct jc_record old;
    uint64_t ttl;

    for (unsigned col = 0; col < JC_COLS; col++)
        if (!jc_column_is_string(col) && col != JC_COL_TTL &&
            jc_block_code(b, place.row, col) != row[col])
            return false;
    jc_segment_get(s, place, &old, &ttl);
    for (unsigned col = 0; col < JC_FIELD_COUNT; col++)
        if (jc_column_is_string(col) &&
            compare_slices(string_of(&old, col), string_of(rec, col)))
            return false;
    return true;
}

/* Takes in rec for the run at place. */
static enum jc_put put_known(struct jc_segment *s, const struct jc_record *rec,
                             uint64_t row[JC_COLS], struct jc_place place)
{
    struct jc_block *b = s->order[place.block];
    uint64_t ttl = jc_block_code(b, place.row, JC_COL_TTL);

    if (jc_block_code(b, place.row, JC_FIELD_END) > row[JC_FIELD_END])
        return JC_PUT_KNOWN;
    row[JC_COL_TTL] = longer_ttl(row[JC_COL_TTL], ttl);
    note_ttl(s, row[JC_COL_TTL]);
    if (!same_record(s, place, row, rec)) {
        jc_segment_remove(s, place);
        insert_row(s, row, rec);
        return JC_PUT_REPLACED;
    }
    if (row[JC_COL_TTL] != ttl) {
        heat(s, b);
        jc_block_set(b, place.row, JC_COL_TTL, row[JC_COL_TTL]);
    }
    return JC_PUT_KNOWN;
}

enum jc_put jc_segment_put(struct jc_segment *s, const struct jc_record *rec,
                           uint64_t ttl)
{
    struct jc_slice cluster = rec->string[JC_FIELD_CLUSTER];
    uint64_t row[JC_COLS];
    struct jc_place place;

    jc_row_from_numbers(row, rec, ttl);
    row[JC_FIELD_CLUSTER] = 0;
    if (cluster.p) /* rows are ordered by it */
        row[JC_FIELD_CLUSTER] = jc_code_dict(
            jc_dict_add(&s->dict[JC_FIELD_CLUSTER], cluster));
    if (jc_segment_find_run(s, rec, &place))
        return put_known(s, rec, row, place);
    note_ttl(s, ttl);
    insert_row(s, row, rec);
    return JC_PUT_NEW;
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

size_t jc_segment_bytes(const struct jc_segment *s)
{
    size_t bytes = jc_host.size_of((void *)s) + jc_size_of(s->order) +
                   jc_size_of(s->by_id) + jc_idindex_bytes(&s->index) +
                   jc_size_of(s->seen);

    for (uint32_t i = 0; i < s->blocks; i++)
        bytes += jc_block_bytes(s->order[i]);
    for (unsigned col = 0; col < JC_FIELD_COUNT; col++)
        bytes += jc_dict_bytes(&s->dict[col]);
    return bytes;
}
