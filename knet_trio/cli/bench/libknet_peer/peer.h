/*
 * The libknet side of `knet-trio bench`: a program that uses libknet the way its manual pages say,
 * from one thread of its own. docs/bench.md describes the commands.
 *
 *   protocol.c  lines in, JSON lines out, numbers and payloads
 *   setup.c     handles, hosts and links
 *   work.c      what is measured: sources, sinks, echoes, streams
 *   main.c      the loop and the commands
 */
#ifndef PEER_H
#define PEER_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <libknet.h>

#define MOST_NODES 32
#define MOST_LINKS 1024
#define MOST_SINKS 64
#define MESSAGE_ROOM 65536
#define MOST_COLLECTED (1u << 20)

/* The channels of a node. */
enum { DATA, CONTROL, QUIET, CHANNELS };

/* protocol.c */

struct line {
	long id;
	const char *name;
	int count;
	char *names[32];
	char *values[32];
};

/* Split a command in place. */
void line_parse(struct line *line, char *text);
const char *line_text(const struct line *line, const char *name, const char *otherwise);
double line_number(const struct line *line, const char *name, double otherwise);

/* Answer command `id`: members is the inside of a JSON object, made as by printf. */
void answer(long id, const char *members, ...) __attribute__((format(printf, 2, 3)));
/* Answer that it failed and end the process. */
void fail(long id, const char *what) __attribute__((noreturn));

double now(void);
double cpu_seconds(void);
void payload_fill(unsigned char *payload, size_t size, const char *kind);
void put64(unsigned char *place, uint64_t value);
uint64_t get64(const unsigned char *place);

/* Count and CPU time at one moment. */
struct mark {
	double at;
	double cpu;
	uint64_t count;
};

/* What happened between two moments given beforehand. */
struct span {
	double begin;
	double end;
	int marks;
	struct mark mark[2];
};

void span_start(struct span *span, double begin, double end);
/* Take the marks that are due. */
void span_look(struct span *span, double at, uint64_t count);
/* "seconds": .., "rate": .., "cpu": .., into room. */
const char *span_text(const struct span *span, char *room, size_t size);

/* setup.c */

struct path {
	knet_node_id_t host;
	uint8_t link;
};

struct sink {
	bool on;
	size_t size;
	uint64_t received, bytes, wrong, step, reported;
	struct span span;
};

struct source {
	bool on, blocked, draining;
	long id;
	size_t size;
	uint64_t sent, lost, window;
	unsigned sinks, known;
	struct { uint64_t host, received; } credits[MOST_SINKS];
	double stop, moved_at, probed_at;
	struct span span;
	unsigned char payload[MESSAGE_ROOM];
};

struct stream {
	bool on;
	long id;
	size_t size;
	uint64_t sent, refused, total;
	double interval, first;
	unsigned char payload[MESSAGE_ROOM];
};

struct collect {
	bool on;
	uint64_t received, repeated, next;
	double last_at, pause, pause_at;
	unsigned char *seen;
	float *latencies;
};

struct node {
	knet_handle_t handle;
	long id;
	int fds[CHANNELS];
	struct path paths[MOST_LINKS];
	int links;
	double enabled_at;
	long up_id;
	bool up_waiting;
	double up_mtu;
	bool echo;
	struct sink sink;
	struct source source;
	struct stream stream;
	struct collect collect;
};

extern struct node *nodes[MOST_NODES];
extern int node_count;

struct node *node_of(const struct line *line);
void do_handle(const struct line *line);
void do_host(const struct line *line);
void do_link(const struct line *line);
void do_enable(const struct line *line);
void do_status(const struct line *line);
/* Answer `up` if it is asked for and so. */
void up_look(struct node *node);

/* work.c */

void do_sink(const struct line *line);
void do_sunk(const struct line *line);
void do_source(const struct line *line);
void do_roundtrip(const struct line *line);
void do_stream(const struct line *line);
void do_collect(const struct line *line);
void do_collected(const struct line *line);

/* Something can be read from a channel. */
void readable(struct node *node, int channel);
/* Do what is due now; seconds until something will be. */
double work(struct node *node);

#endif
