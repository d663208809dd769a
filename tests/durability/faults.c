/* A disk that fails at a chosen call: preloaded into the daemon, told what to do by a file.

   Counts fsync, write and ftruncate calls on files whose path contains $FAULT_PATH, but not
   $FAULT_SPARES where that is given, and fails the n-th one, and every later one if it shall, with
   the errno it was told. */

#define _GNU_SOURCE
#include <dlfcn.h>
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

enum { SYNC = 1, WRITE = 2, TRUNCATE = 4 };

struct orders { /* as faults.py packs it */
    int armed, kinds, nth, error, forever;
    int seen, failed;
};

static struct orders *orders(void)
{
    static struct orders *mapped;
    static pid_t looked; /* a fork has an environment of its own, so it looks again */
    if (looked != getpid()) {
        looked = getpid();
        mapped = NULL;
        const char *path = getenv("FAULT_ORDERS");
        int fd = path ? open(path, O_RDWR | O_CLOEXEC) : -1;
        if (fd >= 0) {
            void *at = mmap(NULL, sizeof *mapped, PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);
            if (at != MAP_FAILED)
                mapped = at;
            close(fd);
        }
    }
    return mapped;
}

static int fails(int fd, int kind)
{
    struct orders *o = orders();
    char name[64], path[4096];
    if (!o || !o->armed || !(o->kinds & kind))
        return 0;
    int before = errno;
    snprintf(name, sizeof name, "/proc/self/fd/%d", fd);
    ssize_t length = readlink(name, path, sizeof path - 1);
    errno = before;
    if (length < 0)
        return 0;
    path[length] = 0;
    const char *spares = getenv("FAULT_SPARES");
    if (!strstr(path, getenv("FAULT_PATH")) || (spares && strstr(path, spares)))
        return 0;
    int n = __sync_add_and_fetch(&o->seen, 1);
    if (n != o->nth && !(o->forever && n > o->nth))
        return 0;
    __sync_add_and_fetch(&o->failed, 1);
    errno = o->error;
    return 1;
}

#define CALL(kind, result, name, parameters, arguments)           \
    result name parameters                                        \
    {                                                             \
        static result(*real) parameters;                          \
        if (!real)                                                \
            real = (result(*) parameters)dlsym(RTLD_NEXT, #name); \
        return fails(fd, kind) ? -1 : real arguments;             \
    }

CALL(SYNC, int, fsync, (int fd), (fd))
CALL(SYNC, int, fdatasync, (int fd), (fd))
CALL(WRITE, ssize_t, write, (int fd, const void *from, size_t size), (fd, from, size))
CALL(WRITE, ssize_t, pwrite, (int fd, const void *from, size_t size, off_t at), (fd, from, size, at))
CALL(WRITE, ssize_t, pwrite64, (int fd, const void *from, size_t size, off64_t at), (fd, from, size, at))
CALL(TRUNCATE, int, ftruncate, (int fd, off_t size), (fd, size))
CALL(TRUNCATE, int, ftruncate64, (int fd, off64_t size), (fd, size))
