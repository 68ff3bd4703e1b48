/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Encodes one job as the hook does. Reads lines from standard input, each the
 * name of a field of job_record_t (details.<name> for its details, qos for
 * qos_ptr->name), a blank, and a number in decimal or a string in hexadecimal.
 * Writes to standard output a line with the positions where the sender puts in
 * the user's and the group's name, and the record in hexadecimal.
 *
 * usage: encode_job CLUSTER NOW
 */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "job_record.h"

#define LINE_MAX_BYTES ((size_t) 8 << 20)

static job_record_t job = { .requid = INFINITE };
static jc_job_details_t details;
static slurmdb_qos_rec_t qos;

/* Name and place of every field that job_record_encode reads. */
#define NUMBER(field) { #field, sizeof(job.field), &job.field, NULL }
#define TEXT(field) { #field, 0, NULL, &job.field }
#define DETAIL_NUMBER(field) \
	{ "details." #field, sizeof(details.field), &details.field, NULL }
#define DETAIL_TEXT(field) { "details." #field, 0, NULL, &details.field }

static const struct {
	const char *name;
	size_t size;
	void *number;
	char **text;
} fields[] = {
	NUMBER(job_id), NUMBER(array_job_id), NUMBER(array_task_id),
	NUMBER(het_job_id), NUMBER(het_job_offset), NUMBER(user_id),
	NUMBER(group_id), NUMBER(qos_id), NUMBER(job_state),
	NUMBER(state_reason), NUMBER(exit_code), NUMBER(derived_ec),
	NUMBER(start_time), NUMBER(end_time), NUMBER(resize_time),
	NUMBER(time_limit), NUMBER(total_nodes), NUMBER(total_cpus),
	NUMBER(priority), NUMBER(restart_cnt), NUMBER(state_reason_prev_db),
	NUMBER(requid), NUMBER(tot_sus_time),
	TEXT(user_name), TEXT(name), TEXT(partition), TEXT(account),
	TEXT(wckey), TEXT(resv_name), TEXT(state_desc), TEXT(nodes),
	TEXT(tres_fmt_req_str), TEXT(tres_fmt_alloc_str), TEXT(comment),
	TEXT(admin_comment), TEXT(system_comment), TEXT(container),
	TEXT(licenses), TEXT(alloc_node), TEXT(mcs_label),
	DETAIL_NUMBER(submit_time), DETAIL_NUMBER(begin_time),
	DETAIL_NUMBER(min_nodes), DETAIL_NUMBER(min_cpus),
	DETAIL_NUMBER(num_tasks), DETAIL_NUMBER(ntasks_per_node),
	DETAIL_NUMBER(cpus_per_task),
	DETAIL_TEXT(work_dir), DETAIL_TEXT(features), DETAIL_TEXT(features_use),
	DETAIL_TEXT(std_in),
	DETAIL_TEXT(std_out), DETAIL_TEXT(std_err),
	DETAIL_TEXT(orig_dependency), DETAIL_TEXT(exc_nodes),
	DETAIL_TEXT(submit_line),
	{ "qos", 0, NULL, &qos.name },
};

static void _set_number(void *to, size_t size, const char *value)
{
	uint64_t number = strtoull(value, NULL, 10);

	memcpy(to, &number, size); /* little endian, as are all we test on */
}

static int _digit(char c)
{
	return (c <= '9') ? c - '0' : c - 'a' + 10;
}

static char *_unhex(const char *hex)
{
	size_t n = strlen(hex) / 2;
	char *text = calloc(1, n + 1);

	for (size_t i = 0; text && (i < n); i++)
		text[i] = (char) (_digit(hex[2 * i]) << 4 |
				  _digit(hex[2 * i + 1]));
	return text;
}

static void _set(const char *name, const char *value)
{
	for (size_t i = 0; i < sizeof(fields) / sizeof(*fields); i++) {
		if (strcmp(fields[i].name, name))
			continue;
		if (fields[i].number)
			_set_number(fields[i].number, fields[i].size, value);
		else
			*fields[i].text = _unhex(value);
		return;
	}
	fprintf(stderr, "encode_job: unknown field %s\n", name);
	exit(2);
}

int main(int argc, char **argv)
{
	static uint8_t record[2 << 20];
	static char line[LINE_MAX_BYTES];
	struct ring_rec_head head;

	if (argc != 3) {
		fputs("usage: encode_job CLUSTER NOW\n", stderr);
		return 2;
	}
	job.details = &details;
	job.qos_ptr = NULL;
	while (fgets(line, sizeof(line), stdin)) {
		char *value = strchr(line, ' ');

		line[strcspn(line, "\n")] = '\0';
		if (!value)
			return 2;
		*value++ = '\0';
		_set(line, value);
	}
	if (qos.name)
		job.qos_ptr = &qos;
	if (!job_record_encode(&job, argv[1], (time_t) atoll(argv[2]), record,
			       sizeof(record), &head))
		return 1;
	printf("%u %u ", head.user_at, head.group_at);
	for (uint32_t i = 0; i < head.len; i++)
		printf("%02x", record[i]);
	putchar('\n');
	return 0;
}
