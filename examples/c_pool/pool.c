/* A pool of native threads. They hold no GIL: all of them compute at the same time.
 *
 * Whoever finishes a job puts it on a list and unparks the word. One permit may stand for many jobs, so the other side
 * takes all that is on the list. It parks as a task, which this file need not know.
 */
#include "aiopark.h"

#include <pthread.h>

struct job {
    struct job *next;
    uint32_t number, limit, result;
};

struct pool {
    pthread_mutex_t lock; /* over the lists and `closing` */
    pthread_cond_t submitted;
    struct job *waiting, *finished; /* the newest first */
    int closing;
    uint32_t *word;
    unsigned count;
    pthread_t threads[];
};

static uint32_t primes_below(uint32_t limit) {
    uint32_t found = 0;
    for (uint32_t n = 2; n < limit; n++) {
        uint32_t divisor = 2;
        while (divisor * divisor <= n && n % divisor != 0) divisor++;
        found += divisor * divisor > n;
    }
    return found;
}

static void *work(void *argument) {
    struct pool *pool = argument;
    pthread_mutex_lock(&pool->lock);
    for (;;) {
        while (pool->waiting == NULL && !pool->closing) pthread_cond_wait(&pool->submitted, &pool->lock);
        if (pool->waiting == NULL) break;
        struct job *job = pool->waiting;
        pool->waiting = job->next;
        pthread_mutex_unlock(&pool->lock);

        job->result = primes_below(job->limit);

        pthread_mutex_lock(&pool->lock);
        job->next = pool->finished;
        pool->finished = job;
        pthread_mutex_unlock(&pool->lock);
        aiopark_unpark(pool->word); /* after the lock: whoever wakes does not run into it */
        pthread_mutex_lock(&pool->lock);
    }
    pthread_mutex_unlock(&pool->lock);
    return NULL;
}

struct pool *pool_new(unsigned count, uint32_t *word) {
    struct pool *pool = calloc(1, sizeof *pool + count * sizeof pool->threads[0]);
    if (pool == NULL) abort();
    pthread_mutex_init(&pool->lock, NULL);
    pthread_cond_init(&pool->submitted, NULL);
    pool->word = word;
    for (pool->count = 0; pool->count < count; pool->count++) {
        if (pthread_create(&pool->threads[pool->count], NULL, work, pool) != 0) abort();
    }
    return pool;
}

void pool_submit(struct pool *pool, uint32_t number, uint32_t limit) {
    struct job *job = malloc(sizeof *job);
    if (job == NULL) abort();
    job->number = number;
    job->limit = limit;
    pthread_mutex_lock(&pool->lock);
    job->next = pool->waiting;
    pool->waiting = job;
    pthread_cond_signal(&pool->submitted);
    pthread_mutex_unlock(&pool->lock);
}

/* Take one finished job: 1, or 0 if there is none. Never waits for one. */
int pool_take(struct pool *pool, uint32_t *number, uint32_t *result) {
    pthread_mutex_lock(&pool->lock);
    struct job *job = pool->finished;
    if (job != NULL) pool->finished = job->next;
    pthread_mutex_unlock(&pool->lock);
    if (job == NULL) return 0;
    *number = job->number;
    *result = job->result;
    free(job);
    return 1;
}

/* Finish what was submitted, and end. Nobody unparks the word after that, so its memory may go. */
void pool_free(struct pool *pool) {
    pthread_mutex_lock(&pool->lock);
    pool->closing = 1;
    pthread_cond_broadcast(&pool->submitted);
    pthread_mutex_unlock(&pool->lock);
    for (unsigned i = 0; i < pool->count; i++) pthread_join(pool->threads[i], NULL);
    for (struct job *job = pool->finished, *next; job != NULL; job = next) {
        next = job->next;
        free(job);
    }
    pthread_cond_destroy(&pool->submitted);
    pthread_mutex_destroy(&pool->lock);
    free(pool);
}
