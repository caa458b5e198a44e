/*
 * Runs a fuzz target over stored inputs, without libFuzzer: any compiler will do.
 *
 * usage: fuzz_NAME-corpus PATH...
 *
 * Every file named, and every file in each directory named, is one input. A fault ends the process
 * through its sanitizer or assertion; the input's name is printed first, so it is the last line
 * seen.
 */
#include <dirent.h>
#include <errno.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

/* libFuzzer calls this one when a target has it; a target here may do without. */
__attribute__((weak)) int LLVMFuzzerInitialize(int *argc, char ***argv);

static unsigned long inputs;

static int
run_file(const char *path, size_t size)
{
    /* Exactly as long as the input, so that a read past its end is one past the block's too. */
    uint8_t *data = malloc(size > 0 ? size : 1);
    FILE *file = fopen(path, "rb");
    int rc = -1;

    if (data == NULL || file == NULL || fread(data, 1, size, file) != size) {
        fprintf(stderr, "%s: %s\n", path, strerror(errno));
        goto done;
    }
    printf("%s\n", path);
    fflush(stdout);
    LLVMFuzzerTestOneInput(data, size);
    inputs++;
    rc = 0;

done:
    if (file != NULL) {
        fclose(file);
    }
    free(data);
    return rc;
}

static int run_path(const char *path);

static int
run_directory(const char *path)
{
    struct dirent **entries;
    int count = scandir(path, &entries, NULL, alphasort);
    int rc = 0;

    if (count < 0) {
        fprintf(stderr, "%s: %s\n", path, strerror(errno));
        return -1;
    }
    for (int i = 0; i < count; i++) {
        const char *name = entries[i]->d_name;

        if (name[0] != '.') {
            size_t len = strlen(path) + strlen(name) + 2;
            char *child = malloc(len);

            if (child == NULL) {
                rc = -1;
            } else {
                snprintf(child, len, "%s/%s", path, name);
                rc |= run_path(child);
                free(child);
            }
        }
        free(entries[i]);
    }
    free(entries);
    return rc;
}

static int
run_path(const char *path)
{
    struct stat status;

    if (stat(path, &status) < 0) {
        fprintf(stderr, "%s: %s\n", path, strerror(errno));
        return -1;
    }
    return S_ISDIR(status.st_mode) ? run_directory(path) : run_file(path, (size_t)status.st_size);
}

int
main(int argc, char **argv)
{
    const char *slash = strrchr(argv[0], '/');
    int rc = 0;

    if (LLVMFuzzerInitialize != NULL) {
        LLVMFuzzerInitialize(&argc, &argv);
    }
    for (int i = 1; i < argc; i++) {
        rc |= run_path(argv[i]);
    }
    if (rc == 0 && inputs == 0) {
        fprintf(stderr, "no inputs: an empty corpus tests nothing\n");
        rc = -1;
    }
    printf("%s: %lu inputs\n", slash != NULL ? slash + 1 : argv[0], inputs);
    return rc == 0 ? EXIT_SUCCESS : EXIT_FAILURE;
}
