/* rte_acl over bursts of packets: a parse of each to its 5-tuple, then one classification of all IPv4 and one of all IPv6 keys. */
#include <stddef.h>
#include <string.h>

#include <rte_acl.h>
#include <rte_cpuflags.h>
#include <rte_eal.h>
#include <rte_errno.h>
#include <rte_memory.h>
#include <rte_vect.h>

enum { MOST = 64, NO_PORTS = 0x80, FIELDS4 = 5, FIELDS6 = 11 };

/* Addresses and ports as in the packet. The protocol has NO_PORTS set in fragments but the first, which rules for ports do not match. */
struct key4 {
	uint8_t protocol, unused[3];
	uint8_t addresses[8];
	uint8_t ports[4];
};

struct key6 {
	uint8_t protocol, unused[3];
	uint8_t addresses[32];
	uint8_t ports[4];
};

struct packet {
	const uint8_t *bytes;
	uint32_t len;
};

/* As `Rule` in lib.rs. IPv4 addresses are in the first word. */
struct rule {
	uint32_t source[4], destination[4];
	uint32_t source_bits, destination_bits;
	uint16_t source_ports[2], destination_ports[2];
	uint8_t is_v6, protocol, has_ports, unused;
};

int tapline_acl_eal(void)
{
	char *args[] = { "acl", "--no-huge", "--no-shconf", "-m", "64", "--no-pci", "--no-telemetry", "--log-level=lib.eal:error", NULL };
	return rte_eal_init(8, args);
}

/* The algorithm that the processor can run at best: rte_acl's number of it. */
int tapline_acl_algorithm(void)
{
	if (rte_vect_get_max_simd_bitwidth() < RTE_VECT_SIMD_512)
		rte_vect_set_max_simd_bitwidth(RTE_VECT_SIMD_512);
	if (rte_cpu_get_flag_enabled(RTE_CPUFLAG_AVX512F) > 0 && rte_cpu_get_flag_enabled(RTE_CPUFLAG_AVX512VL) > 0 &&
	    rte_cpu_get_flag_enabled(RTE_CPUFLAG_AVX512CD) > 0 && rte_cpu_get_flag_enabled(RTE_CPUFLAG_AVX512BW) > 0)
		return RTE_ACL_CLASSIFY_AVX512X32;
	return rte_cpu_get_flag_enabled(RTE_CPUFLAG_AVX2) > 0 ? RTE_ACL_CLASSIFY_AVX2 : RTE_ACL_CLASSIFY_SSE;
}

static void define(struct rte_acl_config *config, uint8_t type, uint8_t size, uint8_t input, uint32_t offset)
{
	uint32_t at = config->num_fields++;
	config->defs[at] = (struct rte_acl_field_def){ type, size, (uint8_t)at, input, offset };
}

static uint32_t word_bits(uint32_t bits, int word)
{
	int left = (int)bits - 32 * word;
	return left <= 0 ? 0 : left >= 32 ? 32 : (uint32_t)left;
}

/* The rules for one version of IP, of which those before others take precedence; their numbers plus 1 are the results. */
void *tapline_acl_build(const char *name, const struct rule *rules, uint32_t count, int is_v6)
{
	int words = is_v6 ? 4 : 1, fields = is_v6 ? FIELDS6 : FIELDS4;
	struct rte_acl_param param = { name, SOCKET_ID_ANY, RTE_ACL_RULE_SZ(fields), count };
	struct rte_acl_ctx *ctx = rte_acl_create(&param);
	RTE_ACL_RULE_DEF(full, FIELDS6) full;
	if (ctx == NULL)
		return NULL;
	for (uint32_t number = 0; number < count; number++) {
		const struct rule *rule = &rules[number];
		struct rte_acl_field *field = full.field;
		if (rule->is_v6 != is_v6)
			continue;
		memset(&full, 0, sizeof(full));
		full.data = (struct rte_acl_rule_data){ 1, (int32_t)(RTE_ACL_MAX_PRIORITY - number), number + 1 };
		field->value.u8 = rule->protocol;
		(field++)->mask_range.u8 = rule->has_ports ? 0xff : (uint8_t)~NO_PORTS;
		for (int word = 0; word < words; word++, field++) {
			field->value.u32 = rule->source[word];
			field->mask_range.u32 = word_bits(rule->source_bits, word);
		}
		for (int word = 0; word < words; word++, field++) {
			field->value.u32 = rule->destination[word];
			field->mask_range.u32 = word_bits(rule->destination_bits, word);
		}
		field->value.u16 = rule->source_ports[0];
		(field++)->mask_range.u16 = rule->source_ports[1];
		field->value.u16 = rule->destination_ports[0];
		field->mask_range.u16 = rule->destination_ports[1];
		if (rte_acl_add_rules(ctx, (const struct rte_acl_rule *)&full, 1) != 0)
			return NULL;
	}
	struct rte_acl_config config = { .num_categories = 1 };
	define(&config, RTE_ACL_FIELD_TYPE_BITMASK, 1, 0, offsetof(struct key4, protocol));
	for (int word = 0; word < 2 * words; word++)
		define(&config, RTE_ACL_FIELD_TYPE_MASK, 4, (uint8_t)(1 + word), 4 + 4 * word);
	define(&config, RTE_ACL_FIELD_TYPE_RANGE, 2, (uint8_t)(1 + 2 * words), 4 + 8 * words);
	define(&config, RTE_ACL_FIELD_TYPE_RANGE, 2, (uint8_t)(1 + 2 * words), 6 + 8 * words);
	return rte_acl_build(ctx, &config) == 0 ? ctx : NULL;
}

void tapline_acl_free(void *ctx)
{
	rte_acl_free(ctx);
}

/* Results, 0 for packets that no rule matches, of at most MOST packets. Either context may be NULL: it has no rules. */
int tapline_acl_classify(void *v4, void *v6, int algorithm, const struct packet *packets, uint32_t count, uint32_t *results)
{
	struct key4 keys4[MOST];
	struct key6 keys6[MOST];
	const uint8_t *data4[MOST], *data6[MOST];
	uint8_t from4[MOST], from6[MOST];
	uint32_t found[MOST];
	uint32_t count4 = 0, count6 = 0;
	int status = 0;
	for (uint32_t at = 0; at < count; at++) {
		const uint8_t *bytes = packets[at].bytes;
		uint32_t len = packets[at].len;
		results[at] = 0;
		if (len < 38)
			continue;
		if (bytes[12] == 0x08 && bytes[13] == 0x00) {
			uint32_t ports = 14 + 4 * (bytes[14] & 0xf);
			int is_later = (bytes[20] & 0x1f) != 0 || bytes[21] != 0;
			struct key4 *key = &keys4[count4];
			if (ports + 4 > len)
				continue;
			key->protocol = (uint8_t)(bytes[23] | (is_later ? NO_PORTS : 0));
			memcpy(key->addresses, bytes + 26, 8);
			memcpy(key->ports, bytes + ports, 4);
			data4[count4] = &key->protocol;
			from4[count4++] = (uint8_t)at;
		} else if (bytes[12] == 0x86 && bytes[13] == 0xdd) {
			struct key6 *key = &keys6[count6];
			if (len < 58)
				continue;
			key->protocol = bytes[20];
			memcpy(key->addresses, bytes + 22, 32);
			memcpy(key->ports, bytes + 54, 4);
			data6[count6] = &key->protocol;
			from6[count6++] = (uint8_t)at;
		}
	}
	if (v4 != NULL && count4 > 0) {
		status |= rte_acl_classify_alg(v4, data4, found, count4, 1, algorithm);
		for (uint32_t at = 0; at < count4; at++)
			results[from4[at]] = found[at];
	}
	if (v6 != NULL && count6 > 0) {
		status |= rte_acl_classify_alg(v6, data6, found, count6, 1, algorithm);
		for (uint32_t at = 0; at < count6; at++)
			results[from6[at]] = found[at];
	}
	return status;
}
