/*
 * Layer: os. A process and all processes that descend from it, which are killed together.
 *
 * The kernel offers no such group: a process group of its own would not get the terminal's Ctrl-C,
 * and a control group needs privileges. So a process is a member of the group if
 *
 * - its environment has the group's mark, which children inherit and keep when their parent ends;
 * or - its parent is a member, for those that have cleared or overwritten their environment.
 *
 * A process that has PYGO_PLUGIN_DETACHED set and not the mark is no member: it is a plugin of a
 * member, and is to outlive its host. Every signal goes through a pidfd. After a pidfd is opened,
 * its process is checked again, so that no signal reaches a successor with the same pid.
 */
#ifndef GP_OS_PROCESS_GROUP_H
#define GP_OS_PROCESS_GROUP_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/types.h>

#include "gp/error.h"

/* The variable that is the mark: its name. */
#define GP__GROUP_VARIABLE "PYGO_PLUGIN_GROUP"

typedef struct gp__group gp__group;

/* Whether groups can be killed here: there are pidfds, and a /proc that tells of processes. */
bool gp__group_supported(void);

/* The group with the mark |mark| ("KEY=VALUE", copied). Returns 0 or GP_ENOMEM. */
int gp__group_new(gp__group **out, const char *mark, gp_error *err);

/* Frees the object and kills nothing. No other thread uses it. NULL is fine. */
void gp__group_free(gp__group *group);

/*
 * Send SIGKILL to each member, to the processes that gp__group_remember() has found, and to |root|,
 * the process that was started first, with its |pidfd|; |root| may have ended. Repeats this until
 * no member is left, since a member may just have started another, and blocks for at most
 * |patience_ms|; 0: does it once. Threads: any.
 */
void gp__group_kill(gp__group *group, pid_t root, int pidfd, int64_t patience_ms);

/*
 * Open pidfds of the members that there are now, except |root|, for gp__group_kill(): later they
 * may be members that cannot be recognised, since they have lost both the mark and their parent.
 * Threads: any.
 */
void gp__group_remember(gp__group *group, pid_t root, int pidfd);

#endif
