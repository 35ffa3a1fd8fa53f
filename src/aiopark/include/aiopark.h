/* SPDX-License-Identifier: MIT */
/* aiopark.h: park and unpark on a word, for native code that shares the word with aiopark's Python side.
 *
 * Header only. C11 and C++17; Linux, Windows 8 and later (link with -lsynchronization), macOS 10.12 and later.
 *
 * The word is a uint32_t, aligned to 4 bytes: 1 = parked (no permit), 0 = unparked (permit). Any other value counts as
 * no permit, and nothing here stores one. At most one permit is stored. A word has one owner that parks, one thread at
 * a time; anyone unparks. In Python the same word is an `aiopark.Word`; its `address` is what these functions take.
 *
 * Two sets of the same functions:
 *
 *     aiopark_prepare_park(word)               aiopark_shared_prepare_park(word)
 *     aiopark_park(word)                       aiopark_shared_park(word)
 *     aiopark_park_timeout(word, nanoseconds)  aiopark_shared_park_timeout(word, nanoseconds)
 *     aiopark_unpark(word)                     aiopark_shared_unpark(word)
 *     aiopark_unpark_coalesced(word)           aiopark_shared_unpark_coalesced(word)
 *
 * The left one is for memory of this process, the right one for memory that several processes map. On Linux both do the
 * same. On macOS the kernel keeps the two kinds of sleepers apart: there, everybody who uses a word takes the same set,
 * and Python's `Word.shared` says the same. On Windows the right one does not compile.
 *
 * Memory ordering. Every unpark is an exchange: what was written before it is seen by whoever takes the permit, also
 * when several unparks made this one permit. The owner takes the permit by an exchange that stores 1, and a full fence:
 * nothing after it is read before the 1 is visible, so an unpark that comes later is never overwritten unseen, even one
 * by a plain store. The kernel compares the word and goes to sleep in one step, and no wake that follows a store misses
 * a sleeper which compared before it.
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
 * aiopark_detail_wait sleeps while the word is as it was `seen`, at most until the clock reaches `until`; forever if
 * that is negative. `now` is a recent time of the clock. The caller keeps until - now within
 * AIOPARK_DETAIL_LONGEST_WAIT. */

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

/* `shared` is 0: see the end of this file. */
static inline void aiopark_detail_wait(uint32_t *word, uint32_t seen, int64_t now, int64_t until, int shared) {
    /* Rounded up, and far below INFINITE. */
    DWORD milliseconds = until < 0 ? INFINITE : (DWORD)((until - now + 999999) / 1000000);
    (void)shared;
    if (!WaitOnAddress(word, &seen, sizeof seen, milliseconds) && GetLastError() != ERROR_TIMEOUT) abort();
}

static inline void aiopark_detail_wake(uint32_t *word, int shared) {
    (void)shared;
    WakeByAddressAll(word);
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

static inline void aiopark_detail_wait(uint32_t *word, uint32_t seen, int64_t now, int64_t until, int shared) {
    int before = errno;
    /* Rounded up; zero would wait forever. 1 and 3: UL_COMPARE_AND_WAIT and its _SHARED. */
    uint32_t microseconds = until < 0 ? 0 : (uint32_t)((until - now + 999) / 1000);
    /* EFAULT: the page is not resident; the next look at the word brings it in. ENOMEM: try again. */
    if (__ulock_wait(shared ? 3 : 1, word, seen, microseconds) < 0 && errno != EINTR && errno != ETIMEDOUT &&
        errno != EFAULT && errno != ENOMEM) abort();
    errno = before;
}

/* ENOENT: nobody waits. Other errors: see Linux' wake. */
static inline void aiopark_detail_wake(uint32_t *word, int shared) {
    int before = errno;
    /* 0x100: ULF_WAKE_ALL */
    if (__ulock_wake((shared ? 3 : 1) | 0x100, word, 0) < 0 && errno == ENOSYS) abort();
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

/* Give 0 or the error number. `value` is what the word is compared with, or how many are woken. The last argument of
 * the call is FUTEX_BITSET_MATCH_ANY. FUTEX_PRIVATE_FLAG, which would save a tenth of a microsecond, is never set:
 * private and shared sleepers do not meet. So `shared` makes no difference on Linux. */
static inline int aiopark_detail_futex(uint32_t *word, long operation, uint32_t value, int64_t until) {
    int before = errno, error = ENOSYS;
#if defined(SYS_futex) && SYS_futex != AIOPARK_DETAIL_FUTEX_TIME64
    aiopark_detail_long at[2] = {(aiopark_detail_long)(until / 1000000000), (aiopark_detail_long)(until % 1000000000)};
    error = syscall(SYS_futex, word, operation, (long)value, until < 0 ? NULL : at, NULL, -1L) < 0 ? errno : 0;
#endif
    if (error == ENOSYS && sizeof(void *) == 4) {
        int64_t at64[2] = {until / 1000000000, until % 1000000000};
        void *time = until < 0 ? NULL : at64;
        error = syscall(AIOPARK_DETAIL_FUTEX_TIME64, word, operation, (long)value, time, NULL, -1L) < 0 ? errno : 0;
    }
    errno = before;
    return error;
}

static inline void aiopark_detail_wait(uint32_t *word, uint32_t seen, int64_t now, int64_t until, int shared) {
    /* FUTEX_WAIT_BITSET: its time is absolute, on CLOCK_MONOTONIC. */
    int error = aiopark_detail_futex(word, 9, seen, until);
    (void)now;
    (void)shared;
    if (error != 0 && error != EAGAIN && error != EINTR && error != ETIMEDOUT) abort();
}

/* FUTEX_WAKE, all: see aiopark_unpark. Errors about the address are not ours: the word was just written, so its owner, who saw that, has
 * since given the memory back or to another use. Nobody sleeps there, and at worst a stranger looks again. */
static inline void aiopark_detail_wake(uint32_t *word, int shared) {
    (void)shared;
    if (aiopark_detail_futex(word, 1, 0x7fffffff, -1) == ENOSYS) abort();
}

#endif

/* ---- The protocol, for both kinds of memory. */

/* Take the permit if there is one. Gives what was found: 0, the permit, now taken; or what to sleep on. Owner only. */
static inline uint32_t aiopark_detail_take(uint32_t *word) {
    uint32_t seen = aiopark_detail_load(word); /* Pairs with: the release in whoever stored 0. */
    if (seen == 0) {
        aiopark_detail_exchange(word, 1); /* Acquires from an unpark that came since the load, too. */
        aiopark_detail_fence();           /* Pairs with: "data = x; word = 0" of an unpark by a plain store. */
    }
    return seen;
}

static inline void aiopark_detail_prepare_park(uint32_t *word) {
    aiopark_detail_exchange(word, 1);
    aiopark_detail_fence(); /* "prepare, look at the data, park" may follow. Pairs with: as in aiopark_detail_take. */
}

static inline void aiopark_detail_park(uint32_t *word, int shared) {
    uint32_t seen;
    while ((seen = aiopark_detail_take(word)) != 0) aiopark_detail_wait(word, seen, 0, -1, shared);
}

static inline int aiopark_detail_park_timeout(uint32_t *word, int64_t nanoseconds, int shared) {
    int64_t now, deadline, until;
    uint32_t seen = aiopark_detail_take(word);
    if (seen == 0 || nanoseconds <= 0) return seen == 0;
    now = aiopark_detail_now();
    deadline = nanoseconds > INT64_MAX - now ? INT64_MAX : now + nanoseconds;
    while ((seen = aiopark_detail_take(word)) != 0) { /* the permit first, the clock second */
        now = aiopark_detail_now();
        if (now >= deadline) return 0;
        until = deadline - now > AIOPARK_DETAIL_LONGEST_WAIT ? now + AIOPARK_DETAIL_LONGEST_WAIT : deadline;
        aiopark_detail_wait(word, seen, now, until, shared);
    }
    return 1;
}

/* The word is not touched after the exchange: the wake passes on only its address. So the owner may free it once it has
 * the permit. */
static inline void aiopark_detail_unpark(uint32_t *word, int shared) {
    aiopark_detail_exchange(word, 0); /* Pairs with: aiopark_detail_take, and its like in Python. */
    aiopark_detail_wake(word, shared);
}

/* No wake is lost. The owner sleeps only if the kernel found the word parked (not 0). The first who deposits a permit
 * after that moment finds it parked as well, so wakes after its exchange. An exchange that gives 0 comes later still,
 * and no permit was taken in between: the owner is awake and will look, or that wake is on its way.
 *
 * No data is lost either, which is why this is an exchange and not a look at the word. One that gives 0 comes, among
 * all modifications of the word, before the store of 1 by which the owner takes this permit. The full fence after that
 * store makes the owner see what was written before the exchange, whichever 0 it read: an earlier one, since Python's
 * owner takes by a load and a store, or a later one that Word.unpark stored. (Where there are exchanges only, the
 * owner's acquire says so as well, by the release sequence that they form.) */
static inline void aiopark_detail_unpark_coalesced(uint32_t *word, int shared) {
    /* Pairs with: aiopark_detail_take, and its like in Python. */
    if (aiopark_detail_exchange(word, 0) != 0) aiopark_detail_wake(word, shared);
}

/* ---- What you call, for memory of this process. */

/* Drop a stale permit: what was unparked before no longer counts.
 *
 * For the owner. Does not block. Stores 1, then a full fence, since "prepare, look at the data, park" may follow. */
static inline void aiopark_prepare_park(uint32_t *word) {
    aiopark_detail_prepare_park(word);
}

/* Sleep until there is a permit, and take it.
 *
 * For the owner. Blocks; gives up no lock of Python's, so release the GIL before. Acquire, then a full fence. */
static inline void aiopark_park(uint32_t *word) {
    aiopark_detail_park(word, 0);
}

/* Sleep until there is a permit, and take it, or until the nanoseconds have passed.
 *
 * Gives 1: unparked, the permit is taken; 0: timed out, never early. In a tie the unpark wins. 0 and less only looks.
 * The deadline is computed once, on a monotonic clock; one past the end of that clock is 292 years away.
 *
 * For the owner. Blocks, as aiopark_park does, unless it only looks. Memory ordering of aiopark_park if it gives 1,
 * none that counts if it gives 0. */
static inline int aiopark_park_timeout(uint32_t *word, int64_t nanoseconds) {
    return aiopark_detail_park_timeout(word, nanoseconds, 0);
}

/* Deposit the permit, and wake the owner if it sleeps.
 *
 * For anyone: any thread, on Linux and macOS a signal handler. Never blocks. Release.
 *
 * It wakes everybody who sleeps at the address. That is one owner, and at times a wait that is not wanted any more, or
 * somebody in Python's Word.wait_while; were only one of them woken, it could be the wrong one.
 *
 * It makes the system call even if a permit was there already. Whoever deposited that one need not have woken: in
 * Python Word.store(0) wakes nobody, an UnparkHandle may wake late or never, and a process can die between the two
 * steps. The owner may then still sleep, and this unpark is the one that wakes it. */
static inline void aiopark_unpark(uint32_t *word) {
    aiopark_detail_unpark(word, 0);
}

/* Deposit the permit, and wake the owner if there was none: of many unparks that one park takes, the first makes the
 * system call, and the others are an exchange each.
 *
 * For anyone, as aiopark_unpark, and with its memory ordering; but only where both of this holds:
 *
 * - Everybody who deposits a permit in this word wakes after it: by these functions, mixed as you like, or by Python's
 *   Word.unpark. So there is no Word.store(0), no plain store, and no UnparkHandle whose unpark() is not called. Until
 *   such a handle is called the owner sleeps on, whoever else unparks by this function.
 * - Whoever deposits the permit lives to wake. If it is stopped between the two, the owner is woken when it goes on. If
 *   it is killed there, the permit is in store, but the owner sleeps on until its timeout passes (it then takes the
 *   permit), or until somebody calls aiopark_unpark or Word.unpark.
 *
 * The threads of one process die together, so here the second forbids no more than to end a single thread from outside:
 * TerminateThread, asynchronous pthread_cancel, longjmp out of a signal handler. */
static inline void aiopark_unpark_coalesced(uint32_t *word) {
    aiopark_detail_unpark_coalesced(word, 0);
}

/* ---- What you call, for memory that several processes map.
 *
 * The same, but for two things. "Anyone" is any thread of any process that maps the word. And processes die one by one:
 * aiopark_shared_unpark_coalesced is safe only if the owner parks with a timeout, or if somebody notices that a process
 * has died and then calls aiopark_shared_unpark. */

#if defined(_WIN32)

/* WaitOnAddress and WakeByAddressAll know the threads of one process only, and a program that does not compile is
 * better than an owner that sleeps for ever. Nothing has this name, so that every compiler's error says it. */
#define AIOPARK_DETAIL_NOT_SHARED aiopark_shared_is_not_for_Windows_WaitOnAddress_reaches_no_other_process
#define aiopark_shared_prepare_park(word) AIOPARK_DETAIL_NOT_SHARED
#define aiopark_shared_park(word) AIOPARK_DETAIL_NOT_SHARED
#define aiopark_shared_park_timeout(word, nanoseconds) AIOPARK_DETAIL_NOT_SHARED
#define aiopark_shared_unpark(word) AIOPARK_DETAIL_NOT_SHARED
#define aiopark_shared_unpark_coalesced(word) AIOPARK_DETAIL_NOT_SHARED

#else

static inline void aiopark_shared_prepare_park(uint32_t *word) {
    aiopark_detail_prepare_park(word);
}

static inline void aiopark_shared_park(uint32_t *word) {
    aiopark_detail_park(word, 1);
}

static inline int aiopark_shared_park_timeout(uint32_t *word, int64_t nanoseconds) {
    return aiopark_detail_park_timeout(word, nanoseconds, 1);
}

static inline void aiopark_shared_unpark(uint32_t *word) {
    aiopark_detail_unpark(word, 1);
}

static inline void aiopark_shared_unpark_coalesced(uint32_t *word) {
    aiopark_detail_unpark_coalesced(word, 1);
}

#endif

#ifdef __cplusplus
}
#endif

#endif
