/* A disk that is as slow as we want: loaded before the C library (LD_PRELOAD), it makes every fsync and fdatasync take at
 * least as long as a shared page says, and counts them there.
 *
 * The page is a file named by SLOW_FDATASYNC, three 64-bit numbers: nanoseconds that a call takes at least (written by
 * the bench, at any time), calls so far, nanoseconds in them. Without it, or when it cannot be mapped, nothing is slowed;
 * the bench looks at the count and says so.
 */
#define _GNU_SOURCE
#include <dlfcn.h>
#include <errno.h>
#include <fcntl.h>
#include <stdatomic.h>
#include <stdint.h>
#include <stdlib.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <time.h>
#include <unistd.h>

struct page {
    _Atomic int64_t at_least;
    _Atomic int64_t calls;
    _Atomic int64_t spent;
};

static struct page *page;
static int (*real_fsync)(int);
static int (*real_fdatasync)(int);

__attribute__((constructor)) static void begin(void)
{
    const char *path = getenv("SLOW_FDATASYNC");
    real_fsync = (int (*)(int))dlsym(RTLD_NEXT, "fsync");
    real_fdatasync = (int (*)(int))dlsym(RTLD_NEXT, "fdatasync");
    if (path == NULL)
        return;
    int file = open(path, O_RDWR | O_CLOEXEC);
    if (file < 0)
        return;
    void *mapped = mmap(NULL, sizeof(struct page), PROT_READ | PROT_WRITE, MAP_SHARED, file, 0);
    close(file);
    if (mapped != MAP_FAILED)
        page = mapped;
    /* A rest that is over 50 us late, as it may be by default, is no rest of 0.1 ms. Threads and children have it too. */
    prctl(PR_SET_TIMERSLACK, 1UL, 0UL, 0UL, 0UL);
}

static int64_t now(void)
{
    struct timespec at;
    clock_gettime(CLOCK_MONOTONIC, &at);
    return (int64_t)at.tv_sec * 1000000000 + at.tv_nsec;
}

static int slowly(int (*real)(int), int file)
{
    if (page == NULL)
        return real(file);
    int64_t begun = now();
    int result = real(file);
    int error = errno;
    int64_t left = begun + page->at_least - now();
    if (left > 0) {
        struct timespec rest = {left / 1000000000, left % 1000000000};
        while (nanosleep(&rest, &rest) != 0 && errno == EINTR)
            ;
    }
    page->calls += 1;
    page->spent += now() - begun;
    errno = error;
    return result;
}

int fsync(int file)
{
    return slowly(real_fsync, file);
}

int fdatasync(int file)
{
    return slowly(real_fdatasync, file);
}
