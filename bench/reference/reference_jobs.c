/* SPDX-License-Identifier: MIT */
#include "reference_jobs.h"
#include "write_text.h"

#include <math.h>
#include <stdlib.h>

enum { STATE_COMPLETED = 3, STATE_CANCELLED = 4, STATE_FAILED = 5 };
enum { STATE_TIMEOUT = 6, STATE_NODE_FAIL = 7, STATE_OUT_OF_MEMORY = 11 };

#define NODES 3000
#define GROUPS 40
/* Of each hundred jobs the first twelve are one array: 12 % array tasks. */
#define ARRAY_EVERY 100
#define ARRAY_TASKS 12

/* What a random number is drawn for; each has a sequence of its own. */
enum stream {
    FOR_USER, FOR_NAME, FOR_NAME_SUFFIX, FOR_PARTITION, FOR_QOS, FOR_WAIT,
    FOR_RUN, FOR_RUN_2, FOR_STATE, FOR_NEVER, FOR_EXIT, FOR_NODES, FOR_NODE,
    FOR_CPUS, FOR_DIR, FOR_OWN_DIR, FOR_STD_OUT, FOR_PRIORITY, FOR_LIMIT,
};

static const char *const PARTITIONS[] = {"short", "normal", "long",
                                         "gpu",   "bigmem", "debug"};
static const char *const QOS[] = {"normal", "high", "low", "scavenger"};

/* splitmix64's finalizer: public-domain constants by Sebastiano Vigna. */
static uint64_t mix(uint64_t x)
{
    x += UINT64_C(0x9e3779b97f4a7c15);
    x = (x ^ (x >> 30)) * UINT64_C(0xbf58476d1ce4e5b9);
    x = (x ^ (x >> 27)) * UINT64_C(0x94d049bb133111eb);
    return x ^ (x >> 31);
}

static uint64_t draw(uint64_t seed, enum stream stream, uint64_t index)
{
    return mix(mix(seed + stream) ^ index);
}

/* Uniform in (0, 1). */
static double uniform(uint64_t seed, enum stream stream, uint64_t index)
{
    return ((double)(draw(seed, stream, index) >> 11) + 0.5) / 9007199254740992.0;
}

/* 0 to count - 1 with probability proportional to 1 / (rank + 1). */
static unsigned zipf(double u, unsigned count)
{
    double total = 0, sum = 0;

    for (unsigned i = 1; i <= count; i++)
        total += 1.0 / i;
    for (unsigned i = 1; i <= count; i++)
        if ((sum += 1.0 / i) >= u * total)
            return i - 1;
    return count - 1;
}

/* zipf() over the users from a table that is made once. */
static unsigned zipf_user(double u)
{
    static uint16_t user_at[4096];

    if (!user_at[4095])
        for (unsigned i = 0; i < 4096; i++)
            user_at[i] = (uint16_t)zipf((i + 0.5) / 4096, REFERENCE_USERS);
    return user_at[(unsigned)(u * 4096)];
}

static struct jc_slice text(const char *s)
{
    return (struct jc_slice){s, (uint32_t)strlen(s)};
}

static void number(struct reference_job *job, enum jc_field_position at,
                   uint64_t value)
{
    job->record.number[at] = (struct jc_number){value, true};
}

static int64_t submit_time(uint64_t jobs, uint64_t index)
{
    return REFERENCE_START +
           (int64_t)((double)index / (double)jobs * REFERENCE_DAYS * 86400);
}

static bool never_started(uint64_t seed, uint64_t index, unsigned state)
{
    return state == STATE_CANCELLED && uniform(seed, FOR_NEVER, index) < 1 / 3.;
}

static unsigned state_of(uint64_t seed, uint64_t index)
{
    double u = uniform(seed, FOR_STATE, index);

    if (u < .85)
        return STATE_COMPLETED;
    if (u < .94)
        return STATE_FAILED;
    if (u < .97)
        return STATE_CANCELLED;
    if (u < .99)
        return STATE_TIMEOUT;
    return u < .995 ? STATE_NODE_FAIL : STATE_OUT_OF_MEMORY;
}

/* Log-normal with a median of 20 minutes, at most two days, in seconds. */
static int64_t run_time(uint64_t seed, uint64_t index)
{
    double u = uniform(seed, FOR_RUN, index);
    double v = uniform(seed, FOR_RUN_2, index);
    double normal = sqrt(-2 * log(u)) * cos(6.283185307179586 * v);
    double seconds = 1200 * exp(1.5 * normal);

    return seconds > 172800 ? 172800 : (int64_t)seconds + 1;
}

static int64_t wait_time(uint64_t seed, uint64_t index)
{
    return (int64_t)(-600 * log(uniform(seed, FOR_WAIT, index)));
}

static void set_times(struct reference_job *job, uint64_t seed, uint64_t jobs,
                      uint64_t index, unsigned state)
{
    int64_t submit = submit_time(jobs, index);
    int64_t start = submit + wait_time(seed, index);
    bool never = never_started(seed, index, state);

    number(job, JC_FIELD_SUBMIT, (uint64_t)submit);
    number(job, JC_FIELD_ELIGIBLE, (uint64_t)submit);
    number(job, JC_FIELD_START, never ? 0 : (uint64_t)start);
    number(job, JC_FIELD_END,
           (uint64_t)(never ? start : start + run_time(seed, index)));
}

static void set_array(struct reference_job *job, uint64_t index)
{
    uint64_t task = index % ARRAY_EVERY;

    if (task >= ARRAY_TASKS)
        return;
    number(job, JC_FIELD_ARRAY_JOB_ID, REFERENCE_FIRST_JOB_ID + index - task);
    number(job, JC_FIELD_ARRAY_TASK_ID, task);
}

static void add_name(char *to, const char *kind, unsigned number, unsigned digits)
{
    add_string(&to, kind);
    add_number(&to, number, 10, digits);
}

static void set_owner(struct reference_job *job, uint64_t seed, uint64_t of)
{
    unsigned user = zipf_user(uniform(seed, FOR_USER, of));
    unsigned group = user % GROUPS;

    number(job, JC_FIELD_UID, REFERENCE_FIRST_UID + user);
    number(job, JC_FIELD_GID, REFERENCE_FIRST_GID + group);
    add_name(job->user, "user", user, 3);
    add_name(job->group, "grp", group, 2);
    add_name(job->account, "acct", group, 2);
    job->record.string[JC_FIELD_USER] = text(job->user);
    job->record.string[JC_FIELD_GROUP] = text(job->group);
    job->record.string[JC_FIELD_ACCOUNT] = text(job->account);
}

/* 50 names a user; one job in ten has a suffix of its own. */
static void set_name(struct reference_job *job, uint64_t seed, uint64_t of)
{
    unsigned user =
        (unsigned)job->record.number[JC_FIELD_UID].value - REFERENCE_FIRST_UID;
    unsigned which = (unsigned)(draw(seed, FOR_NAME, of) % 50);
    char *at = job->name;

    add_string(&at, "u");
    add_number(&at, user, 10, 3);
    add_string(&at, "_model_");
    add_number(&at, which, 10, 2);
    if (uniform(seed, FOR_NAME_SUFFIX, of) < .1) {
        add_string(&at, "_");
        add_number(&at, (unsigned)(mix(of) & 0xffffff), 16, 6);
    }
    job->record.string[JC_FIELD_NAME] = text(job->name);
}

static void set_queue(struct reference_job *job, uint64_t seed, uint64_t of)
{
    unsigned partition = zipf(uniform(seed, FOR_PARTITION, of), 6);
    unsigned qos = zipf(uniform(seed, FOR_QOS, of), 4);

    job->record.string[JC_FIELD_PARTITION] = text(PARTITIONS[partition]);
    job->record.string[JC_FIELD_QOS] = text(QOS[qos]);
    number(job, JC_FIELD_QOS_ID, qos + 1);
    number(job, JC_FIELD_PRIORITY, draw(seed, FOR_PRIORITY, of) % 100000);
    job->record.limit_kind = JC_LIMIT_MINUTES;
    job->record.time_limit =
        (uint32_t[]){60, 120, 240, 720, 1440, 2880}
            [draw(seed, FOR_LIMIT, of) % 6];
}

static void set_fate(struct reference_job *job, uint64_t seed, uint64_t index,
                     unsigned state)
{
    uint64_t status = 0;

    if (state == STATE_FAILED)
        status = (1 + draw(seed, FOR_EXIT, index) % 4) << 8;
    else if (state == STATE_OUT_OF_MEMORY)
        status = 125 << 8;
    else if (state == STATE_CANCELLED || state == STATE_TIMEOUT)
        status = 15;
    number(job, JC_FIELD_STATE, state);
    number(job, JC_FIELD_STATE_REASON, 0);
    number(job, JC_FIELD_EXIT_CODE, status);
    number(job, JC_FIELD_DERIVED_EXIT_CODE, status);
}

static unsigned node_count(uint64_t seed, uint64_t of)
{
    double u = uniform(seed, FOR_NODES, of);

    if (u < .80)
        return 1;
    if (u < .90)
        return 2;
    if (u < .96)
        return 4;
    return u < .99 ? 8 : 64;
}

/* count nodes in ascending runs of one to eight with gaps between them, in
 * Slurm's bracket form. */
static void write_nodes(char *out, uint64_t random, unsigned count)
{
    unsigned node = 1 + (unsigned)(random % (NODES - 2 * count));

    add_string(&out, count == 1 ? "n" : "n[");
    if (count == 1) {
        add_number(&out, node, 10, 4);
        return;
    }
    while (count) {
        unsigned run = 1 + (unsigned)(random = mix(random)) % 8;

        if (run > count)
            run = count;
        add_number(&out, node, 10, 4);
        if (run > 1) {
            add_string(&out, "-");
            add_number(&out, node + run - 1, 10, 4);
        }
        count -= run;
        node += run + 1; /* one node between two runs */
        add_string(&out, count ? "," : "]");
    }
}

static void write_tres(char *out, unsigned cpus, unsigned nodes)
{
    add_string(&out, "cpu=");
    add_number(&out, cpus, 10, 1);
    add_string(&out, ",mem=");
    add_number(&out, cpus * 4, 10, 1);
    add_string(&out, "G,node=");
    add_number(&out, nodes, 10, 1);
    add_string(&out, ",billing=");
    add_number(&out, cpus, 10, 1);
}

static void set_resources(struct reference_job *job, uint64_t seed,
                          uint64_t index, uint64_t of)
{
    unsigned nodes = node_count(seed, of);
    unsigned cpus =
        nodes * (1u << (unsigned)(draw(seed, FOR_CPUS, of) % 6));

    number(job, JC_FIELD_NODE_COUNT, nodes);
    number(job, JC_FIELD_CPU_COUNT, cpus);
    write_tres(job->tres, cpus, nodes);
    job->record.string[JC_FIELD_TRES_REQ] = text(job->tres);
    if (!job->record.number[JC_FIELD_START].value)
        return;
    write_nodes(job->nodes, draw(seed, FOR_NODE, index), nodes);
    job->record.string[JC_FIELD_NODES] = text(job->nodes);
    job->record.string[JC_FIELD_TRES_ALLOC] = text(job->tres);
}

/* 60 to 120 characters: 20 directories a user, 30 % in one of their own. */
static void set_work_dir(struct reference_job *job, uint64_t seed, uint64_t of)
{
    static const char FILL[] = "experiments/parameter_sweep/resolution_study/"
                               "checkpoints/stage";
    unsigned dir = (unsigned)(draw(seed, FOR_DIR, of) % 20);
    int fill = 10 + (int)(mix(dir + 31 * zipf_user(uniform(seed, FOR_USER, of))) %
                          (sizeof(FILL) - 11));
    char *at = job->work_dir;

    add_string(&at, "/lustre/projects/");
    add_string(&at, job->account);
    add_string(&at, "/");
    add_string(&at, job->user);
    add_string(&at, "/");
    add_bytes(&at, FILL, (size_t)fill);
    add_string(&at, "_");
    add_number(&at, dir, 10, 2);
    if (uniform(seed, FOR_OWN_DIR, of) < .3) {
        add_string(&at, "/run_");
        add_number(&at, (unsigned)mix(of), 16, 8);
    }
    while (at < job->work_dir + 60)
        add_string(&at, "x");
    job->record.string[JC_FIELD_WORK_DIR] = text(job->work_dir);
}

static void set_extra(struct reference_job *job, uint64_t seed, uint64_t of)
{
    bool has_std_out = uniform(seed, FOR_STD_OUT, of) < .5;
    struct mp_writer w;

    mp_writer_init(&w, job->extra, sizeof(job->extra));
    mp_write_map(&w, has_std_out ? 1 : 0);
    if (has_std_out) {
        char *at = job->std_out;

        add_string(&at, "logs/");
        add_string(&at, job->record.number[JC_FIELD_ARRAY_JOB_ID].known
                            ? "%A_%a" : "%x");
        add_string(&at, "-%j.out");
        mp_write_str(&w, "std_out", 7);
        mp_write_str(&w, job->std_out, strlen(job->std_out));
    }
    job->record.extra.p = (const char *)job->extra;
    job->record.extra.n = (uint32_t)(w.pos - job->extra);
}

void reference_job(struct reference_job *job, uint64_t seed, uint64_t jobs,
                   uint64_t index)
{
    /* the tasks of an array share all that their submission said */
    uint64_t task = index % ARRAY_EVERY;
    uint64_t of = task < ARRAY_TASKS ? index - task : index;
    unsigned state = state_of(seed, index);

    memset(&job->record, 0, sizeof(job->record));
    number(job, JC_FIELD_VERSION, JC_RECORD_VERSION);
    number(job, JC_FIELD_JOB_ID, REFERENCE_FIRST_JOB_ID + index);
    number(job, JC_FIELD_RESTART_COUNT, 0);
    job->record.string[JC_FIELD_CLUSTER] = text("cluster");
    set_array(job, index);
    set_times(job, seed, jobs, index, state);
    set_owner(job, seed, of);
    set_name(job, seed, of);
    set_queue(job, seed, of);
    set_fate(job, seed, index, state);
    set_resources(job, seed, index, of);
    set_work_dir(job, seed, of);
    set_extra(job, seed, of);
}

/* ---- order of completion ---- */

struct completion {
    int64_t end;
    uint64_t index;
};

static int by_end(const void *a, const void *b)
{
    const struct completion *x = a, *y = b;

    if (x->end != y->end)
        return x->end < y->end ? -1 : 1;
    return x->index < y->index ? -1 : x->index > y->index;
}

uint64_t *reference_order(uint64_t seed, uint64_t jobs)
{
    struct completion *all = malloc(jobs * sizeof(*all));
    uint64_t *order = malloc(jobs * sizeof(*order));

    if (!all || !order) {
        free(all);
        free(order);
        return NULL;
    }
    for (uint64_t i = 0; i < jobs; i++) {
        all[i].index = i;
        all[i].end = submit_time(jobs, i) + wait_time(seed, i);
        if (!never_started(seed, i, state_of(seed, i)))
            all[i].end += run_time(seed, i);
    }
    qsort(all, jobs, sizeof(*all), by_end);
    for (uint64_t i = 0; i < jobs; i++)
        order[i] = all[i].index;
    free(all);
    return order;
}
