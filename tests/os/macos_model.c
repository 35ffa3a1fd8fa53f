/*
 * A MODEL of macOS' wait on an address, NOT the system: the documented functions and errno rules
 * (libplatform: os_sync_wait_on_address.h, src/os/lock.c; xnu: bsd/sys/ulock.h, bsd/kern/sys_ulock.c),
 * kept over Linux' futex, so that the code for macOS runs somewhere else too.
 *
 * Which generation is exported: -DOS_SYNC, -DULOCK_WAIT2, -DULOCK_WAIT, any of them together, or none.
 *
 * The rules that are kept:
 *  - the value is compared with the cell as 64 bits, the cell zero-extended;
 *  - a wait gives >= 0 when woken and when the values differ, otherwise -1 and errno: EINTR, ETIMEDOUT,
 *    EFAULT, ENOMEM, or EINVAL for a size other than 4 and 8, unknown flags or operations, a clock other than 32,
 *    and, os_sync only, a timeout of 0;
 *  - for __ulock_wait and __ulock_wait2 a timeout of 0 is for ever;
 *  - a wake gives 0, or -1 and ENOENT if nobody waited.
 * Not modelled: cells of 8 bytes (ENOTSUP), and EDOM for operations that do not match.
 */
#define _GNU_SOURCE
#include <errno.h>
#include <limits.h>
#include <linux/futex.h>
#include <stdatomic.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/syscall.h>
#include <unistd.h>

#define FOREVER UINT64_MAX
#define SYNC_SHARED 1u
#define CLOCK_MACH_ABSOLUTE 32u
#define UL_COMPARE_AND_WAIT 1u
#define UL_COMPARE_AND_WAIT_SHARED 3u
#define ULF_WAKE_ALL 0x100u

/* For the tests: the errno of the next wait or wake, and what the last wait was given. */
static _Atomic int next_wait_error, next_wake_error;
static _Atomic uint64_t last_timeout;

void model_fail_next_wait(int error) { next_wait_error = error; }
void model_fail_next_wake(int error) { next_wake_error = error; }
uint64_t model_last_timeout(void) { return last_timeout; }

static int fail(int error)
{
    errno = error;
    return -1;
}

static int wait_on(void *address, uint64_t value, int shared, uint64_t nanoseconds)
{
    int error = atomic_exchange(&next_wait_error, 0);
    if (error)
        return fail(error);
    if (value > UINT32_MAX) /* the zero-extended cell never equals it */
        return 1;
    /* The kernel's timespec: that of the C library may have 64 bits where this call takes 32. */
    long relative[2] = {(long)(nanoseconds / 1000000000u), (long)(nanoseconds % 1000000000u)};
    long result = syscall(SYS_futex, address, shared ? FUTEX_WAIT : FUTEX_WAIT_PRIVATE, (uint32_t)value,
                          nanoseconds == FOREVER ? NULL : relative, NULL, 0);
    if (result == 0 || errno == EAGAIN)
        return 1; /* "how many are left": any number from 0 */
    return -1;
}

static int wake_on(void *address, int shared, int count)
{
    int error = atomic_exchange(&next_wake_error, 0);
    if (error)
        return fail(error);
    long woken = syscall(SYS_futex, address, shared ? FUTEX_WAKE : FUTEX_WAKE_PRIVATE, count, NULL, NULL, 0);
    if (woken < 0)
        return -1;
    return woken > 0 ? 0 : fail(ENOENT);
}

#ifdef OS_SYNC
static int wrong(size_t size, uint32_t flags)
{
    if ((size != 4 && size != 8) || (flags & ~SYNC_SHARED))
        return EINVAL;
    return size == 4 ? 0 : ENOTSUP;
}

int os_sync_wait_on_address(void *address, uint64_t value, size_t size, uint32_t flags)
{
    int error = wrong(size, flags);
    return error ? fail(error) : wait_on(address, value, flags & SYNC_SHARED, FOREVER);
}

int os_sync_wait_on_address_with_timeout(void *address, uint64_t value, size_t size, uint32_t flags, uint32_t clock,
                                         uint64_t nanoseconds)
{
    last_timeout = nanoseconds;
    int error = wrong(size, flags);
    if (!error && (clock != CLOCK_MACH_ABSOLUTE || nanoseconds == 0))
        error = EINVAL;
    return error ? fail(error) : wait_on(address, value, flags & SYNC_SHARED, nanoseconds);
}

int os_sync_wake_by_address_any(void *address, size_t size, uint32_t flags)
{
    int error = wrong(size, flags);
    return error ? fail(error) : wake_on(address, flags & SYNC_SHARED, 1);
}

int os_sync_wake_by_address_all(void *address, size_t size, uint32_t flags)
{
    int error = wrong(size, flags);
    return error ? fail(error) : wake_on(address, flags & SYNC_SHARED, INT_MAX);
}
#endif

#if defined(ULOCK_WAIT2) || defined(ULOCK_WAIT)
static int known(uint32_t operation)
{
    return operation == UL_COMPARE_AND_WAIT || operation == UL_COMPARE_AND_WAIT_SHARED;
}

int __ulock_wake(uint32_t operation, void *address, uint64_t value)
{
    uint32_t plain = operation & ~ULF_WAKE_ALL;
    (void)value; /* a thread's port with ULF_WAKE_THREAD, which nobody passes */
    if (!known(plain))
        return fail(EINVAL);
    return wake_on(address, plain == UL_COMPARE_AND_WAIT_SHARED, operation & ULF_WAKE_ALL ? INT_MAX : 1);
}
#endif

#ifdef ULOCK_WAIT2
int __ulock_wait2(uint32_t operation, void *address, uint64_t value, uint64_t nanoseconds, uint64_t value2)
{
    last_timeout = nanoseconds;
    if (!known(operation) || value2 != 0)
        return fail(EINVAL);
    return wait_on(address, value, operation == UL_COMPARE_AND_WAIT_SHARED, nanoseconds ? nanoseconds : FOREVER);
}
#endif

#ifdef ULOCK_WAIT
int __ulock_wait(uint32_t operation, void *address, uint64_t value, uint32_t microseconds)
{
    last_timeout = microseconds;
    if (!known(operation))
        return fail(EINVAL);
    return wait_on(address, value, operation == UL_COMPARE_AND_WAIT_SHARED,
                   microseconds ? microseconds * (uint64_t)1000 : FOREVER);
}
#endif
