/* Holds the namespaces of a pod: waits for a signal to end, and collects the processes that lost
 * their parent. As the first process of its namespace it gets no signal that it did not ask for. */
#include <signal.h>
#include <sys/wait.h>
#include <unistd.h>

static void end(int number) {
    (void)number;
    _exit(0);
}

static void collect(int number) {
    (void)number;
    while (waitpid(-1, NULL, WNOHANG) > 0) {
    }
}

int main(void) {
    const struct sigaction ends = {.sa_handler = end};
    const struct sigaction collects = {.sa_handler = collect, .sa_flags = SA_NOCLDSTOP};
    if (sigaction(SIGINT, &ends, NULL) != 0 || sigaction(SIGTERM, &ends, NULL) != 0 ||
        sigaction(SIGCHLD, &collects, NULL) != 0) {
        return 1;
    }
    for (;;) {
        pause();
    }
}
