# A process is born. What Python does around a fork touches a megabyte that the child would have for itself from then on: so C does it.

cdef extern from *:
    """
    #include <signal.h>
    #include <sys/prctl.h>
    #include <unistd.h>
    /* all signals but those which the kernel raises for a fault of the program itself */
    static void most_signals(sigset_t *set) {
        sigfillset(set);
        sigdelset(set, SIGSEGV); sigdelset(set, SIGBUS); sigdelset(set, SIGFPE); sigdelset(set, SIGILL);
        sigdelset(set, SIGTRAP); sigdelset(set, SIGABRT);
    }
    static int fork_blocked(void) {
        sigset_t all, before;
        int pid, why;
        most_signals(&all);
        sigprocmask(SIG_BLOCK, &all, &before);
        pid = fork();
        if (pid) {
            why = errno;
            sigprocmask(SIG_SETMASK, &before, NULL);
            errno = why;
        }
        return pid;
    }
    static void let_in(void) {
        sigset_t all;
        most_signals(&all);
        sigprocmask(SIG_UNBLOCK, &all, NULL);
    }
    static int wanted_at_death(int signum, int parent) {
        int asked = prctl(PR_SET_PDEATHSIG, signum, 0, 0, 0);
        return parent && getppid() != parent ? 1 : asked;
    }
    """
    int fork_blocked()
    void let_in()
    int wanted_at_death(int signum, int parent)

def fork() -> int:
    """fork(2); in the child signals stay blocked until ``let_signals_in``. OSError.

    Python's own hooks round a fork do not run. They repair what other threads would have left behind: only for a process
    without any. And they seed the random module anew: its numbers are the same in all processes forked by this.
    """
    pid = fork_blocked()
    if pid < 0:
        PyErr_SetFromErrno(OSError)
    return pid

def let_signals_in() -> None:
    """Unblock all signals: what has come since the fork is delivered now."""
    let_in()

def die_with_parent(int signum, int parent) -> int:
    """Ask the kernel for ``signum`` at the death of the parent. 0: asked; 1: ``parent`` (0: unknown) is gone already; -1: no."""
    return wanted_at_death(signum, parent)
