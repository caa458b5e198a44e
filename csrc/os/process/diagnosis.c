#include "os/process/diagnosis.h"

#include <errno.h>
#include <fcntl.h>
#include <pwd.h>
#include <stdbool.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/statvfs.h>
#include <sys/utsname.h>
#include <unistd.h>

#include "base/text.h"

/* What the first bytes of a file can tell. */
enum { HEAD = 256 };

/* Offsets in an ELF header. */
enum { ELF_DATA = 5, ELF_MACHINE = 18, ELF_BIG_ENDIAN = 2 };

static size_t
read_head(const char *path, char *head)
{
    int fd = open(path, O_RDONLY | O_CLOEXEC | O_NONBLOCK);
    ssize_t got;

    if (fd < 0) {
        return 0;
    }
    got = read(fd, head, HEAD);
    close(fd);
    return got > 0 ? (size_t)got : 0;
}

/* The interpreter of a script's first line, without its arguments; empty if it is no script. */
static gp__text
find_interpreter(const char *head, size_t len)
{
    gp__text line = {head + 2, 0};
    size_t end = 0;

    if (len < 3 || head[0] != '#' || head[1] != '!') {
        return (gp__text){NULL, 0};
    }
    while (2 + line.len < len && line.data[line.len] != '\n') {
        line.len++;
    }
    /* A trailing carriage return stays: the kernel takes it for part of the name. */
    while (line.len > 0 && (line.data[0] == ' ' || line.data[0] == '\t')) {
        line.data++;
        line.len--;
    }
    while (end < line.len && line.data[end] != ' ' && line.data[end] != '\t') {
        end++;
    }
    line.len = end;
    return line;
}

/* The architecture that an ELF file was built for; NULL: it is not an ELF file. */
static const char *
elf_machine(const char *head, size_t len)
{
    static const struct {
        unsigned machine;
        const char *name;
    } machines[] = {
        {3, "x86 (32 bit)"}, {8, "MIPS"},  {20, "PowerPC"},    {21, "PowerPC64"},
        {22, "S/390"},       {40, "ARM"},  {62, "x86-64"},     {183, "AArch64"},
        {243, "RISC-V"},     {2, "SPARC"}, {258, "LoongArch"},
    };
    const unsigned char *bytes = (const unsigned char *)head;
    unsigned machine;

    if (len < ELF_MACHINE + 2 || memcmp(head, "\177ELF", 4) != 0) {
        return NULL;
    }
    machine = bytes[ELF_DATA] == ELF_BIG_ENDIAN
                  ? (unsigned)bytes[ELF_MACHINE] << 8 | bytes[ELF_MACHINE + 1]
                  : (unsigned)bytes[ELF_MACHINE + 1] << 8 | bytes[ELF_MACHINE];
    for (size_t i = 0; i < sizeof(machines) / sizeof(machines[0]); i++) {
        if (machines[i].machine == machine) {
            return machines[i].name;
        }
    }
    return "another architecture";
}

/* The architecture of this very program, in the same words. */
static const char *
own_machine(void)
{
    char head[HEAD];

    return elf_machine(head, read_head("/proc/self/exe", head));
}

static void
mode_text(char out[11], mode_t mode)
{
    static const char letters[] = "rwxrwxrwx";

    out[0] = S_ISDIR(mode) ? 'd' : S_ISREG(mode) ? '-' : '?';
    for (int i = 0; i < 9; i++) {
        out[i + 1] = (mode & (mode_t)(0400 >> i)) != 0 ? letters[i] : '-';
    }
    out[10] = '\0';
}

static void
user_text(char *out, size_t size, uid_t uid)
{
    char names[1024];
    struct passwd entry;
    struct passwd *found = NULL;

    if (getpwuid_r(uid, &entry, names, sizeof(names), &found) == 0 && found != NULL) {
        snprintf(out, size, "%s (%ld)", found->pw_name, (long)uid);
    } else {
        snprintf(out, size, "user %ld", (long)uid);
    }
}

static int
append_owner(gp__buf *out, const char *path, const struct stat *file)
{
    char mode[11];
    char owner[128];
    char current[128];

    mode_text(mode, file->st_mode);
    user_text(owner, sizeof(owner), file->st_uid);
    user_text(current, sizeof(current), geteuid());
    return gp__buf_printf(out, "%s has mode %s and belongs to %s, this process runs as %s", path,
                          mode, owner, current);
}

/* Why a file that is there could not be found. */
static int
explain_not_found(gp__buf *out, const char *path)
{
    char head[HEAD];
    char quoted[GP__QUOTED];
    size_t len = read_head(path, head);
    gp__text program = find_interpreter(head, len);

    if (program.len > 0) {
        bool windows = program.data[program.len - 1] == '\r';

        return gp__buf_printf(out,
                              "the interpreter %s, which the first line of %s names, does not "
                              "exist%s",
                              gp__quote(quoted, program.data, program.len), path,
                              windows ? ": the line ends in CR LF, save the file with LF" : "");
    }
    if (elf_machine(head, len) != NULL) {
        return gp__buf_printf(out,
                              "the dynamic loader that %s asks for does not exist; it was built "
                              "for another system or C library",
                              path);
    }
    return gp__buf_printf(out, "%s exists, but a file that it needs does not", path);
}

static bool
is_on_noexec(const char *path)
{
#ifdef ST_NOEXEC
    struct statvfs system;

    return statvfs(path, &system) == 0 && (system.f_flag & ST_NOEXEC) != 0;
#else
    (void)path;
    return false;
#endif
}

static int
explain_denied(gp__buf *out, const char *path, const struct stat *file)
{
    int rc;

    if (S_ISDIR(file->st_mode)) {
        return gp__buf_printf(out, "%s is a directory", path);
    }
    if (is_on_noexec(path)) { /* where access() says that nothing is executable */
        return gp__buf_printf(
            out,
            "%s is on a file system mounted with noexec, from which nothing may be "
            "executed; put it elsewhere",
            path);
    }
    if (access(path, X_OK) == 0) {
        char head[HEAD];
        char quoted[GP__QUOTED];
        gp__text program = find_interpreter(head, read_head(path, head));

        if (program.len > 0) {
            return gp__buf_printf(out,
                                  "the interpreter %s, which the first line of %s names, is not "
                                  "an executable file",
                                  gp__quote(quoted, program.data, program.len), path);
        }
        return gp__buf_printf(out, "permission to execute %s was denied", path);
    }
    rc = gp__buf_printf(out, "it is not executable for this user: ");
    if (rc == 0) {
        rc = append_owner(out, path, file);
    }
    return rc < 0 ? rc : gp__buf_printf(out, "; chmod +x makes it executable");
}

static int
explain_format(gp__buf *out, const char *path)
{
    char head[HEAD];
    size_t len = read_head(path, head);
    const char *machine = elf_machine(head, len);
    const char *own = own_machine();

    if (machine != NULL) {
        return gp__buf_printf(out, "%s is built for %s, this machine is %s", path, machine,
                              own != NULL ? own : "another one");
    }
    if (len == 0) {
        return gp__buf_printf(out, "%s is empty", path);
    }
    return gp__buf_printf(out,
                          "%s is neither a program for this system nor a script whose first line "
                          "names its interpreter (#!)",
                          path);
}

int
gp__diagnose_exec(gp__buf *out, const char *path, int errnum)
{
    struct stat file;
    bool found = stat(path, &file) == 0;
    char reason[128];

    switch (errnum) {
    case ENOENT:
    case ENOTDIR:
        return found ? explain_not_found(out, path)
                     : gp__buf_printf(out, "there is no file %s", path);
    case EACCES:
        return found ? explain_denied(out, path, &file)
                     : gp__buf_printf(out, "a directory on the way to %s may not be entered", path);
    case ENOEXEC:
        return explain_format(out, path);
    case E2BIG:
        return gp__buf_printf(out, "its arguments and environment are too long together");
    case ETXTBSY:
        return gp__buf_printf(out, "%s is being written to by another process", path);
    default:
        return gp__buf_printf(out, "%s: %s", path, gp__errno_text(errnum, reason, sizeof(reason)));
    }
}

int
gp__cannot_start(gp_error *err, const char *program, const char *path, int errnum)
{
    gp__buf why = GP__BUF_INIT;
    int rc;

    if (path != NULL && gp__diagnose_exec(&why, path, errnum) == 0) {
        rc = gp_error_set(err, GP_ESTART, "cannot start %s: %.*s", program, (int)why.len, why.data);
        if (err != NULL) {
            err->number = errnum;
        }
    } else {
        rc = gp__as_start_error(gp_error_set_errno(err, errnum, "cannot start %s", program), err);
    }
    gp__buf_release(&why);
    return rc;
}

int
gp__as_start_error(int rc, gp_error *err)
{
    if (rc == GP_EOS) {
        rc = GP_ESTART;
        if (err != NULL) {
            err->code = rc;
        }
    }
    return rc;
}
