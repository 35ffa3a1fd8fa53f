/* A MODEL of Windows' header, NOT the system's: what aiopark.h uses of it, over Linux' clock, in ticks of 100 ns. */
#pragma once
#include <errno.h>
#include <stddef.h>
#include <stdint.h>
#include <time.h>

typedef uint32_t DWORD;
typedef union {
    int64_t QuadPart;
} LARGE_INTEGER;

#define INFINITE 0xffffffffu
#define ERROR_TIMEOUT 1460
#define GetLastError() ((DWORD)errno)

int WaitOnAddress(volatile void *address, void *compare, size_t size, uint32_t milliseconds);
void WakeByAddressAll(void *address);

static inline int QueryPerformanceFrequency(LARGE_INTEGER *frequency) {
    frequency->QuadPart = 10000000;
    return 1;
}

static inline int QueryPerformanceCounter(LARGE_INTEGER *ticks) {
    struct timespec now;
    clock_gettime(CLOCK_MONOTONIC, &now);
    ticks->QuadPart = (int64_t)now.tv_sec * 10000000 + now.tv_nsec / 100;
    return 1;
}
