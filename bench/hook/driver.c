/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Calls the record hook of real jobcomp plugins without slurmctld: loads each
 * .so as slurmctld does, hands it the reference jobs and measures the call.
 * Also the oracle of the fault tests: after each call that returned success it
 * can write what was promised into a log that survives it.
 */
#include <errno.h>
#include <fcntl.h>
#include <getopt.h>
#include <limits.h>
#include <sched.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

#include "job_record.h"
#include "jobs.h"
#include "plugin.h"
#include "sha256.h"
#include "slow.h"

#define RECORD_ROOM ((size_t) 2 << 20)

static struct plugin plugins[MAX_PLUGINS];
static int plugin_count;
static uint64_t calls = 1000000, rounds = 10, rate, reference_count;
static uint64_t first_index;
static uint32_t id_offset;
static const char *log_path;
static double linger_s;
static const char *conf_dir = "/tmp";
static bool quiet_end, from_commands, by_completion, why;
static uint64_t *order; /* of completion */
static int cpu = -1;
static char *state_dir = (char *) "", *cluster = (char *) "bench";
static int log_fd = -1;

static const char usage[] =
"usage: driver --plugin NAME=FILE [option ...]\n"
"\n"
"Calls the record hook of jobcomp plugins with reference jobs and prints one\n"
"JSON object: per plugin the calls, those that failed, and p50, p99, p99.9 and\n"
"max of one call in microseconds. Several plugins take turns, round by round.\n"
"\n"
"  --plugin NAME=FILE   load FILE (jobcomp_*.so), call it NAME; may be repeated\n"
"  --loc NAME=TEXT      JobCompLoc of that plugin\n"
"  --params NAME=TEXT   JobCompParams of that plugin\n"
"  --state DIR          StateSaveLocation (default: none)\n"
"  --cluster NAME       ClusterName (default: bench)\n"
"  --conf-dir DIR       where a plugin finds its own files, such as\n"
"                       jobcomp.lua (default: /tmp)\n"
"  --calls N            calls per plugin (default 1000000)\n"
"  --rounds N           turns they are split into (default 10)\n"
"  --rate N             calls per second (default: as fast as it goes)\n"
"  --first N            index of the first reference job (default 0)\n"
"  --jobs N             size of the reference set (default: first + calls)\n"
"  --by-completion      jobs in the order in which they ended, as slurmctld\n"
"                       has them, instead of the order of submission\n"
"  --id-offset N        added to every job id (default 0)\n"
"  --cpu N              run the calling thread on that CPU only\n"
"  --log FILE           oracle: after each success append a line\n"
"                       '<n> <job id> <sha256 of the record>', O_DSYNC\n"
"  --linger S           seconds to wait behind the last call before fini\n"
"  --commands           take commands from standard input instead, one a line,\n"
"                       of the first plugin; each is answered with one line:\n"
"                       'call N' with '<calls so far> <failed so far>',\n"
"                       'times' with JSON, of the calls since the last 'times',\n"
"                       'location TEXT', 'fini', 'init' with 'ok'\n"
"  --why                tell of calls above 20 us whether the thread was switched\n"
"                       out or took a page fault, and what 500 multiplications\n"
"                       between the calls took (spin_...); costs time\n"
"  --no-fini            end with _exit, as a reconfigure ends slurmctld\n"
"\n"
"The record whose sum the log has is the one that is stored: reference users\n"
"and groups are unknown to the system, so no names are put in later.\n"
"Exit status: 0, also when calls failed (they are counted); 1 when a plugin\n"
"can't be loaded; 2 for wrong arguments.\n";

static int64_t _now_ns(void)
{
	struct timespec ts;

	clock_gettime(CLOCK_MONOTONIC, &ts);
	return (int64_t) ts.tv_sec * 1000000000 + ts.tv_nsec;
}

/* ---- calls ---- */

static void _log_promise(const struct plugin *plugin,
			 const job_record_t *job_ptr)
{
	static uint8_t *record;
	struct ring_rec_head head;
	char hex[65], line[128];
	int n;

	if (!record && !(record = malloc(RECORD_ROOM)))
		driver_die(1, "no memory");
	if (!job_record_encode(job_ptr, cluster, 0, record, RECORD_ROOM,
			       &head))
		driver_die(1, "JobId=%u does not fit a record", job_ptr->job_id);
	sha256_hex(record, head.len, hex);
	n = snprintf(line, sizeof(line), "%llu %u %s\n",
		     (unsigned long long) plugin->calls, job_ptr->job_id, hex);
	if (write(log_fd, line, (size_t) n) != n)
		driver_die(1, "can't write %s: %s", log_path, strerror(errno));
}

static void _call(struct plugin *plugin, struct hook_job *job, uint64_t index)
{
	struct slow_mark mark = { 0 };
	int64_t before, after;
	int rc;

	hook_job_fill(job, REFERENCE_SEED, reference_count,
		      order ? order[index] : index, id_offset, cluster);
	if (why)
		mark = slow_begin(&plugin->slow, plugin->calls);
	before = _now_ns();
#ifdef HAVE_RECORD_JOB_END
	rc = plugin->record(&job->job, 0);
#else
	rc = plugin->record(&job->job);
#endif
	after = _now_ns();
	if (why)
		slow_end(&plugin->slow, &mark, after - before);
	plugin->ns[plugin->calls++] = (uint32_t) (after - before);
	if (rc != SLURM_SUCCESS)
		plugin->failed++;
	else if (log_fd >= 0)
		_log_promise(plugin, &job->job);
}

/* Waits for the time of the next call, if there is a rate. */
static void _pace(int64_t start_ns, uint64_t done)
{
	struct timespec until;
	int64_t at;

	if (!rate)
		return;
	at = start_ns + (int64_t) (done * 1000000000.0 / rate);
	until.tv_sec = at / 1000000000;
	until.tv_nsec = at % 1000000000;
	while (clock_nanosleep(CLOCK_MONOTONIC, TIMER_ABSTIME, &until, NULL) ==
	       EINTR)
		;
}

static void _run(struct hook_job *job)
{
	uint64_t done = 0;

	for (uint64_t round = 0; round < rounds; round++) {
		uint64_t end = calls * (round + 1) / rounds;

		for (int i = 0; i < plugin_count; i++) {
			int64_t start = _now_ns();

			for (uint64_t k = done; k < end; k++) {
				_pace(start, k - done);
				_call(&plugins[i], job, first_index + k);
			}
		}
		done = end;
	}
}

/* ---- what came out ---- */

static int _by_value(const void *a, const void *b)
{
	uint32_t x = *(const uint32_t *) a, y = *(const uint32_t *) b;

	return (x > y) - (x < y);
}

/* Of n calls that are in order. */
static double _quantile_us(const uint32_t *ns, uint64_t n, double q)
{
	uint64_t i = (uint64_t) (q * (double) n);

	if (!n)
		return 0;
	return ns[(i < n) ? i : n - 1] / 1e3;
}

/* "p50_us": …, with a word before each key */
static void _print_times(const char *word, uint32_t *ns, uint64_t n)
{
	qsort(ns, n, sizeof(*ns), _by_value);
	printf(", \"%sp50_us\": %.3f, \"%sp99_us\": %.3f, "
	       "\"%sp999_us\": %.3f, \"%smax_us\": %.3f",
	       word, _quantile_us(ns, n, 0.5), word, _quantile_us(ns, n, 0.99),
	       word, _quantile_us(ns, n, 0.999), word, _quantile_us(ns, n, 1));
}

/* ---- commands ---- */

static void _obey(struct plugin *plugin, struct hook_job *job)
{
	static char line[PATH_MAX];
	unsigned long long n;
	uint64_t told = 0;

	while (fgets(line, sizeof(line), stdin)) {
		line[strcspn(line, "\n")] = '\0';
		if (sscanf(line, "call %llu", &n) == 1) {
			int64_t start = _now_ns();

			for (uint64_t k = 0; (k < n) && (plugin->calls < calls);
			     k++) {
				_pace(start, k);
				_call(plugin, job,
				      first_index + plugin->calls);
			}
			printf("%llu %llu\n",
			       (unsigned long long) plugin->calls,
			       (unsigned long long) plugin->failed);
		} else if (!strcmp(line, "times")) {
			n = plugin->calls - told;
			printf("{\"calls\": %llu", n);
			_print_times("", plugin->ns + told, n);
			puts("}");
			told = plugin->calls;
		} else if (!strncmp(line, "location ", 9)) {
			if (jobcomp_plugin_set_location(plugin, strdup(line + 9)) !=
			    SLURM_SUCCESS)
				driver_die(1, "set_location failed");
			puts("ok");
		} else if (!strcmp(line, "fini")) {
			jobcomp_plugin_unload(plugin);
			puts("ok");
		} else if (!strcmp(line, "init")) {
			jobcomp_plugin_start(plugin);
			puts("ok");
		} else {
			driver_die(2, "unknown command %s", line);
		}
		fflush(stdout);
	}
}

/* ---- the end ---- */

static void _report(void)
{
	/* Slurm's log flushes stdout: a line of it would come in between */
	flockfile(stdout);
	printf("{\"slurm\": \"%s\", \"plugins\": {", SLURM_VERSION_STRING);
	for (int i = 0; i < plugin_count; i++) {
		struct plugin *plugin = &plugins[i];
		struct slow *slow = &plugin->slow;

		printf("%s\"%s\": {\"calls\": %llu, \"failed\": %llu",
		       i ? ", " : "", plugin->name,
		       (unsigned long long) plugin->calls,
		       (unsigned long long) plugin->failed);
		_print_times("", plugin->ns, plugin->calls);
		if (why) {
			printf(", \"slow\": %llu, \"slow_switched\": %llu, "
			       "\"slow_faulted\": %llu, \"slow_spins\": %llu, "
			       "\"kept_max_us\": %.3f",
			       (unsigned long long) slow->calls,
			       (unsigned long long) slow->switched,
			       (unsigned long long) slow->faulted,
			       (unsigned long long) slow->spins,
			       slow->kept_max_ns / 1e3);
			_print_times("spin_", slow->spin_ns, plugin->calls);
		}
		printf("}");
	}
	printf("}}\n");
	fflush(stdout);
	funlockfile(stdout);
}

/* ---- arguments ---- */

static struct plugin *_named(char *argument, char **value)
{
	char *equals = strchr(argument, '=');

	if (!equals)
		driver_die(2, "%s is not of the form NAME=VALUE", argument);
	*equals = '\0';
	*value = equals + 1;
	for (int i = 0; i < plugin_count; i++)
		if (!strcmp(plugins[i].name, argument))
			return &plugins[i];
	if (plugin_count == MAX_PLUGINS)
		driver_die(2, "more than %d plugins", MAX_PLUGINS);
	plugins[plugin_count].name = argument;
	return &plugins[plugin_count++];
}

static uint64_t _number(const char *option, const char *text)
{
	char *end;
	unsigned long long n;

	errno = 0;
	n = strtoull(text, &end, 10);
	if (errno || *end || !*text || (*text == '-'))
		driver_die(2, "--%s %s is not a whole number", option, text);
	return n;
}

static void _arguments(int argc, char **argv)
{
	static const struct option options[] = {
		{ "plugin", required_argument, NULL, 'p' },
		{ "loc", required_argument, NULL, 'l' },
		{ "params", required_argument, NULL, 'a' },
		{ "state", required_argument, NULL, 's' },
		{ "cluster", required_argument, NULL, 'c' },
		{ "calls", required_argument, NULL, 'n' },
		{ "rounds", required_argument, NULL, 'r' },
		{ "rate", required_argument, NULL, 't' },
		{ "first", required_argument, NULL, 'f' },
		{ "jobs", required_argument, NULL, 'j' },
		{ "id-offset", required_argument, NULL, 'o' },
		{ "cpu", required_argument, NULL, 'u' },
		{ "log", required_argument, NULL, 'g' },
		{ "linger", required_argument, NULL, 'i' },
		{ "no-fini", no_argument, NULL, 'x' },
		{ "conf-dir", required_argument, NULL, 'd' },
		{ "commands", no_argument, NULL, 'm' },
		{ "by-completion", no_argument, NULL, 'b' },
		{ "why", no_argument, NULL, 'w' },
		{ "help", no_argument, NULL, 'h' },
		{ NULL, 0, NULL, 0 },
	};
	int opt, which;
	char *value;

	while ((opt = getopt_long(argc, argv, "h", options, &which)) != -1) {
		const char *name = options[which].name;

		switch (opt) {
		case 'p':
			_named(optarg, &value)->path = value;
			break;
		case 'l':
			_named(optarg, &value)->loc = value;
			break;
		case 'a':
			_named(optarg, &value)->params = value;
			break;
		case 's':
			state_dir = optarg;
			break;
		case 'c':
			cluster = optarg;
			break;
		case 'n':
			calls = _number(name, optarg);
			break;
		case 'r':
			rounds = _number(name, optarg);
			break;
		case 't':
			rate = _number(name, optarg);
			break;
		case 'f':
			first_index = _number(name, optarg);
			break;
		case 'j':
			reference_count = _number(name, optarg);
			break;
		case 'o':
			id_offset = (uint32_t) _number(name, optarg);
			break;
		case 'u':
			cpu = (int) _number(name, optarg);
			break;
		case 'g':
			log_path = optarg;
			break;
		case 'i':
			linger_s = strtod(optarg, NULL);
			break;
		case 'x':
			quiet_end = true;
			break;
		case 'd':
			conf_dir = optarg;
			break;
		case 'm':
			from_commands = true;
			break;
		case 'b':
			by_completion = true;
			break;
		case 'w':
			why = true;
			break;
		case 'h':
			fputs(usage, stdout);
			exit(0);
		default:
			fputs("driver: see --help\n", stderr);
			exit(2);
		}
	}
	if ((optind < argc) || !plugin_count || !rounds)
		driver_die(2, "at least one --plugin NAME=FILE and one round, see --help");
	if (log_path && (plugin_count > 1))
		driver_die(2, "--log is for one plugin");
	if (reference_count < first_index + calls)
		reference_count = first_index + calls;
}

static void _use_cpu(void)
{
	cpu_set_t set;

	if (cpu < 0)
		return;
	CPU_ZERO(&set);
	CPU_SET((unsigned) cpu, &set);
	if (sched_setaffinity(0, sizeof(set), &set))
		driver_die(1, "can't run on CPU %d: %s", cpu, strerror(errno));
}

int main(int argc, char **argv)
{
	log_options_t log_options = LOG_OPTS_STDERR_ONLY;
	static struct hook_job job;
	struct timespec linger;

	_arguments(argc, argv);
	if (by_completion &&
	    !(order = reference_order(REFERENCE_SEED, reference_count)))
		driver_die(1, "no memory for the order of %llu jobs",
			   (unsigned long long) reference_count);
	/* plugins ask by this name whether they are in slurmctld */
	log_init((char *) "slurmctld", log_options, 0, NULL);
	driver_configure_slurm(plugins, plugin_count, cluster, state_dir,
			       conf_dir);
	for (int i = 0; i < plugin_count; i++) {
		jobcomp_plugin_load(&plugins[i], calls);
		if (why)
			slow_init(&plugins[i].slow, calls);
		jobcomp_plugin_start(&plugins[i]);
	}
	if (log_path &&
	    ((log_fd = open(log_path, O_WRONLY | O_CREAT | O_APPEND | O_DSYNC |
			    O_CLOEXEC, 0600)) < 0))
		driver_die(1, "can't open %s: %s", log_path, strerror(errno));
	_use_cpu(); /* behind init: the plugin's threads run where they like */
	if (from_commands)
		_obey(&plugins[0], &job);
	else
		_run(&job);
	_report();
	linger.tv_sec = (time_t) linger_s;
	linger.tv_nsec = (long) ((linger_s - (double) linger.tv_sec) * 1e9);
	nanosleep(&linger, NULL);
	if (quiet_end)
		_exit(0);
	for (int i = 0; i < plugin_count; i++)
		jobcomp_plugin_unload(&plugins[i]);
	return 0;
}
