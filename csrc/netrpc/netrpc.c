#include "gp/netrpc.h"

#include "base/thread.h"
#include "netrpc/workers.h"

void
gp_netrpc_on_worker_exit(void (*then)(void))
{
    gp__workers_on_exit(then);
}

int
gp_netrpc_shutdown(int64_t patience_ms)
{
    return gp__workers_end(gp_deadline_in(patience_ms)) ? 0 : GP_ETIMEOUT;
}
