/* SPDX-License-Identifier: MIT */
/* The module's parser of one criterion, for a file that has Slurm's headers: both define the same short names. */
#ifndef SLURMJCD_FUZZ_CRITERIA_MODULE_H
#define SLURMJCD_FUZZ_CRITERIA_MODULE_H

#include <stdbool.h>
#include <stddef.h>

/* False with the reason in why. */
bool module_reads(const char *name, const char *value, char *why, size_t n);

#endif
