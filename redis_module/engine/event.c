/* SPDX-License-Identifier: MIT */
#include "event.h"

#include "json.h"

#include <string.h>

/* As sacct calls them; flags before base states, see slurmjcd/slurm/states.py */
static const char *const state_name[] = {
    "PENDING", "RUNNING", "SUSPENDED", "COMPLETED", "CANCELLED", "FAILED",
    "TIMEOUT", "NODE_FAIL", "PREEMPTED", "BOOT_FAIL", "DEADLINE",
    "OUT_OF_MEMORY",
};
static const struct {
    uint32_t bit;
    const char *name;
} state_flag[] = {
    {UINT32_C(1) << 10, "REQUEUED"},     {UINT32_C(1) << 11, "REQUEUE_HOLD"},
    {UINT32_C(1) << 12, "SPECIAL_EXIT"}, {UINT32_C(1) << 13, "RESIZING"},
    {UINT32_C(1) << 19, "REVOKED"},      {UINT32_C(1) << 20, "REQUEUE_FED"},
};

#define COUNT(a) (sizeof(a) / sizeof(*(a)))

/* All keys, quotes, and values that are no string of the record: 13 numbers, a
 * state and an exit status. */
#define FIXED_MAX 512

/* A constant's bytes, the next ones of the text. */
#define PUT(p, text) ((char *)memcpy(p, text, sizeof(text) - 1) + \
                      sizeof(text) - 1)

static char *put_number(char *p, const struct jc_record *rec, unsigned field)
{
    const struct jc_number *v = &rec->number[field];

    return v->known ? jc_json_number(p, v->value) : PUT(p, "null");
}

static bool is_above_0(const struct jc_number *v)
{
    return v->known && v->value;
}

/* 100, 100_5 or 100+1, as in sacct */
static char *put_shown_id(char *p, const struct jc_record *rec)
{
    const struct jc_number *v = rec->number;

    if (is_above_0(&v[JC_FIELD_ARRAY_JOB_ID]) &&
        v[JC_FIELD_ARRAY_TASK_ID].known) {
        p = jc_json_number(p, v[JC_FIELD_ARRAY_JOB_ID].value);
        *p++ = '_';
        return jc_json_number(p, v[JC_FIELD_ARRAY_TASK_ID].value);
    }
    if (is_above_0(&v[JC_FIELD_HET_JOB_ID]) &&
        v[JC_FIELD_HET_JOB_OFFSET].known) {
        p = jc_json_number(p, v[JC_FIELD_HET_JOB_ID].value);
        *p++ = '+';
        return jc_json_number(p, v[JC_FIELD_HET_JOB_OFFSET].value);
    }
    return jc_json_number(p, v[JC_FIELD_JOB_ID].value);
}

static char *put_word(char *p, const char *word)
{
    size_t n = strlen(word);

    memcpy(p, word, n);
    return p + n;
}

static char *put_state(char *p, const struct jc_record *rec)
{
    uint64_t base = rec->number[JC_FIELD_STATE].value;

    if (rec->state_flags)
        for (size_t i = 0; i < COUNT(state_flag); i++)
            if (rec->state_flags & state_flag[i].bit)
                return put_word(p, state_flag[i].name);
    if (base >= COUNT(state_name))
        return jc_json_number(p, base);
    return put_word(p, state_name[base]);
}

/* code:signal of a wait status */
static char *put_exit(char *p, const struct jc_record *rec)
{
    const struct jc_number *v = &rec->number[JC_FIELD_EXIT_CODE];
    unsigned signal = v->value & 0x7f;

    if (!v->known)
        return PUT(p, "null");
    *p++ = '"';
    p = jc_json_number(p, signal ? 0 : v->value >> 8 & 0xff);
    *p++ = ':';
    p = jc_json_number(p, signal);
    *p++ = '"';
    return p;
}

static char *put_origin(char *p, const struct jc_event *ev)
{
    if (!ev->spool.n)
        return PUT(p, "null");
    *p++ = '"';
    memcpy(p, ev->spool.p, ev->spool.n);
    p += ev->spool.n;
    *p++ = '/';
    p = jc_json_number(p, ev->seq);
    *p++ = '"';
    return p;
}

size_t jc_event_max(const struct jc_event *ev)
{
    const struct jc_slice *s = ev->rec->string;
    size_t n = (size_t)s[JC_FIELD_CLUSTER].n + s[JC_FIELD_USER].n +
               s[JC_FIELD_ACCOUNT].n + s[JC_FIELD_PARTITION].n +
               s[JC_FIELD_NAME].n;

    return FIXED_MAX + ev->spool.n + n * JC_JSON_BYTE_MAX;
}

size_t jc_event_write(const struct jc_event *ev, char *out)
{
    const struct jc_record *rec = ev->rec;
    char *p = PUT(out, "{\"id\":");

    p = put_origin(p, ev);
    p = PUT(p, ",\"job\":\"");
    p = put_shown_id(p, rec);
    p = PUT(p, "\",\"job_id\":");
    p = put_number(p, rec, JC_FIELD_JOB_ID);
    p = PUT(p, ",\"cluster\":");
    p = jc_json_string(p, rec->string[JC_FIELD_CLUSTER]);
    p = PUT(p, ",\"uid\":");
    p = put_number(p, rec, JC_FIELD_UID);
    p = PUT(p, ",\"user\":");
    p = jc_json_string(p, rec->string[JC_FIELD_USER]);
    p = PUT(p, ",\"account\":");
    p = jc_json_string(p, rec->string[JC_FIELD_ACCOUNT]);
    p = PUT(p, ",\"partition\":");
    p = jc_json_string(p, rec->string[JC_FIELD_PARTITION]);
    p = PUT(p, ",\"name\":");
    p = jc_json_string(p, rec->string[JC_FIELD_NAME]);
    p = PUT(p, ",\"state\":\"");
    p = put_state(p, rec);
    p = PUT(p, "\",\"exit\":");
    p = put_exit(p, rec);
    p = PUT(p, ",\"submit\":");
    p = put_number(p, rec, JC_FIELD_SUBMIT);
    p = PUT(p, ",\"start\":");
    p = put_number(p, rec, JC_FIELD_START);
    p = PUT(p, ",\"end\":");
    p = put_number(p, rec, JC_FIELD_END);
    p = PUT(p, ",\"restarts\":");
    p = put_number(p, rec, JC_FIELD_RESTART_COUNT);
    if (ev->again)
        p = PUT(p, ",\"again\":true");
    *p++ = '}';
    return (size_t)(p - out);
}
