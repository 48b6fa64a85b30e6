/* A wall clock that can be set, for one process and what it starts, by LD_PRELOAD.
 *
 * The difference to the machine's clock is the number of seconds in the first eight bytes of the
 * file that FEDGE_CLOCK names, mapped into memory: setting it takes effect at once and reading it
 * costs nothing. The monotonic clock is the machine's. Waits until a moment of the wall clock (not
 * of the monotonic one, whose moments are small numbers) are translated.
 *
 * Written for tcc without any header: Linux with 64 bits, glibc.
 */

typedef long long seconds_t;

struct timespec { seconds_t sec; seconds_t nsec; };
struct timeval { seconds_t sec; seconds_t usec; };

extern char *getenv(const char *name);
extern int open(const char *path, int flags, ...);
extern int close(int file);
extern void *mmap(void *address, unsigned long size, int protection, int flags, int file, long offset);
extern void *dlsym(void *library, const char *name);
extern void *dlvsym(void *library, const char *name, const char *version);

#define NEXT ((void *)-1L)
#define REALTIME 0
#define REALTIME_COARSE 5
#define EPOCH_SINCE 1000000000LL /* a moment before 2001 is one of the monotonic clock */

static const volatile seconds_t none = 0;
static const volatile seconds_t *difference;

static seconds_t ahead(void)
{
    if (!difference) {
        const char *path = getenv("FEDGE_CLOCK");
        int file = path ? open(path, 0) : -1;
        void *mapped = file < 0 ? NEXT : mmap(0, 8, 1 /* read */, 1 /* shared */, file, 0);
        if (file >= 0)
            close(file);
        difference = mapped == NEXT ? &none : (const volatile seconds_t *)mapped;
    }
    return *difference;
}

static int (*machines)(int, struct timespec *);

int clock_gettime(int clock, struct timespec *found)
{
    int result;
    if (!machines)
        machines = dlsym(NEXT, "clock_gettime");
    result = machines(clock, found);
    if (result == 0 && (clock == REALTIME || clock == REALTIME_COARSE))
        found->sec += ahead();
    return result;
}

int gettimeofday(struct timeval *found, void *zone)
{
    struct timespec now;
    (void)zone;
    clock_gettime(REALTIME, &now);
    found->sec = now.sec;
    found->usec = now.nsec / 1000;
    return 0;
}

seconds_t time(seconds_t *found)
{
    struct timespec now;
    clock_gettime(REALTIME, &now);
    if (found)
        *found = now.sec;
    return now.sec;
}

int timespec_get(struct timespec *found, int base)
{
    clock_gettime(REALTIME, found);
    return base;
}

static const struct timespec *of_the_machine(const struct timespec *until, struct timespec *copy)
{
    if (!until || until->sec < EPOCH_SINCE)
        return until;
    copy->sec = until->sec - ahead();
    copy->nsec = until->nsec;
    return copy;
}

static int (*wait_for_condition)(void *, void *, const struct timespec *);

int pthread_cond_timedwait(void *condition, void *mutex, const struct timespec *until)
{
    struct timespec copy;
    if (!wait_for_condition) {
        void *found = dlvsym(NEXT, "pthread_cond_timedwait", "GLIBC_2.3.2");
        wait_for_condition = found ? found : dlsym(NEXT, "pthread_cond_timedwait");
    }
    return wait_for_condition(condition, mutex, of_the_machine(until, &copy));
}

static int (*wait_for_semaphore)(void *, const struct timespec *);

int sem_timedwait(void *semaphore, const struct timespec *until)
{
    struct timespec copy;
    if (!wait_for_semaphore)
        wait_for_semaphore = dlsym(NEXT, "sem_timedwait");
    return wait_for_semaphore(semaphore, of_the_machine(until, &copy));
}
