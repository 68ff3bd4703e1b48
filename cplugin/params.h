/* SPDX-License-Identifier: GPL-2.0-or-later */
/* What slurm.conf says to the plugin: JobCompLoc and JobCompParams. */
#ifndef JOBCOMP_REDIS_PARAMS_H
#define JOBCOMP_REDIS_PARAMS_H

#include <stdbool.h>
#include <stdint.h>

#define PARAMS_DEFAULT_LOC "/run/slurmjcd"
#define PARAMS_DEFAULT_USER "slurmjcd"
#define PARAMS_PATH_BYTES 108 /* of sockaddr_un.sun_path */

/*
 * JobCompLoc is the directory with the daemon's sockets. JobCompParams is a
 * comma-separated list of
 *   ring_dir=PATH    directory of the ring, on tmpfs
 *   ring_mib=N       size of the ring, 1 to 1024 MiB, default 32
 *   spill_mib=N      most that is spilled to StateSaveLocation, 0 to 1048576
 *                    MiB (0: nothing is), default 1024
 *   timeout=N        seconds that sacct waits for the daemon, 1 to 3600,
 *                    default 10
 *   daemon_user=NAME user or uid that slurmjcd runs as, default slurmjcd; a
 *                    socket that neither it nor root listens on is not spoken
 *                    to
 *   store_script     put the job script into the record
 * Of an option that is there twice the last one counts, as in slurm.conf.
 */
struct params {
	char ingest_path[PARAMS_PATH_BYTES];
	char query_path[PARAMS_PATH_BYTES];
	char ring_dir[200]; /* "": choose one */
	char daemon_user[64];
	uint32_t ring_mib;
	uint32_t spill_mib;
	uint32_t timeout_s;
	bool store_script;
};

/*
 * Fills params. Whatever is wrong is logged, says what would be right, and
 * leaves that setting at its default; nothing is an error to the caller. NULL
 * stands for a line that slurm.conf does not have.
 */
extern void params_parse(struct params *params, const char *loc,
			 const char *options);

#endif
