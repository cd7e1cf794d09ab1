/* What bindgen reads: DPDK's headers, offsets that differ between its releases, and the shim's own functions. */
#ifndef TAPLINE_SHIM_H
#define TAPLINE_SHIM_H

#include <stddef.h>
#include <stdint.h>
#include <rte_dev.h>
#include <rte_eal.h>
#include <rte_ethdev.h>
#include <rte_launch.h>
#include <rte_lcore.h>
#include <rte_mbuf.h>
#include <rte_mbuf_dyn.h>
#include <rte_mempool.h>
#include <rte_ring.h>
#include <rte_telemetry.h>
#include <rte_version.h>

/* Offsets in struct rte_mbuf of the installed release, in bytes. */
enum tl_mbuf_offset {
	TL_MBUF_BUF_ADDR = offsetof(struct rte_mbuf, buf_addr),
	TL_MBUF_DATA_OFF = offsetof(struct rte_mbuf, data_off),
	TL_MBUF_REARM_DATA = offsetof(struct rte_mbuf, rearm_data),
	TL_MBUF_NB_SEGS = offsetof(struct rte_mbuf, nb_segs),
	TL_MBUF_OL_FLAGS = offsetof(struct rte_mbuf, ol_flags),
	TL_MBUF_PACKET_TYPE = offsetof(struct rte_mbuf, packet_type),
	TL_MBUF_PKT_LEN = offsetof(struct rte_mbuf, pkt_len),
	TL_MBUF_DATA_LEN = offsetof(struct rte_mbuf, data_len),
	TL_MBUF_TX_OFFLOAD = offsetof(struct rte_mbuf, tx_offload),
	TL_MBUF_NEXT = offsetof(struct rte_mbuf, next),
	TL_MBUF_RSS = offsetof(struct rte_mbuf, hash.rss),
	TL_MBUF_SIZE = sizeof(struct rte_mbuf),
};

/* What drivers say of a received packet, as far as Tapline asks (rte_mbuf_core.h, rte_mbuf_ptype.h). */
enum tl_mbuf_word {
	TL_RX_RSS_HASH = RTE_MBUF_F_RX_RSS_HASH,
	TL_PTYPE_ETHER = RTE_PTYPE_L2_ETHER,
	TL_PTYPE_L3 = RTE_PTYPE_L3_MASK,
	TL_PTYPE_IPV4 = RTE_PTYPE_L3_IPV4,
	TL_PTYPE_IPV4_EXT_UNKNOWN = RTE_PTYPE_L3_IPV4_EXT_UNKNOWN,
	TL_PTYPE_IPV6 = RTE_PTYPE_L3_IPV6,
	TL_PTYPE_L4 = RTE_PTYPE_L4_MASK,
	TL_PTYPE_TCP = RTE_PTYPE_L4_TCP,
	TL_PTYPE_UDP = RTE_PTYPE_L4_UDP,
};

/* What an ethdev says of itself, as far as Tapline asks; a struct of our own so that releases may differ. */
struct tl_eth_info {
	const char *driver;
	uint16_t max_rx_queues, max_tx_queues;
	uint16_t min_mtu, max_mtu;
	uint16_t reta_size;
	uint16_t rx_desc_min, rx_desc_max, tx_desc_min, tx_desc_max;
	uint64_t rx_offloads, tx_offloads;
	uint64_t rss_types;
	uint32_t speed_capa;
	uint32_t max_rx_pktlen;
	int removable_events;
};

/* What Tapline asks of an ethdev. */
struct tl_eth_config {
	uint16_t rx_queues, tx_queues;
	uint16_t mtu;              /* 0: the driver's default */
	uint64_t rx_offloads, tx_offloads;
	uint64_t rss_types;        /* 0: no RSS */
	const uint8_t *rss_key;    /* NULL: the driver's default */
	uint8_t rss_key_len;
	uint8_t want_link_events;
};

struct tl_eth_link {
	uint32_t speed_mbps;       /* UINT32_MAX: unknown */
	uint8_t up, full_duplex, autoneg;
};

/* Offload bits that bindgen cannot evaluate. */
uint64_t tl_rx_offload_timestamp(void);
uint64_t tl_rx_offload_rss_hash(void);
/* TCP and UDP over IPv4 and IPv6, by addresses and ports. */
uint64_t tl_rss_ports(void);
uint64_t tl_rx_offload_scatter(void);
uint64_t tl_rx_offload_vlan_strip(void);
void tl_put_tags_back(struct rte_mbuf *const *mbufs, uint16_t count);
uint64_t tl_tx_offload_multi_segs(void);
uint64_t tl_tx_offload_ipv4_cksum(void);
uint64_t tl_tx_offload_udp_cksum(void);
uint64_t tl_tx_flags_udp_checksum(int is_ipv6);
uint64_t tl_tx_lens(unsigned l2, unsigned l3, unsigned l4);

int tl_errno(void);
int tl_log_capture(void);
void tl_log_level(uint32_t level);
int tl_memory_no_dump(void);
size_t tl_log_take(char *text, size_t size);

uint64_t tl_tsc(void);
void tl_pause(void);

int tl_eth_info(uint16_t port, struct tl_eth_info *info);
int tl_eth_configure(uint16_t port, const struct tl_eth_config *config);
int tl_eth_rx_queue_setup(uint16_t port, uint16_t queue, uint16_t descriptors, int socket, struct rte_mempool *pool);
int tl_eth_tx_queue_setup(uint16_t port, uint16_t queue, uint16_t descriptors, int socket);
int tl_eth_link(uint16_t port, struct tl_eth_link *link);
int tl_eth_remove(uint16_t port);
unsigned tl_eth_discard_rings(uint16_t port);
unsigned tl_eth_ports_of(const char *devargs, uint16_t *ports, unsigned size);
int tl_eth_on_removal(uint16_t port, void (*call)(uint16_t port, void *arg), void *arg);

uint16_t tl_rx_burst(uint16_t port, uint16_t queue, struct rte_mbuf **mbufs, uint16_t count);
uint16_t tl_tx_burst(uint16_t port, uint16_t queue, struct rte_mbuf **mbufs, uint16_t count);
uint16_t tl_tx_burst_prepared(uint16_t port, uint16_t queue, struct rte_mbuf **mbufs, uint16_t count);
void tl_sum_udp(struct rte_mbuf *mbuf);
void tl_refcnt_add(struct rte_mbuf **mbufs, const uint8_t *copies, unsigned count);
void tl_refcnt_add_same(struct rte_mbuf **mbufs, unsigned count, int16_t extra);
void tl_free_selected(struct rte_mbuf *const *mbufs, uint64_t selected);
int tl_alloc_bulk(struct rte_mempool *pool, struct rte_mbuf **mbufs, unsigned count);
int tl_take_bulk(struct rte_mempool *pool, struct rte_mbuf **mbufs, unsigned count);
/* Bytes to make a packet of. */
struct tl_bytes {
	const uint8_t *start;
	uint32_t len;
};

unsigned tl_packets_of(struct rte_mempool *pool, struct rte_mbuf **mbufs, const struct tl_bytes *packets, unsigned count);
int tl_packet_enter(struct rte_mbuf *packet, uint32_t offset, uint32_t len, const uint8_t *link, uint32_t link_len);
int tl_linearise(const struct rte_mbuf *mbuf, uint8_t *to, uint32_t size);

unsigned tl_ring_enqueue(struct rte_ring *ring, struct rte_mbuf **mbufs, unsigned count);
unsigned tl_ring_dequeue(struct rte_ring *ring, struct rte_mbuf **mbufs, unsigned count);
unsigned tl_ring_count(const struct rte_ring *ring);
/* The RSS key's length (written to key, at most room bytes) and hash types in force, or -errno. */
int tl_eth_rss(uint16_t port, uint8_t *key, uint8_t room, uint64_t *types);
unsigned tl_ring_room(const struct rte_ring *ring);

/* Adds a number to an answer of telemetry, which is a dictionary: the function that does has two names. */
int tl_telemetry_add(struct rte_tel_data *answer, const char *name, uint64_t value);

#endif
