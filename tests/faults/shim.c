/* Faults in what one process does to the files below one directory: preloaded into it, and armed by it.

   Operations are the system calls that change something: write, pwrite, writev, fsync, rename, mkdir, and opening a
   file to write. Those whose path holds a text are counted from 1, over all threads. Removing is no operation: a full
   disk allows it. */
#define _GNU_SOURCE
#include <dlfcn.h>
#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <stdarg.h>
#include <stdatomic.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/time.h>
#include <sys/uio.h>
#include <time.h>
#include <unistd.h>

enum kind { COUNT, KILL, TORN, LASTING, ONCE, SHORT, SLOW, CLOCK, FILL };

static char root[4096], text[256];
static int kind, code, trace = -1;
static long at, amount;
static atomic_long counted;
static atomic_int is_armed;

#define REAL(result, name, ...) \
  static result (*real)(__VA_ARGS__); \
  if (!real) real = (result(*)(__VA_ARGS__))dlsym(RTLD_NEXT, #name)

/* From the operation `first` on, or at it alone: which fault, see `injection.py`. `number` is of an error; `amount` is
   the pause in microseconds or the error of the clock in seconds. COUNT writes the paths into the file `trace_file`. */
void faults_arm(const char *directory, const char *part, int what, long first, int number, long size, int trace_file) {
  snprintf(root, sizeof root, "%s/", directory);
  snprintf(text, sizeof text, "%s", part);
  kind = what, at = first, code = number, amount = size, trace = trace_file;
  atomic_store(&counted, 0);
  atomic_store(&is_armed, 1);
}

static int is_below(const char *path) {
  return atomic_load(&is_armed) && path && strncmp(path, root, strlen(root)) == 0 && strstr(path, text);
}

static const char *path_of(int file) {
  static __thread char path[4096];
  char link[64];
  if (!atomic_load(&is_armed)) return NULL;
  snprintf(link, sizeof link, "/proc/self/fd/%d", file);
  ssize_t length = readlink(link, path, sizeof path - 1);
  if (length < 0) return NULL;
  path[length] = 0;
  return path;
}

static void die(void) {
  kill(getpid(), SIGKILL);
  for (;;) pause();
}

/* Take all that is left of the disk: as another program does, so past the functions below. */
static void fill(void) {
  static const char zeros[4096];
  char path[sizeof root + 16];
  snprintf(path, sizeof path, "%sballast", root);
  int file = (int)syscall(SYS_openat, AT_FDCWD, path, O_WRONLY | O_CREAT | O_CLOEXEC, 0600);
  while (syscall(SYS_write, file, zeros, sizeof zeros) > 0) continue;
  syscall(SYS_close, file);
}

/* Count an operation; whether it fails, with `errno` set. */
static int fails(const char *path) {
  long number = atomic_fetch_add(&counted, 1) + 1;
  if (kind == COUNT && trace >= 0) dprintf(trace, "%s\n", path);
  if (number < at) return 0;
  if (kind == SLOW) usleep((useconds_t)amount);
  if (kind == KILL && number == at) die();
  if (kind == FILL && number == at) fill();
  if (kind == LASTING || (kind == ONCE && number == at)) {
    errno = code;
    return 1;
  }
  return 0;
}

/* How much of a write is done: less than asked where it is cut short. */
static size_t share(size_t size) {
  int cuts = (kind == SHORT || kind == TORN) && atomic_load(&counted) >= at;
  return cuts && size > 1 ? size / 2 : size;
}

static ssize_t done(ssize_t written) {
  if (kind == TORN && atomic_load(&counted) >= at) die();
  return written;
}

ssize_t write(int file, const void *data, size_t size) {
  REAL(ssize_t, write, int, const void *, size_t);
  const char *path = path_of(file);
  if (!is_below(path)) return real(file, data, size);
  if (fails(path)) return -1;
  return done(real(file, data, share(size)));
}

static ssize_t positioned(ssize_t (*real)(int, const void *, size_t, off_t), int file, const void *data, size_t size,
                          off_t place) {
  const char *path = path_of(file);
  if (!is_below(path)) return real(file, data, size, place);
  if (fails(path)) return -1;
  return done(real(file, data, share(size), place));
}

ssize_t pwrite(int file, const void *data, size_t size, off_t place) {
  REAL(ssize_t, pwrite, int, const void *, size_t, off_t);
  return positioned(real, file, data, size, place);
}

ssize_t pwrite64(int file, const void *data, size_t size, off_t place) {
  REAL(ssize_t, pwrite64, int, const void *, size_t, off_t);
  return positioned(real, file, data, size, place);
}

ssize_t writev(int file, const struct iovec *parts, int count) {
  REAL(ssize_t, writev, int, const struct iovec *, int);
  const char *path = path_of(file);
  if (!is_below(path)) return real(file, parts, count);
  if (fails(path)) return -1;
  if (share(2) == 1 && count > 0) return done(real(file, parts, 1));
  return done(real(file, parts, count));
}

int fsync(int file) {
  REAL(int, fsync, int);
  return is_below(path_of(file)) && fails(path_of(file)) ? -1 : real(file);
}

int rename(const char *from, const char *to) {
  REAL(int, rename, const char *, const char *);
  return is_below(to) && fails(to) ? -1 : real(from, to);
}

int mkdir(const char *path, mode_t mode) {
  REAL(int, mkdir, const char *, mode_t);
  return is_below(path) && fails(path) ? -1 : real(path, mode);
}

/* A full disk still lets a file be opened that is there. */
static int fits(const char *path) {
  return kind == LASTING && (code == ENOSPC || code == EDQUOT) && access(path, F_OK) == 0;
}

#define OPENS(name) \
  int name(const char *path, int flags, ...) { \
    REAL(int, name, const char *, int, ...); \
    va_list rest; \
    va_start(rest, flags); \
    int makes = flags & O_CREAT || (flags & O_TMPFILE) == O_TMPFILE; \
    mode_t mode = makes ? va_arg(rest, mode_t) : 0; \
    va_end(rest); \
    if (flags & (O_WRONLY | O_RDWR) && is_below(path) && !fits(path) && fails(path)) return -1; \
    return real(path, flags, mode); \
  }

OPENS(open)
OPENS(open64)

static int is_skewed(void) { return atomic_load(&is_armed) && kind == CLOCK && atomic_load(&counted) >= at; }

int clock_gettime(clockid_t clock, struct timespec *now) {
  REAL(int, clock_gettime, clockid_t, struct timespec *);
  int result = real(clock, now);
  if (clock == CLOCK_REALTIME && is_skewed()) now->tv_sec += amount;
  return result;
}

int gettimeofday(struct timeval *restrict now, void *restrict zone) {
  REAL(int, gettimeofday, struct timeval *, void *);
  int result = real(now, zone);
  if (is_skewed()) now->tv_sec += amount;
  return result;
}

time_t time(time_t *place) {
  REAL(time_t, time, time_t *);
  time_t now = real(NULL) + (is_skewed() ? amount : 0);
  if (place) *place = now;
  return now;
}
