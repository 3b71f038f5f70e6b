/* Lines in, JSON lines out, numbers and payloads. */
#include "peer.h"

#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <time.h>

void line_parse(struct line *line, char *text)
{
	char *save = NULL;
	char *word = strtok_r(text, " \n", &save);

	memset(line, 0, sizeof(*line));
	line->id = word ? strtol(word, NULL, 10) : 0;
	word = strtok_r(NULL, " \n", &save);
	line->name = word ? word : "";
	while ((word = strtok_r(NULL, " \n", &save)) && line->count < 32) {
		char *equals = strchr(word, '=');

		if (!equals)
			fail(line->id, "an argument is not name=value");
		*equals = '\0';
		line->names[line->count] = word;
		line->values[line->count++] = equals + 1;
	}
}

const char *line_text(const struct line *line, const char *name, const char *otherwise)
{
	for (int i = 0; i < line->count; i++)
		if (!strcmp(line->names[i], name))
			return line->values[i];
	return otherwise;
}

double line_number(const struct line *line, const char *name, double otherwise)
{
	const char *text = line_text(line, name, NULL);

	return text ? strtod(text, NULL) : otherwise;
}

void answer(long id, const char *members, ...)
{
	va_list arguments;

	printf("{\"id\": %ld, ", id);
	va_start(arguments, members);
	vprintf(members, arguments);
	va_end(arguments);
	printf("}\n");
	fflush(stdout);
}

void fail(long id, const char *what)
{
	answer(id, "\"error\": \"%s\"", what);
	exit(1);
}

double now(void)
{
	struct timespec time;

	clock_gettime(CLOCK_MONOTONIC, &time);
	return (double)time.tv_sec + (double)time.tv_nsec * 1e-9;
}

double cpu_seconds(void)
{
	struct rusage used;

	getrusage(RUSAGE_SELF, &used);
	return (double)(used.ru_utime.tv_sec + used.ru_stime.tv_sec) +
	       (double)(used.ru_utime.tv_usec + used.ru_stime.tv_usec) * 1e-6;
}

/* The same numbers as the Python peer's `payload` makes. */
static uint32_t next_random(uint32_t *state)
{
	*state = *state * 1664525u + 1013904223u;
	return *state >> 24;
}

static const char *const WORDS[16] = {
	"node", "link", "\"status\": ", "0.125", "reachable", "token", "member", "{\"id\": ",
	"lost", "passive", "12845", "10.0.0.1", "true", "null", "quorum", "}, ",
};

void payload_fill(unsigned char *payload, size_t size, const char *kind)
{
	uint32_t state = 1;
	size_t filled = 0;

	if (!strcmp(kind, "text")) {
		while (filled < size) {
			const char *word = WORDS[next_random(&state) & 15];
			size_t length = strlen(word);

			if (length > size - filled)
				length = size - filled;
			memcpy(payload + filled, word, length);
			filled += length;
		}
		return;
	}
	while (filled < size)
		payload[filled++] = (unsigned char)next_random(&state);
}

void put64(unsigned char *place, uint64_t value)
{
	for (int i = 7; i >= 0; i--, value >>= 8)
		place[i] = (unsigned char)value;
}

uint64_t get64(const unsigned char *place)
{
	uint64_t value = 0;

	for (int i = 0; i < 8; i++)
		value = value << 8 | place[i];
	return value;
}

void span_start(struct span *span, double begin, double end)
{
	memset(span, 0, sizeof(*span));
	span->begin = begin;
	span->end = end;
}

void span_look(struct span *span, double at, uint64_t count)
{
	while (span->marks < 2 && at >= (span->marks ? span->end : span->begin))
		span->mark[span->marks++] = (struct mark){at, cpu_seconds(), count};
}

const char *span_text(const struct span *span, char *room, size_t size)
{
	double seconds = span->mark[1].at - span->mark[0].at;
	double count = (double)(span->mark[1].count - span->mark[0].count);

	if (span->marks < 2 || seconds <= 0)
		seconds = count = 0;
	snprintf(room, size, "\"seconds\": %.6f, \"count\": %.0f, \"cpu\": %.6f", seconds, count,
		 span->mark[1].cpu - span->mark[0].cpu);
	return room;
}
