/* A translation unit that uses all of aiopark.h; two of them are linked together. C and C++. */
#include "aiopark.h"

int NAME(uint32_t *word);

int NAME(uint32_t *word) {
    aiopark_prepare_park(word);
    aiopark_unpark(word);
    aiopark_park(word);
    aiopark_unpark_coalesced(word);
    if (aiopark_park_timeout(word, 0) != 1) return 1;
#ifndef _WIN32
    aiopark_shared_prepare_park(word);
    aiopark_shared_unpark(word);
    aiopark_shared_park(word);
    aiopark_shared_unpark_coalesced(word);
    if (aiopark_shared_park_timeout(word, 0) != 1) return 2;
#endif
    return 0;
}

#ifdef MAIN
int OTHER(uint32_t *word);

int main(void) {
    uint32_t word = 1;
    return NAME(&word) + OTHER(&word);
}
#endif
