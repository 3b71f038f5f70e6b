/* What is measured: sources, sinks, echoes, round trips, streams. */
#include "peer.h"

#include <errno.h>
#include <math.h>
#include <poll.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

/* Messages taken or sent before looking at anything else. */
#define BURST 128
/* Seconds without a credit after which what is out counts as lost. */
#define STALL 0.2
/* Seconds a source waits for its last messages to be acknowledged. */
#define DRAIN 0.6

static unsigned char room[MESSAGE_ROOM];

/* Credits: a kind, the host that says so, and how many messages it has got. */
enum { CREDIT = 'C', PROBE = 'P', CREDIT_SIZE = 17 };

static bool send_credit(struct node *node)
{
	unsigned char message[CREDIT_SIZE] = {CREDIT};

	put64(message + 1, (uint64_t)node->id);
	put64(message + 9, node->sink.received);
	return knet_send(node->handle, (char *)message, sizeof(message), CONTROL) > 0;
}

static void send_probe(struct node *node)
{
	unsigned char message[CREDIT_SIZE] = {PROBE};

	/* Refused or lost: there will be another. */
	(void)!knet_send(node->handle, (char *)message, sizeof(message), CONTROL);
}

void do_sink(const struct line *line)
{
	struct node *node = node_of(line);
	struct sink *sink = &node->sink;

	memset(sink, 0, sizeof(*sink));
	sink->on = true;
	sink->size = (size_t)line_number(line, "size", 0);
	sink->step = (uint64_t)line_number(line, "step", 1);
	span_start(&sink->span, line_number(line, "begin", 0), line_number(line, "end", 0));
	answer(line->id, "\"ok\": true");
}

void do_sunk(const struct line *line)
{
	struct sink *sink = &node_of(line)->sink;
	char text[256];

	sink->on = false;
	answer(line->id, "\"received\": %llu, \"wrong\": %llu, %s",
	       (unsigned long long)sink->received, (unsigned long long)sink->wrong,
	       span_text(&sink->span, text, sizeof(text)));
}

static void take_data(struct node *node)
{
	struct sink *sink = &node->sink;

	for (int i = 0; i < BURST; i++) {
		ssize_t size = knet_recv(node->handle, (char *)room, sizeof(room), DATA);

		if (size <= 0)
			return;
		if (node->echo) {
			(void)!knet_send(node->handle, (char *)room, (size_t)size, DATA);
			continue;
		}
		sink->received++;
		sink->wrong += (size_t)size != sink->size;
		if (sink->received - sink->reported >= sink->step && send_credit(node))
			sink->reported = sink->received;
	}
}

static uint64_t fewest_received(const struct source *source)
{
	uint64_t fewest = UINT64_MAX;

	if (source->known < source->sinks)
		return 0;
	for (unsigned i = 0; i < source->known; i++)
		if (source->credits[i].received < fewest)
			fewest = source->credits[i].received;
	return fewest;
}

static uint64_t in_flight(const struct source *source)
{
	uint64_t gone = fewest_received(source) + source->lost;

	return source->sent > gone ? source->sent - gone : 0;
}

static void take_credit(struct source *source, uint64_t host, uint64_t received)
{
	unsigned i = 0;

	while (i < source->known && source->credits[i].host != host)
		i++;
	if (i == MOST_SINKS)
		return;
	if (i == source->known)
		source->credits[source->known++].host = host;
	if (received > source->credits[i].received)
		source->moved_at = now();
	source->credits[i].received = received;
}

static void take_control(struct node *node)
{
	for (int i = 0; i < BURST; i++) {
		ssize_t size = knet_recv(node->handle, (char *)room, sizeof(room), CONTROL);

		if (size <= 0)
			return;
		if (size != CREDIT_SIZE)
			continue;
		if (room[0] == PROBE && node->sink.on && send_credit(node))
			node->sink.reported = node->sink.received;
		else if (room[0] == CREDIT && node->source.on)
			take_credit(&node->source, get64(room + 1), get64(room + 9));
	}
}

void do_source(const struct line *line)
{
	struct node *node = node_of(line);
	struct source *source = &node->source;

	memset(source, 0, sizeof(*source));
	source->on = true;
	source->id = line->id;
	source->size = (size_t)line_number(line, "size", 0);
	source->window = (uint64_t)line_number(line, "window", 1);
	source->sinks = (unsigned)line_number(line, "sinks", 1);
	source->stop = line_number(line, "stop", 0);
	source->moved_at = now();
	span_start(&source->span, line_number(line, "begin", 0), line_number(line, "end", 0));
	payload_fill(source->payload, source->size, line_text(line, "payload", "random"));
}

static void end_source(struct source *source)
{
	char text[256];

	source->on = false;
	answer(source->id, "\"sent\": %llu, \"given_up\": %llu, %s", (unsigned long long)source->sent,
	       (unsigned long long)source->lost, span_text(&source->span, text, sizeof(text)));
}

static double pump(struct node *node, double at)
{
	struct source *source = &node->source;

	if (at < source->stop) {
		uint64_t out = in_flight(source);

		source->blocked = false;
		for (int i = 0; i < BURST && out < source->window; i++, out++) {
			if (knet_send(node->handle, (char *)source->payload, source->size, DATA) <
			    0) {
				source->blocked = errno == EAGAIN;
				break;
			}
			source->sent++;
		}
		if (source->blocked)
			return 0.01;
		if (out < source->window)
			return 0;
	} else if (!source->draining) {
		source->draining = true;
		send_probe(node);
		source->probed_at = at;
	}
	if (source->draining &&
	    (in_flight(source) == 0 || at > source->stop + DRAIN)) {
		end_source(source);
		return 1;
	}
	if (at - source->moved_at > STALL && at - source->probed_at > STALL) {
		/* An earlier probe was answered, or not: what did not come by now is lost. */
		if (source->probed_at > source->moved_at && !source->draining)
			source->lost += in_flight(source);
		send_probe(node);
		source->probed_at = at;
	}
	return 0.02;
}

void do_roundtrip(const struct line *line)
{
	struct node *node = node_of(line);
	size_t size = (size_t)line_number(line, "size", 64), count = 0, most = 1u << 20;
	double *samples = calloc(most, sizeof(*samples));
	double cpu = cpu_seconds(), began = now(), until = began + line_number(line, "seconds", 1);
	unsigned long lost = 0;
	struct pollfd fd = {node->fds[DATA], POLLIN, 0};
	static unsigned char payload[MESSAGE_ROOM];

	if (!samples)
		fail(line->id, "no memory");
	payload_fill(payload, size, "random");
	for (double sent = began; sent < until && count < most; sent = now()) {
		(void)!knet_send(node->handle, (char *)payload, size, DATA);
		if (poll(&fd, 1, 1000) == 1 &&
		    knet_recv(node->handle, (char *)room, sizeof(room), DATA) == (ssize_t)size)
			samples[count++] = now() - sent;
		else
			lost++;
	}
	printf("{\"id\": %ld, \"lost\": %lu, \"seconds\": %.6f, \"cpu\": %.6f, \"samples_us\": [",
	       line->id, lost, now() - began, cpu_seconds() - cpu);
	for (size_t i = 0; i < count; i++)
		printf("%s%.1f", i ? "," : "", samples[i] * 1e6);
	printf("]}\n");
	fflush(stdout);
	free(samples);
}

void do_stream(const struct line *line)
{
	struct node *node = node_of(line);
	struct stream *stream = &node->stream;

	memset(stream, 0, sizeof(*stream));
	stream->on = true;
	stream->id = line->id;
	stream->size = (size_t)line_number(line, "size", 64);
	stream->interval = 1 / line_number(line, "rate", 100);
	stream->total = (uint64_t)(line_number(line, "seconds", 1) / stream->interval);
	stream->first = now();
	payload_fill(stream->payload, stream->size, "random");
}

static double stream_work(struct node *node, double at)
{
	struct stream *stream = &node->stream;
	double due = stream->first + (double)stream->sent * stream->interval;

	while (stream->sent < stream->total && due <= at) {
		put64(stream->payload, stream->sent);
		put64(stream->payload + 8, (uint64_t)(now() * 1e9));
		if (knet_send(node->handle, (char *)stream->payload, stream->size, QUIET) < 0) {
			stream->refused++;
			return 0.001;
		}
		due = stream->first + (double)++stream->sent * stream->interval;
	}
	if (stream->sent < stream->total)
		return due - at;
	stream->on = false;
	answer(stream->id, "\"sent\": %llu, \"refused\": %llu", (unsigned long long)stream->sent,
	       (unsigned long long)stream->refused);
	return 1;
}

void do_collect(const struct line *line)
{
	struct collect *collect = &node_of(line)->collect;

	memset(collect, 0, sizeof(*collect));
	collect->seen = calloc(MOST_COLLECTED, 1);
	collect->latencies = calloc(MOST_COLLECTED, sizeof(float));
	if (!collect->seen || !collect->latencies)
		fail(line->id, "no memory");
	collect->on = true;
	answer(line->id, "\"ok\": true");
}

static void take_quiet(struct node *node)
{
	struct collect *collect = &node->collect;

	for (int i = 0; i < BURST; i++) {
		ssize_t size = knet_recv(node->handle, (char *)room, sizeof(room), QUIET);
		uint64_t number;
		double at;

		if (size <= 0)
			return;
		if (!collect->on || size < 16)
			continue;
		at = now();
		number = get64(room);
		if (number >= MOST_COLLECTED || collect->seen[number]) {
			collect->repeated++;
			continue;
		}
		collect->seen[number] = 1;
		collect->latencies[collect->received] =
			(float)(at - (double)get64(room + 8) * 1e-9);
		if (collect->received++ && at - collect->last_at > collect->pause)
			collect->pause = at - collect->last_at;
		collect->last_at = at;
	}
}

void do_collected(const struct line *line)
{
	struct collect *collect = &node_of(line)->collect;

	collect->on = false;
	printf("{\"id\": %ld, \"received\": %llu, \"repeated\": %llu, \"pause\": %.6f, "
	       "\"latencies_us\": [",
	       line->id, (unsigned long long)collect->received,
	       (unsigned long long)collect->repeated, collect->pause);
	for (uint64_t i = 0; i < collect->received; i++)
		printf("%s%.1f", i ? "," : "", (double)collect->latencies[i] * 1e6);
	printf("]}\n");
	fflush(stdout);
	free(collect->seen);
	free(collect->latencies);
}

void readable(struct node *node, int channel)
{
	switch (channel) {
	case DATA:
		take_data(node);
		break;
	case CONTROL:
		take_control(node);
		break;
	default:
		take_quiet(node);
	}
}

double work(struct node *node)
{
	double at = now(), wait = 1;

	if (node->sink.on) {
		span_look(&node->sink.span, at, node->sink.received);
		wait = fmin(wait, 0.02);
	}
	if (node->stream.on)
		wait = fmin(wait, stream_work(node, at));
	if (node->source.on) {
		span_look(&node->source.span, at, node->source.sent);
		wait = fmin(wait, pump(node, at));
	}
	if (node->up_waiting) {
		up_look(node);
		wait = fmin(wait, 0.001);
	}
	return wait;
}
