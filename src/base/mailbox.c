#include "base/mailbox.h"

#include <pthread.h>
#include <stdbool.h>
#include <stdlib.h>
#include <unistd.h>

struct letter {
    struct letter *next;
    mailbox_run *run;
    void *target;
    void *argument;
};

struct mailbox {
    uv_async_t wake;
    pthread_mutex_t lock; /* guards first and last */
    struct letter *first;
    struct letter *last;
    struct letter
        *taken; /* of the loop's thread alone: letters that the present or an outer drain is running */
};

static struct letter *take_all(struct mailbox *mailbox)
{
    pthread_mutex_lock(&mailbox->lock);
    struct letter *all = mailbox->first;
    mailbox->first = mailbox->last = NULL;
    pthread_mutex_unlock(&mailbox->lock);
    return all;
}

/* Runs what has been taken. A letter may drain or close the mailbox itself: then the inner call runs the
 * rest, in order, and nothing is left for the outer one. */
static void run_taken(struct mailbox *mailbox)
{
    while (mailbox->taken) {
        struct letter *letter = mailbox->taken;
        mailbox->taken = letter->next;
        letter->run(letter->target, letter->argument);
        free(letter);
    }
}

void mailbox_drain(struct mailbox *mailbox)
{
    run_taken(mailbox);
    mailbox->taken = take_all(mailbox);
    run_taken(mailbox);
}

static void mailbox_on_wake(uv_async_t *wake)
{
    mailbox_drain(wake->data);
}

int mailbox_open(uv_loop_t *loop, struct mailbox **mailbox, struct error *err)
{
    struct mailbox *box = calloc(1, sizeof *box);
    if (box == NULL)
        return error_set(err, ERR_NO_MEMORY, "no memory for a mailbox");
    pthread_mutex_init(&box->lock, NULL);
    int status = uv_async_init(loop, &box->wake, mailbox_on_wake);
    if (status) {
        pthread_mutex_destroy(&box->lock);
        free(box);
        return error_set(err, ERR_IO, "cannot make a wake-up handle: %s", uv_strerror(status));
    }
    box->wake.data = box;
    *mailbox = box;
    return 0;
}

void mailbox_post(struct mailbox *mailbox, mailbox_run *run, void *target, void *argument)
{
    struct letter *letter;
    while ((letter = malloc(sizeof *letter)) == NULL)
        usleep(1000);
    *letter = (struct letter){.run = run, .target = target, .argument = argument};
    pthread_mutex_lock(&mailbox->lock);
    if (mailbox->last)
        mailbox->last->next = letter;
    else
        mailbox->first = letter;
    mailbox->last = letter;
    /* Under the lock, so that mailbox_on_closed cannot free the handle between the append and the wake-up. */
    uv_async_send(&mailbox->wake);
    pthread_mutex_unlock(&mailbox->lock);
}

static bool is_empty(struct mailbox *mailbox)
{
    pthread_mutex_lock(&mailbox->lock);
    bool empty = mailbox->first == NULL;
    pthread_mutex_unlock(&mailbox->lock);
    return empty && mailbox->taken == NULL;
}

static void mailbox_on_closed(uv_handle_t *handle)
{
    struct mailbox *mailbox = handle->data;
    /* Taking the lock waits for a thread that is still inside mailbox_post. */
    while (!is_empty(mailbox))
        mailbox_drain(mailbox);
    pthread_mutex_destroy(&mailbox->lock);
    free(mailbox);
}

void mailbox_close(struct mailbox *mailbox)
{
    while (!is_empty(mailbox))
        mailbox_drain(mailbox);
    uv_close((uv_handle_t *)&mailbox->wake, mailbox_on_closed);
}
