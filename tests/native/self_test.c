/* aiopark.h without Python: two threads, and where the system can, two processes, each parking on a word of its own
 * and unparking the other's; and timeouts. With every set of functions that it has. Ends with 0, or with the line of
 * what failed. */
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

struct functions {
    void (*prepare_park)(uint32_t *);
    void (*park)(uint32_t *);
    int (*park_timeout)(uint32_t *, int64_t);
    void (*unpark)(uint32_t *);
};

static const struct functions sets[] = {
    {aiopark_prepare_park, aiopark_park, aiopark_park_timeout, aiopark_unpark},
    {aiopark_prepare_park, aiopark_park, aiopark_park_timeout, aiopark_unpark_coalesced},
#ifndef _WIN32
    {aiopark_shared_prepare_park, aiopark_shared_park, aiopark_shared_park_timeout, aiopark_shared_unpark},
    {aiopark_shared_prepare_park, aiopark_shared_park, aiopark_shared_park_timeout, aiopark_shared_unpark_coalesced},
#endif
};
#define SETS (sizeof sets / sizeof *sets)

struct table {
    uint32_t here, there;
    int ball; /* plain: the park and the unpark must order it */
    const struct functions *functions;
};

static int64_t clock_now(void) {
    struct timespec now;
    clock_gettime(CLOCK_MONOTONIC, &now);
    return now.tv_sec * INT64_C(1000000000) + now.tv_nsec;
}

static void *there(void *argument) {
    struct table *table = argument;
    const struct functions *functions = table->functions;
    for (int i = 0; i < ROUNDS; i++) {
        if (i % 2)
            functions->park(&table->there);
        else
            CHECK(functions->park_timeout(&table->there, i % 4 ? INT64_MAX : INT64_MAX / 2) == 1);
        CHECK(table->ball++ == 2 * i);
        functions->unpark(&table->here);
    }
    return NULL;
}

static void here(struct table *table) {
    const struct functions *functions = table->functions;
    for (int i = 0; i < ROUNDS; i++) {
        functions->unpark(&table->there);
        functions->park(&table->here);
        CHECK(table->ball++ == 2 * i + 1);
    }
    CHECK(table->here == 1 && table->there == 1);
}

static void time_out(int64_t ns, const struct functions *functions) {
    uint32_t word = 1;
    int64_t before = clock_now();
    errno = 77;
    CHECK(functions->park_timeout(&word, ns) == 0);
    CHECK(ERRNO_IS(77) && word == 1);
    CHECK(ns <= 0 || clock_now() - before >= ns);
    functions->unpark(&word);
    CHECK(ERRNO_IS(77) && word == 0);
    CHECK(functions->park_timeout(&word, ns) == 1 && word == 1);
    functions->unpark(&word);
    functions->unpark(&word);
    functions->park(&word);
    CHECK(word == 1); /* at most one permit */
    functions->unpark(&word);
    functions->prepare_park(&word);
    CHECK(functions->park_timeout(&word, 0) == 0);
}

static void two_threads(const struct functions *functions) {
    struct table table = {1, 1, 0, functions};
    pthread_t thread;
    CHECK(pthread_create(&thread, NULL, there, &table) == 0);
    here(&table);
    CHECK(pthread_join(thread, NULL) == 0);
}

#ifndef ONE_PROCESS
static void two_processes(const struct functions *functions) {
    struct table *table = mmap(NULL, sizeof *table, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
    int status;
    CHECK(table != MAP_FAILED);
    *table = (struct table){1, 1, 0, functions};
    pid_t child = fork();
    CHECK(child >= 0);
    if (child == 0) {
        alarm(30);
        there(table);
        _exit(0);
    }
    here(table);
    CHECK(waitpid(child, &status, 0) == child && status == 0);
    munmap(table, sizeof *table);
}
#endif

int main(void) {
    static const int64_t timeouts[] = {INT64_MIN, -1, 0, 1, 999, 1000, 1001, 999999, 1000001, 20000000};
    alarm(30);
    for (const struct functions *functions = sets; functions < sets + SETS; functions++) {
        for (size_t i = 0; i < sizeof timeouts / sizeof *timeouts; i++) time_out(timeouts[i], functions);
        two_threads(functions);
#ifndef ONE_PROCESS
        if (functions->park == aiopark_shared_park) two_processes(functions);
#endif
    }
    return 0;
}
