/* SPDX-License-Identifier: MIT */
#include "library.h"

/* Records asked together. A segment packs what it has beyond its open blocks,
 * which costs more than the whole question. */
#define TOGETHER (JC_HOT_BLOCKS * JC_BLOCK_FULL)

struct jc_question {
    struct jc_criteria criteria;
    struct jc_agg agg;
};

uint32_t jc_library_version(void)
{
    return JC_LIBRARY_VERSION;
}

struct jc_question *jc_question_new(void)
{
    struct jc_question *q = jc_host.alloc(sizeof(*q));

    memset(q, 0, sizeof(*q));
    jc_criteria_init(&q->criteria);
    return q;
}

void jc_question_free(struct jc_question *q)
{
    jc_criteria_free(&q->criteria);
    jc_agg_free(&q->agg);
    jc_host.free(q);
}

const char *jc_question_add(struct jc_question *q, const char *name,
                            uint32_t name_n, const char *value,
                            uint32_t value_n)
{
    bool ok = jc_criteria_add(&q->criteria, (struct jc_slice){name, name_n},
                              (struct jc_slice){value, value_n});

    return ok ? NULL : q->criteria.why;
}

const char *jc_question_done(struct jc_question *q)
{
    return jc_criteria_done(&q->criteria) ? NULL : q->criteria.why;
}

static bool set_key(struct jc_agg_key *key, const char *name)
{
    const struct jc_agg_key *k =
        jc_agg_key_of((struct jc_slice){name, (uint32_t)strlen(name)});

    if (k)
        *key = *k;
    return k != NULL;
}

bool jc_question_by(struct jc_question *q, const char *first,
                    const char *second)
{
    return set_key(&q->agg.key[0], first) &&
           (!*second || set_key(&q->agg.key[1], second));
}

int64_t jc_question_first_day(const struct jc_question *q)
{
    return jc_criteria_first_day(&q->criteria);
}

int64_t jc_question_last_day(const struct jc_question *q)
{
    return jc_criteria_last_day(&q->criteria);
}

uint64_t jc_question_limit(const struct jc_question *q)
{
    return q->criteria.limit;
}

/* ---- asking ---- */

/* A row without what no criterion and no sum looks at. */
static void lighten(struct jc_record *rec)
{
    rec->string[JC_FIELD_WORK_DIR] = (struct jc_slice){NULL, 0};
    rec->string[JC_FIELD_TRES_REQ] = (struct jc_slice){NULL, 0};
    rec->string[JC_FIELD_TRES_ALLOC] = (struct jc_slice){NULL, 0};
    rec->extra = (struct jc_slice){NULL, 0};
}

/* Those of s that match; the k-th is told as match[place[k]]. */
static int64_t ask_segment(struct jc_question *q, const struct jc_segment *s,
                           const uint32_t *place, uint8_t *match)
{
    struct jc_filter filter;
    uint64_t work = 0;
    int64_t found = 0;
    uint32_t at = 0;

    memset(&filter, 0, sizeof(filter));
    if (!jc_filter_bind(&filter, &q->criteria, s, &work)) {
        jc_filter_free(&filter);
        return 0;
    }
    for (uint32_t i = 0; i < s->blocks; i++) {
        const struct jc_block *b = s->order[i];
        uint8_t which[JC_BLOCK_ROWS];

        found += jc_filter_block(&filter, s, b, 0, which, &work, UINT64_MAX);
        for (uint32_t row = 0; row < b->rows; row++)
            match[place[at++]] = which[row];
        if (q->agg.key[0].by)
            jc_agg_block(&q->agg, s, b, which);
    }
    jc_filter_free(&filter);
    return found;
}

int64_t jc_question_ask(struct jc_question *q, int64_t day,
                        const uint8_t *data, const int64_t *offsets,
                        uint32_t n, uint8_t *match)
{
    static uint32_t place[TOGETHER];
    int64_t found = 0;
    uint32_t i = 0;

    while (i < n) {
        struct jc_segment *s = jc_segment_new(day);
        uint32_t rows = 0;

        for (; i < n && rows < TOGETHER; i++) {
            struct jc_record rec;
            bool wanted = match[i];

            match[i] = 0;
            if (!wanted)
                continue;
            if (jc_record_decode(&rec, data + offsets[i],
                                 (size_t)(offsets[i + 1] - offsets[i])) ||
                jc_day_of(rec.number[JC_FIELD_END].value) != day) {
                jc_segment_free(s);
                return -1 - (int64_t)i;
            }
            lighten(&rec);
            jc_segment_put(s, &rec, 0);
            place[rows++] = i;
            if (s->rows != rows || s->layout) { /* known, or out of order */
                jc_segment_free(s);
                return -1 - (int64_t)i;
            }
        }
        found += ask_segment(q, s, place, match);
        jc_segment_free(s);
    }
    return found;
}

/* ---- sums ---- */

static void write_key(struct mp_writer *w, struct jc_slice key)
{
    if (key.p)
        mp_write_str(w, key.p, key.n);
    else
        mp_write_nil(w);
}

static void write_wide(struct mp_writer *w, unsigned __int128 v)
{
    mp_write_uint(w, (uint64_t)(v >> 64));
    mp_write_uint(w, (uint64_t)v);
}

size_t jc_question_sums(const struct jc_question *q, uint8_t *out, size_t room)
{
    const struct jc_agg *a = &q->agg;
    struct mp_writer w;
    size_t bytes = 5;

    if (a->full)
        return SIZE_MAX;
    for (uint32_t id = 0; id < a->names.count; id++)
        bytes += (size_t)jc_agg_name(a, id, 0).n + jc_agg_name(a, id, 1).n +
                 2 * 5 + 7 * 9 + 1;
    if (bytes > room)
        return bytes;
    mp_writer_init(&w, out, room);
    mp_write_array(&w, a->names.count);
    for (uint32_t id = 0; id < a->names.count; id++) {
        const struct jc_agg_group *g = &a->group[id];

        mp_write_array(&w, 9);
        write_key(&w, jc_agg_name(a, id, 0));
        write_key(&w, jc_agg_name(a, id, 1));
        mp_write_uint(&w, g->jobs);
        write_wide(&w, g->node_seconds);
        write_wide(&w, g->cpu_seconds);
        mp_write_uint(&w, g->wait_seconds);
        mp_write_uint(&w, g->run_seconds);
    }
    return (size_t)(w.pos - out);
}
