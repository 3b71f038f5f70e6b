/* Handles, hosts and links. */
#include "peer.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

struct node *nodes[MOST_NODES];
int node_count;

struct node *node_of(const struct line *line)
{
	long id = (long)line_number(line, "handle", 1);

	for (int i = 0; i < node_count; i++)
		if (nodes[i]->id == id)
			return nodes[i];
	fail(line->id, "there is no such handle");
}

static void must(const struct line *line, int result, const char *what)
{
	char text[256];

	if (!result)
		return;
	snprintf(text, sizeof(text), "%s: %s", what, strerror(errno));
	fail(line->id, text);
}

static void on_socket(void *data, int fd, int8_t channel, uint8_t tx_rx, int error, int number)
{
	/* The manual wants it set; the bench closes no socket while a handle lives. */
	(void)data, (void)fd, (void)channel, (void)tx_rx, (void)error, (void)number;
}

static void set_crypto(const struct line *line, knet_handle_t handle)
{
	struct knet_handle_crypto_cfg config;
	const char *hex = line_text(line, "key", "");
	unsigned byte;

	memset(&config, 0, sizeof(config));
	snprintf(config.crypto_model, sizeof(config.crypto_model), "openssl");
	snprintf(config.crypto_cipher_type, sizeof(config.crypto_cipher_type), "%s",
		 line_text(line, "cipher", "none"));
	snprintf(config.crypto_hash_type, sizeof(config.crypto_hash_type), "%s",
		 line_text(line, "hash", "none"));
	while (config.private_key_len < sizeof(config.private_key) &&
	       sscanf(hex + 2 * config.private_key_len, "%2x", &byte) == 1)
		config.private_key[config.private_key_len++] = (unsigned char)byte;
	must(line, knet_handle_crypto_set_config(handle, &config, 1), "knet_handle_crypto_set_config");
	must(line, knet_handle_crypto_use_config(handle, 1), "knet_handle_crypto_use_config");
	must(line,
	     knet_handle_crypto_rx_clear_traffic(handle, KNET_CRYPTO_RX_DISALLOW_CLEAR_TRAFFIC),
	     "knet_handle_crypto_rx_clear_traffic");
}

static void set_compress(const struct line *line, knet_handle_t handle)
{
	struct knet_handle_compress_cfg config;

	memset(&config, 0, sizeof(config));
	snprintf(config.compress_model, sizeof(config.compress_model), "%s",
		 line_text(line, "compress", "none"));
	config.compress_level = 1;
	must(line, knet_handle_compress(handle, &config), "knet_handle_compress");
}

void do_handle(const struct line *line)
{
	struct node *node;
	/* 8 MiB socket buffers, which only root may have; libknet's default insists on them. */
	uint64_t flags = geteuid() == 0 ? KNET_HANDLE_FLAG_PRIVILEGED : 0;

	if (node_count == MOST_NODES || !(node = calloc(1, sizeof(*node))))
		fail(line->id, "too many handles");
	node->id = (long)line_number(line, "id", 1);
	node->handle = knet_handle_new_ex((knet_node_id_t)node->id, 0, 0, flags);
	must(line, !node->handle, "knet_handle_new_ex");
	must(line, knet_handle_enable_sock_notify(node->handle, NULL, on_socket), "sock_notify");
	for (int8_t channel = 0; channel < CHANNELS; channel++) {
		int8_t wanted = channel;

		node->fds[channel] = 0;
		must(line, knet_handle_add_datafd(node->handle, &node->fds[channel], &wanted),
		     "knet_handle_add_datafd");
		fcntl(node->fds[channel], F_SETFL,
		      fcntl(node->fds[channel], F_GETFL) | O_NONBLOCK);
	}
	if (strcmp(line_text(line, "cipher", ""), ""))
		set_crypto(line, node->handle);
	if (strcmp(line_text(line, "compress", ""), ""))
		set_compress(line, node->handle);
	must(line, knet_handle_setfwd(node->handle, 1), "knet_handle_setfwd");
	nodes[node_count++] = node;
	answer(line->id, "\"ok\": true");
}

void do_host(const struct line *line)
{
	struct node *node = node_of(line);
	knet_node_id_t host = (knet_node_id_t)line_number(line, "id", 2);
	const char *policy = line_text(line, "policy", "passive");
	uint8_t number = !strcmp(policy, "active") ? KNET_LINK_POLICY_ACTIVE
			 : !strcmp(policy, "round-robin") ? KNET_LINK_POLICY_RR
							  : KNET_LINK_POLICY_PASSIVE;

	must(line, knet_host_add(node->handle, host), "knet_host_add");
	must(line, knet_host_set_policy(node->handle, host, number), "knet_host_set_policy");
	answer(line->id, "\"ok\": true");
}

static struct sockaddr_storage address(const struct line *line, const char *name)
{
	struct sockaddr_storage result;
	char text[64];
	char *colon;

	snprintf(text, sizeof(text), "%s", line_text(line, name, ""));
	colon = strrchr(text, ':');
	if (!colon)
		fail(line->id, "an address is not host:port");
	*colon = '\0';
	must(line, knet_strtoaddr(text, colon + 1, &result, sizeof(result)), "knet_strtoaddr");
	return result;
}

static void enable(const struct line *line, struct node *node, struct path path)
{
	node->enabled_at = now();
	must(line, knet_link_set_enable(node->handle, path.host, path.link, 1),
	     "knet_link_set_enable");
}

void do_link(const struct line *line)
{
	struct node *node = node_of(line);
	struct path path = {(knet_node_id_t)line_number(line, "host", 2),
			    (uint8_t)line_number(line, "id", 0)};
	struct sockaddr_storage src = address(line, "src"), dst = address(line, "dst");
	knet_handle_t handle = node->handle;

	if (node->links == MOST_LINKS)
		fail(line->id, "too many links");
	must(line,
	     knet_link_set_config(handle, path.host, path.link, KNET_TRANSPORT_UDP, &src, &dst, 0),
	     "knet_link_set_config");
	must(line,
	     knet_link_set_ping_timers(handle, path.host, path.link,
				       (time_t)(line_number(line, "ping", 1) * 1000 + 0.5),
				       (time_t)(line_number(line, "timeout", 2) * 1000 + 0.5), 2048),
	     "knet_link_set_ping_timers");
	must(line,
	     knet_link_set_pong_count(handle, path.host, path.link,
				      (uint8_t)line_number(line, "pongs", 2)),
	     "knet_link_set_pong_count");
	must(line,
	     knet_link_set_priority(handle, path.host, path.link,
				    (uint8_t)line_number(line, "priority", 0)),
	     "knet_link_set_priority");
	node->paths[node->links++] = path;
	if (line_number(line, "enabled", 1) != 0)
		enable(line, node, path);
	answer(line->id, "\"ok\": true");
}

void do_enable(const struct line *line)
{
	struct path path = {(knet_node_id_t)line_number(line, "host", 2),
			    (uint8_t)line_number(line, "id", 0)};

	enable(line, node_of(line), path);
	answer(line->id, "\"ok\": true");
}

static int connected_links(struct node *node, unsigned *downs, unsigned long long *pings)
{
	struct knet_link_status status;
	int connected = 0;

	*downs = 0;
	*pings = 0;
	for (int i = 0; i < node->links; i++) {
		struct path path = node->paths[i];

		status.size = sizeof(status);
		if (knet_link_get_status(node->handle, path.host, path.link, &status,
					 sizeof(status)))
			continue;
		connected += status.connected != 0;
		*downs += status.stats.down_count;
		*pings += status.stats.tx_ping_packets;
	}
	return connected;
}

void do_status(const struct line *line)
{
	struct node *node = node_of(line);
	unsigned downs, mtu = 0;
	unsigned long long pings;
	int connected = connected_links(node, &downs, &pings);

	knet_handle_pmtud_get(node->handle, &mtu);
	answer(line->id,
	       "\"links\": %d, \"connected\": %d, \"downs\": %u, \"pings\": %llu, \"mtu\": %u",
	       node->links, connected, downs, pings, mtu);
}

void up_look(struct node *node)
{
	unsigned downs, mtu = 0;
	unsigned long long pings;

	/* libknet 1.25 does not tell of links, so a program that wants to know them has to ask. */
	if (!node->up_waiting || connected_links(node, &downs, &pings) < node->links)
		return;
	knet_handle_pmtud_get(node->handle, &mtu);
	if (mtu < node->up_mtu)
		return;
	node->up_waiting = false;
	answer(node->up_id, "\"seconds\": %.6f, \"mtu\": %u", now() - node->enabled_at, mtu);
}
