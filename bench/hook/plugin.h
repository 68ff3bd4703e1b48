/* SPDX-License-Identifier: GPL-2.0-or-later */
/* A jobcomp plugin in the driver: loaded and started as slurmctld does it. */
#ifndef HOOK_PLUGIN_H
#define HOOK_PLUGIN_H

#include "slow.h"
#include "slurm_compat.h"

#define MAX_PLUGINS 8

struct plugin {
	const char *name;
	char *path;
	char *loc;
	char *params;
	void *handle;
	int (*set_location)(SET_LOCATION_ARGS);
#ifdef HAVE_RECORD_JOB_END
	int (*record)(job_record_t *job_ptr, uint32_t event);
#else
	int (*record)(job_record_t *job_ptr);
#endif
	uint32_t *ns; /* of each call */
	uint64_t calls;
	uint64_t failed;
	struct slow slow; /* with --why */
};

/* Ends the driver with a message. */
extern void driver_die(int status, const char *fmt, ...)
	__attribute__((noreturn, format(printf, 2, 3)));

/*
 * Some plugins have Slurm read its configuration, so there is one: as small as
 * it can be, in a file in conf_dir that is gone again at once.
 */
extern void driver_configure_slurm(const struct plugin *plugins,
				   int plugin_count, char *cluster,
				   char *state_dir, const char *conf_dir);

/* Opens the file and finds its functions; room for that many calls. */
extern void jobcomp_plugin_load(struct plugin *plugin, uint64_t calls);

/* init and set_location. */
extern void jobcomp_plugin_start(struct plugin *plugin);
extern int jobcomp_plugin_set_location(struct plugin *plugin, char *loc);

/* fini */
extern void jobcomp_plugin_unload(struct plugin *plugin);

#endif
