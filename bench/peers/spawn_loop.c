/* The machine's limit: processes of /bin/true that a bare loop can start and wait for.
 *
 * Usage: spawn_loop LOOPS count N | spawn_loop LOOPS seconds T
 * LOOPS processes, one a core, each start /bin/true by posix_spawn and wait for it, over and over, until
 * they started N together or T seconds are over. Prints "PROCESSES SECONDS". Exit status 1: one failed.
 */
#include <errno.h>
#include <spawn.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

extern char **environ;

static double now(void)
{
    struct timespec t;
    clock_gettime(CLOCK_MONOTONIC, &t);
    return (double)t.tv_sec + (double)t.tv_nsec / 1e9;
}

static void fail(const char *what, int number)
{
    fprintf(stderr, "spawn_loop: %s: %s\n", what, strerror(number));
    exit(1);
}

static void spawn_one(void)
{
    char *words[] = {"/bin/true", NULL};
    pid_t child;
    int status;
    int refused = posix_spawn(&child, words[0], NULL, NULL, words, environ);
    if (refused)
        fail("posix_spawn", refused);
    while (waitpid(child, &status, 0) < 0)
        if (errno != EINTR)
            fail("waitpid", errno);
    if (status != 0)
        fail("/bin/true", ECHILD);
}

int main(int argc, char **argv)
{
    if (argc != 4 || (strcmp(argv[2], "count") && strcmp(argv[2], "seconds"))) {
        fprintf(stderr, "usage: spawn_loop LOOPS count N | spawn_loop LOOPS seconds T\n");
        return 2;
    }
    int loops = atoi(argv[1]);
    int counted = !strcmp(argv[2], "count");
    double limit = atof(argv[3]);
    if (loops < 1 || limit <= 0) {
        fprintf(stderr, "spawn_loop: LOOPS, N and T are positive\n");
        return 2;
    }

    long *done = mmap(NULL, (size_t)loops * sizeof *done, PROT_READ | PROT_WRITE,
                      MAP_SHARED | MAP_ANONYMOUS, -1, 0);
    if (done == MAP_FAILED)
        fail("mmap", errno);

    double started = now();
    for (int loop = 0; loop < loops; loop++) {
        pid_t child = fork();
        if (child < 0)
            fail("fork", errno);
        if (child == 0) {
            long share = ((long)limit + loop) / loops;
            while (counted ? done[loop] < share : now() - started < limit) {
                spawn_one();
                done[loop]++;
            }
            _exit(0);
        }
    }

    int failed = 0, status;
    for (int loop = 0; loop < loops; loop++)
        if (wait(&status) < 0 || status != 0)
            failed = 1;
    double seconds = now() - started;

    long total = 0;
    for (int loop = 0; loop < loops; loop++)
        total += done[loop];
    printf("%ld %.6f\n", total, seconds);
    return failed;
}
