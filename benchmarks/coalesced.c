/* A ring written by hand, one producer and one consumer: the native side of coalesced.py. Linux. */
#define _GNU_SOURCE
#include "aiopark.h"

#include <pthread.h>
#include <sched.h>

#define SLOTS 65536u

static struct {
    _Alignas(64) unsigned head; /* the producer's: how many items it has put in */
    _Alignas(64) unsigned tail; /* the consumer's: how many items it has taken */
    _Alignas(64) unsigned items[SLOTS];
} ring;

static pthread_t thread;
static unsigned rounds;
static uint32_t *word;
static int coalesced;

static void *produce(void *unused) {
    (void)unused;
    for (unsigned i = 0; i < rounds; i++) {
        while (i - __atomic_load_n(&ring.tail, __ATOMIC_ACQUIRE) == SLOTS) sched_yield();
        ring.items[i % SLOTS] = i;
        __atomic_store_n(&ring.head, i + 1, __ATOMIC_RELEASE);
        if (coalesced) aiopark_unpark_coalesced(word);
        else aiopark_unpark(word);
    }
    return NULL;
}

void start(unsigned count, uint32_t *at, int coalesce) {
    ring.head = ring.tail = 0;
    rounds = count;
    word = at;
    coalesced = coalesce;
    if (pthread_create(&thread, NULL, produce, NULL) != 0) abort();
}

/* Take all that is there. Gives how many items were taken since the start. */
unsigned take(void) {
    unsigned head = __atomic_load_n(&ring.head, __ATOMIC_ACQUIRE), tail = ring.tail;
    for (; tail != head; tail++) {
        if (ring.items[tail % SLOTS] != tail) abort();
    }
    __atomic_store_n(&ring.tail, tail, __ATOMIC_RELEASE);
    return tail;
}

/* The consumer as native code: take all of the items, and park in between. */
void consume(void) {
    while (take() < rounds) aiopark_park(word);
}

void finish(void) {
    pthread_join(thread, NULL);
}
