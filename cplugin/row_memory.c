/* SPDX-License-Identifier: GPL-2.0-or-later */
#include <stdatomic.h>
#include <sys/mman.h>

#include "row_memory.h"

#define FIRST_CHUNK ((size_t) 128 << 10)
#define LARGEST_CHUNK ((size_t) 32 << 20)
#define HUGE_PAGE ((size_t) 2 << 20)
#define SHARED_MAX 256 /* longer strings are hardly ever the same */

struct chunk {
	struct chunk *next;
	size_t size; /* of the whole mapping, from this header on */
};

/* Rows and questions that hold the chunks; at 0 they go. */
static _Atomic size_t holders;
static struct chunk *chunks;
static pthread_mutex_t chunks_lock = PTHREAD_MUTEX_INITIALIZER;

static void _let_go(void)
{
	struct chunk *chunk;

	if (atomic_fetch_sub(&holders, 1) != 1)
		return;
	slurm_mutex_lock(&chunks_lock);
	while (!atomic_load(&holders) && (chunk = chunks)) {
		chunks = chunk->next;
		(void) munmap(chunk, chunk->size);
	}
	slurm_mutex_unlock(&chunks_lock);
}

extern void row_memory_init(struct row_memory *memory)
{
	slurm_mutex_lock(&chunks_lock);
	atomic_fetch_add(&holders, 1);
	slurm_mutex_unlock(&chunks_lock);
	*memory = (struct row_memory) {
		.next_chunk = FIRST_CHUNK,
		.texts = xcalloc(ROW_TEXTS, sizeof(*memory->texts)),
	};
}

extern void row_memory_fini(struct row_memory *memory)
{
	xfree(memory->texts);
	memset(memory, 0, sizeof(*memory));
	_let_go();
}

/* The mapping's zeros are the rows' zeros. */
static void _new_chunk(struct row_memory *memory, size_t wanted)
{
	size_t size = memory->next_chunk;
	struct chunk *chunk;

	while (size < wanted + sizeof(*chunk))
		size *= 2;
	chunk = mmap(NULL, size, PROT_READ | PROT_WRITE,
		     MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
	if (chunk == MAP_FAILED)
		fatal("jobcomp/redis: no memory for the rows of the answer");
	if (size >= 2 * HUGE_PAGE)
		(void) madvise(chunk, size, MADV_HUGEPAGE);
	chunk->size = size;
	slurm_mutex_lock(&chunks_lock);
	chunk->next = chunks;
	chunks = chunk;
	slurm_mutex_unlock(&chunks_lock);
	memory->at = (char *) (chunk + 1);
	memory->end = (char *) chunk + size;
	if (memory->next_chunk < LARGEST_CHUNK)
		memory->next_chunk *= 2;
}

static char *_take(struct row_memory *memory, size_t n)
{
	char *at;

	if ((size_t) (memory->end - memory->at) < n)
		_new_chunk(memory, n);
	at = memory->at;
	memory->at += n;
	return at;
}

extern jobcomp_job_rec_t *row_alloc(struct row_memory *memory)
{
	size_t odd = (uintptr_t) memory->at % _Alignof(jobcomp_job_rec_t);

	if (odd && ((size_t) (memory->end - memory->at) > sizeof(void *)))
		memory->at += _Alignof(jobcomp_job_rec_t) - odd;
	else if (odd)
		memory->at = memory->end; /* too little, take a new chunk */
	atomic_fetch_add(&holders, 1);
	return (jobcomp_job_rec_t *) _take(memory, sizeof(jobcomp_job_rec_t));
}

extern void row_free(void *row)
{
	(void) row;
	_let_go();
}

static char *_copy(struct row_memory *memory, const char *bytes, size_t n)
{
	char *text = _take(memory, n + 1);

	memcpy(text, bytes, n);
	text[n] = '\0';
	return text;
}

/* Eight bytes at a time; it only has to spread. */
static uint32_t _hash(const char *bytes, size_t n)
{
	uint64_t hash = n, word;

	for (; n >= sizeof(word); n -= sizeof(word), bytes += sizeof(word)) {
		memcpy(&word, bytes, sizeof(word));
		hash = (hash ^ word) * 0x9e3779b97f4a7c15u;
		hash ^= hash >> 29;
	}
	word = 0;
	memcpy(&word, bytes, n);
	hash = (hash ^ word) * 0x9e3779b97f4a7c15u;
	return (uint32_t) (hash >> 32);
}

extern char *row_text(struct row_memory *memory, const char *bytes, size_t n)
{
	uint32_t hash;
	struct row_text *known;

	if (n > SHARED_MAX)
		return _copy(memory, bytes, n);
	hash = _hash(bytes, n);
	known = &memory->texts[hash & (ROW_TEXTS - 1)];
	if (known->text && (known->hash == hash) && (known->size == n) &&
	    !memcmp(known->text, bytes, n))
		return known->text;
	*known = (struct row_text) {
		.text = _copy(memory, bytes, n),
		.size = (uint32_t) n,
		.hash = hash,
	};
	return known->text;
}

extern char *row_time(struct row_memory *memory, time_t when)
{
	char text[32], *p = text + sizeof(text);
	uint64_t left = (uint64_t) when;

	do {
		*--p = (char) ('0' + left % 10);
	} while (left /= 10);
	p -= 3;
	memcpy(p, "uts", 3);
	return _copy(memory, p, (size_t) (text + sizeof(text) - p));
}
