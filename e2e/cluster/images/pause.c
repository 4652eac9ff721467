/* What holds a pod's namespaces, and what the cluster's processes hang on: it does nothing, buries the orphans that it
   inherits as process 1, and ends when asked to. */
#include <signal.h>
#include <sys/wait.h>
#include <unistd.h>

int main(void) {
  sigset_t signals;
  sigemptyset(&signals);
  sigaddset(&signals, SIGCHLD);
  sigaddset(&signals, SIGINT);
  sigaddset(&signals, SIGTERM);
  sigprocmask(SIG_BLOCK, &signals, NULL);
  for (;;) {
    int signal;
    if (sigwait(&signals, &signal) != 0) return 1;
    if (signal != SIGCHLD) return 0;
    while (waitpid(-1, NULL, WNOHANG) > 0) {
    }
  }
}
