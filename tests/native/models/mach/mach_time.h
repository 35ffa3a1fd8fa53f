/* A MODEL of macOS' header, NOT the system's: what aiopark.h uses of it, over Linux' clock, in ticks of 125/3 ns. */
#include <stdint.h>
#include <time.h>

typedef struct {
    uint32_t numer, denom;
} mach_timebase_info_data_t;

static inline int mach_timebase_info(mach_timebase_info_data_t *base) {
    base->numer = 125;
    base->denom = 3;
    return 0;
}

static inline uint64_t mach_absolute_time(void) {
    struct timespec now;
    clock_gettime(CLOCK_MONOTONIC, &now);
    return ((uint64_t)now.tv_sec * 1000000000u + (uint64_t)now.tv_nsec) * 3 / 125;
}
