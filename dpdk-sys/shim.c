/* One C call a burst for what DPDK offers only as static inlines, macros or thread-local variables. */
#ifndef _GNU_SOURCE
#define _GNU_SOURCE /* fopencookie */
#endif
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>
#include <rte_bus.h>
#include <rte_cycles.h>
#include <rte_errno.h>
#include <rte_ip.h>
#include <rte_log.h>
#include <rte_memory.h>
#include <rte_pause.h>
#include <rte_udp.h>
#include "shim.h"

uint64_t tl_rx_offload_timestamp(void) { return RTE_ETH_RX_OFFLOAD_TIMESTAMP; }
uint64_t tl_rx_offload_rss_hash(void) { return RTE_ETH_RX_OFFLOAD_RSS_HASH; }
uint64_t tl_rss_ports(void)
{
	return RTE_ETH_RSS_NONFRAG_IPV4_TCP | RTE_ETH_RSS_NONFRAG_IPV4_UDP | RTE_ETH_RSS_NONFRAG_IPV6_TCP | RTE_ETH_RSS_NONFRAG_IPV6_UDP;
}
uint64_t tl_rx_offload_scatter(void) { return RTE_ETH_RX_OFFLOAD_SCATTER; }
uint64_t tl_rx_offload_vlan_strip(void) { return RTE_ETH_RX_OFFLOAD_VLAN_STRIP; }
uint64_t tl_tx_offload_multi_segs(void) { return RTE_ETH_TX_OFFLOAD_MULTI_SEGS; }
uint64_t tl_tx_offload_ipv4_cksum(void) { return RTE_ETH_TX_OFFLOAD_IPV4_CKSUM; }
uint64_t tl_tx_offload_udp_cksum(void) { return RTE_ETH_TX_OFFLOAD_UDP_CKSUM; }

/* What an mbuf says whose UDP checksum the NIC is to compute, and the lengths of its headers. */
uint64_t tl_tx_flags_udp_checksum(int is_ipv6)
{
	return RTE_MBUF_F_TX_UDP_CKSUM | (is_ipv6 ? RTE_MBUF_F_TX_IPV6 : RTE_MBUF_F_TX_IPV4);
}

uint64_t tl_tx_lens(unsigned l2, unsigned l3, unsigned l4) { return rte_mbuf_tx_offload(l2, l3, l4, 0, 0, 0, 0); }

int tl_errno(void) { return rte_errno; }

/*
 * DPDK's log goes to memory, so that the error of a failed call can carry what the driver said of it. A critical message goes to
 * standard error at once, and what was said before it: rte_panic() and rte_exit() end the process behind theirs, and nobody would
 * ask for it any more.
 *
 * DPDK hands each message over by itself (rte_vlog flushes), under the lock of the stream, which guards the text too.
 */
static FILE *log_stream;
static char log_text[64 * 1024];
static size_t log_length;

static void log_tell(const char *text, size_t size)
{
	while (size > 0) {
		ssize_t told = write(STDERR_FILENO, text, size);

		if (told < 0 && errno == EINTR)
			continue;
		if (told <= 0)
			return;
		text += told;
		size -= (size_t)told;
	}
}

static ssize_t log_write(void *cookie, const char *text, size_t size)
{
	size_t kept = size < sizeof(log_text) ? size : sizeof(log_text);
	size_t room = sizeof(log_text) - kept;
	int level = rte_log_cur_msg_loglevel();

	(void)cookie;
	if (level > 0 && level <= (int)RTE_LOG_CRIT) {
		log_tell(log_text, log_length);
		log_length = 0;
		log_tell(text, size);
		return (ssize_t)size;
	}
	if (log_length > room) {
		/* the newest are kept */
		memmove(log_text, log_text + log_length - room, room);
		log_length = room;
	}
	memcpy(log_text + log_length, text + size - kept, kept);
	log_length += kept;
	return (ssize_t)size;
}

int tl_log_capture(void)
{
	cookie_io_functions_t functions = {.write = log_write};

	if (log_stream != NULL)
		return 0;
	log_stream = fopencookie(NULL, "w", functions);
	if (log_stream == NULL)
		return -1;
	return rte_openlog_stream(log_stream);
}

static int no_dump(const struct rte_memseg_list *list, void *unused)
{
	(void)unused;
	/* what the kernel refuses stays in cores, which are off unless the user asks for them */
	(void)madvise(list->base_va, list->len, MADV_DONTDUMP);
	return 0;
}

/* Keeps all of EAL's memory out of core files. Pages that come later are mapped anew, and are kept out by a later call. */
int tl_memory_no_dump(void) { return rte_memseg_list_walk(no_dump, NULL); }

void tl_log_level(uint32_t level) { rte_log_set_global_level(level); }

/* Moves what was logged since the last call to text (at most size - 1 bytes, the newest) and returns its length. */
size_t tl_log_take(char *text, size_t size)
{
	size_t length, skip;

	if (log_stream == NULL || size == 0)
		return 0;
	flockfile(log_stream);
	length = log_length;
	skip = length >= size ? length - size + 1 : 0;
	length -= skip;
	memcpy(text, log_text + skip, length);
	text[length] = '\0';
	log_length = 0;
	funlockfile(log_stream);
	return length;
}

uint64_t tl_tsc(void) { return rte_rdtsc(); }
void tl_pause(void) { rte_pause(); }

int tl_eth_info(uint16_t port, struct tl_eth_info *info)
{
	struct rte_eth_dev_info dev;
	int rc = rte_eth_dev_info_get(port, &dev);

	if (rc != 0)
		return rc;
	memset(info, 0, sizeof(*info));
	info->driver = dev.driver_name;
	info->max_rx_queues = dev.max_rx_queues;
	info->max_tx_queues = dev.max_tx_queues;
	info->min_mtu = dev.min_mtu;
	info->max_mtu = dev.max_mtu;
	info->reta_size = dev.reta_size;
	info->rx_desc_min = dev.rx_desc_lim.nb_min;
	info->rx_desc_max = dev.rx_desc_lim.nb_max;
	info->tx_desc_min = dev.tx_desc_lim.nb_min;
	info->tx_desc_max = dev.tx_desc_lim.nb_max;
	info->rx_offloads = dev.rx_offload_capa;
	info->tx_offloads = dev.tx_offload_capa;
	info->rss_types = dev.flow_type_rss_offloads;
	info->speed_capa = dev.speed_capa;
	info->max_rx_pktlen = dev.max_rx_pktlen;
	info->removable_events = dev.dev_flags != NULL && (*dev.dev_flags & RTE_ETH_DEV_INTR_RMV) != 0;
	return 0;
}

int tl_eth_configure(uint16_t port, const struct tl_eth_config *config)
{
	struct rte_eth_conf conf;

	memset(&conf, 0, sizeof(conf));
	conf.rxmode.offloads = config->rx_offloads;
	conf.rxmode.mtu = config->mtu;
	conf.txmode.offloads = config->tx_offloads;
	if (config->rss_types != 0 && config->rx_queues > 1) {
		conf.rxmode.mq_mode = RTE_ETH_MQ_RX_RSS;
		conf.rx_adv_conf.rss_conf.rss_hf = config->rss_types;
		conf.rx_adv_conf.rss_conf.rss_key = (uint8_t *)(uintptr_t)config->rss_key;
		/* as much of the key as the NIC has room for: 40 bytes, or 52 on some */
		struct rte_eth_dev_info info;
		uint8_t len = config->rss_key_len;
		if (rte_eth_dev_info_get(port, &info) == 0)
			len = RTE_MIN(len, info.hash_key_size != 0 ? info.hash_key_size : 40);
		conf.rx_adv_conf.rss_conf.rss_key_len = len;
	}
	conf.intr_conf.rmv = config->want_link_events;
	return rte_eth_dev_configure(port, config->rx_queues, config->tx_queues, &conf);
}

int tl_eth_rx_queue_setup(uint16_t port, uint16_t queue, uint16_t descriptors, int socket, struct rte_mempool *pool)
{
	return rte_eth_rx_queue_setup(port, queue, descriptors, (unsigned)socket, NULL, pool);
}

int tl_eth_tx_queue_setup(uint16_t port, uint16_t queue, uint16_t descriptors, int socket)
{
	return rte_eth_tx_queue_setup(port, queue, descriptors, (unsigned)socket, NULL);
}

int tl_eth_link(uint16_t port, struct tl_eth_link *link)
{
	struct rte_eth_link now;
	int rc;

	memset(&now, 0, sizeof(now));
	rc = rte_eth_link_get_nowait(port, &now);
	if (rc != 0)
		return rc;
	link->speed_mbps = now.link_speed;
	link->up = now.link_status == RTE_ETH_LINK_UP;
	link->full_duplex = now.link_duplex == RTE_ETH_LINK_FULL_DUPLEX;
	link->autoneg = now.link_autoneg == RTE_ETH_LINK_AUTONEG;
	return 0;
}

int tl_eth_remove(uint16_t port)
{
	struct rte_eth_dev_info dev;
	int rc = rte_eth_dev_info_get(port, &dev);

	if (rc != 0)
		return rc;
	rc = rte_eth_dev_close(port);
	return rc != 0 ? rc : rte_dev_remove(dev.device);
}

/* Frees the mbufs in the rings of a net_ring, which finds them again by name (ETH_RXTX and its number, at most 16 of them, in
 * drivers/net/ring/rte_eth_ring.c); gives their number. Nobody may use the device or its rings. */
unsigned tl_eth_discard_rings(uint16_t port)
{
	char device[RTE_ETH_NAME_MAX_LEN], name[RTE_RING_NAMESIZE];
	struct rte_mbuf *mbufs[32];
	unsigned number, count, freed = 0;

	if (rte_eth_dev_get_name_by_port(port, device) != 0)
		return 0;
	for (number = 0; number < 16; number++) {
		struct rte_ring *ring;

		if (snprintf(name, sizeof(name), "ETH_RXTX%u_%s", number, device) >= (int)sizeof(name))
			return freed;
		ring = rte_ring_lookup(name);
		while (ring != NULL && (count = rte_ring_dequeue_burst(ring, (void **)mbufs, 32, NULL)) > 0) {
			rte_pktmbuf_free_bulk(mbufs, count);
			freed += count;
		}
	}
	return freed;
}

/* The ethdevs that the device of these devargs brought, at most size of them. */
unsigned tl_eth_ports_of(const char *devargs, uint16_t *ports, unsigned size)
{
	struct rte_dev_iterator iterator;
	unsigned found = 0;
	uint16_t port;

	RTE_ETH_FOREACH_MATCHING_DEV(port, devargs, &iterator) {
		if (found < size)
			ports[found++] = port;
	}
	return found;
}

struct removal { void (*call)(uint16_t, void *); void *arg; };

static int on_removal(uint16_t port, enum rte_eth_event_type type, void *arg, void *param)
{
	const struct removal *removal = arg;

	(void)type;
	(void)param;
	removal->call(port, removal->arg);
	return 0;
}

int tl_eth_on_removal(uint16_t port, void (*call)(uint16_t, void *), void *arg)
{
	struct removal *removal = malloc(sizeof(*removal)); /* lives as long as the process: DPDK may call at any time */

	if (removal == NULL)
		return -ENOMEM;
	removal->call = call;
	removal->arg = arg;
	return rte_eth_dev_callback_register(port, RTE_ETH_EVENT_INTR_RMV, on_removal, removal);
}

uint16_t tl_rx_burst(uint16_t port, uint16_t queue, struct rte_mbuf **mbufs, uint16_t count)
{
	return rte_eth_rx_burst(port, queue, mbufs, count);
}

/* Puts the VLAN tags back that the NIC took off packets. The NIC does not say their types: the outer of two has that of service tags
 * (IEEE 802.1ad), any other that of customer tags. A packet whose first segment has no room in front stays as it is. Source: rte_mbuf_core.h,
 * RTE_MBUF_F_RX_QINQ_STRIPPED. */
void tl_put_tags_back(struct rte_mbuf *const *mbufs, uint16_t count)
{
	for (uint16_t i = 0; i < count; i++) {
		struct rte_mbuf *mbuf = mbufs[i];
		uint16_t tags[4], words = 0;
		uint8_t *start;

		if (likely((mbuf->ol_flags & (RTE_MBUF_F_RX_VLAN_STRIPPED | RTE_MBUF_F_RX_QINQ_STRIPPED)) == 0))
			continue;
		if (rte_pktmbuf_data_len(mbuf) < 2 * RTE_ETHER_ADDR_LEN)
			continue;
		if (mbuf->ol_flags & RTE_MBUF_F_RX_QINQ_STRIPPED) {
			tags[words++] = rte_cpu_to_be_16(RTE_ETHER_TYPE_QINQ);
			tags[words++] = rte_cpu_to_be_16(mbuf->vlan_tci_outer);
		}
		if (mbuf->ol_flags & RTE_MBUF_F_RX_VLAN_STRIPPED) {
			tags[words++] = rte_cpu_to_be_16(RTE_ETHER_TYPE_VLAN);
			tags[words++] = rte_cpu_to_be_16(mbuf->vlan_tci);
		}
		start = (uint8_t *)rte_pktmbuf_prepend(mbuf, (uint16_t)(words * sizeof(tags[0])));
		if (start == NULL)
			continue;
		memmove(start, start + words * sizeof(tags[0]), 2 * RTE_ETHER_ADDR_LEN);
		memcpy(start + 2 * RTE_ETHER_ADDR_LEN, tags, words * sizeof(tags[0]));
		mbuf->ol_flags &= ~(RTE_MBUF_F_RX_VLAN_STRIPPED | RTE_MBUF_F_RX_QINQ_STRIPPED);
		/* what the NIC said of the packet it said of the packet without them */
		mbuf->packet_type = 0;
	}
}

uint16_t tl_tx_burst(uint16_t port, uint16_t queue, struct rte_mbuf **mbufs, uint16_t count)
{
	return rte_eth_tx_burst(port, queue, mbufs, count);
}

/* The UDP checksum of a packet that asks the NIC for it, computed here; the packet asks no more. */
void tl_sum_udp(struct rte_mbuf *mbuf)
{
	uint16_t l4 = mbuf->l2_len + mbuf->l3_len;
	const void *ip = rte_pktmbuf_mtod_offset(mbuf, const void *, mbuf->l2_len);
	struct rte_udp_hdr *udp = rte_pktmbuf_mtod_offset(mbuf, struct rte_udp_hdr *, l4);

	if ((mbuf->ol_flags & RTE_MBUF_F_TX_L4_MASK) != RTE_MBUF_F_TX_UDP_CKSUM || l4 + sizeof(*udp) > rte_pktmbuf_data_len(mbuf))
		return;
	udp->dgram_cksum = 0;
	if (mbuf->ol_flags & RTE_MBUF_F_TX_IPV6)
		udp->dgram_cksum = rte_ipv6_udptcp_cksum_mbuf(mbuf, ip, l4);
	else
		udp->dgram_cksum = rte_ipv4_udptcp_cksum_mbuf(mbuf, ip, l4);
	mbuf->ol_flags &= ~(RTE_MBUF_F_TX_L4_MASK | RTE_MBUF_F_TX_IPV4 | RTE_MBUF_F_TX_IPV6);
}

/* As tl_tx_burst, of packets that may ask the NIC for checksums, which drivers prepare first. One that the driver refuses to prepare gets
 * its checksum here, so that it stands neither in the way of others nor is sent with a wrong one. */
uint16_t tl_tx_burst_prepared(uint16_t port, uint16_t queue, struct rte_mbuf **mbufs, uint16_t count)
{
	for (uint16_t ready = 0; ready < count; ready++) {
		ready += rte_eth_tx_prepare(port, queue, mbufs + ready, count - ready);
		if (ready < count)
			tl_sum_udp(mbufs[ready]);
	}
	return rte_eth_tx_burst(port, queue, mbufs, count);
}

static inline void refcnt_add(struct rte_mbuf *mbuf, int16_t extra)
{
	/* a lone segment leaves the second cache line, where `next` is, untouched */
	if (likely(mbuf->nb_segs == 1))
		rte_mbuf_refcnt_update(mbuf, extra);
	else
		rte_pktmbuf_refcnt_update(mbuf, extra);
}

/* Raises each packet's references to one for each of its copies (copies[i] of 0 and 1 leave it as it is). */
void tl_refcnt_add(struct rte_mbuf **mbufs, const uint8_t *copies, unsigned count)
{
	for (unsigned i = 0; i < count; i++)
		if (copies[i] > 1)
			refcnt_add(mbufs[i], (int16_t)(copies[i] - 1));
}

void tl_refcnt_add_same(struct rte_mbuf **mbufs, unsigned count, int16_t extra)
{
	for (unsigned i = 0; i < count; i++)
		refcnt_add(mbufs[i], extra);
}

/* Gives up one reference to each packet whose bit is set in selected, whatever the packet is. */
static void free_any(struct rte_mbuf *const *mbufs, uint64_t selected)
{
	struct rte_mbuf *gathered[64];
	unsigned count = 0;

	for (; selected != 0; selected &= selected - 1)
		gathered[count++] = mbufs[__builtin_ctzll(selected)];
	rte_pktmbuf_free_bulk(gathered, count);
}

/* The last reference to a packet of one segment with bytes of its own: the mbuf is as its pool keeps them. */
static inline int is_lone(const struct rte_mbuf *mbuf)
{
	return rte_mbuf_refcnt_read(mbuf) == 1 && mbuf->nb_segs == 1 && RTE_MBUF_DIRECT(mbuf);
}

/* Gives up one reference to each packet whose bit is set in selected. As rte_pktmbuf_free_bulk, which visits the second cache line of each
 * mbuf for the next segment that a packet of one segment does not have, and gathers pointers before it copies them to the lcore's cache. */
void tl_free_selected(struct rte_mbuf *const *mbufs, uint64_t selected)
{
	struct rte_mempool *pool;
	struct rte_mempool_cache *cache;
	uint64_t others = 0;
	void **end;

	if (selected == 0)
		return;
	pool = mbufs[__builtin_ctzll(selected)]->pool;
	cache = rte_mempool_default_cache(pool, rte_lcore_id());
	/* a thread that is no lcore has no cache, and a full one is flushed */
	if (unlikely(cache == NULL || cache->len + 64 > cache->flushthresh)) {
		free_any(mbufs, selected);
		return;
	}
	end = &cache->objs[cache->len];
	for (; selected != 0; selected &= selected - 1) {
		struct rte_mbuf *mbuf = mbufs[__builtin_ctzll(selected)];

		if (likely(is_lone(mbuf) && mbuf->pool == pool))
			*end++ = mbuf;
		else
			others |= selected & -selected;
	}
	cache->len = (uint32_t)(end - cache->objs);
	if (unlikely(others != 0))
		free_any(mbufs, others);
}

int tl_alloc_bulk(struct rte_mempool *pool, struct rte_mbuf **mbufs, unsigned count)
{
	return rte_pktmbuf_alloc_bulk(pool, mbufs, count);
}

/* What tapline::dpdk writes with two stores: data_off, refcnt, nb_segs and port; packet_type, pkt_len, data_len and vlan_tci. */
_Static_assert(offsetof(struct rte_mbuf, refcnt) == offsetof(struct rte_mbuf, data_off) + 2, "rearm data");
_Static_assert(offsetof(struct rte_mbuf, nb_segs) == offsetof(struct rte_mbuf, data_off) + 4, "rearm data");
_Static_assert(offsetof(struct rte_mbuf, port) == offsetof(struct rte_mbuf, data_off) + 6, "rearm data");
_Static_assert(offsetof(struct rte_mbuf, pkt_len) == offsetof(struct rte_mbuf, packet_type) + 4, "lengths");
_Static_assert(offsetof(struct rte_mbuf, data_len) == offsetof(struct rte_mbuf, packet_type) + 8, "lengths");
_Static_assert(offsetof(struct rte_mbuf, vlan_tci) == offsetof(struct rte_mbuf, packet_type) + 10, "lengths");

/* Mbufs as the pool keeps them: one reference, one segment, no next one. The other fields hold what was there before. */
int tl_take_bulk(struct rte_mempool *pool, struct rte_mbuf **mbufs, unsigned count)
{
	return rte_mempool_get_bulk(pool, (void **)mbufs, count);
}

/* Makes packets of bytes, chains where one mbuf does not hold them. Gives how many were made: fewer where the pool runs empty. */
unsigned tl_packets_of(struct rte_mempool *pool, struct rte_mbuf **mbufs, const struct tl_bytes *packets, unsigned count)
{
	if (rte_pktmbuf_alloc_bulk(pool, mbufs, count) != 0)
		return 0;
	for (unsigned i = 0; i < count; i++) {
		struct rte_mbuf *packet = mbufs[i], *segment = packet;
		const uint8_t *from = packets[i].start;
		uint32_t rest = packets[i].len;

		for (;;) {
			uint16_t room = rte_pktmbuf_tailroom(segment);
			uint16_t part = rest < room ? (uint16_t)rest : room;

			if (part != 0)
				memcpy(rte_pktmbuf_mtod(segment, void *), from, part);
			segment->data_len = part;
			packet->pkt_len += part;
			from += part;
			rest -= part;
			if (rest == 0)
				break;
			segment->next = rte_pktmbuf_alloc(pool);
			if (segment->next == NULL) {
				rte_pktmbuf_free_bulk(mbufs + i, count - i);
				return i;
			}
			segment = segment->next;
			packet->nb_segs++;
		}
	}
	return count;
}

/*
 * Makes the len bytes from offset on the whole packet, with link written in front of them. Gives -1, and changes nothing, where the
 * first segment does not hold all that goes, or the packet has no such bytes.
 */
int tl_packet_enter(struct rte_mbuf *packet, uint32_t offset, uint32_t len, const uint8_t *link, uint32_t link_len)
{
	struct rte_mbuf *segment = packet;
	uint32_t rest = link_len + len;

	if (offset < link_len || offset > packet->data_len || offset + len > packet->pkt_len)
		return -1;
	packet->data_off += offset - link_len;
	packet->data_len -= offset - link_len;
	packet->pkt_len = rest;
	packet->packet_type = 0;
	packet->nb_segs = 1;
	if (link_len != 0)
		memcpy(rte_pktmbuf_mtod(packet, void *), link, link_len);
	while (rest > segment->data_len) {
		rest -= segment->data_len;
		segment = segment->next;
		packet->nb_segs++;
	}
	segment->data_len = (uint16_t)rest;
	if (segment->next != NULL) {
		/* the segments behind are a packet of their own to whoever frees them */
		rte_pktmbuf_free(segment->next);
		segment->next = NULL;
	}
	return 0;
}

/* Copies a chain's bytes to a buffer of at least pkt_len bytes; the number copied. */
int tl_linearise(const struct rte_mbuf *mbuf, uint8_t *to, uint32_t size)
{
	uint32_t at = 0;

	for (; mbuf != NULL && at < size; mbuf = mbuf->next) {
		uint32_t part = mbuf->data_len < size - at ? mbuf->data_len : size - at;

		memcpy(to + at, rte_pktmbuf_mtod(mbuf, const uint8_t *), part);
		at += part;
	}
	return (int)at;
}

unsigned tl_ring_enqueue(struct rte_ring *ring, struct rte_mbuf **mbufs, unsigned count)
{
	return rte_ring_enqueue_burst(ring, (void **)mbufs, count, NULL);
}

unsigned tl_ring_dequeue(struct rte_ring *ring, struct rte_mbuf **mbufs, unsigned count)
{
	return rte_ring_dequeue_burst(ring, (void **)mbufs, count, NULL);
}

int tl_eth_rss(uint16_t port, uint8_t *key, uint8_t room, uint64_t *types)
{
	struct rte_eth_rss_conf conf = {.rss_key = key, .rss_key_len = room};
	int result = rte_eth_dev_rss_hash_conf_get(port, &conf);
	if (result < 0)
		return result;
	*types = conf.rss_hf;
	struct rte_eth_dev_info info;
	if (rte_eth_dev_info_get(port, &info) < 0)
		return -EIO;
	return RTE_MIN(room, info.hash_key_size);
}

unsigned tl_ring_room(const struct rte_ring *ring) { return rte_ring_free_count(ring); }

unsigned tl_ring_count(const struct rte_ring *ring) { return rte_ring_count(ring); }

int tl_telemetry_add(struct rte_tel_data *answer, const char *name, uint64_t value)
{
#if RTE_VERSION >= RTE_VERSION_NUM(23, 3, 0, 0)
	return rte_tel_data_add_dict_uint(answer, name, value);
#else
	return rte_tel_data_add_dict_u64(answer, name, value);
#endif
}
