/* SPDX-License-Identifier: MIT */
/* How a record becomes a row of a segment. */
#include "segment_inside.h"

#include <string.h>

#define SEEN_MAX 65536 /* hashes of strings that came once; 256 KiB */

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
static bool seen_before(struct jc_segment *s, uint64_t hash)
{
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
                            unsigned col, struct jc_slice str, uint64_t hash)
{
    struct jc_dict *d = &s->dict[col];
    uint32_t id;

    if (!jc_column_has_heap(col))
        return jc_code_dict(jc_dict_add_hashed(d, str, hash));
    id = jc_dict_find_hashed(d, str, hash);
    if (id != JC_DICT_NONE)
        return jc_code_dict(id);
    if (seen_before(s, hash))
        return jc_code_dict(jc_dict_add_hashed(d, str, hash));
    return jc_block_add_string(b, str);
}

/* The codes of rec's strings. All hashes come first, so that the look-ups'
 * memory is on its way when they need it. */
static void string_codes(struct jc_segment *s, struct jc_block *b,
                         const struct jc_record *rec, uint64_t row[JC_COLS])
{
    struct jc_slice str[JC_FIELD_COUNT];
    uint64_t hash[JC_FIELD_COUNT];
    unsigned todo[JC_FIELD_COUNT], n = 0;

    for (unsigned col = 0; col < JC_FIELD_COUNT; col++) {
        struct jc_dict *d = &s->dict[col];

        if (!jc_column_is_string(col))
            continue;
        str[n] = string_of(rec, col);
        if (!str[n].p) {
            row[col] = 0;
        } else if (jc_dict_is_last(d, str[n])) {
            row[col] = jc_code_dict(d->last);
        } else {
            hash[n] = jc_dict_hash(str[n]);
            jc_dict_expect(d, hash[n]);
            todo[n++] = col;
        }
    }
    for (unsigned i = 0; i < n; i++)
        row[todo[i]] = string_code(s, b, todo[i], str[i], hash[i]);
}

/* ---- rows ---- */

static bool backward_seen;

bool jc_segment_backward_seen(void)
{
    return backward_seen;
}

void jc_segment_expect(const struct jc_segment *s, uint32_t job_id)
{
    jc_idindex_expect(&s->index, job_id);
}

/* Splits the full block at place at of the order, unless a row for its place
 * *pos can go into a new one behind it. The block for the row, which is open;
 * *pos is where in it. */
static struct jc_block *split(struct jc_segment *s, uint32_t at, uint32_t *pos)
{
    struct jc_block *b = s->order[at], *next = jc_segment_add_block(s, at + 1);
    uint32_t half = b->rows / 2;

    if (*pos == b->rows) { /* in order: leave b full */
        jc_segment_heat(s, next);
        *pos = 0;
        return next;
    }
    jc_segment_heat(s, b);
    jc_segment_heat(s, next);
    jc_segment_unindex(s, b);
    jc_block_split(b, half, next);
    jc_segment_index(s, b);
    jc_segment_index(s, next);
    if (*pos < half || !half)
        return b;
    *pos -= half;
    return next;
}

void jc_segment_merge_late(struct jc_segment *s, uint32_t at)
{
    struct jc_block *b = s->order[at], *next = NULL;

    s->sealed_bytes -= jc_block_bytes(b);
    s->late_blocks--;
    s->late_rows = 0;
    s->layout++;
    jc_block_open(b);
    if (b->rows > JC_BLOCK_ROWS - JC_LATE_MANY ||
        (b->heap.used >= JC_BLOCK_HEAP && b->rows > 1)) {
        next = jc_segment_add_block(s, at + 1);
        jc_segment_unindex(s, b);
        jc_block_split(b, b->rows / 2, next);
        jc_segment_index(s, b);
        jc_segment_index(s, next);
        jc_block_seal(next);
        s->sealed_bytes += jc_block_bytes(next);
    }
    jc_block_seal(b);
    s->sealed_bytes += jc_block_bytes(b);
}

/* Is it time to pack the late rows of b? Days that get rows here and there fill
 * many blocks at once, which are to be packed one by one. */
static bool late_is_due(const struct jc_segment *s, const struct jc_block *b)
{
    return b->late && (!jc_block_takes_late(b) ||
                       (b->late->rows >= JC_LATE_MANY &&
                        s->late_rows >= JC_LATE_PACE));
}

/* Puts the row that belongs before row pos of the sealed block beside it. */
static void insert_late(struct jc_segment *s, struct jc_block *b, uint32_t pos,
                        uint64_t row[JC_COLS], const struct jc_record *rec)
{
    s->sealed_bytes -= jc_block_bytes(b);
    s->late_blocks += !b->late;
    s->late_rows++;
    string_codes(s, b, rec, row);
    jc_block_insert(b, pos, row);
    s->sealed_bytes += jc_block_bytes(b);
}

/* Finds the block for a row and the place in it. */
static struct jc_block *place_for(struct jc_segment *s,
                                  const uint64_t row[JC_COLS], uint32_t *at,
                                  uint32_t *pos)
{
    struct jc_block *b;

    *at = s->blocks ? jc_segment_block_for(s, row) : 0;
    b = s->blocks ? s->order[*at] : jc_segment_add_block(s, 0);
    *pos = jc_segment_row_after(s, b, row);
    return b;
}

/* row has the numbers of rec and its cluster; the other strings follow. */
static void insert_row(struct jc_segment *s, uint64_t row[JC_COLS],
                       const struct jc_record *rec)
{
    uint32_t at, pos;
    struct jc_block *b = place_for(s, row, &at, &pos);
    bool last = at + 1 == s->blocks && pos == b->rows;

    if (late_is_due(s, b)) {
        jc_segment_merge_late(s, at);
        b = place_for(s, row, &at, &pos);
    }
    if (!last)
        s->layout++;
    if (b->sealed && !last && jc_block_takes_late(b)) {
        insert_late(s, b, pos, row, rec);
    } else {
        if (jc_block_full(b))
            b = split(s, at, &pos);
        jc_segment_heat(s, b);
        string_codes(s, b, rec, row);
        jc_block_insert(b, pos, row);
    }
    jc_segment_index_row(s, row, b->id);
    s->rows++;
    if (row[JC_FIELD_END] < row[JC_FIELD_START] ||
        row[JC_FIELD_END] < row[JC_FIELD_SUBMIT])
        s->backward = backward_seen = true;
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
            jc_compare_slices(string_of(&old, col), string_of(rec, col)))
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
        jc_segment_heat(s, b);
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

