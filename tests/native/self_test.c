/* aiopark.h without Python: two threads, and where the system can, two processes, each parking on a word of its own
 * and unparking the other's; and timeouts. Ends with 0, or with the line of what failed. */
#define _GNU_SOURCE
#include "aiopark.h"

#include <errno.h>
#include <pthread.h>
#include <stdlib.h>
#include <time.h>
#include <unistd.h>
#ifndef ONE_PROCESS
#include <sys/mman.h>
#include <sys/wait.h>
#endif
#ifdef __MINGW32__ /* it has no alarm: whoever runs this stops what hangs */
#define alarm(seconds) ((void)0)
#endif

#define CHECK(condition) \
    do { \
        if (!(condition)) _exit(1 + __LINE__ % 250); \
    } while (0)
#define ROUNDS 2000
#ifdef _WIN32
#define ERRNO_IS(value) 1 /* there are no system calls that set it; the model keeps the last error there */
#else
#define ERRNO_IS(value) (errno == (value))
#endif

struct table {
    uint32_t here, there;
    int shared;
    int ball; /* plain: the park and the unpark must order it */
};

static int64_t clock_now(void) {
    struct timespec now;
    clock_gettime(CLOCK_MONOTONIC, &now);
    return now.tv_sec * INT64_C(1000000000) + now.tv_nsec;
}

static void *there(void *argument) {
    struct table *table = argument;
    for (int i = 0; i < ROUNDS; i++) {
        if (i % 2)
            aiopark_park(&table->there, table->shared);
        else
            CHECK(aiopark_park_timeout(&table->there, i % 4 ? INT64_MAX : INT64_MAX / 2, table->shared) == 1);
        CHECK(table->ball++ == 2 * i);
        aiopark_unpark(&table->here, table->shared);
    }
    return NULL;
}

static void here(struct table *table) {
    for (int i = 0; i < ROUNDS; i++) {
        aiopark_unpark(&table->there, table->shared);
        aiopark_park(&table->here, table->shared);
        CHECK(table->ball++ == 2 * i + 1);
    }
    CHECK(table->here == 1 && table->there == 1);
}

static void time_out(int64_t ns, int shared) {
    uint32_t word = 1;
    int64_t before = clock_now();
    errno = 77;
    CHECK(aiopark_park_timeout(&word, ns, shared) == 0);
    CHECK(ERRNO_IS(77) && word == 1);
    CHECK(ns <= 0 || clock_now() - before >= ns);
    aiopark_unpark(&word, shared);
    CHECK(ERRNO_IS(77) && word == 0);
    CHECK(aiopark_park_timeout(&word, ns, shared) == 1 && word == 1);
    aiopark_unpark(&word, shared);
    aiopark_unpark(&word, shared);
    aiopark_park(&word, shared);
    CHECK(word == 1); /* at most one permit */
    aiopark_unpark(&word, shared);
    aiopark_prepare_park(&word);
    CHECK(aiopark_park_timeout(&word, 0, shared) == 0);
}

int main(void) {
    static const int64_t timeouts[] = {INT64_MIN, -1, 0, 1, 999, 1000, 1001, 999999, 1000001, 20000000};
    struct table threads = {1, 1, 0, 0};
    pthread_t thread;
    alarm(30);
    for (size_t i = 0; i < sizeof timeouts / sizeof *timeouts; i++) time_out(timeouts[i], (int)(i % 2));
    CHECK(pthread_create(&thread, NULL, there, &threads) == 0);
    here(&threads);
    CHECK(pthread_join(thread, NULL) == 0);
#ifndef ONE_PROCESS
    struct table *processes = mmap(NULL, sizeof *processes, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
    int status;
    CHECK(processes != MAP_FAILED);
    *processes = (struct table){1, 1, 1, 0};
    pid_t child = fork();
    CHECK(child >= 0);
    if (child == 0) {
        alarm(30);
        there(processes);
        _exit(0);
    }
    here(processes);
    CHECK(waitpid(child, &status, 0) == child && status == 0);
#endif
    return 0;
}
