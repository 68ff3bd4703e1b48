/* SPDX-License-Identifier: MIT */
#include "library.h"

struct jc_runs {
    struct jc_dict names; /* of runs: cluster, numbers */
    uint64_t *end;        /* the latest, by id in names */
    uint32_t room;
};

/* What a run is known by, in front of its cluster's name. */
struct run {
    uint64_t submit, start;
    uint32_t job_id, restart_count;
    uint32_t has_cluster;
};

struct jc_runs *jc_runs_new(void)
{
    struct jc_runs *r = jc_host.alloc(sizeof(*r));

    memset(r, 0, sizeof(*r));
    return r;
}

void jc_runs_free(struct jc_runs *r)
{
    jc_dict_free(&r->names);
    if (r->end)
        jc_host.free(r->end);
    jc_host.free(r);
}

/* Reads a record; its run's name into *name, which is to be freed. */
static bool read_run(const uint8_t *data, size_t n, struct jc_slice *name,
                     uint64_t *end)
{
    struct jc_record rec;
    struct jc_slice cluster;
    struct run run;
    char *p;

    if (jc_record_decode(&rec, data, n))
        return false;
    cluster = rec.string[JC_FIELD_CLUSTER];
    memset(&run, 0, sizeof(run)); /* the bytes between its members too */
    run.submit = rec.number[JC_FIELD_SUBMIT].value;
    run.start = rec.number[JC_FIELD_START].value;
    run.job_id = (uint32_t)rec.number[JC_FIELD_JOB_ID].value;
    run.restart_count = (uint32_t)rec.number[JC_FIELD_RESTART_COUNT].value;
    run.has_cluster = cluster.p != NULL;
    p = jc_host.alloc(sizeof(run) + cluster.n);
    memcpy(p, &run, sizeof(run));
    if (cluster.n)
        memcpy(p + sizeof(run), cluster.p, cluster.n);
    *name = (struct jc_slice){p, (uint32_t)sizeof(run) + cluster.n};
    *end = rec.number[JC_FIELD_END].value;
    return true;
}

static void note(struct jc_runs *r, uint32_t id, uint64_t end)
{
    if (id >= r->room) {
        uint32_t room = r->room ? r->room * 2 : 1024;

        r->end = jc_host.resize(r->end, room * sizeof(*r->end));
        memset(r->end + r->room, 0, (room - r->room) * sizeof(*r->end));
        r->room = room;
    }
    if (end > r->end[id])
        r->end[id] = end;
}

int64_t jc_runs_add(struct jc_runs *r, const uint8_t *data,
                    const int64_t *offsets, uint32_t n)
{
    for (uint32_t i = 0; i < n; i++) {
        struct jc_slice name;
        uint64_t end;
        uint32_t id;

        if (!read_run(data + offsets[i], (size_t)(offsets[i + 1] - offsets[i]),
                      &name, &end))
            return i;
        id = jc_dict_crowded(&r->names) ? JC_DICT_NONE
                                        : jc_dict_add(&r->names, name);
        jc_host.free((char *)name.p);
        if (id == JC_DICT_NONE)
            return i;
        note(r, id, end);
    }
    return -1;
}

int64_t jc_runs_beaten(const struct jc_runs *r, const uint8_t *data,
                       const int64_t *offsets, uint32_t n, bool ties,
                       uint8_t *beaten)
{
    int64_t found = 0;

    for (uint32_t i = 0; i < n; i++) {
        struct jc_slice name;
        uint64_t end;
        uint32_t id;

        if (!read_run(data + offsets[i], (size_t)(offsets[i + 1] - offsets[i]),
                      &name, &end))
            return -1 - (int64_t)i;
        id = jc_dict_find(&r->names, name);
        jc_host.free((char *)name.p);
        beaten[i] = id != JC_DICT_NONE &&
                    (r->end[id] > end || (ties && r->end[id] == end));
        found += beaten[i];
    }
    return found;
}
