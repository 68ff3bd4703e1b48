# SPDX-License-Identifier: MIT
#
# Sets SLURM_SOURCE_DIR, a configured source tree of Slurm, and
# SLURM_PLUGIN_DIR, the folder the installed Slurm loads plugins from.

find_path(SLURM_SOURCE_DIR src/slurmctld/slurmctld.h
    HINTS ${CMAKE_CURRENT_SOURCE_DIR}/build/deps/slurm
    DOC "configured Slurm source tree")
if(NOT SLURM_SOURCE_DIR)
    message(FATAL_ERROR
        "no Slurm source tree found: run scripts/setup-slurm-tree, or name one "
        "with -DCMAKE_INCLUDE_PATH=<configured slurm tree>")
endif()
if(NOT EXISTS ${SLURM_SOURCE_DIR}/slurm/slurm_version.h OR
   NOT EXISTS ${SLURM_SOURCE_DIR}/config.h)
    message(FATAL_ERROR
        "${SLURM_SOURCE_DIR} is not configured: run ./configure in it first")
endif()

# Any plugin that every Slurm has shows where plugins live. Debian calls the
# folder slurm-wlm, everyone else slurm.
if(NOT SLURM_PLUGIN_DIR)
    find_path(SLURM_PLUGIN_DIR jobcomp_filetxt.so
        HINTS ${CMAKE_INSTALL_FULL_LIBDIR} /usr/lib/${CMAKE_LIBRARY_ARCHITECTURE}
              /usr/lib64 /usr/lib /usr/local/lib
        PATH_SUFFIXES slurm-wlm slurm
        NO_DEFAULT_PATH
        DOC "folder that Slurm loads plugins from (PluginDir)")
endif()
if(NOT SLURM_PLUGIN_DIR)
    set(SLURM_PLUGIN_DIR ${CMAKE_INSTALL_FULL_LIBDIR}/slurm
        CACHE PATH "folder that Slurm loads plugins from (PluginDir)" FORCE)
    message(STATUS "no installed Slurm found, the plugin goes to ${SLURM_PLUGIN_DIR}")
endif()
