/* A translation unit that uses all of aiopark.h; two of them are linked together. C and C++. */
#include "aiopark.h"

int NAME(uint32_t *word);

int NAME(uint32_t *word) {
    aiopark_prepare_park(word);
    aiopark_unpark(word, 0);
    aiopark_park(word, 0);
    return aiopark_park_timeout(word, 0, 1);
}

#ifdef MAIN
int OTHER(uint32_t *word);

int main(void) {
    uint32_t word = 1;
    return NAME(&word) + OTHER(&word);
}
#endif
