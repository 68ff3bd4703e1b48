/* SPDX-License-Identifier: GPL-2.0-or-later */
/* The sender's thread: when it works, sleeps, spills and ends. */
#include <dirent.h>
#include <errno.h>
#include <limits.h>
#include <poll.h>
#include <sched.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/eventfd.h>
#include <time.h>
#include <unistd.h>

#include "resizes.h"
#include "ring_dir.h"
#include "sender_internal.h"

#define SCAN_MS 1000        /* between looks for orphans */
#define NAP_MS 2            /* while records come in */
#define NAPS_MS 20          /* after the last record, before longer naps */
#define LONG_NAP_MS 10      /* a look at the ring is cheaper here than a wake-up there */
#define AWAKE_MS 60000      /* after the last record, before a real sleep */
#define SPILL_AFTER_MS 1000 /* the daemon has taken no record this long */
#define SPILL_RETRY_MS 5000
#define STOP_DELIVER_MS 1000
#define STOP_WAIT_MS 2000

extern void sender_wake(struct sender *sender)
{
	static const uint64_t one = 1;

	/* the one system call of the hook, and only when the thread sleeps */
	if (atomic_load(&sender->sleeping) &&
	    atomic_exchange(&sender->sleeping, false))
		while ((write(sender->wake_fd, &one, sizeof(one)) < 0) &&
		       (errno == EINTR))
			;
}

static uint64_t _spill_bytes(const struct sender *sender)
{
	return (uint64_t) sender->config.params.spill_mib << 20;
}

/* ---- what others left ---- */

static bool _known(const struct sender *sender, const char *id)
{
	for (int i = 0; i < sender->source_count; i++) {
		const struct source *source = &sender->sources[i];

		if ((source->ring && !strcmp(source->ring->id, id)) ||
		    (source->spill && !strcmp(source->spill->id, id)))
			return true;
	}
	return false;
}

static void _add_source(struct sender *sender, struct ring *ring,
			struct spill *spill)
{
	struct source *source = &sender->sources[sender->source_count++];

	source_init(source, ring, spill);
	plog_info("adopted %s%s%s with what another process left",
		  ring ? ring->path : "", (ring && spill) ? " and " : "",
		  spill ? spill->path : "");
}

static struct spill *_own_spill(struct sender *sender, const char *id)
{
	char why[4400];
	struct spill *spill;

	if (!sender->config.state_dir[0])
		return NULL;
	spill = spill_open(sender->config.state_dir, id, false,
			   _spill_bytes(sender), why, sizeof(why));
	if (!spill && (errno != ENOENT))
		plog_error("%s", why);
	return spill;
}

static void _adopt_rings(struct sender *sender)
{
	while (sender->source_count < MAX_SOURCES) {
		struct ring *ring = ring_dir_adopt(
			sender->config.params.ring_dir,
			sender->config.state_dir, sender->config.cluster);

		if (!ring)
			return;
		_add_source(sender, ring, _own_spill(sender, ring->id));
	}
}

/* Spill files whose ring is gone (a reboot) or has been emptied. */
static void _adopt_spills(struct sender *sender)
{
	static const size_t prefix = sizeof(SPILL_PREFIX) - 1;
	static const size_t suffix = sizeof(SPILL_SUFFIX) - 1;
	DIR *dir = opendir(sender->config.state_dir);
	struct dirent *entry;

	while (dir && (entry = readdir(dir)) &&
	       (sender->source_count < MAX_SOURCES)) {
		size_t len = strlen(entry->d_name);
		char id[RING_ID_BYTES], why[4400];
		struct spill *spill;

		if ((len <= prefix + suffix) ||
		    (len - prefix - suffix >= sizeof(id)) ||
		    memcmp(entry->d_name, SPILL_PREFIX, prefix) ||
		    strcmp(entry->d_name + len - suffix, SPILL_SUFFIX))
			continue;
		snprintf(id, sizeof(id), "%.*s",
			 (int) (len - prefix - suffix), entry->d_name + prefix);
		if (_known(sender, id))
			continue;
		spill = spill_open(sender->config.state_dir, id, false,
				   _spill_bytes(sender), why, sizeof(why));
		if (!spill && (errno == EBADMSG)) /* what it held is lost */
			plog_error("%s", why);
		else if (!spill)
			plog_debug("%s", why);
		else if (spill->records)
			_add_source(sender, NULL, spill);
		else
			spill_close(spill);
	}
	if (dir)
		(void) closedir(dir);
}

/* Orphans that are empty and acknowledged go back to where they were. */
static void _release_sources(struct sender *sender)
{
	if (sender->request_count || sender->rewinding)
		return;
	for (int i = sender->source_count - 1; i > 0; i--) {
		if (!source_empty(&sender->sources[i]))
			continue;
		plog_debug("delivered what another process left");
		source_close(&sender->sources[i]);
		sender->sources[i] = sender->sources[--sender->source_count];
		memset(&sender->sources[sender->source_count], 0,
		       sizeof(sender->sources[0]));
		sender->current = 0;
		sender->send = source_first(&sender->sources[0]);
	}
}

/* ---- a daemon that stays away ---- */

static bool _may_spill(const struct sender *sender)
{
	return sender->config.state_dir[0] && _spill_bytes(sender);
}

/* In parts, each of which makes room in the ring as soon as it is on disk. */
static bool _spill_down_to(struct sender *sender, uint64_t keep)
{
	struct source *own = &sender->sources[0];
	uint64_t part = own->ring->size / 8, used = ring_used(own->ring);
	bool done;

	do {
		uint64_t rest = (used > keep + part) ? used - part : keep;

		done = source_spill(own, sender->config.state_dir,
				    _spill_bytes(sender), rest);
		/* less when the hook goes on, or a hole is in the way */
		used = rest;
	} while (done && (used > keep));
	return done;
}

static void _spill(struct sender *sender, uint64_t keep)
{
	struct source *own = &sender->sources[0];

	if (_spill_down_to(sender, keep)) {
		sender->spill_retry_ms = 0;
	} else {
		if (plog_allow(&sender->spill_limit, 60000))
			plog_error("can't spill records to %s: %s",
				   sender->config.state_dir,
				   errno ? strerror(errno) :
				   "the file is as large as spill_mib allows");
		sender->spill_retry_ms = plog_now_ms() + SPILL_RETRY_MS;
	}
	if (!sender->current)
		sender->send = source_first(own);
}

/* The daemon has taken no record for a while. */
static bool _silent(const struct sender *sender, int64_t now)
{
	return (now - sender->acked_ms >= SPILL_AFTER_MS) &&
	       (now - sender->connected_ms >= SPILL_AFTER_MS);
}

static void _spill_if_needed(struct sender *sender)
{
	struct ring *ring = sender->sources[0].ring;
	uint64_t used = ring_used(ring);
	int64_t now = plog_now_ms();
	bool silent;

	if ((used < ring->size / 2) || !_may_spill(sender) ||
	    (now < sender->spill_retry_ms))
		return;
	silent = _silent(sender, now);
	/* a daemon that takes records, but fewer than end, must not cost any */
	if (!silent && (used < ring->size - ring->size / 8))
		return;
	/* replies still to come would speak of places that are gone */
	if (sender->link != LINK_DOWN) {
		if (silent)
			delivery_down(sender,
				      "the daemon takes no records and the ring fills");
		else if (!sender->current)
			delivery_restart(sender);
	}
	_spill(sender, ring->size / 4);
}

/* The hook only counts; the log is ours. */
static void _log_drops(struct sender *sender)
{
	struct ring *ring = sender->sources[0].ring;
	uint64_t dropped = atomic_load(&ring->dropped);
	uint64_t n = dropped - sender->told_dropped;
	char ids[RING_DROPS_KEPT * 12] = "";
	int len = 0;

	if (!n || !plog_allow(&sender->drop_limit, 1000))
		return;
	for (uint64_t i = (n < RING_DROPS_KEPT) ? n : RING_DROPS_KEPT; i; i--)
		len += snprintf(ids + len, sizeof(ids) - (size_t) len, " %u",
				atomic_load(&ring->dropped_jobs[
					(dropped - i) % RING_DROPS_KEPT]));
	plog_error("ring full, %llu records dropped, the last of JobId%s",
		   (unsigned long long) n, ids);
	sender->told_dropped = dropped;
}

/* ---- the thread ---- */

static void _take_config(struct sender *sender)
{
	bool moved;

	pthread_mutex_lock(&sender->config_lock);
	if (!sender->config_changed) {
		pthread_mutex_unlock(&sender->config_lock);
		return;
	}
	moved = strcmp(sender->config.params.ingest_path,
		       sender->next_config.params.ingest_path);
	sender->config = sender->next_config;
	sender->config_changed = false;
	pthread_mutex_unlock(&sender->config_lock);
	if (moved) {
		if (sender->link != LINK_DOWN)
			delivery_down(sender, "JobCompLoc has changed");
		sender->retry_ms = 0;
	}
}

/*
 * Waits for a reply, for room in the socket, or timeout_ms. With may_sleep the
 * hook wakes us too; seen is how far it had come when we last looked.
 */
static void _wait(struct sender *sender, int timeout_ms, bool may_sleep,
		  uint64_t seen)
{
	struct ring *ring = sender->sources[0].ring;
	struct pollfd fds[2] = {
		{ .fd = sender->wake_fd, .events = POLLIN },
		{ .fd = sender->conn.fd, .events = POLLIN },
	};
	uint64_t count;

	if (sender->link == LINK_DOWN)
		fds[1].fd = -1;
	if (resp_pending(&sender->conn))
		fds[1].events |= POLLOUT;
	if (may_sleep) {
		atomic_store(&sender->sleeping, true);
		/* what came in before that store did not wake us */
		if ((atomic_load(&ring->head_pos) != seen) ||
		    atomic_load(&sender->stop))
			timeout_ms = 0;
	}
	(void) poll(fds, 2, timeout_ms);
	atomic_store(&sender->sleeping, false);
	if (fds[0].revents)
		(void) !read(sender->wake_fd, &count, sizeof(count));
}

static void _finish(struct sender *sender)
{
	int64_t until = plog_now_ms() + STOP_DELIVER_MS;

	while (!delivery_done(sender) && (plog_now_ms() < until)) {
		delivery_step(sender);
		if (sender->link == LINK_DOWN)
			break;
		_wait(sender, 10, false, 0);
	}
	if (sender->link != LINK_DOWN)
		resp_close(&sender->conn);
	sender->link = LINK_DOWN;
	sender->request_count = 0;
	/* tmpfs does not outlive the host, StateSaveLocation does */
	if (!source_empty(&sender->sources[0]) &&
	    ring_used(sender->sources[0].ring) && _may_spill(sender))
		_spill(sender, 0);
	_log_drops(sender);
	resizes_save(sender->config.state_dir);
	for (int i = 0; i < sender->source_count; i++)
		source_close(&sender->sources[i]);
	resp_fini(&sender->conn);
}

static void _free_sender(struct sender *sender)
{
	(void) close(sender->wake_fd);
	pthread_mutex_destroy(&sender->config_lock);
	pthread_mutex_destroy(&sender->done_lock);
	pthread_cond_destroy(&sender->done_cond);
	free(sender);
}

/*
 * How long to wait at most. As long as records come now and then the thread
 * looks for them by itself: a wake-up by the hook is a system call that takes
 * twenty times as long as everything else in it.
 */
static int _nap_ms(int64_t since_record_ms)
{
	if (since_record_ms < NAPS_MS)
		return NAP_MS;
	return (since_record_ms < AWAKE_MS) ? LONG_NAP_MS : INT_MAX;
}

static void *_thread(void *arg)
{
	static const struct sched_param no_priority;
	struct sender *sender = arg;
	struct ring *ring = sender->sources[0].ring;
	int64_t record_ms = plog_now_ms() - AWAKE_MS; /* the last one's time */
	uint64_t seen = 0;
	bool abandoned;

	/* a batch thread's wake-up takes no processor from slurmctld's threads */
	(void) sched_setscheduler(0, SCHED_BATCH, &no_priority);
	source_init(&sender->sources[0], ring, _own_spill(sender, ring->id));
	sender->send = source_first(&sender->sources[0]);
	sender->told_dropped = atomic_load(&ring->dropped);
	sender->progress_ms = sender->acked_ms = plog_now_ms();

	while (!atomic_load(&sender->stop)) {
		int64_t now = plog_now_ms();
		uint64_t head_pos = atomic_load(&ring->head_pos);
		int wait_ms, nap_ms;
		bool idle;

		_take_config(sender);
		if (now >= sender->scan_ms) {
			_release_sources(sender);
			_adopt_rings(sender);
			_adopt_spills(sender);
			sender->scan_ms = now + SCAN_MS;
		}
		_spill_if_needed(sender);
		delivery_step(sender);
		_log_drops(sender);
		resizes_save(sender->config.state_dir);

		if (head_pos != seen)
			record_ms = now;
		seen = head_pos;
		nap_ms = _nap_ms(now - record_ms);
		wait_ms = delivery_wait_ms(sender);
		idle = source_empty(&sender->sources[0]);
		_wait(sender, (wait_ms < nap_ms) ? wait_ms : nap_ms,
		      nap_ms == INT_MAX, head_pos);
		if (idle)
			sender->acked_ms = plog_now_ms();
	}
	_finish(sender);

	pthread_mutex_lock(&sender->done_lock);
	sender->done = true;
	abandoned = sender->abandoned;
	pthread_cond_signal(&sender->done_cond);
	pthread_mutex_unlock(&sender->done_lock);
	if (abandoned)
		_free_sender(sender);
	return NULL;
}

/* ---- for the glue ---- */

extern struct sender *sender_start(const struct sender_config *config,
				   struct ring *ring)
{
	struct sender *sender = calloc(1, sizeof(*sender));
	pthread_condattr_t attr;
	sigset_t all, before;
	int rc;

	if (!sender)
		return NULL;
	sender->wake_fd = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
	if (sender->wake_fd < 0) {
		free(sender);
		return NULL;
	}
	sender->config = *config;
	sender->sources[0].ring = ring;
	sender->source_count = 1;
	sender->batch_records = BATCH_RECORDS;
	sender->random = (uint32_t) plog_now_ms() ^ (uint32_t) getpid() ^ 1u;
	if (!sender->random)
		sender->random = 1;
	/* the longest reply is that to HELLO, a few hundred bytes */
	resp_init(&sender->conn, 65536);
	pthread_mutex_init(&sender->config_lock, NULL);
	pthread_mutex_init(&sender->done_lock, NULL);
	pthread_condattr_init(&attr);
	pthread_condattr_setclock(&attr, CLOCK_MONOTONIC);
	pthread_cond_init(&sender->done_cond, &attr);
	pthread_condattr_destroy(&attr);

	/* signals are slurmctld's business, none may land here */
	sigfillset(&all);
	pthread_sigmask(SIG_SETMASK, &all, &before);
	rc = pthread_create(&sender->thread, NULL, _thread, sender);
	pthread_sigmask(SIG_SETMASK, &before, NULL);
	if (rc) {
		plog_error("can't start the sender's thread: %s", strerror(rc));
		_free_sender(sender);
		return NULL;
	}
	(void) pthread_setname_np(sender->thread, "jobcomp_redis");
	return sender;
}

extern void sender_configure(struct sender *sender,
			     const struct sender_config *config)
{
	static const uint64_t one = 1;

	pthread_mutex_lock(&sender->config_lock);
	sender->next_config = *config;
	sender->config_changed = true;
	pthread_mutex_unlock(&sender->config_lock);
	(void) !write(sender->wake_fd, &one, sizeof(one));
}

extern bool sender_stop(struct sender *sender)
{
	static const uint64_t one = 1;
	struct timespec until;
	bool done;

	atomic_store(&sender->stop, true);
	(void) !write(sender->wake_fd, &one, sizeof(one));
	clock_gettime(CLOCK_MONOTONIC, &until);
	until.tv_sec += STOP_WAIT_MS / 1000;
	pthread_mutex_lock(&sender->done_lock);
	while (!sender->done &&
	       (pthread_cond_timedwait(&sender->done_cond, &sender->done_lock,
				       &until) != ETIMEDOUT))
		;
	done = sender->done;
	sender->abandoned = !done;
	pthread_mutex_unlock(&sender->done_lock);
	if (!done) {
		(void) pthread_detach(sender->thread);
		return false;
	}
	(void) pthread_join(sender->thread, NULL);
	_free_sender(sender);
	return true;
}
