/*
 * The reference of the heal rows: the least a program can do that holds values against other writers.
 * fanotify tells of a write, the wanted value is written back, one's own writes are ignored. It reads nothing,
 * judges nothing, verifies nothing and records nothing. Usage: loop WANTED FILE...; says "ready" on stdout.
 */
#define _GNU_SOURCE
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/fanotify.h>
#include <sys/stat.h>
#include <unistd.h>

enum { MOST_FILES = 1024, BUFFER_BYTES = 65536 };

static int writers[MOST_FILES];
static ino_t inodes[MOST_FILES];
static int files;

static void fail(const char *what)
{
    perror(what);
    exit(1);
}

static int find(int descriptor)
{
    struct stat status;

    if (files == 1)
        return 0;
    if (fstat(descriptor, &status) == 0)
        for (int i = 0; i < files; i++)
            if (inodes[i] == status.st_ino)
                return i;
    return -1;
}

static void watch(int group, int i, const char *path)
{
    struct stat status;

    if (fanotify_mark(group, FAN_MARK_ADD, FAN_MODIFY, AT_FDCWD, path) < 0)
        fail(path);
    writers[i] = open(path, O_WRONLY | O_CLOEXEC);
    if (writers[i] < 0 || fstat(writers[i], &status) < 0)
        fail(path);
    inodes[i] = status.st_ino;
}

int main(int count, char **words)
{
    static char buffer[BUFFER_BYTES] __attribute__((aligned(8)));
    char data[64];
    size_t length;
    pid_t own = getpid();
    int group;

    if (count < 3 || count - 2 > MOST_FILES)
        return 2;
    files = count - 2;
    length = (size_t)snprintf(data, sizeof data, "%s\n", words[1]);
    group = fanotify_init(FAN_CLASS_NOTIF | FAN_CLOEXEC | FAN_UNLIMITED_MARKS, O_RDONLY | O_CLOEXEC);
    if (group < 0)
        fail("fanotify_init");
    for (int i = 0; i < files; i++) {
        watch(group, i, words[i + 2]);
        if (pwrite(writers[i], data, length, 0) < 0)
            fail(words[i + 2]);
    }
    puts("ready");
    fflush(stdout);
    for (;;) {
        ssize_t left = read(group, buffer, sizeof buffer);
        struct fanotify_event_metadata *event = (void *)buffer;

        if (left < 0)
            fail("read");
        for (; FAN_EVENT_OK(event, left); event = FAN_EVENT_NEXT(event, left)) {
            int i = event->pid == own ? -1 : find(event->fd);

            if (i >= 0 && pwrite(writers[i], data, length, 0) < 0)
                fail("write");
            if (event->fd >= 0)
                close(event->fd);
        }
    }
}
