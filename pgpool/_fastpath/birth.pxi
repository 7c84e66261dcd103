# A process is born. What Python does around a fork touches a megabyte that the child would have for itself from then on: so C does it.

import _thread

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
    /* pids[] gets those of the new processes, one less than 0 where it ended; which of them this is, or -1: the old one */
    static int fork_blocked(int *pids, int count) {
        sigset_t all, before;
        int i, why = 0;
        most_signals(&all);
        sigprocmask(SIG_BLOCK, &all, &before);
        for (i = 0; i < count; i++) {
            pids[i] = fork();
            if (pids[i] == 0) return i;
            if (pids[i] < 0) { why = errno; break; }
        }
        sigprocmask(SIG_SETMASK, &before, NULL);
        errno = why;
        return -1;
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
    void PyOS_BeforeFork()
    void PyOS_AfterFork_Parent()
    void PyOS_AfterFork_Child()
    int fork_blocked(int *pids, int count)
    void let_in()
    int wanted_at_death(int signum, int parent)

def fork(int count) -> tuple:
    """fork(2), ``count`` times. In the old process (-1, pids): fewer of them when the system has no more; OSError when it has none.
    In a new one (its number from 0, []): signals stay blocked there until ``let_signals_in``.

    Nothing is written between two forks: a page that the old process writes to then is from then on the private one of each
    process forked before. Python's own hooks round a fork run only where there are other threads (none in a pgpool), whose hold
    on the interpreter they repair. And they would seed the random module anew: its numbers are the same in all processes.
    """
    cdef bint threads = _thread._count() > 0
    cdef int *pids = <int *> malloc(<size_t> (count if count > 0 else 1) * sizeof(int))
    cdef int number, i, made = 0
    if pids == NULL:
        raise MemoryError
    if threads:
        PyOS_BeforeFork()
    number = fork_blocked(pids, count)
    if number >= 0:
        if threads:
            PyOS_AfterFork_Child()
        return number, []                                  # pids[] is not given back: that would touch a page more
    try:
        while made < count and pids[made] > 0:
            made += 1
        if made == 0 and count > 0:
            PyErr_SetFromErrno(OSError)
        return -1, [pids[i] for i in range(made)]
    finally:
        if threads:
            PyOS_AfterFork_Parent()
        free(pids)

def let_signals_in() -> None:
    """Unblock all signals: what has come since the fork is delivered now."""
    let_in()

def die_with_parent(int signum, int parent) -> int:
    """Ask the kernel for ``signum`` at the death of the parent. 0: asked; 1: ``parent`` (0: unknown) is gone already; -1: no."""
    return wanted_at_death(signum, parent)
