/* The native partner of test_c_with_python.py: threads that hold no GIL. */
#define _GNU_SOURCE
#include "aiopark.h"

#include <pthread.h>
#include <stdlib.h>
#include <time.h>

struct job {
    pthread_t thread;
    uint32_t *here;  /* the word that this side parks on */
    uint32_t *there; /* the word that Python parks on */
    int64_t *ball;   /* plain memory, ordered by the parks */
    pthread_mutex_t *turn;
    unsigned rounds, seed;
    long result;
};

static int64_t clock_now(void) {
    struct timespec now;
    clock_gettime(CLOCK_MONOTONIC, &now);
    return now.tv_sec * INT64_C(1000000000) + now.tv_nsec;
}

static unsigned random_below(struct job *job, unsigned end) {
    job->seed = job->seed * 1103515245u + 12345u;
    return (job->seed >> 16) % end;
}

static void dawdle(unsigned nanoseconds) {
    int64_t until = clock_now() + nanoseconds;
    while (clock_now() < until) {
    }
}

/* Take the ball and give it back. The result: rounds in which the ball was not what it should be. */
static void *ping_pong(void *argument) {
    struct job *job = argument;
    for (unsigned i = 0; i < job->rounds; i++) {
        aiopark_park(job->here);
        job->result += *job->ball != 2 * (int64_t)i + 1;
        ++*job->ball;
        aiopark_unpark(job->there);
    }
    return NULL;
}

/* Deposit a permit at a random moment, and wait until Python has said that it took it. The result: permits. */
static void *unparker(void *argument) {
    struct job *job = argument;
    for (unsigned i = 0; i < job->rounds; i++) {
        dawdle(random_below(job, 60000));
        pthread_mutex_lock(job->turn); /* who holds it is the owner of `here` */
        aiopark_unpark(job->there);
        job->result++;
        aiopark_park(job->here);
        pthread_mutex_unlock(job->turn);
    }
    return NULL;
}

/* Park with random timeouts, and tell Python of each permit. The result: permits. */
static void *parker(void *argument) {
    struct job *job = argument;
    while (job->result < (long)job->rounds) {
        int64_t timeout = (int64_t)random_below(job, 200) * 1000 - 20000, before = clock_now();
        if (aiopark_park_timeout(job->here, timeout)) {
            job->result++;
            aiopark_unpark(job->there);
        } else if (timeout > 0 && clock_now() - before < timeout) {
            job->result = -1000000; /* early */
        }
    }
    return NULL;
}

/* Count up in plain memory and unpark, now at once, now after a while, and wait for nobody. The result: how often. */
static void *streamer(void *argument) {
    struct job *job = argument;
    for (unsigned i = 0; i < job->rounds; i++) {
        if (random_below(job, 8) == 0) dawdle(random_below(job, 60000));
        __atomic_store_n(job->ball, ++job->result, __ATOMIC_RELAXED); /* the other side reads at any time */
        aiopark_unpark_coalesced(job->there);
    }
    return NULL;
}

struct job *start(int kind, uint32_t *here, uint32_t *there, int64_t *ball, pthread_mutex_t *turn, unsigned rounds,
                  unsigned seed) {
    static void *(*const kinds[])(void *) = {ping_pong, unparker, parker, streamer};
    struct job *job = calloc(1, sizeof *job);
    if (job == NULL) abort();
    job->here = here;
    job->there = there;
    job->ball = ball;
    job->turn = turn;
    job->rounds = rounds;
    job->seed = seed;
    if (pthread_create(&job->thread, NULL, kinds[kind], job) != 0) abort();
    return job;
}

long finish(struct job *job) {
    pthread_join(job->thread, NULL);
    long result = job->result;
    free(job);
    return result;
}

pthread_mutex_t *new_turn(void) {
    pthread_mutex_t *turn = malloc(sizeof *turn);
    if (turn == NULL || pthread_mutex_init(turn, NULL) != 0) abort();
    return turn;
}

void free_turn(pthread_mutex_t *turn) {
    pthread_mutex_destroy(turn);
    free(turn);
}

void park(uint32_t *word) {
    aiopark_park(word);
}

void prepare_park(uint32_t *word) {
    aiopark_prepare_park(word);
}

void unpark(uint32_t *word) {
    aiopark_unpark(word);
}

void unpark_coalesced(uint32_t *word) {
    aiopark_unpark_coalesced(word);
}

#ifndef _WIN32
void shared_park(uint32_t *word) {
    aiopark_shared_park(word);
}

void shared_unpark(uint32_t *word) {
    aiopark_shared_unpark(word);
}

void shared_unpark_coalesced(uint32_t *word) {
    aiopark_shared_unpark_coalesced(word);
}
#endif

/* Words that lie side by side. */
void unpark_each(uint32_t *words, unsigned count) {
    for (unsigned i = 0; i < count; i++) aiopark_unpark(words + i);
}

/* Also how long it took, in nanoseconds. */
int park_timeout(uint32_t *word, int64_t ns, int64_t *took) {
    int64_t before = clock_now();
    int result = aiopark_park_timeout(word, ns);
    *took = clock_now() - before;
    return result;
}
