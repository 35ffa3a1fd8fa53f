/*
 * A MODEL of Windows' wait on an address, NOT the system: what learn.microsoft.com documents of WaitOnAddress and
 * WakeByAddress*, kept over Linux' futex, so that the code for Windows runs somewhere else too.
 *
 * The rules that are kept: the cell is compared with the contents of another address; TRUE for woken and for
 * different values; FALSE and ERROR_TIMEOUT, here in errno, when the milliseconds are over; INFINITE is for ever;
 * a wake gives nothing back; and nothing interrupts the wait (Windows has no EINTR). Cells of 1, 2 and 8 bytes,
 * which Windows has too, are ERROR_INVALID_PARAMETER here.
 */
#define _GNU_SOURCE
#include <errno.h>
#include <limits.h>
#include <linux/futex.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/syscall.h>
#include <time.h>
#include <unistd.h>

#define INFINITE 0xffffffffu
#define ERROR_INVALID_PARAMETER 87
#define ERROR_TIMEOUT 1460

int WaitOnAddress(volatile void *address, void *compare, size_t size, uint32_t milliseconds)
{
    struct timespec deadline;
    if (size != 4) {
        errno = ERROR_INVALID_PARAMETER;
        return 0;
    }
    clock_gettime(CLOCK_MONOTONIC, &deadline);
    deadline.tv_sec += milliseconds / 1000;
    deadline.tv_nsec += (long)(milliseconds % 1000) * 1000000;
    if (deadline.tv_nsec >= 1000000000) {
        deadline.tv_sec += 1;
        deadline.tv_nsec -= 1000000000;
    }
    /* The kernel's timespec: that of the C library may have 64 bits where this call takes 32. */
    long at[2] = {(long)deadline.tv_sec, deadline.tv_nsec};
    for (;;) {
        long result = syscall(SYS_futex, address, FUTEX_WAIT_BITSET_PRIVATE, *(uint32_t *)compare,
                              milliseconds == INFINITE ? NULL : at, NULL, FUTEX_BITSET_MATCH_ANY);
        if (result == 0 || errno == EAGAIN)
            return 1;
        if (errno == ETIMEDOUT) {
            errno = ERROR_TIMEOUT;
            return 0;
        }
        if (errno != EINTR)
            return 0;
    }
}

void WakeByAddressSingle(void *address)
{
    syscall(SYS_futex, address, FUTEX_WAKE_PRIVATE, 1, NULL, NULL, 0);
}

void WakeByAddressAll(void *address)
{
    syscall(SYS_futex, address, FUTEX_WAKE_PRIVATE, INT_MAX, NULL, NULL, 0);
}
