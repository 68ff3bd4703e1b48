/* SPDX-License-Identifier: GPL-2.0-or-later */
#include <stdlib.h>
#include <sys/resource.h>
#include <time.h>

#include "plugin.h"
#include "slow.h"

static volatile uint64_t spun; /* keeps the spin from being left out */

static int64_t _spin(void)
{
	struct timespec before, after;
	uint64_t x = spun | 1;

	clock_gettime(CLOCK_MONOTONIC, &before);
	for (uint64_t i = 0; i < SPIN_TURNS; i++)
		x = x * 6364136223846793005u + 1; /* each waits for the last */
	spun = x;
	clock_gettime(CLOCK_MONOTONIC, &after);
	return (int64_t) (after.tv_sec - before.tv_sec) * 1000000000 +
	       after.tv_nsec - before.tv_nsec;
}

extern void slow_init(struct slow *slow, uint64_t calls)
{
	if (!(slow->spin_ns = calloc(calls ? calls : 1,
				     sizeof(*slow->spin_ns))))
		driver_die(1, "no memory for %llu spins",
			   (unsigned long long) calls);
}

static struct slow_mark _mark(void)
{
	struct rusage usage = { 0 };

	(void) getrusage(RUSAGE_THREAD, &usage);
	return (struct slow_mark) {
		.switched = usage.ru_nivcsw + usage.ru_nvcsw,
		.faulted = usage.ru_minflt + usage.ru_majflt,
	};
}

extern struct slow_mark slow_begin(struct slow *slow, uint64_t n)
{
	slow->spin_ns[n] = (uint32_t) _spin();
	slow->spins += slow->spin_ns[n] > SLOW_NS;
	return _mark();
}

extern void slow_end(struct slow *slow, const struct slow_mark *mark,
		     int64_t ns)
{
	struct slow_mark now;

	if ((ns <= SLOW_NS) && (ns <= slow->kept_max_ns))
		return;
	now = _mark();
	if ((now.switched == mark->switched) && (ns > slow->kept_max_ns))
		slow->kept_max_ns = (uint32_t) ns;
	if (ns <= SLOW_NS)
		return;
	slow->calls++;
	slow->switched += now.switched != mark->switched;
	slow->faulted += now.faulted != mark->faulted;
}
