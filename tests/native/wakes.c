/* Which calls of aiopark.h make a system call. Linked with --wrap for what the header calls, here are the wrappers that
 * count. Ends with 0, or with the line of what failed. */
#define _GNU_SOURCE
#include "aiopark.h"

#include <stdarg.h>

#define CHECK(condition) \
    do { \
        if (!(condition)) return 1 + __LINE__ % 250; \
    } while (0)

static int wakes;

#if defined(_WIN32)
void __wrap_WakeByAddressAll(void *address);
void __wrap_WakeByAddressAll(void *address) {
    (void)address;
    wakes++;
}
#elif defined(__APPLE__)
int __wrap___ulock_wake(uint32_t operation, void *address, uint64_t wake_value);
int __wrap___ulock_wake(uint32_t operation, void *address, uint64_t wake_value) {
    (void)operation;
    (void)address;
    (void)wake_value;
    wakes++;
    return 0;
}
#else
long __wrap_syscall(long number, ...);
long __wrap_syscall(long number, ...) {
    va_list arguments;
    long operation;
    va_start(arguments, number);
    (void)va_arg(arguments, uint32_t *);
    operation = va_arg(arguments, long);
    va_end(arguments);
    if (number != SYS_futex || operation != 1) abort(); /* FUTEX_WAKE, and no FUTEX_PRIVATE_FLAG */
    wakes++;
    return 0;
}
#endif

static int count(void (*unpark)(uint32_t *), void (*unpark_coalesced)(uint32_t *)) {
    uint32_t word = 1;
    wakes = 0;
    unpark_coalesced(&word);
    CHECK(wakes == 1 && word == 0); /* somebody may sleep */
    unpark_coalesced(&word);
    CHECK(wakes == 1 && word == 0); /* nobody does */
    unpark(&word);
    CHECK(wakes == 2 && word == 0);
    CHECK(aiopark_park_timeout(&word, 0) == 1 && word == 1);
    unpark_coalesced(&word);
    CHECK(wakes == 3 && word == 0);
    aiopark_park(&word);
    CHECK(wakes == 3 && word == 1);
    unpark(&word);
    unpark_coalesced(&word);
    CHECK(wakes == 4 && word == 0);
    aiopark_prepare_park(&word);
    unpark_coalesced(&word);
    CHECK(wakes == 5 && word == 0);
    word = 7; /* any other value counts as no permit */
    unpark_coalesced(&word);
    CHECK(wakes == 6 && word == 0);
    return 0;
}

int main(void) {
    int failed = count(aiopark_unpark, aiopark_unpark_coalesced);
#ifndef _WIN32
    if (!failed) failed = count(aiopark_shared_unpark, aiopark_shared_unpark_coalesced);
#endif
    return failed;
}
