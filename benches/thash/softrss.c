/* rte_softrss over a burst of tuples of three words in host order; `key` is as the RSS specification prints it. */
#include <rte_thash.h>

void tapline_softrss(const uint8_t *key, uint32_t (*tuples)[3], uint32_t *hashes, uint32_t count)
{
	for (uint32_t i = 0; i < count; i++)
		hashes[i] = rte_softrss(tuples[i], 3, key);
}

/* rte_softrss_be: `key` converted by rte_convert_rss_key. */
void tapline_softrss_be(const uint8_t *key, uint32_t (*tuples)[3], uint32_t *hashes, uint32_t count)
{
	for (uint32_t i = 0; i < count; i++)
		hashes[i] = rte_softrss_be(tuples[i], 3, key);
}

void tapline_convert_key(const uint32_t *key, uint32_t *converted, int len)
{
	rte_convert_rss_key(key, converted, len);
}
