#include <string.h>

#include "support.h"
#include "wire/rfc3339.h"

static void
timestamps(void **state)
{
    static const struct {
        const char *text;
        double seconds;
    } good[] = {
        {"1970-01-01T00:00:00Z", 0},
        {"1970-01-01T00:00:00.5Z", 0.5},
        {"1970-01-01T02:30:00+02:30", 0},
        {"1969-12-31T22:00:00.25-02:00", 0.25},
        {"2000-02-29t12:00:00z", 951825600},
        {"2024-12-31T23:59:60Z", 1735689600},
        {"1900-03-01T00:00:00Z", -2203891200.0},
        {"2024-05-06 07:08:09.123456789123456789Z", 1714979289.1234567},
    };
    static const char *const bad[] = {
        "",
        "2024-05-06",
        "2024-05-06T07:08:09",
        "2024-05-06T07:08:09.Z",
        "2024-05-06T07:08:09.1",
        "2024-13-06T07:08:09Z",
        "2024-00-06T07:08:09Z",
        "2024-05-32T07:08:09Z",
        "2024-05-06T24:08:09Z",
        "2024-05-06T07:60:09Z",
        "2024-05-06T07:08:61Z",
        "2024-05-06T07:08:09+2:00",
        "2024-05-06T07:08:09+02:00x",
        "2024-05-06T07:08:09+02",
        "2024-05-06T07:08:09+24:00",
        "2024-05-06T07:08:09Zx",
        "2024-5-06T07:08:09Z",
        "x024-05-06T07:08:09Z",
        "2024-05-06X07:08:09Z",
    };
    double seconds;

    (void)state;
    for (size_t i = 0; i < sizeof(good) / sizeof(good[0]); i++) {
        gp__text text = {good[i].text, strlen(good[i].text)};

        if (!gp__rfc3339_parse(text, &seconds)) {
            fail_msg("refused: %s", good[i].text);
        }
        assert_true(seconds - good[i].seconds < 1e-5 && good[i].seconds - seconds < 1e-5);
    }
    for (size_t i = 0; i < sizeof(bad) / sizeof(bad[0]); i++) {
        gp__text text = {bad[i], strlen(bad[i])};

        if (gp__rfc3339_parse(text, &seconds)) {
            fail_msg("taken: %s", bad[i]);
        }
    }
}

static void
timestamps_there_and_back(void **state)
{
    char text[GP__RFC3339_SIZE];

    (void)state;
    for (int64_t day = -200000; day < 200000; day += 97) {
        int64_t us = (day * 86400 + day % 86400) * 1000000 + 250000;
        gp__text view = {text, gp__rfc3339_format(text, us)};
        double seconds;

        assert_true(gp__rfc3339_parse(view, &seconds));
        assert_true((int64_t)(seconds * 4) == us / 250000);
    }
}

int
main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(timestamps),
        cmocka_unit_test(timestamps_there_and_back),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
