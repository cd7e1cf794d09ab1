/*
 * A simulated NIC: makes a NIC that stamps, hashes, strips tags and computes checksums of any virtual device. It is preloaded
 * (LD_PRELOAD) and uses DPDK's public API alone: a receive callback makes the device's packets those of a file and says of each what a
 * NIC says; a transmit callback does what the NIC would; rte_eth_dev_info_get, rte_eth_dev_configure, rte_eth_dev_rss_hash_conf_get,
 * rte_eth_read_clock and rte_eth_timesync_* are answered for it. simnic.rs has the words of the configuration, and the control words.
 *
 * The NIC's counter is a function of the system's clock, so that the true time of each stamp is known: it goes to the log.
 */
#ifndef _GNU_SOURCE
#define _GNU_SOURCE
#endif
#include <dlfcn.h>
#include <errno.h>
#include <fcntl.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <time.h>
#include <unistd.h>
#include <rte_ethdev.h>
#include <rte_ip.h>
#include <rte_mbuf_dyn.h>
#include <rte_udp.h>

#define MOST_NICS 4
#define MOST_FRAMES 65536
#define MOST_QUEUES 16
#define KEY_LEN 40
#define RETA 128

/* What the test tells while the program runs. */
struct control {
	uint64_t released;   /* frames that may have arrived so far */
	uint64_t unreadable; /* the counter cannot be read */
	int64_t step_ticks;  /* the counter is moved by so much */
	uint64_t refusing;   /* nothing is transmitted */
	uint64_t fixed_hash; /* every packet has this hash, if not 0 */
};

struct frame { uint32_t len; uint32_t hash; int is_hashed; uint32_t ptype; uint8_t *bytes; };

struct nic {
	char name[64];
	double hz, ppm, wander_ns, wander_period_ns;
	uint64_t start;
	unsigned bits;
	int64_t wait_ns, disorder_ns;
	unsigned missing, zero; /* one stamp in so many */
	int stamps, is_ptp, is_asymmetric, strips, sums, chains;
	volatile struct control *control;
	int log;
	struct frame *frames;
	unsigned count;
	uint16_t rx_queues, tx_queues;
	uint64_t next[MOST_QUEUES];
	uint8_t key[KEY_LEN];
	uint64_t rss_types;
	uint64_t rx_offloads; /* those that were asked for */
	const struct rte_eth_rxtx_callback *rx[MOST_QUEUES], *tx[MOST_QUEUES];
};

static struct nic nics[MOST_NICS];
static unsigned nic_count;
static uint64_t begun_ns;
static int stamp_offset;
static uint64_t stamp_flag;

/* The key of Microsoft's verification suite, which is not symmetric. */
static const uint8_t asymmetric_key[KEY_LEN] = {
	0x6d, 0x5a, 0x56, 0xda, 0x25, 0x5b, 0x0e, 0xc2, 0x41, 0x67, 0x25, 0x3d, 0x43, 0xa3, 0x8f, 0xb0, 0xd0, 0xca, 0x2b, 0xcb,
	0xae, 0x7b, 0x30, 0xb4, 0x77, 0xcb, 0x2d, 0xa3, 0x80, 0x30, 0xf2, 0x0c, 0x6a, 0x42, 0xb7, 0x3b, 0xbe, 0xac, 0x01, 0xfa};

static void die(const char *what, const char *which)
{
	fprintf(stderr, "simnic: %s: %s\n", what, which);
	abort();
}

static uint64_t real_ns(void)
{
	struct timespec now;

	clock_gettime(CLOCK_REALTIME, &now);
	return (uint64_t)now.tv_sec * 1000000000u + (uint64_t)now.tv_nsec;
}

/* The counter at a moment of the system's clock. */
static uint64_t ticks_at(const struct nic *nic, uint64_t ns)
{
	double elapsed = (double)(int64_t)(ns - begun_ns);
	double wander = nic->wander_period_ns > 0 ? nic->wander_ns * sin(2 * M_PI * elapsed / nic->wander_period_ns) : 0;
	double ticks = (elapsed * (1 + nic->ppm * 1e-6) + wander) * nic->hz / 1e9;
	uint64_t count = nic->start + (uint64_t)(int64_t)floor(ticks) + (uint64_t)nic->control->step_ticks;

	return nic->bits == 64 ? count : count & ((UINT64_C(1) << nic->bits) - 1);
}

/* Toeplitz over addresses and ports, as NICs compute it. */
static uint32_t toeplitz(const uint8_t *key, const uint8_t *input, unsigned len)
{
	uint32_t hash = 0, window = (uint32_t)key[0] << 24 | key[1] << 16 | key[2] << 8 | key[3];

	for (unsigned i = 0; i < len; i++)
		for (int bit = 7; bit >= 0; bit--) {
			if (input[i] >> bit & 1)
				hash ^= window;
			window = window << 1 | (key[(i + 4) % KEY_LEN] >> bit & 1);
		}
	return hash;
}

/* What the NIC says of a frame: plain TCP and UDP over IPv4 are hashed. */
static void parse(const struct nic *nic, struct frame *frame)
{
	const uint8_t *ip = frame->bytes + 14;

	frame->ptype = RTE_PTYPE_L2_ETHER;
	frame->is_hashed = 0;
	if (frame->len < 14 + 28 || frame->bytes[12] != 8 || frame->bytes[13] != 0 || ip[0] != 0x45 || (ip[9] != 6 && ip[9] != 17))
		return;
	frame->ptype |= RTE_PTYPE_L3_IPV4 | (ip[9] == 6 ? RTE_PTYPE_L4_TCP : RTE_PTYPE_L4_UDP);
	frame->hash = toeplitz(nic->key, ip + 12, 12);
	frame->is_hashed = 1;
}

static void read_frames(struct nic *nic, const char *path)
{
	FILE *file = fopen(path, "rb");
	uint32_t len;

	nic->frames = calloc(MOST_FRAMES, sizeof(*nic->frames));
	if (file == NULL || nic->frames == NULL)
		die("frames cannot be read", path);
	while (nic->count < MOST_FRAMES && fread(&len, sizeof(len), 1, file) == 1) {
		struct frame *frame = &nic->frames[nic->count++];

		frame->len = len;
		frame->bytes = malloc(len);
		if (frame->bytes == NULL || fread(frame->bytes, 1, len, file) != len)
			die("a frame is cut", path);
	}
	fclose(file);
}

static volatile struct control *map(const char *path)
{
	int file = open(path, O_RDWR);
	void *page = file < 0 ? MAP_FAILED : mmap(NULL, sizeof(struct control), PROT_READ, MAP_SHARED, file, 0);

	if (page == MAP_FAILED)
		die("the control words cannot be mapped", path);
	close(file);
	return page;
}

static void set(struct nic *nic, const char *key, const char *value)
{
	if (!strcmp(key, "hz")) nic->hz = atof(value);
	else if (!strcmp(key, "ppm")) nic->ppm = atof(value);
	else if (!strcmp(key, "wander_ns")) nic->wander_ns = atof(value);
	else if (!strcmp(key, "wander_period_ns")) nic->wander_period_ns = atof(value);
	else if (!strcmp(key, "start")) nic->start = strtoull(value, NULL, 0);
	else if (!strcmp(key, "bits")) nic->bits = (unsigned)atoi(value);
	else if (!strcmp(key, "wait_ns")) nic->wait_ns = atoll(value);
	else if (!strcmp(key, "disorder_ns")) nic->disorder_ns = atoll(value);
	else if (!strcmp(key, "missing")) nic->missing = (unsigned)atoi(value);
	else if (!strcmp(key, "zero")) nic->zero = (unsigned)atoi(value);
	else if (!strcmp(key, "stamps")) nic->stamps = atoi(value);
	else if (!strcmp(key, "ptp")) nic->is_ptp = atoi(value);
	else if (!strcmp(key, "asymmetric")) nic->is_asymmetric = atoi(value);
	else if (!strcmp(key, "strips")) nic->strips = atoi(value);
	else if (!strcmp(key, "sums")) nic->sums = atoi(value);
	else if (!strcmp(key, "chains")) nic->chains = atoi(value);
	else if (!strcmp(key, "frames")) read_frames(nic, value);
	else if (!strcmp(key, "control")) nic->control = map(value);
	else if (!strcmp(key, "log")) nic->log = open(value, O_WRONLY | O_CREAT | O_APPEND, 0600);
	else die("no such word", key);
}

/* One NIC a line: the device's name, and KEY=VALUE by spaces. */
static __attribute__((constructor)) void configure_all(void)
{
	const char *path = getenv("TAPLINE_SIMNIC");
	FILE *file = path == NULL ? NULL : fopen(path, "r");
	char line[4096];

	if (file == NULL)
		return;
	begun_ns = real_ns();
	while (nic_count < MOST_NICS && fgets(line, sizeof(line), file) != NULL) {
		struct nic *nic = &nics[nic_count++];
		char *rest, *word = strtok_r(line, " \n", &rest);

		nic->hz = 1e9;
		nic->bits = 64;
		nic->log = -1;
		snprintf(nic->name, sizeof(nic->name), "%s", word);
		while ((word = strtok_r(NULL, " \n", &rest)) != NULL) {
			char *value = strchr(word, '=');

			if (value == NULL)
				die("no value", word);
			*value = '\0';
			set(nic, word, value + 1);
		}
		if (nic->control == NULL || nic->log < 0)
			die("a NIC needs control words and a log", nic->name);
	}
	fclose(file);
}

static struct nic *nic_of(uint16_t port)
{
	char name[RTE_ETH_NAME_MAX_LEN];

	if (nic_count == 0 || rte_eth_dev_get_name_by_port(port, name) != 0)
		return NULL;
	for (unsigned i = 0; i < nic_count; i++)
		if (!strcmp(nics[i].name, name))
			return &nics[i];
	return NULL;
}

#define REAL(name) ((__typeof__(&name))real_of(#name))

static void *real_of(const char *name)
{
	void *found = dlsym(RTLD_NEXT, name);

	if (found == NULL)
		die("DPDK has no", name);
	return found;
}

static uint64_t extra_rx(const struct nic *nic)
{
	return (nic->stamps ? RTE_ETH_RX_OFFLOAD_TIMESTAMP : 0) | (nic->strips ? RTE_ETH_RX_OFFLOAD_VLAN_STRIP : 0) |
	       (nic->count != 0 ? RTE_ETH_RX_OFFLOAD_RSS_HASH : 0);
}

int rte_eth_dev_info_get(uint16_t port, struct rte_eth_dev_info *info)
{
	int result = REAL(rte_eth_dev_info_get)(port, info);
	const struct nic *nic = nic_of(port);

	if (result != 0 || nic == NULL)
		return result;
	info->driver_name = "net_simnic";
	info->rx_offload_capa |= extra_rx(nic);
	if (nic->sums)
		info->tx_offload_capa |= RTE_ETH_TX_OFFLOAD_UDP_CKSUM;
	info->tx_offload_capa &= ~RTE_ETH_TX_OFFLOAD_MULTI_SEGS;
	if (nic->chains)
		info->tx_offload_capa |= RTE_ETH_TX_OFFLOAD_MULTI_SEGS;
	if (nic->count != 0) {
		info->max_rx_queues = MOST_QUEUES;
		info->reta_size = RETA;
		info->hash_key_size = KEY_LEN;
		info->flow_type_rss_offloads = RTE_ETH_RSS_NONFRAG_IPV4_TCP | RTE_ETH_RSS_NONFRAG_IPV4_UDP | RTE_ETH_RSS_NONFRAG_IPV6_TCP |
					       RTE_ETH_RSS_NONFRAG_IPV6_UDP;
	}
	return 0;
}

int rte_eth_dev_configure(uint16_t port, uint16_t rx_queues, uint16_t tx_queues, const struct rte_eth_conf *asked)
{
	struct nic *nic = nic_of(port);
	struct rte_eth_conf conf = *asked;

	if (nic == NULL)
		return REAL(rte_eth_dev_configure)(port, rx_queues, tx_queues, asked);
	if (rx_queues > MOST_QUEUES || tx_queues > MOST_QUEUES)
		return -EINVAL;
	nic->rx_queues = rx_queues;
	nic->tx_queues = tx_queues;
	nic->rx_offloads = conf.rxmode.offloads;
	nic->rss_types = conf.rxmode.mq_mode == RTE_ETH_MQ_RX_RSS ? conf.rx_adv_conf.rss_conf.rss_hf : 0;
	memcpy(nic->key, asymmetric_key, KEY_LEN);
	if (!nic->is_asymmetric && conf.rx_adv_conf.rss_conf.rss_key != NULL)
		memcpy(nic->key, conf.rx_adv_conf.rss_conf.rss_key, RTE_MIN(KEY_LEN, conf.rx_adv_conf.rss_conf.rss_key_len));
	for (unsigned i = 0; i < nic->count; i++)
		parse(nic, &nic->frames[i]);
	/* the device below knows nothing of these */
	conf.rxmode.offloads &= ~extra_rx(nic);
	conf.rxmode.mq_mode = RTE_ETH_MQ_RX_NONE;
	memset(&conf.rx_adv_conf, 0, sizeof(conf.rx_adv_conf));
	conf.txmode.offloads &= ~(nic->sums ? RTE_ETH_TX_OFFLOAD_UDP_CKSUM : 0);
	conf.txmode.offloads &= ~(nic->chains ? RTE_ETH_TX_OFFLOAD_MULTI_SEGS : 0);
	return REAL(rte_eth_dev_configure)(port, rx_queues, tx_queues, &conf);
}

int rte_eth_dev_rss_hash_conf_get(uint16_t port, struct rte_eth_rss_conf *conf)
{
	const struct nic *nic = nic_of(port);

	if (nic == NULL)
		return REAL(rte_eth_dev_rss_hash_conf_get)(port, conf);
	conf->rss_hf = nic->rss_types;
	if (conf->rss_key != NULL && conf->rss_key_len >= KEY_LEN)
		memcpy(conf->rss_key, nic->key, KEY_LEN);
	conf->rss_key_len = KEY_LEN;
	return 0;
}

static int read_counter(const struct nic *nic, uint64_t *ticks)
{
	if (nic->control->unreadable)
		return -EIO;
	*ticks = ticks_at(nic, real_ns());
	return 0;
}

int rte_eth_read_clock(uint16_t port, uint64_t *ticks)
{
	const struct nic *nic = nic_of(port);

	if (nic == NULL)
		return REAL(rte_eth_read_clock)(port, ticks);
	return nic->is_ptp ? -ENOTSUP : read_counter(nic, ticks);
}

int rte_eth_timesync_enable(uint16_t port)
{
	const struct nic *nic = nic_of(port);

	return nic != NULL && nic->is_ptp ? 0 : REAL(rte_eth_timesync_enable)(port);
}

int rte_eth_timesync_read_time(uint16_t port, struct timespec *time)
{
	const struct nic *nic = nic_of(port);
	uint64_t ticks = 0;
	int result;

	if (nic == NULL || !nic->is_ptp)
		return REAL(rte_eth_timesync_read_time)(port, time);
	result = read_counter(nic, &ticks);
	time->tv_sec = (time_t)(ticks / 1000000000u);
	time->tv_nsec = (long)(ticks % 1000000000u);
	return result;
}

static int has_type(const uint8_t *at, unsigned type) { return (unsigned)(at[0] << 8 | at[1]) == type; }

/* Takes tags off, as NICs do that are told to, or never told not to: a customer tag, and one behind a service tag with it if both. */
static void strip(struct rte_mbuf *mbuf, int both)
{
	uint8_t *bytes = rte_pktmbuf_mtod(mbuf, uint8_t *);

	if (both && mbuf->data_len >= 22 && has_type(bytes + 12, RTE_ETHER_TYPE_QINQ) && has_type(bytes + 16, RTE_ETHER_TYPE_VLAN)) {
		mbuf->vlan_tci_outer = (uint16_t)(bytes[14] << 8 | bytes[15]);
		mbuf->vlan_tci = (uint16_t)(bytes[18] << 8 | bytes[19]);
		mbuf->ol_flags |= RTE_MBUF_F_RX_QINQ | RTE_MBUF_F_RX_QINQ_STRIPPED | RTE_MBUF_F_RX_VLAN | RTE_MBUF_F_RX_VLAN_STRIPPED;
		memmove(bytes + 8, bytes, 12);
		rte_pktmbuf_adj(mbuf, 8);
		return;
	}
	if (mbuf->data_len < 18 || !has_type(bytes + 12, RTE_ETHER_TYPE_VLAN))
		return;
	mbuf->vlan_tci = (uint16_t)(bytes[14] << 8 | bytes[15]);
	mbuf->ol_flags |= RTE_MBUF_F_RX_VLAN | RTE_MBUF_F_RX_VLAN_STRIPPED;
	memmove(bytes + 4, bytes, 12);
	rte_pktmbuf_adj(mbuf, 4);
}

static void arrive(const struct nic *nic, uint64_t index, uint16_t queue, struct rte_mbuf *mbuf)
{
	const struct frame *frame = &nic->frames[index];
	uint32_t hash = nic->control->fixed_hash != 0 ? (uint32_t)nic->control->fixed_hash : frame->hash;
	int is_missing = nic->missing != 0 && index % nic->missing == nic->missing - 1;
	int is_zero = nic->zero != 0 && index % nic->zero == nic->zero - 1;
	int is_late = nic->disorder_ns != 0 && index % 4 == 3;
	uint64_t ticks = 0, true_ns;

	memcpy(rte_pktmbuf_mtod(mbuf, void *), frame->bytes, frame->len);
	mbuf->data_len = (uint16_t)frame->len;
	mbuf->pkt_len = frame->len;
	mbuf->packet_type = frame->ptype;
	if (nic->strips)
		strip(mbuf, nic->strips == 2);
	if (frame->is_hashed && (nic->rx_offloads & RTE_ETH_RX_OFFLOAD_RSS_HASH)) {
		mbuf->hash.rss = hash;
		mbuf->ol_flags |= RTE_MBUF_F_RX_RSS_HASH;
	}
	true_ns = real_ns() - (uint64_t)nic->wait_ns - (uint64_t)(is_late ? nic->disorder_ns : 0);
	if (nic->rx_offloads & RTE_ETH_RX_OFFLOAD_TIMESTAMP) {
		ticks = is_zero ? 0 : ticks_at(nic, true_ns);
		*RTE_MBUF_DYNFIELD(mbuf, stamp_offset, rte_mbuf_timestamp_t *) = ticks;
		if (!is_missing)
			mbuf->ol_flags |= stamp_flag;
	}
	dprintf(nic->log, "rx %lu %lu %lu %d %u %u\n", (unsigned long)index, (unsigned long)true_ns, (unsigned long)ticks,
		!is_missing && !is_zero, queue, frame->is_hashed ? hash : 0);
}

/* The packets that the device makes become the frames that have arrived for this queue; the rest goes back. */
static uint16_t on_receive(uint16_t port, uint16_t queue, struct rte_mbuf **mbufs, uint16_t count, uint16_t most, void *argument)
{
	struct nic *nic = argument;
	uint64_t released = RTE_MIN(nic->control->released, (uint64_t)nic->count);
	uint16_t filled = 0;

	(void)port;
	(void)most;
	for (; filled < count && nic->next[queue] < released; nic->next[queue]++) {
		const struct frame *frame = &nic->frames[nic->next[queue]];

		/* what is not hashed comes by the first queue */
		if ((frame->is_hashed && nic->rx_queues > 1 ? frame->hash % RETA % nic->rx_queues : 0) == queue)
			arrive(nic, nic->next[queue], queue, mbufs[filled++]);
	}
	if (filled < count)
		rte_pktmbuf_free_bulk(mbufs + filled, count - filled);
	return filled;
}

static void sum_udp(struct rte_mbuf *mbuf)
{
	uint16_t l4 = (uint16_t)(mbuf->l2_len + mbuf->l3_len);
	struct rte_udp_hdr *udp = rte_pktmbuf_mtod_offset(mbuf, struct rte_udp_hdr *, l4);
	uint16_t raw = 0, sum;

	/* As NICs do: over what is there, the pseudo header's sum in the field included; the headers are not looked at. */
	if (rte_raw_cksum_mbuf(mbuf, l4, mbuf->pkt_len - l4, &raw) != 0)
		return;
	sum = (uint16_t)~raw;
	udp->dgram_cksum = sum == 0 ? 0xffff : sum;
}

static uint16_t on_transmit(uint16_t port, uint16_t queue, struct rte_mbuf **mbufs, uint16_t count, void *argument)
{
	struct nic *nic = argument;

	(void)port;
	if (nic->control->refusing)
		return 0;
	for (uint16_t i = 0; i < count; i++) {
		int asks = (mbufs[i]->ol_flags & RTE_MBUF_F_TX_L4_MASK) == RTE_MBUF_F_TX_UDP_CKSUM;

		if (asks && nic->sums)
			sum_udp(mbufs[i]);
		dprintf(nic->log, "tx %u %u %d\n", queue, mbufs[i]->nb_segs, asks);
	}
	return count;
}

int rte_eth_dev_start(uint16_t port)
{
	struct nic *nic = nic_of(port);
	int result = REAL(rte_eth_dev_start)(port);

	if (result != 0 || nic == NULL)
		return result;
	if (rte_mbuf_dyn_rx_timestamp_register(&stamp_offset, &stamp_flag) != 0)
		die("mbufs have no room", nic->name);
	for (uint16_t queue = 0; nic->count != 0 && queue < nic->rx_queues; queue++)
		nic->rx[queue] = rte_eth_add_rx_callback(port, queue, on_receive, nic);
	for (uint16_t queue = 0; queue < nic->tx_queues; queue++)
		nic->tx[queue] = rte_eth_add_tx_callback(port, queue, on_transmit, nic);
	return 0;
}

int rte_eth_dev_stop(uint16_t port)
{
	struct nic *nic = nic_of(port);

	for (uint16_t queue = 0; nic != NULL && queue < MOST_QUEUES; queue++) {
		if (nic->rx[queue] != NULL)
			rte_eth_remove_rx_callback(port, queue, nic->rx[queue]);
		if (nic->tx[queue] != NULL)
			rte_eth_remove_tx_callback(port, queue, nic->tx[queue]);
		nic->rx[queue] = nic->tx[queue] = NULL;
	}
	return REAL(rte_eth_dev_stop)(port);
}
