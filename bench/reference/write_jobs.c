/* SPDX-License-Identifier: MIT */
/*
 * Writes the reference jobs, in order of completion, to standard output:
 *
 *   write_jobs JOBS records            4-byte little-endian size, record; ...
 *   write_jobs JOBS put PREFIX BATCH   RESP: SLURMJC.PUT PREFIX RECORDS r ...
 *   write_jobs JOBS late PREFIX BATCH N
 *                                      the same for second runs of N of the
 *                                      jobs, which end here and there in time
 *   write_jobs JOBS set PREFIX         RESP: SET PREFIX:<jobid> <record>
 *   write_jobs JOBS upstream PREFIX    RESP: HSET of upstream's fields and SADD
 *                                      to its day index, per job
 *   write_jobs JOBS filetxt            the lines of jobcomp/filetxt
 *   write_jobs JOBS mysql              the rows of jobcomp/mysql's table, its
 *                                      columns in order, for LOAD DATA
 */
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <time.h>

#include "reference_jobs.h"

struct encoded {
    uint8_t bytes[4096];
    size_t size;
};

static void encode(struct encoded *out, const struct jc_record *rec)
{
    struct mp_writer w;

    mp_writer_init(&w, out->bytes, sizeof(out->bytes));
    jc_record_encode(&w, rec);
    if (w.full)
        abort();
    out->size = (size_t)(w.pos - out->bytes);
}

static void put_bulk(const void *bytes, size_t n)
{
    printf("$%zu\r\n", n);
    fwrite(bytes, 1, n, stdout);
    fputs("\r\n", stdout);
}

static void put_text(const char *s)
{
    put_bulk(s, strlen(s));
}

static void put_number(uint64_t v)
{
    char text[24];

    snprintf(text, sizeof(text), "%" PRIu64, v);
    put_text(text);
}

static uint64_t number(const struct reference_job *job,
                       enum jc_field_position at)
{
    return job->record.number[at].value;
}

static void write_record(const struct reference_job *job)
{
    struct encoded e;
    uint8_t size[4];

    encode(&e, &job->record);
    for (int i = 0; i < 4; i++)
        size[i] = (uint8_t)(e.size >> (8 * i));
    fwrite(size, 1, 4, stdout);
    fwrite(e.bytes, 1, e.size, stdout);
}

static void write_set(const struct reference_job *job, const char *prefix)
{
    struct encoded e;
    char key[128];

    snprintf(key, sizeof(key), "%s:%" PRIu64, prefix,
             number(job, JC_FIELD_JOB_ID));
    encode(&e, &job->record);
    fputs("*3\r\n", stdout);
    put_text("SET");
    put_text(key);
    put_bulk(e.bytes, e.size);
}

static void put_pair_number(const char *name, uint64_t v)
{
    put_text(name);
    put_number(v);
}

static void put_pair_string(const char *name, struct jc_slice s)
{
    put_text(name);
    put_bulk(s.p, s.n);
}

static void put_pair_status(const char *name, uint64_t status)
{
    char text[32];

    snprintf(text, sizeof(text), "%" PRIu64 ":%" PRIu64, status >> 8,
             status & 127);
    put_text(name);
    put_text(text);
}

/* What slurm-redis 0.1.3 stores for one job. */
static void write_upstream(const struct reference_job *job, const char *prefix)
{
    const struct jc_record *r = &job->record;
    bool ran = number(job, JC_FIELD_START) != 0;
    bool failed = number(job, JC_FIELD_EXIT_CODE) != 0;
    unsigned pairs = 22 + (ran ? 1 : 0) + (failed ? 2 : 0);
    uint64_t start = number(job, ran ? JC_FIELD_START : JC_FIELD_END);
    char key[128];

    snprintf(key, sizeof(key), "%s:%" PRIu64, prefix,
             number(job, JC_FIELD_JOB_ID));
    printf("*%u\r\n", 2 + 2 * pairs);
    put_text("HSET");
    put_text(key);
    put_pair_number("_abi", 0);
    put_pair_number("_tmf", 0);
    put_pair_number("JobID", number(job, JC_FIELD_JOB_ID));
    put_pair_string("Partition", r->string[JC_FIELD_PARTITION]);
    put_pair_number("Start", start);
    put_pair_number("End", number(job, JC_FIELD_END));
    put_pair_number("Elapsed", number(job, JC_FIELD_END) - start);
    put_pair_number("UID", number(job, JC_FIELD_UID));
    put_pair_string("User", r->string[JC_FIELD_USER]);
    put_pair_number("GID", number(job, JC_FIELD_GID));
    put_pair_string("Group", r->string[JC_FIELD_GROUP]);
    put_pair_number("NNodes", number(job, JC_FIELD_NODE_COUNT));
    put_pair_number("NCPUs", number(job, JC_FIELD_CPU_COUNT));
    if (ran)
        put_pair_string("NodeList", r->string[JC_FIELD_NODES]);
    put_pair_string("JobName", r->string[JC_FIELD_NAME]);
    put_pair_number("State", number(job, JC_FIELD_STATE));
    put_pair_number("TimeLimit", r->time_limit);
    put_pair_string("WorkDir", r->string[JC_FIELD_WORK_DIR]);
    put_pair_string("Account", r->string[JC_FIELD_ACCOUNT]);
    put_pair_string("QOS", r->string[JC_FIELD_QOS]);
    put_pair_string("Cluster", r->string[JC_FIELD_CLUSTER]);
    put_pair_number("Submit", number(job, JC_FIELD_SUBMIT));
    put_pair_number("Eligible", number(job, JC_FIELD_ELIGIBLE));
    if (failed) {
        put_pair_status("DerivedEC", number(job, JC_FIELD_DERIVED_EXIT_CODE));
        put_pair_status("EC", number(job, JC_FIELD_EXIT_CODE));
    }

    snprintf(key, sizeof(key), "%s:idx:end:%" PRIu64, prefix,
             number(job, JC_FIELD_END) / 86400);
    fputs("*3\r\n", stdout);
    put_text("SADD");
    put_text(key);
    put_number(number(job, JC_FIELD_JOB_ID));
}

static void print_time(const char *name, uint64_t epoch)
{
    time_t t = (time_t)epoch;
    struct tm tm;
    char text[32];

    gmtime_r(&t, &tm);
    strftime(text, sizeof(text), "%Y-%m-%dT%H:%M:%S", &tm);
    printf("%s=%s ", name, epoch ? text : "Unknown");
}

static void print_string(const char *name, struct jc_slice s)
{
    printf("%s=%.*s ", name, (int)s.n, s.p ? s.p : "");
}

static void write_filetxt(const struct reference_job *job)
{
    const struct jc_record *r = &job->record;
    static const char *const STATES[] = {
        [3] = "COMPLETED", [4] = "CANCELLED", [5] = "FAILED",
        [6] = "TIMEOUT", [7] = "NODE_FAIL", [11] = "OUT_OF_MEMORY"};
    uint64_t status = number(job, JC_FIELD_EXIT_CODE);

    printf("JobId=%" PRIu64 " UserId=%s(%" PRIu64 ") GroupId=%s(%" PRIu64 ") ",
           number(job, JC_FIELD_JOB_ID), job->user, number(job, JC_FIELD_UID),
           job->group, number(job, JC_FIELD_GID));
    print_string("Name", r->string[JC_FIELD_NAME]);
    printf("JobState=%s ", STATES[number(job, JC_FIELD_STATE)]);
    print_string("Partition", r->string[JC_FIELD_PARTITION]);
    printf("TimeLimit=%" PRIu32 " ", r->time_limit);
    print_time("StartTime", number(job, JC_FIELD_START));
    print_time("EndTime", number(job, JC_FIELD_END));
    print_string("NodeList", r->string[JC_FIELD_NODES]);
    printf("NodeCnt=%" PRIu64 " ProcCnt=%" PRIu64 " ",
           number(job, JC_FIELD_NODE_COUNT), number(job, JC_FIELD_CPU_COUNT));
    print_string("WorkDir", r->string[JC_FIELD_WORK_DIR]);
    fputs("ReservationName= ", stdout);
    print_string("Tres", r->string[JC_FIELD_TRES_REQ]);
    print_string("Account", r->string[JC_FIELD_ACCOUNT]);
    print_string("QOS", r->string[JC_FIELD_QOS]);
    fputs("WcKey= ", stdout);
    print_string("Cluster", r->string[JC_FIELD_CLUSTER]);
    print_time("SubmitTime", number(job, JC_FIELD_SUBMIT));
    print_time("EligibleTime", number(job, JC_FIELD_ELIGIBLE));
    printf("DerivedExitCode=%" PRIu64 ":%" PRIu64 " ExitCode=%" PRIu64
           ":%" PRIu64 " \n",
           status >> 8, status & 127, status >> 8, status & 127);
}

static void write_mysql(const struct reference_job *job)
{
    const struct jc_record *r = &job->record;
    struct jc_slice name = r->string[JC_FIELD_NAME],
                    partition = r->string[JC_FIELD_PARTITION],
                    nodes = r->string[JC_FIELD_NODES];

    printf("%" PRIu64 "\t%" PRIu64 "\t%s\t%" PRIu64 "\t%s\t%.*s\t%" PRIu64
           "\t%.*s\t%" PRIu32 "\t%" PRIu64 "\t%" PRIu64,
           number(job, JC_FIELD_JOB_ID), number(job, JC_FIELD_UID), job->user,
           number(job, JC_FIELD_GID), job->group, (int)name.n, name.p,
           number(job, JC_FIELD_STATE), (int)partition.n, partition.p,
           r->time_limit, number(job, JC_FIELD_START),
           number(job, JC_FIELD_END));
    /* nodes, their number, CPUs, and seven columns that are empty today */
    printf("\t%.*s\t%" PRIu64 "\t%" PRIu64 "\t\t\t\t%" PRIu64 "\t\t\t\n",
           nodes.p ? (int)nodes.n : 0, nodes.p ? nodes.p : "",
           number(job, JC_FIELD_NODE_COUNT), number(job, JC_FIELD_CPU_COUNT),
           number(job, JC_FIELD_CPU_COUNT));
}

/* Numbers 0 .. jobs - 1 in leaps, each once, are i * leap % jobs. */
static uint64_t leap_for(uint64_t jobs)
{
    uint64_t leap = (uint64_t)((double)jobs * 0.618) + 1;

    for (;; leap++) {
        uint64_t a = leap, b = jobs;

        while (b) {
            uint64_t rest = a % b;

            a = b;
            b = rest;
        }
        if (a == 1)
            return leap;
    }
}

/* n of the jobs in order of completion, or late ones. */
static void write_put(const uint64_t *order, uint64_t jobs, const char *prefix,
                      uint64_t batch, uint64_t n, bool late)
{
    static struct reference_job job;
    uint64_t leap = late ? leap_for(jobs) : 1;
    struct encoded e;

    for (uint64_t at = 0; at < n; at++) {
        if (at % batch == 0) {
            uint64_t left = n - at;

            printf("*%" PRIu64 "\r\n", 3 + (left < batch ? left : batch));
            put_text("SLURMJC.PUT");
            put_text(prefix);
            put_text("RECORDS");
        }
        reference_job(&job, REFERENCE_SEED, jobs, order[at * leap % jobs]);
        job.record.number[JC_FIELD_RESTART_COUNT].value += late;
        encode(&e, &job.record);
        put_bulk(e.bytes, e.size);
    }
}

int main(int argc, char **argv)
{
    static struct reference_job job;
    uint64_t jobs = argc > 2 ? strtoull(argv[1], NULL, 10) : 0;
    const char *form = argc > 2 ? argv[2] : "";
    const char *prefix = argc > 3 ? argv[3] : "job";
    uint64_t batch = argc > 4 ? strtoull(argv[4], NULL, 10) : 500;
    uint64_t late = argc > 5 ? strtoull(argv[5], NULL, 10) : jobs;
    uint64_t *order = jobs && batch ? reference_order(REFERENCE_SEED, jobs) : NULL;

    if (!order) {
        fprintf(stderr, "usage: write_jobs JOBS records|put|late|set|upstream|"
                        "filetxt|mysql [PREFIX [BATCH [N]]]\n");
        return 2;
    }
    if (!strcmp(form, "put") || !strcmp(form, "late")) {
        bool is_late = *form == 'l';

        write_put(order, jobs, prefix, batch, is_late ? late : jobs, is_late);
        jobs = 0;
    }
    for (uint64_t at = 0; at < jobs; at++) {
        reference_job(&job, REFERENCE_SEED, jobs, order[at]);
        if (!strcmp(form, "records"))
            write_record(&job);
        else if (!strcmp(form, "set"))
            write_set(&job, prefix);
        else if (!strcmp(form, "upstream"))
            write_upstream(&job, prefix);
        else if (!strcmp(form, "filetxt"))
            write_filetxt(&job);
        else if (!strcmp(form, "mysql"))
            write_mysql(&job);
        else {
            fprintf(stderr, "write_jobs: unknown form '%s', expected records, put, "
                            "late, set, upstream, filetxt or mysql\n", form);
            return 2;
        }
    }
    free(order);
    return ferror(stdout) ? 1 : 0;
}
