/*
 * Layer: os. All processes that one has started, and those that they have started in turn.
 *
 * The kernel has no name for them that would leave the terminal's Ctrl-C alone, as a process group
 * of their own does not, and that needs no privileges, as control groups do. So a process belongs
 * to the group if
 *
 * - its environment has the group's mark, which children inherit, whatever their parent is by now; or
 * - its parent belongs to it, for those that have cleared their environment or written over it.
 *
 * Neither counts for one that has PYGO_PLUGIN_DETACHED set and not the mark: it is a plugin of a
 * member's that is to outlive its host. Every signal goes through a pidfd whose process has been
 * looked at again after it was opened: none reaches a successor with the same pid.
 */
#ifndef GP_OS_PROCESS_GROUP_H
#define GP_OS_PROCESS_GROUP_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/types.h>

/* The variable that marks. */
#define GP__GROUP_VARIABLE "PYGO_PLUGIN_GROUP"

/* Whether groups can be killed here: there are pidfds, and a /proc that tells of processes. */
bool gp__group_supported(void);

/*
 * SIGKILL for each member of the group with the mark |mark| ("KEY=VALUE"), and for |root|, the
 * process that was started first, with its |pidfd|; that may have ended. Repeated until there is
 * none, since some may be about to start others, for |patience_ms| at most, which it blocks; 0:
 * once.
 */
void gp__group_kill(pid_t root, int pidfd, const char *mark, int64_t patience_ms);

/*
 * The members that there are now, but for |root|: up to |room| pidfds, which are the caller's. They
 * stand for them when they can be told no more, since they have lost both the mark and their
 * parent.
 */
size_t gp__group_find(pid_t root, int pidfd, const char *mark, int *out, size_t room);

/* SIGKILL for what gp__group_find() has given, as gp__group_kill() does it. Closes the pidfds. */
void gp__group_kill_found(int *found, size_t count, int64_t patience_ms);

#endif
