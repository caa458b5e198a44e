#include "os/process/template.h"

#include <errno.h>
#include <poll.h>
#include <signal.h>
#include <stdatomic.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/uio.h>
#include <sys/wait.h>
#include <unistd.h>

#include "base/alloc.h"
#include "base/buf.h"
#include "base/thread.h"
#include "gp/lock.h"
#include "os/fd.h"
#include "os/process/process.h"

#if defined(__linux__) && !defined(GP_PORTABLE)
#include <sched.h>
#include <sys/resource.h>
#endif

enum { HEAD = 5, LAUNCH_HEAD = 5, DESCRIPTORS = 3 };

/* The longest message that a template may send. */
enum { LONGEST = 16 * 1024 * 1024 };

/* How much of what a template prints to stderr is kept for the first launch: a pipe takes that. */
enum { MOST_EARLY = 60000 };

/* How long a template that is ready may take to copy itself. */
static const int64_t launch_ms = 5000;

struct gp_template {
    atomic_int refs;
    gp__process *process; /* shared: ref */
    gp_mutex lock;        /* held during a launch */
    /* The host's end; -1: closed. */
    int socket GP_GUARDED_BY(&lock); /* owned */
    atomic_bool closed;

    /* ---- For gp_template_wait() ---- */
    int output;       /* owned: the reading ends of its stdout and stderr; -1: at their end */
    int errors;       /* owned */
    gp__buf received; /* what has come of the message */

    gp__buf early GP_GUARDED_BY(&lock); /* the first of what it has printed to stderr */
};

/* ---- Life ---- */

/* Returns NULL if memory is short. */
static gp_template *
new_template(void) GP_NO_THREAD_SAFETY_ANALYSIS /* no other thread has it yet */
{
    gp_template *tmpl = gp__calloc(1, sizeof(*tmpl));

    if (tmpl != NULL) {
        atomic_init(&tmpl->refs, 1);
        gp_mutex_init(&tmpl->lock);
        tmpl->socket = tmpl->output = tmpl->errors = -1;
    }
    return tmpl;
}

gp_template *
gp_template_ref(gp_template *tmpl)
{
    atomic_fetch_add(&tmpl->refs, 1);
    return tmpl;
}

/* Close the socket, by which the process ends; and kill it, in case that it does not look. */
static void close_locked(gp_template *tmpl) GP_REQUIRES(&tmpl->lock);

static void
close_locked(gp_template *tmpl)
{
    gp__fd_close(&tmpl->socket);
    if (tmpl->process != NULL) {
        gp__process_kill(tmpl->process);
    }
}

void
gp_template_close(gp_template *tmpl)
{
    if (gp_runtime_forked()) {
        return;
    }
    atomic_store(&tmpl->closed, true);
    gp_mutex_lock(&tmpl->lock);
    close_locked(tmpl);
    gp_mutex_unlock(&tmpl->lock);
}

void
gp_template_unref(gp_template *tmpl)
{
    if (tmpl == NULL || gp_runtime_forked() || atomic_fetch_sub(&tmpl->refs, 1) != 1) {
        return;
    }
    gp_mutex_lock(&tmpl->lock);
    close_locked(tmpl);
    gp__buf_release(&tmpl->early);
    gp_mutex_unlock(&tmpl->lock);
    gp__fd_close(&tmpl->output);
    gp__fd_close(&tmpl->errors);
    gp__buf_release(&tmpl->received);
    gp__process_unref(tmpl->process);
    gp_mutex_release(&tmpl->lock);
    gp__free(tmpl);
}

static int
open_pipes(gp_template *tmpl, gp__spawn_spec *spec,
           gp_error *err) GP_NO_THREAD_SAFETY_ANALYSIS /* as above */
{
    int sockets[2] = {-1, -1};
    int output[2] = {-1, -1};
    int errors[2] = {-1, -1};
    int rc;

    if ((rc = gp__fd_socketpair(sockets, err)) == 0 && (rc = gp__fd_pipe(output, err)) == 0) {
        rc = gp__fd_pipe(errors, err);
    }
    tmpl->socket = sockets[0];
    tmpl->output = output[0];
    tmpl->errors = errors[0];
    spec->in = sockets[1];
    spec->out = output[1];
    spec->err = errors[1];
    if (rc == 0 &&
        (gp__fd_set_nonblocking(output[0]) < 0 || gp__fd_set_nonblocking(errors[0]) < 0)) {
        rc = gp_error_set_errno(err, errno, "cannot set up a pipe");
    }
    return rc;
}

int
gp_template_open(gp_template **out, const char *const *argv, const char *const *env,
                 const char *directory, gp_error *err)
{
    gp__spawn_spec spec = {.argv = argv, .env = env, .directory = directory};
    gp_template *tmpl = new_template();
    int rc;

    if (tmpl == NULL) {
        return gp_error_set(err, GP_ENOMEM, "out of memory for a template");
    }
    rc = open_pipes(tmpl, &spec, err);
    if (rc == 0) {
        rc = gp__process_start(&tmpl->process, &spec, err);
    }
    gp__fd_close(&spec.in);
    gp__fd_close(&spec.out);
    gp__fd_close(&spec.err);
    if (rc < 0) {
        gp_template_unref(tmpl);
        return rc;
    }
    *out = tmpl;
    return 0;
}

bool
gp_template_alive(gp_template *tmpl)
{
    return !atomic_load(&tmpl->closed) && !gp__process_gone(tmpl->process);
}

int
gp_template_pid(const gp_template *tmpl)
{
    return gp__process_pid(tmpl->process);
}

/* ---- Messages ---- */

static void
put_number(char *out, uint32_t number)
{
    for (int i = 0; i < 4; i++) {
        out[i] = (char)(number >> (24 - 8 * i));
    }
}

static uint32_t
get_number(const char *bytes)
{
    uint32_t number = 0;

    for (int i = 0; i < 4; i++) {
        number = number << 8 | (unsigned char)bytes[i];
    }
    return number;
}

/* The length of the whole message at the beginning of |received|; 0: more is needed for that. */
static size_t
message_len(const gp__buf *received)
{
    return received->len < HEAD ? 0 : HEAD + (size_t)get_number(received->data + 1);
}

static bool
is_complete(const gp__buf *received)
{
    size_t len = message_len(received);

    return len > 0 && received->len >= len;
}

/* Read what there is. Returns 1, 0 at the end, or a negative number if nothing is there now. */
static int
receive_more(int fd, gp__buf *received)
{
    char chunk[4096];
    ssize_t got;

    for (;;) {
        got = gp__fd_read(fd, chunk, sizeof(chunk));
        if (got <= 0) {
            return got < 0 && errno == EAGAIN ? -1 : 0;
        }
        if (received->len > LONGEST || gp__buf_append(received, chunk, (size_t)got) < 0) {
            return 0;
        }
        if (is_complete(received)) {
            return 1;
        }
    }
}

/* ---- Until it is ready ---- */

static void
read_errors(gp_template *tmpl)
{
    char chunk[4096];
    ssize_t got;

    while ((got = gp__fd_read(tmpl->errors, chunk, sizeof(chunk))) > 0) {
        gp_mutex_lock(&tmpl->lock);
        if (tmpl->early.len + (size_t)got <= MOST_EARLY) {
            gp__buf_append(&tmpl->early, chunk, (size_t)got);
        }
        gp_mutex_unlock(&tmpl->lock);
    }
    if (got == 0 || errno != EAGAIN) {
        gp__fd_close(&tmpl->errors);
    }
}

static int
give_up(gp_template *tmpl, gp_error *err, const char *reason, size_t len)
{
    gp_template_close(tmpl);
    return gp_error_set(err, GP_ECLOSED, "%.*s", (int)len, reason);
}

/* Look at what has come. Returns 1 if nothing has yet, or as gp_template_wait(). */
static int
look(gp_template *tmpl, int fd, const char **files, size_t *files_len, gp_error *err)
{
    static const char printed[] =
        "it has printed to stdout before it came to serve(), or is no Python program that calls "
        "pygo_plugin.serve()";
    static const char ended[] = "it has ended before it came to serve()";
    static const char garbled[] = "it has answered something else than a template does";
    const gp__buf *received = &tmpl->received;
    char byte;
    int rc;

    read_errors(tmpl);
    if (tmpl->output >= 0 && gp__fd_read(tmpl->output, &byte, 1) > 0) {
        return give_up(tmpl, err, printed, sizeof(printed) - 1);
    }
    rc = receive_more(fd, &tmpl->received);
    if (rc == 0) {
        return give_up(tmpl, err, ended, sizeof(ended) - 1);
    }
    if (rc < 0) {
        return 1;
    }
    if (received->data[0] == GP_TEMPLATE_REFUSED) {
        return give_up(tmpl, err, received->data + HEAD, message_len(received) - HEAD);
    }
    if (received->data[0] != GP_TEMPLATE_READY || received->len != message_len(received)) {
        return give_up(tmpl, err, garbled, sizeof(garbled) - 1);
    }
    read_errors(tmpl);
    gp__fd_close(&tmpl->output);
    gp__fd_close(&tmpl->errors);
    *files = received->data + HEAD;
    *files_len = received->len - HEAD;
    return 0;
}

int
gp_template_wait(gp_template *tmpl, const char **files, size_t *files_len, int64_t timeout_ns,
                 const gp_interrupt *interrupt, gp_error *err)
{
    int64_t deadline = gp__deadline_in_ns(timeout_ns);
    int fd;
    int rc;

    gp_mutex_lock(&tmpl->lock);
    fd = tmpl->socket;
    gp_mutex_unlock(&tmpl->lock);
    if (fd < 0) {
        return gp_error_set(err, GP_ECLOSED, "the template has been closed");
    }
    for (;;) {
        struct pollfd watched[] = {
            {.fd = fd, .events = POLLIN},
            {.fd = tmpl->output, .events = POLLIN},
            {.fd = tmpl->errors, .events = POLLIN},
        };

        if ((rc = look(tmpl, fd, files, files_len, err)) != 1) {
            return rc;
        }
        if (gp__now() >= deadline) {
            return GP_ETIMEOUT;
        }
        gp__fd_poll(watched, 3, gp__slice(deadline, interrupt));
        if ((rc = gp__interrupted(interrupt)) < 0) {
            return rc;
        }
    }
}

/* ---- Launches ---- */

/* Returns 0 or GP_ENOMEM. */
static int
make_launch(gp__buf *out, const gp__spawn_spec *spec)
{
    const char *directory = spec->directory != NULL ? spec->directory : "";
    char head[HEAD + LAUNCH_HEAD] = {GP_TEMPLATE_LAUNCH};
    int rc;

    head[HEAD] = spec->detached;
    put_number(head + HEAD + 1, (uint32_t)getpid());
    rc = gp__buf_append(out, head, sizeof(head));
    rc = rc == 0 ? gp__buf_append(out, directory, strlen(directory) + 1) : rc;
    for (const char *const *entry = spec->env; *entry != NULL && rc == 0; entry++) {
        rc = gp__buf_append(out, *entry, strlen(*entry) + 1);
    }
    if (rc == 0) {
        put_number(out->data + 1, (uint32_t)(out->len - HEAD));
    }
    return rc;
}

/* Send the first byte, which carries the descriptors. Returns whether it was sent. */
static bool
send_descriptors(int fd, const gp__buf *message, const int descriptors[DESCRIPTORS])
{
    union {
        struct cmsghdr align;
        char bytes[CMSG_SPACE(DESCRIPTORS * sizeof(int))];
    } control = {{0}};
    struct iovec first = {.iov_base = message->data, .iov_len = 1};
    struct msghdr head = {.msg_iov = &first,
                          .msg_iovlen = 1,
                          .msg_control = &control,
                          .msg_controllen = sizeof(control.bytes)};
    struct cmsghdr *rights = CMSG_FIRSTHDR(&head);

    rights->cmsg_level = SOL_SOCKET;
    rights->cmsg_type = SCM_RIGHTS;
    rights->cmsg_len = CMSG_LEN(DESCRIPTORS * sizeof(int));
    memcpy(CMSG_DATA(rights), descriptors, DESCRIPTORS * sizeof(int));
    return sendmsg(fd, &head, MSG_NOSIGNAL) == 1;
}

/* Returns whether all was sent by |deadline|. */
static bool
send_rest(int fd, const gp__buf *message, int64_t deadline)
{
    struct pollfd writable = {.fd = fd, .events = POLLOUT};

    for (size_t sent = 1; sent < message->len;) {
        ssize_t taken = send(fd, message->data + sent, message->len - sent, MSG_NOSIGNAL);

        if (taken > 0) {
            sent += (size_t)taken;
        } else if (errno != EINTR &&
                   (errno != EAGAIN || gp__fd_poll(&writable, 1, deadline) <= 0)) {
            return false;
        }
    }
    return true;
}

/* Returns whether a message came by |deadline|. */
static bool
receive_answer(int fd, gp__buf *answer, int64_t deadline)
{
    struct pollfd readable = {.fd = fd, .events = POLLIN};
    int rc;

    while ((rc = receive_more(fd, answer)) < 0) {
        if (gp__fd_poll(&readable, 1, deadline) <= 0) {
            return false;
        }
    }
    return rc > 0 && answer->len == HEAD + 4;
}

/* Whether it is a child of this process, which may have ended already. */
static bool
is_child(pid_t pid)
{
    siginfo_t info;

    return waitid(P_PID, (id_t)pid, &info, WEXITED | WNOHANG | WNOWAIT) == 0;
}

/* Give the process the calling thread's CPUs and priority, as spawn.c does. */
static void
give_cpus(pid_t pid)
{
#if defined(__linux__) && !defined(GP_PORTABLE)
    cpu_set_t mine;
    cpu_set_t its;

    if (sched_getaffinity(0, sizeof(mine), &mine) == 0 &&
        sched_getaffinity(pid, sizeof(its), &its) == 0 && !CPU_EQUAL(&mine, &its)) {
        sched_setaffinity(pid, sizeof(mine), &mine);
    }
    if (getpriority(PRIO_PROCESS, 0) != getpriority(PRIO_PROCESS, (id_t)pid)) {
        setpriority(PRIO_PROCESS, (id_t)pid, getpriority(PRIO_PROCESS, 0));
    }
#else
    (void)pid;
#endif
}

/* Put what was printed before the template was ready into the first plugin's stderr. */
static void pass_early_on_locked(gp_template *tmpl, int to) GP_REQUIRES(&tmpl->lock);

static void
pass_early_on_locked(gp_template *tmpl, int to)
{
    if (tmpl->early.len > 0) {
        gp__fd_write_within(to, tmpl->early.data, tmpl->early.len, 0);
        gp__buf_release(&tmpl->early);
    }
}

/* Returns as gp__template_spawn(). */
static int launch_locked(gp_template *tmpl, pid_t *pid, const gp__spawn_spec *spec, gp__buf *answer,
                         gp_error *err) GP_REQUIRES(&tmpl->lock);

static int
launch_locked(gp_template *tmpl, pid_t *pid, const gp__spawn_spec *spec, gp__buf *answer,
              gp_error *err)
{
    const int descriptors[DESCRIPTORS] = {spec->in >= 0 ? spec->in : STDIN_FILENO, spec->out,
                                          spec->err};
    int64_t deadline = gp_deadline_in(launch_ms);
    gp__buf message = GP__BUF_INIT;
    bool answered;
    int rc = make_launch(&message, spec);

    if (rc < 0) {
        gp__buf_release(&message);
        return gp_error_set(err, rc, "out of memory to start %s", spec->argv[0]);
    }
    pass_early_on_locked(tmpl, spec->err);
    answered = tmpl->socket >= 0 && send_descriptors(tmpl->socket, &message, descriptors) &&
               send_rest(tmpl->socket, &message, deadline) &&
               receive_answer(tmpl->socket, answer, deadline);
    gp__buf_release(&message);
    if (answered && answer->data[0] == GP_TEMPLATE_FAILED) {
        return gp_error_set_errno(err, (int)get_number(answer->data + HEAD),
                                  "cannot create a process for %s", spec->argv[0]);
    }
    *pid = answered ? (pid_t)get_number(answer->data + HEAD) : -1;
    if (!answered || answer->data[0] != GP_TEMPLATE_STARTED || *pid <= 0 || !is_child(*pid)) {
        close_locked(tmpl);
        return GP__TEMPLATE_GONE;
    }
    give_cpus(*pid);
    return 0;
}

int
gp__template_spawn(gp_template *tmpl, pid_t *pid, const gp__spawn_spec *spec, gp_error *err)
{
    gp__buf answer = GP__BUF_INIT;
    int rc;

    gp_mutex_lock(&tmpl->lock);
    rc = launch_locked(tmpl, pid, spec, &answer, err);
    gp_mutex_unlock(&tmpl->lock);
    gp__buf_release(&answer);
    return rc;
}
