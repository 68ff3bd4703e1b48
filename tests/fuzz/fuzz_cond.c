/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Bytes as the condition that sacct hands to the plugin: lists with and
 * without values, ids, ranges, times and flags of any kind. What becomes of it
 * are pairs of a known name and a value of bounded length, and the module's
 * own parser reads each of them, or says in a line of text why not: never of
 * ids, times before the year 10000, exit codes and ranges in order.
 */
#include "criteria.h"

#include "criteria_module.h"
#include "fuzz.h"

#ifdef HAVE_ARRAY_BITMAP
#include "src/common/bitstring.h"
#endif

#define LIST_MAX 9
#define MANY 0xa7
#define TIME_LAST 253402300799LL
#define NAMES "job|uid|gid|state|reason|account|cluster|partition|wckey|" \
	      "reservation|name|constraint|qos|qos_id|nodes_count|cpus_count|" \
	      "time_limit|exit|node|start|end"

/* What a user may have typed: names, numbers, lists, anything. */
static char *take_text(struct input *in)
{
	struct input text = take_until(in, 0);

	return xstrndup((const char *) text.p, (int) text.n);
}

static jc_list_t *take_strings(struct input *in)
{
	unsigned n = take_byte(in) % LIST_MAX;
	jc_list_t *list;

	if (!n && (take_byte(in) & 1))
		return NULL; /* as the empty one */
	list = list_create(xfree_ptr);
	while (n--)
		list_append(list, take_text(in));
	return list;
}

/* Small numbers, and those that Slurm gives a meaning. */
static uint32_t take_number(struct input *in)
{
	static const uint32_t special[] = { 0, 1, NO_VAL, INFINITE, NO_VAL - 1,
					    UINT32_MAX, 0x7fffffff };
	uint8_t kind = take_byte(in);

	if (kind < ARRAY_SIZE(special))
		return special[kind];
	return (kind & 1) ? take_u32(in) : kind;
}

static void free_step(void *object)
{
	slurm_selected_step_t *step = object;

#ifdef HAVE_ARRAY_BITMAP
	FREE_NULL_BITMAP(step->array_bitmap);
#endif
	xfree(step);
}

static slurm_selected_step_t *take_step(struct input *in)
{
	slurm_selected_step_t *step = xmalloc(sizeof(*step));
	uint8_t kind = take_byte(in);

	step->step_id.job_id = take_number(in);
	step->step_id.step_id = NO_VAL;
	step->step_id.step_het_comp = NO_VAL;
	step->array_task_id = (kind & 1) ? take_number(in) : NO_VAL;
	step->het_job_offset = (kind & 2) ? take_number(in) : NO_VAL;
#ifdef HAVE_ARRAY_BITMAP
	if (kind & 4) {
		step->array_bitmap = bit_alloc(1 + take_byte(in));
		for (unsigned n = take_byte(in) % 8; n; n--)
			bit_set(step->array_bitmap,
				take_byte(in) % bit_size(step->array_bitmap));
	}
#endif
	return step;
}

static jc_list_t *take_steps(struct input *in)
{
	unsigned n = take_byte(in) % LIST_MAX;
	/* beyond JOBS_BYTES, now and then */
	unsigned again = (n && take_byte(in) == MANY) ? 800 : 1;
	jc_list_t *list = list_create(free_step);
	struct input steps = *in;

	while (again--) {
		*in = steps;
		for (unsigned i = 0; i < n; i++)
			list_append(list, take_step(in));
	}
	return list;
}

static time_t take_time(struct input *in)
{
	switch (take_byte(in) % 4) {
	case 0:
		return 0;
	case 1:
		return (time_t) take_u32(in);
	case 2:
		return -(time_t) take_byte(in);
	default:
		return (time_t) take_u64(in);
	}
}

static void fill(slurmdb_job_cond_t *cond, struct input *in)
{
	jc_list_t **lists[] = {
		&cond->userid_list, &cond->groupid_list, &cond->state_list,
		&cond->reason_list, &cond->acct_list, &cond->cluster_list,
		&cond->partition_list, &cond->wckey_list, &cond->resv_list,
		&cond->jobname_list, &cond->constraint_list, &cond->qos_list,
		&cond->associd_list, &cond->resvid_list,
	};

	cond->flags = take_u32(in);
	cond->usage_start = take_time(in);
	cond->usage_end = take_time(in);
	cond->step_list = take_steps(in);
	cond->nodes_min = take_number(in);
	cond->nodes_max = take_number(in);
	cond->cpus_min = take_number(in);
	cond->cpus_max = take_number(in);
	cond->timelimit_min = take_number(in);
	cond->timelimit_max = take_number(in);
	cond->exitcode = (int32_t) take_number(in);
	if (take_byte(in) & 1)
		cond->used_nodes = take_text(in);
	while (in->n) {
		jc_list_t **list = lists[take_byte(in) % ARRAY_SIZE(lists)];

		FREE_NULL_LIST(*list);
		*list = take_strings(in);
	}
}

static bool is_known(const char *name)
{
	char *names = xstrdup(NAMES), *rest = NULL, *one;
	bool known = false;

	for (one = strtok_r(names, "|", &rest); one && !known;
	     one = strtok_r(NULL, "|", &rest))
		known = !strcmp(one, name);
	xfree(names);
	return known;
}

/* A value that the user typed, or a list of them. */
static bool is_text(const char *name)
{
	static const char *const ours[] = { "job", "start", "end", "exit",
					    "nodes_count", "cpus_count" };

	for (unsigned i = 0; i < ARRAY_SIZE(ours); i++)
		if (!strcmp(ours[i], name))
			return false;
	return true;
}

/* Of numbers only ranges can be, and times behind the year 9999. */
static bool is_wrong(const char *name, const slurmdb_job_cond_t *cond)
{
	if (!strcmp(name, "nodes_count"))
		return cond->nodes_min > cond->nodes_max;
	if (!strcmp(name, "cpus_count"))
		return cond->cpus_min > cond->cpus_max;
	if (!strcmp(name, "start"))
		return cond->usage_start > TIME_LAST;
	return !strcmp(name, "end") && (cond->usage_end > TIME_LAST);
}

static void check(const struct criteria *criteria,
		  const slurmdb_job_cond_t *cond)
{
	MUST(!(criteria->argc % 2) && (criteria->argc <= criteria->size));
	for (size_t i = 0; i < criteria->argc; i += 2) {
		const char *name = criteria->argv[i];
		const char *value = criteria->argv[i + 1];
		char why[400] = "";

		MUST(is_known(name) && value);
		/* no value is longer than all that was given */
		MUST(strlen(value) < (1 << 17));
		if (module_reads(name, value, why, sizeof(why)))
			continue;
		MUST(why[0]);
		for (const char *p = why; *p; p++)
			MUST(((unsigned char) *p >= ' ') && (*p != 0x7f));
		MUST(is_text(name) || is_wrong(name, cond));
	}
}

int LLVMFuzzerInitialize(int *argc, char ***argv)
{
	log_options_t quiet = LOG_OPTS_INITIALIZER;

	(void) argc;
	(void) argv;
	quiet.stderr_level = LOG_LEVEL_QUIET;
	log_init("fuzz", quiet, 0, NULL);
	return 0;
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	struct input in = { data, size };
	slurmdb_job_cond_t *cond = xmalloc(sizeof(*cond));
	struct criteria criteria;
	const char *refused;

	fill(cond, &in);
	refused = criteria_from_cond(&criteria, cond);
	if (refused)
		MUST(refused[0] && !criteria.argc);
	else
		check(&criteria, cond);
	criteria_free(&criteria);
	slurmdb_destroy_job_cond(cond);
	return 0;
}
