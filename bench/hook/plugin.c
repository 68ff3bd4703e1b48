/* SPDX-License-Identifier: GPL-2.0-or-later */
#include <dlfcn.h>
#include <errno.h>
#include <limits.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "plugin.h"

extern void driver_die(int status, const char *fmt, ...)
{
	va_list ap;

	va_start(ap, fmt);
	fputs("driver: ", stderr);
	vfprintf(stderr, fmt, ap);
	fputc('\n', stderr);
	va_end(ap);
	exit(status);
}

static void *_symbol(const struct plugin *plugin, const char *name)
{
	void *symbol = dlsym(plugin->handle, name);

	if (!symbol)
		driver_die(1, "%s has no %s", plugin->path, name);
	return symbol;
}

extern void jobcomp_plugin_load(struct plugin *plugin, uint64_t calls)
{
	const uint32_t *version;

	if (!plugin->path)
		driver_die(2, "--plugin %s=FILE is missing", plugin->name);
	if (!(plugin->handle = dlopen(plugin->path, RTLD_LAZY)))
		driver_die(1, "%s", dlerror());
	version = _symbol(plugin, "plugin_version");
	if (*version != SLURM_VERSION_NUMBER)
		driver_die(1, "%s is for Slurm %u.%02u.%u, this driver for "
		     SLURM_VERSION_STRING, plugin->path, *version >> 16,
		     *version >> 8 & 0xff, *version & 0xff);
	plugin->set_location = _symbol(plugin, "jobcomp_p_set_location");
#ifdef HAVE_RECORD_JOB_END
	plugin->record = _symbol(plugin, "jobcomp_p_record_job_end");
#else
	plugin->record = _symbol(plugin, "jobcomp_p_log_record");
#endif
	plugin->ns = calloc(calls ? calls : 1, sizeof(*plugin->ns));
	if (!plugin->ns)
		driver_die(1, "no memory for %llu calls", (unsigned long long) calls);
}

extern int jobcomp_plugin_set_location(struct plugin *plugin, char *loc)
{
	plugin->loc = slurm_conf.job_comp_loc = loc;
#if SLURM_VERSION_NUMBER < SLURM_VERSION_NUM(23, 2, 0)
	return plugin->set_location(loc);
#else
	return plugin->set_location();
#endif
}

extern void jobcomp_plugin_start(struct plugin *plugin)
{
	int (*plugin_init)(void) = _symbol(plugin, "init");

	slurm_conf.job_comp_loc = plugin->loc;
	slurm_conf.job_comp_params = plugin->params;
	if (plugin_init() != SLURM_SUCCESS)
		driver_die(1, "%s: init failed", plugin->path);
	if (jobcomp_plugin_set_location(plugin, plugin->loc) != SLURM_SUCCESS)
		driver_die(1, "%s: set_location failed", plugin->path);
}

extern void jobcomp_plugin_unload(struct plugin *plugin)
{
	FINI_TYPE (*plugin_fini)(void) = _symbol(plugin, "fini");

	(void) plugin_fini();
}

extern void driver_configure_slurm(const struct plugin *plugins,
				   int plugin_count, char *cluster,
				   char *state_dir, const char *conf_dir)
{
	char path[PATH_MAX], *plugin_dir, *slash;
	int fd;

	snprintf(path, sizeof(path), "%s/driver-slurm.conf-XXXXXX", conf_dir);
	fd = mkstemp(path);

	/* Slurm's own plugins lie where the ones under test do */
	plugin_dir = strdup(plugins[plugin_count - 1].path ?
			    plugins[plugin_count - 1].path : "");
	if ((slash = strrchr(plugin_dir, '/')))
		*slash = '\0';
	if ((fd < 0) ||
	    (dprintf(fd, "ClusterName=%s\nSlurmctldHost=localhost\n"
		     "SelectType=select/linear\nPluginDir=%s%s%s\n"
		     "NodeName=localhost\n", cluster, SLURM_PLUGINS,
		     *plugin_dir ? ":" : "", plugin_dir) < 0))
		driver_die(1, "can't write %s: %s", path, strerror(errno));
	(void) close(fd);
	free(plugin_dir);
	setenv("SLURM_CONF", path, 1);
	if (slurm_conf_init(path) != SLURM_SUCCESS)
		driver_die(1, "Slurm does not read %s", path);
	(void) unlink(path);
	slurm_conf.cluster_name = cluster;
	slurm_conf.state_save_location = state_dir;
}
