#include "store/store.h"

#include <pthread.h>
#include <stdlib.h>

struct store_wait {
    pthread_mutex_t lock; /* guards reply */
    pthread_cond_t arrived;
    struct store_reply *reply;
};

struct store_wait *store_wait_new(void)
{
    struct store_wait *wait = calloc(1, sizeof *wait);
    if (wait == NULL)
        return NULL;
    pthread_mutex_init(&wait->lock, NULL);
    pthread_cond_init(&wait->arrived, NULL);
    return wait;
}

void store_wait_free(struct store_wait *wait)
{
    if (wait == NULL)
        return;
    store_reply_free(wait->reply);
    pthread_cond_destroy(&wait->arrived);
    pthread_mutex_destroy(&wait->lock);
    free(wait);
}

void store_wait_done(void *arg, struct store_reply *reply)
{
    struct store_wait *wait = arg;
    pthread_mutex_lock(&wait->lock);
    wait->reply = reply;
    /* Signalled under the lock: the waiter may free `wait` as soon as it has the reply. */
    pthread_cond_signal(&wait->arrived);
    pthread_mutex_unlock(&wait->lock);
}

struct store_reply *store_wait_reply(struct store_wait *wait)
{
    pthread_mutex_lock(&wait->lock);
    while (wait->reply == NULL)
        pthread_cond_wait(&wait->arrived, &wait->lock);
    struct store_reply *reply = wait->reply;
    wait->reply = NULL;
    pthread_mutex_unlock(&wait->lock);
    return reply;
}
