/*
 * Layer: plugin. The check of an executable before it runs.
 */
#ifndef GP_PLUGIN_VERIFY_H
#define GP_PLUGIN_VERIFY_H

#include "gp/client.h"
#include "os/process/sealed.h"

/*
 * Find the program as gp__spawn() would with |env|, check it and copy it. |out| is the copy to run,
 * if the file has the checksum that the options demand. If it has not, no more than 32 MiB are
 * copied.
 *
 * Returns: 0, GP_ECHECKSUM (the detail is "HASH EXPECTED FOUND", the sums in hexadecimal digits),
 * GP_EINVAL, GP_ESTART, GP_ENOMEM, GP_EOS, GP_ESTARTTIMEOUT (at |deadline|) or GP_EUSER.
 */
int gp__verify(gp__sealed *out, const gp_client_options *options, const char *const *env,
               int64_t deadline, const gp_interrupt *interrupt, gp_error *err);

#endif
