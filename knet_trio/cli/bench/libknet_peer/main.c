/* The loop and the commands. */
#define _GNU_SOURCE
#include "peer.h"

#include <poll.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

static void do_usage(const struct line *line)
{
	answer(line->id, "\"now\": %.6f, \"cpu\": %.6f", now(), cpu_seconds());
}

static void do_up(const struct line *line)
{
	struct node *node = node_of(line);

	node->up_id = line->id;
	node->up_mtu = line_number(line, "mtu", 0);
	node->up_waiting = true;
}

static void do_echo(const struct line *line)
{
	node_of(line)->echo = true;
	answer(line->id, "\"ok\": true");
}

static const struct {
	const char *name;
	void (*run)(const struct line *line);
} COMMANDS[] = {
	{"usage", do_usage},	   {"handle", do_handle}, {"host", do_host},
	{"link", do_link},	   {"enable", do_enable}, {"status", do_status},
	{"up", do_up},		   {"echo", do_echo},	  {"sink", do_sink},
	{"sunk", do_sunk},	   {"source", do_source}, {"roundtrip", do_roundtrip},
	{"stream", do_stream},	   {"collect", do_collect}, {"collected", do_collected},
};

static void obey(char *text)
{
	struct line line;

	line_parse(&line, text);
	for (size_t i = 0; i < sizeof(COMMANDS) / sizeof(COMMANDS[0]); i++) {
		if (!strcmp(COMMANDS[i].name, line.name)) {
			COMMANDS[i].run(&line);
			return;
		}
	}
	fail(line.id, "there is no such command");
}

/* Take what was written to stdin; whether there may be more. */
static bool read_commands(void)
{
	static char text[16384];
	static size_t filled;
	ssize_t size = read(STDIN_FILENO, text + filled, sizeof(text) - filled - 1);
	char *end;

	if (size <= 0)
		return false;
	filled += (size_t)size;
	text[filled] = '\0';
	while ((end = strchr(text, '\n'))) {
		size_t length = (size_t)(end - text) + 1;

		*end = '\0';
		obey(text);
		memmove(text, text + length, filled - length + 1);
		filled -= length;
	}
	return filled < sizeof(text) - 1;
}

int main(void)
{
	static struct pollfd fds[1 + MOST_NODES * CHANNELS];

	for (;;) {
		double wait = 1;
		struct timespec limit;
		nfds_t count = 1;

		for (int i = 0; i < node_count; i++) {
			double its = work(nodes[i]);

			wait = its < wait ? its : wait;
		}
		fds[0] = (struct pollfd){STDIN_FILENO, POLLIN, 0};
		for (int i = 0; i < node_count; i++) {
			bool blocked = nodes[i]->source.on && nodes[i]->source.blocked;

			for (int channel = 0; channel < CHANNELS; channel++)
				fds[count++] = (struct pollfd){
					nodes[i]->fds[channel],
					channel == DATA && blocked ? POLLIN | POLLOUT : POLLIN, 0};
		}
		wait = wait > 0 ? wait : 0;
		limit.tv_sec = (time_t)wait;
		limit.tv_nsec = (long)((wait - (double)limit.tv_sec) * 1e9);
		if (ppoll(fds, count, &limit, NULL) <= 0)
			continue;
		for (nfds_t i = 1; i < count; i++)
			if (fds[i].revents & POLLIN)
				readable(nodes[(i - 1) / CHANNELS], (int)((i - 1) % CHANNELS));
		if (fds[0].revents && !read_commands())
			break;
	}
	/* Freeing the handles takes seconds, by the threads' timers, and nothing is left to measure. */
	_exit(0);
}
