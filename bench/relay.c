/*
 * The floor of the process model: one process per client, which moves bytes and does nothing else.
 *
 *   relay LISTEN_PORT BACKEND_PORT CHILDREN
 *
 * CHILDREN processes accept on 127.0.0.1:LISTEN_PORT, one client each at a time; every client gets a new connection to
 * 127.0.0.1:BACKEND_PORT. Per piece of data: poll, read, write. Written by bench/ with cc at run time; not part of pgpool.
 */
#include <arpa/inet.h>
#include <errno.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <poll.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/socket.h>
#include <sys/wait.h>
#include <unistd.h>

static char buffer[65536];

static void die(const char *what)
{
    perror(what);
    exit(1);
}

static struct sockaddr_in local(int port)
{
    struct sockaddr_in address;

    memset(&address, 0, sizeof(address));
    address.sin_family = AF_INET;
    address.sin_port = htons((unsigned short) port);
    address.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
    return address;
}

/* Move what is there from one socket to the other; 0 at the end of either. */
static int move(int from, int to)
{
    ssize_t got = read(from, buffer, sizeof(buffer));

    if (got <= 0)
        return got < 0 && errno == EINTR;
    for (ssize_t done = 0; done < got;) {
        ssize_t put = write(to, buffer + done, (size_t) (got - done));

        if (put < 0 && errno == EINTR)
            continue;
        if (put < 0)
            return 0;
        done += put;
    }
    return 1;
}

static void serve(int client, int backend_port)
{
    struct sockaddr_in address = local(backend_port);
    int on = 1, backend = socket(AF_INET, SOCK_STREAM, 0);
    struct pollfd fds[2];

    if (backend < 0)
        die("socket");
    if (connect(backend, (struct sockaddr *) &address, sizeof(address)) == 0) {
        setsockopt(client, IPPROTO_TCP, TCP_NODELAY, &on, sizeof(on));
        setsockopt(backend, IPPROTO_TCP, TCP_NODELAY, &on, sizeof(on));
        fds[0] = (struct pollfd) {client, POLLIN, 0};
        fds[1] = (struct pollfd) {backend, POLLIN, 0};
        for (;;) {
            if (poll(fds, 2, -1) < 0) {
                if (errno == EINTR)
                    continue;
                die("poll");
            }
            if (fds[0].revents && !move(client, backend))
                break;
            if (fds[1].revents && !move(backend, client))
                break;
        }
    }
    close(backend);
    close(client);
}

int main(int argc, char **argv)
{
    int on = 1, listener = socket(AF_INET, SOCK_STREAM, 0);

    if (argc != 4) {
        fprintf(stderr, "usage: relay LISTEN_PORT BACKEND_PORT CHILDREN\n");
        return 2;
    }
    struct sockaddr_in address = local(atoi(argv[1]));

    signal(SIGPIPE, SIG_IGN);
    if (listener < 0)
        die("socket");
    setsockopt(listener, SOL_SOCKET, SO_REUSEADDR, &on, sizeof(on));
    if (bind(listener, (struct sockaddr *) &address, sizeof(address)) < 0 || listen(listener, 128) < 0)
        die("listen");
    for (int child = atoi(argv[3]); child > 0; child--) {
        pid_t pid = fork();

        if (pid < 0)
            die("fork");
        if (pid == 0) {
            prctl(PR_SET_PDEATHSIG, SIGTERM);
            for (;;) {
                int client = accept(listener, NULL, NULL);

                if (client >= 0)
                    serve(client, atoi(argv[2]));
                else if (errno != EINTR && errno != ECONNABORTED)
                    die("accept");
            }
        }
    }
    while (wait(NULL) > 0)
        ;
    return 0;
}
