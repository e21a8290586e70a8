/* Preloaded into a process: its wall clock is CLOCK_SKEW_SECONDS ahead; the monotonic clock is left alone.
 *
 * The kernel's own clock is right. A wait whose end was worked out from the wrong clock would last so many seconds
 * longer, or end at once and burn a core: such ends are put right on their way to the C library.
 */
#define _GNU_SOURCE
#include <dlfcn.h>
#include <pthread.h>
#include <semaphore.h>
#include <stdlib.h>
#include <sys/time.h>
#include <time.h>

/* Times of the monotonic clock are far below: a machine would have to be up for thirty years. */
#define FIRST_WALL_SECOND 1000000000

static long skew_seconds(void) {
    const char *text = getenv("CLOCK_SKEW_SECONDS");
    return text ? atol(text) : 0;
}

static struct timespec kernels(const struct timespec *end) {
    struct timespec out = *end;
    if (out.tv_sec > FIRST_WALL_SECOND) out.tv_sec -= skew_seconds();
    return out;
}

int clock_gettime(clockid_t clock, struct timespec *now) {
    static int (*real)(clockid_t, struct timespec *);
    if (!real) real = (int (*)(clockid_t, struct timespec *))dlsym(RTLD_NEXT, "clock_gettime");
    int result = real(clock, now);
    if (result == 0 && (clock == CLOCK_REALTIME || clock == CLOCK_REALTIME_COARSE)) now->tv_sec += skew_seconds();
    return result;
}

int gettimeofday(struct timeval *now, void *zone) {
    struct timespec exact;
    (void)zone;
    if (clock_gettime(CLOCK_REALTIME, &exact) != 0) return -1;
    now->tv_sec = exact.tv_sec;
    now->tv_usec = exact.tv_nsec / 1000;
    return 0;
}

time_t time(time_t *result) {
    struct timespec now;
    clock_gettime(CLOCK_REALTIME, &now);
    if (result) *result = now.tv_sec;
    return now.tv_sec;
}

int sem_timedwait(sem_t *semaphore, const struct timespec *end) {
    static int (*real)(sem_t *, const struct timespec *);
    if (!real) real = (int (*)(sem_t *, const struct timespec *))dlsym(RTLD_NEXT, "sem_timedwait");
    struct timespec right = kernels(end);
    return real(semaphore, &right);
}

int pthread_cond_timedwait(pthread_cond_t *condition, pthread_mutex_t *mutex, const struct timespec *end) {
    static int (*real)(pthread_cond_t *, pthread_mutex_t *, const struct timespec *);
    if (!real) {
        /* Without a version an x86-64 C library gives the one of before 2003. */
        void *found = dlvsym(RTLD_NEXT, "pthread_cond_timedwait", "GLIBC_2.3.2");
        if (!found) found = dlsym(RTLD_NEXT, "pthread_cond_timedwait");
        real = (int (*)(pthread_cond_t *, pthread_mutex_t *, const struct timespec *))found;
    }
    struct timespec right = kernels(end);
    return real(condition, mutex, &right);
}
