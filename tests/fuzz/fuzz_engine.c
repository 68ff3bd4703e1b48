/* SPDX-License-Identifier: MIT */
/*
 * A segment through a sequence of operations, beside an array that says what
 * it should hold.
 */
#include "jobs.h"
#include "rows.h"
#include "scan.h"

#define ROWS 256 /* runs the model has room for */

struct model_row {
    struct jc_record rec;
    uint8_t extra[64];
    uint64_t ttl;
};

static struct model_row model[ROWS];
static unsigned rows;

static struct model_row *find(const struct jc_record *rec)
{
    for (unsigned i = 0; i < rows; i++)
        if (same_run_of_job(&model[i].rec, rec))
            return &model[i];
    return NULL;
}

/* Never shortened; 0 is for ever. */
static uint64_t longer(uint64_t a, uint64_t b)
{
    return !a || !b ? 0 : a > b ? a : b;
}

static void put(struct jc_segment *s, struct input *in)
{
    uint8_t extra[64];
    uint64_t ttl = take_byte(in) % 4;
    struct jc_record rec = job_from(in, extra);
    struct model_row *row = find(&rec);
    enum jc_put want = JC_PUT_REPLACED;

    if (rows == ROWS)
        return;
    if (!row) {
        want = JC_PUT_NEW;
        row = &model[rows++];
        row->ttl = ttl;
    } else if (row->rec.number[JC_FIELD_END].value >
               rec.number[JC_FIELD_END].value) {
        want = JC_PUT_KNOWN; /* an earlier report changes nothing */
    } else {
        row->ttl = longer(row->ttl, ttl);
        if (same_job(&row->rec, &rec))
            want = JC_PUT_KNOWN;
    }
    if (want != JC_PUT_KNOWN) {
        row->rec = rec;
        memcpy(row->extra, extra, sizeof(extra));
        row->rec.extra.p = (char *)row->extra;
    }
    MUST(jc_segment_put(s, &rec, ttl) == want);
}

static void take_out(struct jc_segment *s, struct input *in)
{
    struct jc_place place;
    struct model_row *row;

    if (!rows)
        return;
    row = &model[take_byte(in) % rows];
    MUST(jc_segment_find_run(s, &row->rec, &place));
    jc_segment_remove(s, place);
    MUST(!jc_segment_find_run(s, &row->rec, &place));
    *row = model[--rows];
    row->rec.extra.p = (char *)row->extra;
}

static void get(const struct jc_segment *s, struct input *in)
{
    struct jc_place place;
    struct jc_record rec;
    uint64_t ttl;
    struct model_row *row;

    if (!rows)
        return;
    row = &model[take_byte(in) % rows];
    MUST(jc_segment_find_run(s, &row->rec, &place));
    jc_segment_get(s, place, &rec, &ttl);
    MUST(same_job(&rec, &row->rec));
    MUST(ttl == row->ttl);
}

/* The row at place is rec however it is read. */
static void read_row(struct jc_rows *r, const struct jc_segment *s,
                     struct jc_place place, const struct jc_record *rec)
{
    size_t n, room = jc_rows_at(r, s, place);
    uint8_t *out = malloc(room);
    struct jc_record got;

    MUST(out);
    n = jc_rows_write(r, place.row, out);
    MUST(n + sizeof(uint64_t) <= room);
    MUST(!jc_record_decode(&got, out, n));
    MUST(same_job(&got, rec));
    free(out);
}

/* Every row once and in order of completion, as much as is visible. */
static void walk(const struct jc_segment *s, uint64_t now)
{
    struct jc_record rec, before;
    struct jc_place place;
    static struct jc_rows many;
    struct jc_scan q;
    unsigned given = 0, visible = 0;
    uint64_t ttl;

    for (unsigned i = 0; i < rows; i++)
        visible += !model[i].ttl || model[i].rec.number[JC_FIELD_END].value +
                                            model[i].ttl > now;
    jc_rows_reset(&many);
    jc_scan_init(&q);
    MUST(jc_criteria_done(&q.criteria));
    jc_scan_start(&q);
    if (jc_scan_enter(&q, s)) {
        while (jc_scan_next(&q, s, now, UINT64_MAX, &place) == JC_STEP_ROW) {
            jc_segment_get(s, place, &rec, &ttl);
            MUST(find(&rec));
            read_row(&many, s, place, &find(&rec)->rec);
            if (given++)
                MUST(compare_jobs(&before, &rec) < 0);
            before = rec;
            /* the slices may not outlive the next block */
            before.string[JC_FIELD_CLUSTER] =
                find(&rec)->rec.string[JC_FIELD_CLUSTER];
        }
    }
    MUST(given == visible);
    jc_scan_free(&q);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    struct input in = {data, size};
    struct jc_segment *s = jc_segment_new(FUZZ_DAY);

    rows = 0;
    while (in.n) {
        switch (take_byte(&in) % 16) {
        case 0: case 1:
            take_out(s, &in);
            break;
        case 2: case 3:
            get(s, &in);
            break;
        case 4:
            jc_segment_seal(s);
            break;
        case 5:
            walk(s, (uint64_t)FUZZ_DAY * JC_DAY_SECONDS + take_byte(&in) % 24);
            break;
        default:
            put(s, &in);
        }
        MUST(s->rows == rows);
    }
    walk(s, 0);
    MUST(jc_segment_bytes(s) > 0);
    (void)jc_segment_expires(s);
    jc_segment_free(s);
    return 0;
}
