/* rte_thash_gfni_bulk over a burst of tuples of 12 bytes in network order; to be called only where the processor has GFNI and AVX-512. */
#include <rte_thash.h>

enum { MOST = 64 };

int tapline_gfni_is_compiled(void)
{
#ifdef RTE_THASH_GFNI_DEFINED
	return 1;
#else
	return 0;
#endif
}

void tapline_gfni_matrices(uint64_t *matrices, const uint8_t *key, int len)
{
	rte_thash_complete_matrix(matrices, key, len);
}

void tapline_gfni(const uint64_t *matrices, uint8_t (*tuples)[12], uint32_t *hashes, uint32_t count)
{
	uint8_t *places[MOST];
	for (uint32_t i = 0; i < count && i < MOST; i++)
		places[i] = tuples[i];
	rte_thash_gfni_bulk(matrices, 12, places, hashes, count < MOST ? count : MOST);
}
