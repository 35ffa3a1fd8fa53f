/* The native side of native.py and watched_words.py: threads that hold no GIL. Linux. */
#define _GNU_SOURCE
#include "aiopark.h"

#include <pthread.h>
#include <time.h>

static struct {
    pthread_t thread;
    uint32_t *here;  /* the word that this thread parks on */
    uint32_t *there; /* the word that a task parks on, or NULL: write to the eventfd */
    int eventfd;
    unsigned rounds;
    long pause;      /* nanoseconds before each unpark: the loop is asleep by then */
    int64_t *at;     /* when the thread unparked */
    uint32_t **words;
} job;

static int64_t now(void) {
    struct timespec at;
    clock_gettime(CLOCK_MONOTONIC, &at);
    return at.tv_sec * INT64_C(1000000000) + at.tv_nsec;
}

static void launch(void *(*run)(void *)) {
    if (pthread_create(&job.thread, NULL, run, NULL) != 0) abort();
}

static void *answer(void *unused) {
    const struct timespec pause = {0, job.pause};
    const uint64_t one = 1;
    (void)unused;
    for (unsigned i = 0; i < job.rounds; i++) {
        aiopark_park(job.here);
        if (job.pause > 0) nanosleep(&pause, NULL);
        *job.at = now();
        if (job.there != NULL) aiopark_unpark(job.there);
        else if (write(job.eventfd, &one, sizeof one) != sizeof one) abort();
    }
    return NULL;
}

void start_answering(uint32_t *here, uint32_t *there, int eventfd, unsigned rounds, long pause, int64_t *at) {
    job.here = here;
    job.there = there;
    job.eventfd = eventfd;
    job.rounds = rounds;
    job.pause = pause;
    job.at = at;
    launch(answer);
}

static void *unpark_all(void *unused) {
    (void)unused;
    for (unsigned i = 0; i < job.rounds; i++) aiopark_unpark(job.words[i]);
    *job.at = now();
    return NULL;
}

/* Also when it was done. */
void start_unparking(uint32_t **words, unsigned count, int64_t *at) {
    job.words = words;
    job.rounds = count;
    job.at = at;
    launch(unpark_all);
}

void finish(void) {
    pthread_join(job.thread, NULL);
}
