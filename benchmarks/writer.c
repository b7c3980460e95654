/*
 * The probe of the heal rows: disturbs files and measures, on CLOCK_MONOTONIC, until the last of them reads
 * the wanted value again. Usage: writer COUNT GAP_NS DISTURBING WANTED FILE...
 * First waits until all hold WANTED; pauses GAP_NS +-50 % between two rounds; prints a latency in ns per line.
 */
#define _GNU_SOURCE
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

enum { MOST_FILES = 1024 };
static const long PATIENCE_NS = 5000000000L;

static int descriptors[MOST_FILES];
static int files;

static long now_ns(void)
{
    struct timespec time;

    clock_gettime(CLOCK_MONOTONIC, &time);
    return time.tv_sec * 1000000000L + time.tv_nsec;
}

static void pause_ns(long gap)
{
    struct timespec time;

    if (gap == 0)
        return;
    gap = gap / 2 + (long)((double)gap * rand() / RAND_MAX);
    time.tv_sec = gap / 1000000000L;
    time.tv_nsec = gap % 1000000000L;
    nanosleep(&time, NULL);
}

static void await(const char *wanted, size_t length, long since)
{
    char found[64];

    for (int i = 0; i < files; i++)
        while (pread(descriptors[i], found, sizeof found, 0) != (ssize_t)length || memcmp(found, wanted, length) != 0)
            if (now_ns() - since > PATIENCE_NS) {
                fprintf(stderr, "file %d of %d was not written back within 5 s\n", i + 1, files);
                exit(3);
            }
}

int main(int count, char **words)
{
    char disturbing[64], wanted[64];
    size_t disturbing_length, wanted_length;
    long gap, *latencies;
    int rounds;

    if (count < 6 || count - 5 > MOST_FILES)
        return 2;
    rounds = atoi(words[1]);
    gap = atol(words[2]);
    disturbing_length = (size_t)snprintf(disturbing, sizeof disturbing, "%s\n", words[3]);
    wanted_length = (size_t)snprintf(wanted, sizeof wanted, "%s\n", words[4]);
    files = count - 5;
    for (int i = 0; i < files; i++)
        if ((descriptors[i] = open(words[i + 5], O_RDWR | O_CLOEXEC)) < 0) {
            perror(words[i + 5]);
            return 1;
        }
    latencies = calloc((size_t)rounds, sizeof *latencies);
    if (latencies == NULL)
        return 1;
    await(wanted, wanted_length, now_ns());
    for (int round = 0; round < rounds; round++) {
        long began;

        pause_ns(gap);
        began = now_ns();
        for (int i = 0; i < files; i++)
            if (pwrite(descriptors[i], disturbing, disturbing_length, 0) < 0) {
                perror(words[i + 5]);
                return 1;
            }
        await(wanted, wanted_length, began);
        latencies[round] = now_ns() - began;
    }
    for (int round = 0; round < rounds; round++)
        printf("%ld\n", latencies[round]);
    return 0;
}
