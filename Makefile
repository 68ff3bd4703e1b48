# SPDX-License-Identifier: MIT
#
# `make demo` and `make test` install what they need (as root, on Debian 12),
# build, and run. A second run takes what the first one made.

BUILD   := build
STAMPS  := $(BUILD)/stamps
VENV    := .venv
PY      := $(VENV)/bin/python
CMAKE_B := $(BUILD)/cmake
JOBS    ?= $(shell nproc)
comma   := ,
PYTEST  ?= $(PY) -m pytest -q

# What the daemon's own environment says must not reach what we build or run.
unexport PYTHONPATH PYTHONHOME

.DEFAULT_GOAL := help

help:
	@echo 'make demo     run every program on one host and show jobs in sacct -c'
	@echo 'make test     all tests (TESTS=tests/e2e picks some)'
	@echo 'make test-package install the packages in fresh trees, run jobs there, upgrade, remove'
	@echo 'make test-parity  ask sacct -c and, over slurmdbd, sacct -X the same questions'
	@echo 'make test-accounting  slurmjc verify and export beside a real slurmdbd, and a federation'
	@echo 'make test-workflows  slurmjc wait and the recipes for workflow engines, with real jobs'
	@echo 'make test-matrix  both suites on two releases of Slurm and three servers'
	@echo 'make test-scale   faults of clusters, sentinels, replicas and two controllers, on Redis and on Valkey'
	@echo 'make test-servers  the tests of the module on other servers (SERVERS=names or paths)'
	@echo 'make test-import  import what jobcomp/filetxt and jobcomp/mysql wrote'
	@echo 'make test-faults  every fault; SEED=random MINUTES=10 for a random schedule'
	@echo 'make test-page  the status page in a browser; its pictures are then in build/page'
	@echo 'make check    formatting, lint, types, warnings, units, generated files'
	@echo 'make fuzz     fuzz what takes bytes from outside (TARGET=rdb picks one, SECONDS=600 each)'
	@echo 'make test-sanitizers  the tests of the C parts, with ASan, UBSan and TSan'
	@echo 'make bench    measure everything, 15 minutes (BENCH=hook picks one)'
	@echo 'make package  a wheel, .deb and .rpm packages in build/packages (PACKAGES=deb picks one)'
	@echo 'make plugin   build jobcomp_redis.so and slurm_jobcomp.so'
	@echo 'make setup    only install and prepare what the others need'
	@echo 'make clean    remove what was built; make distclean, the set-up as well'

# --- set-up -----------------------------------------------------------------

setup: $(STAMPS)/packages $(STAMPS)/slurm $(STAMPS)/redis $(STAMPS)/venv

$(STAMPS)/packages: scripts/packages.txt scripts/install-packages
	@mkdir -p $(@D)
	@scripts/install-packages
	@touch $@

# clang, which only the checks need.
$(STAMPS)/packages-check: scripts/packages-check.txt scripts/install-packages | $(STAMPS)/packages
	@scripts/install-packages $<
	@touch $@

# The browser and its driver, which only the tests of the status page need.
$(STAMPS)/packages-page: scripts/packages-page.txt scripts/install-packages | $(STAMPS)/packages
	@scripts/install-packages $<
	@touch $@

$(STAMPS)/venv-page: pyproject.toml | $(STAMPS)/venv
	@$(PY) -m pip install --quiet --disable-pip-version-check --editable '.[page]'
	@touch $@

# An upgraded slurmctld or redis-server wants the headers of its own version.
$(STAMPS)/slurm: $(wildcard /var/lib/dpkg/info/slurmctld.list)
$(STAMPS)/redis: $(wildcard /var/lib/dpkg/info/redis-server.list)

# SLURM_SOURCE may name another tree than the last time.
ifneq ($(SLURM_SOURCE),)
ifneq ($(realpath $(SLURM_SOURCE)),$(realpath $(BUILD)/deps/slurm))
$(STAMPS)/slurm: FORCE
endif
endif
FORCE:

$(STAMPS)/slurm: scripts/setup-slurm-tree scripts/fetch-source | $(STAMPS)/packages
	@scripts/setup-slurm-tree
	@touch $@

$(STAMPS)/redis: scripts/setup-redis-header scripts/fetch-source | $(STAMPS)/packages
	@scripts/setup-redis-header
	@touch $@

$(STAMPS)/venv: pyproject.toml scripts/setup-venv | $(STAMPS)/packages
	@scripts/setup-venv
	@touch $@

# --- build ------------------------------------------------------------------

$(STAMPS)/cmake: CMakeLists.txt $(STAMPS)/slurm $(STAMPS)/redis
	@cmake -S . -B $(CMAKE_B) -DCMAKE_INCLUDE_PATH=$(CURDIR)/$(BUILD)/deps/slurm \
		-DCMAKE_INSTALL_PREFIX=/usr -DBUILD_TESTING=ON >$(BUILD)/cmake.out 2>&1 || \
		{ cat $(BUILD)/cmake.out; exit 1; }
	@touch $@

plugin: $(STAMPS)/cmake
	@cmake --build $(CMAKE_B) -j $(JOBS) >$(BUILD)/compile.out 2>&1 || \
		{ cat $(BUILD)/compile.out; exit 1; }

# --- what people type -------------------------------------------------------

demo: setup plugin
	@$(PY) scripts/demo.py

# As many at a time as there are processors; the tests of one file one after the other.
TESTS ?= tests
test: setup plugin
	$(PYTEST) -n $(JOBS) --dist loadfile $(TESTS)

check: setup plugin sanitize sanitize-threads $(STAMPS)/packages-check
	@scripts/check

# The C parts once more, compiled with sanitizers; SANITIZE=thread is another.
SANITIZE   ?= address,undefined
SANITIZE_B := $(BUILD)/sanitize-$(subst $(comma),-,$(SANITIZE))
sanitize: $(STAMPS)/cmake
	@cmake -S . -B $(SANITIZE_B) -DCMAKE_INCLUDE_PATH=$(CURDIR)/$(BUILD)/deps/slurm \
		-DBUILD_TESTING=ON -DSANITIZE=$(SANITIZE) >$(SANITIZE_B).out 2>&1 && \
		cmake --build $(SANITIZE_B) -j $(JOBS) $(addprefix --target ,$(TARGETS)) >>$(SANITIZE_B).out 2>&1 || \
		{ cat $(SANITIZE_B).out; exit 1; }

# only the plugin and what calls it, for the check of its threads
sanitize-threads: $(STAMPS)/cmake
	@$(MAKE) --no-print-directory sanitize SANITIZE=thread TARGETS='jobcomp_redis driver'

# And once for what gcc -fanalyzer finds on the paths through them.
analyze: $(STAMPS)/cmake
	@cmake -S . -B $(BUILD)/analyze -DCMAKE_INCLUDE_PATH=$(CURDIR)/$(BUILD)/deps/slurm \
		-DCMAKE_C_COMPILER=gcc -DCMAKE_C_FLAGS=-fanalyzer >$(BUILD)/analyze.out 2>&1 && \
		cmake --build $(BUILD)/analyze -j $(JOBS) -- -k >>$(BUILD)/analyze.out 2>&1 || \
		{ cat $(BUILD)/analyze.out; exit 1; }

test-sanitizers: setup
	@$(MAKE) --no-print-directory sanitize SANITIZE=address,undefined
	@$(MAKE) --no-print-directory sanitize SANITIZE=thread
	@tests/fuzz/run-sanitized $(PYTEST)

SECONDS ?= 60
fuzz: setup plugin $(STAMPS)/packages-check
	@$(PY) tests/fuzz/run.py --seconds $(SECONDS) $(addprefix --target ,$(TARGET))

# all fault tests, or FAULTS=file,file; SEED=random MINUTES=10 makes a long random schedule of it
FAULTS ?= tests/faults
test-faults: setup plugin
	SLURMJCD_FAULTS=all $(if $(SEED),SEED=$(SEED)) $(if $(MINUTES),MINUTES=$(MINUTES)) \
		$(PYTEST) -s $(subst $(comma), ,$(FAULTS)) $(if $(MINUTES),-k test_random_schedule)

# installs what `make package` made in fresh trees, follows docs/install.md there, upgrades and removes it
test-package: package
	@scripts/install-packages scripts/packages-test-package.txt
	SLURMJCD_PACKAGES=all $(PYTEST) -s tests/package

# slurmjc wait, and the scripts of docs/workflows.md, with real jobs
.PHONY: test-workflows
test-workflows: setup plugin
	SLURMJCD_E2E=all $(PYTEST) tests/e2e/test_wait.py tests/e2e/test_workflows.py

test-parity: setup plugin
	@tests/parity/install-packages
	@$(PY) -m tests.parity

# jobs that Slurm's own jobcomp/filetxt and jobcomp/mysql (over a MariaDB) wrote down, imported
test-import: setup plugin
	@tests/parity/install-packages
	SLURMJCD_HISTORIES=all $(PYTEST) tests/histories

test-accounting: setup plugin
	@tests/parity/install-packages
	@$(PY) -m tests.accounting
	@$(PY) -m tests.federation

# the module's tests on other servers; scripts/tree-server runs one that another Debian has
SERVERS ?= redis-server
test-servers: setup plugin
	@for server in $(SERVERS); do \
		$$server --version && REDIS_SERVER=$$server $(PYTEST) tests/module || exit 1; done

# CELLS=24.11/valkey-8.1 picks some
test-matrix: setup plugin
	@scripts/install-packages scripts/packages-matrix.txt
	@tests/parity/install-packages
	@scripts/test-matrix $(CELLS)

# clusters of six servers, sentinels, replicas, two controllers: on Redis 7.0 and on Valkey 8.1
.PHONY: test-scale
test-scale: setup plugin
	@scripts/install-packages scripts/packages-matrix.txt
	@SUITES=scale scripts/test-matrix 22.05/redis-7.0 22.05/valkey-8.1

.PHONY: test-page
test-page: setup plugin $(STAMPS)/packages-page $(STAMPS)/venv-page
	SLURMJCD_PAGE=1 $(PYTEST) tests/page

BENCH ?= all
bench: setup plugin
	@scripts/install-packages bench/packages.txt || echo 'bench: peers that are missing will be left out' >&2
	@bench/run $(BENCH)

clean:
	rm -rf $(CMAKE_B) $(STAMPS)/cmake $(BUILD)/cmake.out $(BUILD)/compile.out dist

# build/packages: a wheel, .deb and .rpm packages; PACKAGES="wheel deb" picks some
package: setup plugin
	@scripts/install-packages scripts/packages-package.txt
	@packaging/build $(PACKAGES)

distclean: clean
	rm -rf $(BUILD) $(VENV)

.PHONY: help setup plugin demo test test-import test-package test-faults test-parity test-accounting test-servers test-matrix \
	check sanitize analyze sanitize-threads test-sanitizers fuzz bench package clean distclean
