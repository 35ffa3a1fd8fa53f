/* SPDX-License-Identifier: MIT */
/* aiopark.h: park and unpark on a word, for native code that shares the word with aiopark's Python side.
 *
 * Header only. C11 and C++17; Linux, Windows 8 and later (link with -lsynchronization), macOS 10.12 and later.
 *
 * The word is a uint32_t, aligned to 4 bytes: 1 = parked (no permit), 0 = unparked (permit); no other value. At most
 * one permit is stored. A word has one owner that parks, one thread at a time; anyone unparks. In Python the same
 * word is an `aiopark.Word`; its `address` is what these functions take.
 *
 * `shared` is 0 for memory of this process, and 1 for memory that several processes map. Everybody who uses a word
 * says the same, Python's `Word.shared` included: the kernel keeps private and shared sleepers apart.
 *
 * Memory ordering. An unpark is an exchange with release: what was written before it is seen by whoever takes the
 * permit, and since it is an exchange that also holds when several unparks made this one permit. The owner takes the
 * permit by an exchange that stores 1, and a full fence: nothing after it is read before the 1 is visible, so an unpark
 * that comes later is never overwritten unseen, even one by a plain store. The kernel compares the word and goes to
 * sleep in one step, and no wake that follows a store misses a sleeper which compared before it.
 *
 * Errors. An interrupted call, a spurious wake-up and a changed word mean "look again" and are never visible. Whatever
 * else a wait fails with means misuse: a word that is not aligned or not mapped, or a sandbox without the system call.
 * Spinning would hide that and returning would claim a permit, so it is abort(), as for a failed assertion. errno stays
 * what it was.
 */
#ifndef AIOPARK_H
#define AIOPARK_H

#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>

#if defined(_WIN32)
#ifndef WIN32_LEAN_AND_MEAN
#define WIN32_LEAN_AND_MEAN
#endif
#ifndef NOMINMAX
#define NOMINMAX
#endif
#include <windows.h>
#elif defined(__APPLE__)
#include <errno.h>
#include <mach/mach_time.h>
#elif defined(__linux__)
#include <errno.h>
#include <sys/syscall.h>
#include <unistd.h>
#else
#error "aiopark.h knows Linux, Windows and macOS"
#endif

#ifdef __cplusplus
extern "C" {
#endif

/* ---- The atomic accesses. Compiler builtins and not <stdatomic.h>, so that the word is a plain uint32_t, C++ too. */

/* Load with acquire. */
static inline uint32_t aiopark_detail_load(uint32_t *word) {
#if defined(__GNUC__) || defined(__clang__)
    return __atomic_load_n(word, __ATOMIC_ACQUIRE);
#else
    return (uint32_t)InterlockedCompareExchange((volatile LONG *)word, 0, 0);
#endif
}

/* Exchange, sequentially consistent, so both acquire and release. Gives the old value. */
static inline uint32_t aiopark_detail_exchange(uint32_t *word, uint32_t value) {
#if defined(__GNUC__) || defined(__clang__)
    return __atomic_exchange_n(word, value, __ATOMIC_SEQ_CST);
#else
    return (uint32_t)InterlockedExchange((volatile LONG *)word, (LONG)value);
#endif
}

/* A full fence: on arm64 even a sequentially consistent exchange lets later plain loads pass its store. */
static inline void aiopark_detail_fence(void) {
#if defined(__GNUC__) || defined(__clang__)
    __atomic_thread_fence(__ATOMIC_SEQ_CST);
#else
    MemoryBarrier();
#endif
}

/* ---- The operating system: a monotonic clock in nanoseconds, a wait, a wake.
 *
 * aiopark_detail_wait sleeps while the word is 1, at most until the clock reaches `until`; forever if that is
 * negative. `now` is a recent time of the clock. The caller keeps until - now within AIOPARK_DETAIL_LONGEST_WAIT. */

/* One hour: what every kernel's argument holds (__ulock_wait: 71 minutes). Longer waits go round again. */
#define AIOPARK_DETAIL_LONGEST_WAIT (INT64_C(3600) * 1000 * 1000 * 1000)

#if defined(_WIN32)

#if defined(_MSC_VER)
#pragma comment(lib, "synchronization.lib")
#endif

static inline int64_t aiopark_detail_now(void) {
    LARGE_INTEGER ticks, frequency;
    QueryPerformanceCounter(&ticks);
    QueryPerformanceFrequency(&frequency);
    return ticks.QuadPart / frequency.QuadPart * 1000000000 +
           ticks.QuadPart % frequency.QuadPart * 1000000000 / frequency.QuadPart;
}

/* WaitOnAddress reaches the threads of this process only, whatever `shared` says: there is no call for more. */
static inline void aiopark_detail_wait(uint32_t *word, int64_t now, int64_t until, int shared) {
    uint32_t parked = 1;
    /* Rounded up, and far below INFINITE. */
    DWORD milliseconds = until < 0 ? INFINITE : (DWORD)((until - now + 999999) / 1000000);
    (void)shared;
    if (!WaitOnAddress(word, &parked, sizeof parked, milliseconds) && GetLastError() != ERROR_TIMEOUT) abort();
}

static inline void aiopark_detail_wake(uint32_t *word, int shared) {
    (void)shared;
    WakeByAddressSingle(word);
}

#elif defined(__APPLE__)

/* Not os_sync_wait_on_address (14.4): it goes to the same queues of the kernel with the same operation codes, so both
 * meet on one word, but a header that uses it would not link with older SDKs. Apple's C++ library uses these too. */
int __ulock_wait(uint32_t operation, void *address, uint64_t value, uint32_t microseconds);
int __ulock_wake(uint32_t operation, void *address, uint64_t wake_value);

/* The clock of Python's time.monotonic(). */
static inline int64_t aiopark_detail_now(void) {
    mach_timebase_info_data_t base;
    uint64_t ticks = mach_absolute_time();
    mach_timebase_info(&base);
    return (int64_t)(ticks / base.denom * base.numer + ticks % base.denom * base.numer / base.denom);
}

static inline void aiopark_detail_wait(uint32_t *word, int64_t now, int64_t until, int shared) {
    int before = errno;
    /* Rounded up; zero would wait forever. 1 and 3: UL_COMPARE_AND_WAIT and its _SHARED. */
    uint32_t microseconds = until < 0 ? 0 : (uint32_t)((until - now + 999) / 1000);
    /* EFAULT: the page is not resident; the next look at the word brings it in. ENOMEM: try again. */
    if (__ulock_wait(shared ? 3 : 1, word, 1, microseconds) < 0 && errno != EINTR && errno != ETIMEDOUT &&
        errno != EFAULT && errno != ENOMEM) abort();
    errno = before;
}

/* ENOENT: nobody waits. Other errors: see Linux' wake. */
static inline void aiopark_detail_wake(uint32_t *word, int shared) {
    int before = errno;
    if (__ulock_wake(shared ? 3 : 1, word, 0) < 0 && errno == ENOSYS) abort();
    errno = before;
}

#else /* Linux */

#if defined(__STRICT_ANSI__) && !defined(__cplusplus)
long syscall(long number, ...); /* -std=c11 hides it */
#endif

/* The timespecs are the kernel's, never the C library's, whose time_t may have 64 bits where the call takes 32: a pair
 * of longs for futex and clock_gettime, and of int64_t for their _time64 twins. Those exist on 32-bit machines only,
 * and are the only ones on the newest of them. */
#if defined(__x86_64__) && defined(__ILP32__)
typedef int64_t aiopark_detail_long; /* x32 */
#else
typedef long aiopark_detail_long;
#endif
#define AIOPARK_DETAIL_FUTEX_TIME64 422
#define AIOPARK_DETAIL_CLOCK_GETTIME64 403

/* CLOCK_MONOTONIC, that of Python's time.monotonic(). By system call: -std=c11 hides clock_gettime, and with it which
 * of its two forms it would be. Only who is about to sleep reads it. */
static inline int64_t aiopark_detail_now(void) {
    int before = errno;
    int64_t at64[2];
#if defined(SYS_clock_gettime) && SYS_clock_gettime != AIOPARK_DETAIL_CLOCK_GETTIME64
    aiopark_detail_long at[2];
    if (syscall(SYS_clock_gettime, 1L, at) == 0) return (int64_t)at[0] * 1000000000 + at[1];
#endif
    if (syscall(AIOPARK_DETAIL_CLOCK_GETTIME64, 1L, at64) != 0) abort();
    errno = before;
    return at64[0] * 1000000000 + at64[1];
}

/* Give 0 or the error number. The flag 128 is FUTEX_PRIVATE_FLAG, the last argument FUTEX_BITSET_MATCH_ANY. */
static inline int aiopark_detail_futex(uint32_t *word, long operation, int64_t until, int shared) {
    int before = errno, error = ENOSYS;
    long call = operation | (shared ? 0 : 128);
#if defined(SYS_futex) && SYS_futex != AIOPARK_DETAIL_FUTEX_TIME64
    aiopark_detail_long at[2] = {(aiopark_detail_long)(until / 1000000000), (aiopark_detail_long)(until % 1000000000)};
    error = syscall(SYS_futex, word, call, 1L, until < 0 ? NULL : at, NULL, -1L) < 0 ? errno : 0;
#endif
    if (error == ENOSYS && sizeof(void *) == 4) {
        int64_t at64[2] = {until / 1000000000, until % 1000000000};
        long result = syscall(AIOPARK_DETAIL_FUTEX_TIME64, word, call, 1L, until < 0 ? NULL : at64, NULL, -1L);
        error = result < 0 ? errno : 0;
    }
    errno = before;
    return error;
}

static inline void aiopark_detail_wait(uint32_t *word, int64_t now, int64_t until, int shared) {
    /* FUTEX_WAIT_BITSET: its time is absolute, on CLOCK_MONOTONIC. */
    int error = aiopark_detail_futex(word, 9, until, shared);
    (void)now;
    if (error != 0 && error != EAGAIN && error != EINTR && error != ETIMEDOUT) abort();
}

/* FUTEX_WAKE, one. Errors about the address are not ours: the word was just written, so its owner, who saw that, has
 * since given the memory back or to another use. Nobody sleeps there, and at worst a stranger looks again. */
static inline void aiopark_detail_wake(uint32_t *word, int shared) {
    if (aiopark_detail_futex(word, 1, -1, shared) == ENOSYS) abort();
}

#endif

/* Take the permit if there is one: 1, or 0. Owner only. */
static inline int aiopark_detail_take(uint32_t *word) {
    if (aiopark_detail_load(word) != 0) return 0; /* Pairs with: the release in whoever stored 0. */
    aiopark_detail_exchange(word, 1);             /* Acquires from an unpark that came since the load, too. */
    aiopark_detail_fence();                       /* Pairs with: "data = x; word = 0" of an unpark by a plain store. */
    return 1;
}

/* ---- What you call. */

/* Drop a stale permit: what was unparked before no longer counts.
 *
 * For the owner. Does not block. Stores 1, then a full fence, since "prepare, look at the data, park" may follow.
 * Pairs with: the release in aiopark_unpark and Word.unpark. */
static inline void aiopark_prepare_park(uint32_t *word) {
    aiopark_detail_exchange(word, 1);
    aiopark_detail_fence();
}

/* Sleep until there is a permit, and take it.
 *
 * For the owner. Blocks; gives up no lock of Python's, so release the GIL before. Acquire, then a full fence.
 * Pairs with: the release in aiopark_unpark and Word.unpark. */
static inline void aiopark_park(uint32_t *word, int shared) {
    while (!aiopark_detail_take(word)) aiopark_detail_wait(word, 0, -1, shared);
}

/* Sleep until there is a permit, and take it, or until `ns` nanoseconds have passed.
 *
 * Gives 1: unparked, the permit is taken; 0: timed out, never early. In a tie the unpark wins. ns <= 0 only looks. The
 * deadline is computed once, on a monotonic clock; one past the end of that clock is 292 years away.
 *
 * For the owner. Blocks, as aiopark_park does, unless ns <= 0. Memory ordering of aiopark_park if it gives 1, none
 * that counts if it gives 0. Pairs with: the release in aiopark_unpark and Word.unpark. */
static inline int aiopark_park_timeout(uint32_t *word, int64_t ns, int shared) {
    int64_t now, deadline;
    if (aiopark_detail_take(word)) return 1;
    if (ns <= 0) return 0;
    now = aiopark_detail_now();
    deadline = ns > INT64_MAX - now ? INT64_MAX : now + ns;
    while (!aiopark_detail_take(word)) { /* the permit first, the clock second */
        now = aiopark_detail_now();
        if (now >= deadline) return 0;
        aiopark_detail_wait(word, now,
                            deadline - now > AIOPARK_DETAIL_LONGEST_WAIT ? now + AIOPARK_DETAIL_LONGEST_WAIT : deadline,
                            shared);
    }
    return 1;
}

/* Deposit the permit, and wake the owner if it sleeps.
 *
 * For anyone: any thread, any process that maps the word, on Linux and macOS a signal handler. Never blocks. Release.
 * Pairs with: the acquire in aiopark_park and ThreadParker.park, and the kernel's comparison.
 *
 * It wakes even if a permit was there already. Skipping that would be safe if whoever stored the earlier 0 always woke;
 * but in Python Word.store(0) wakes nobody, an UnparkHandle may wake late or never, and a process can die between the
 * two steps. The owner may then still sleep, and this unpark is the one that wakes it.
 *
 * The word is not touched after the store: the wake passes on only its address. So the owner may free it once it has
 * the permit. */
static inline void aiopark_unpark(uint32_t *word, int shared) {
    aiopark_detail_exchange(word, 0);
    aiopark_detail_wake(word, shared);
}

#ifdef __cplusplus
}
#endif

#endif
