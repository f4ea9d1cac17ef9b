/* SPDX-License-Identifier: Apache-2.0
 *
 * Texts cleared of secrets: several, overlapping ones, cut ones.
 */
#include <base/secret.h>

#include <setjmp.h>
#include <stdarg.h>
#include <stdint.h>
#include <string.h>

#include <cmocka.h>

static const struct wr_secret url = {{"redis://u:hunter2@host", 22}, NULL};
static const struct wr_secret login = {{"u:hunter2", 9}, &url};
static const struct wr_secret word = {{"hunter2", 7}, &login};
static const struct wr_secret other = {{"ter2-more", 9}, &word};

/* Both ways. NULL: as it was. */
static void cleared(const char *text, const char *stars, const char *scrubbed)
{
    char copy[200];
    struct wr_buf b = {0};
    strncpy(copy, text, sizeof(copy) - 1);
    copy[sizeof(copy) - 1] = '\0';
    wr_secrets_hide(&other, copy, strlen(copy));
    assert_string_equal(copy, stars != NULL ? stars : text);
    wr_buf_text(&b, text);
    wr_secrets_scrub(&other, &b);
    assert_string_equal(b.ptr != NULL ? b.ptr : "", scrubbed != NULL ? scrubbed : text);
    wr_buf_done(&b);
}

static void whole_secrets(void **state)
{
    (void)state;
    cleared("nothing in it", NULL, NULL);
    cleared("", NULL, NULL);
    cleared("hunter2", "*******", "***");
    cleared("a hunter2 and hunter2.", "a ******* and *******.", "a *** and ***.");
    cleared("to redis://u:hunter2@host/1", "to **********************/1", "to ***/1");
    cleared("as u:hunter2", "as *********", "as ***");
}

static void overlapping_secrets(void **state)
{
    (void)state;
    cleared("xhunter2-morex", "x************x", "x***x");
    cleared("hunter2hunter2", "**************", "******");
}

static void secrets_that_an_end_cuts(void **state)
{
    (void)state;
    cleared("a hunt", "a ****", "a ***");
    cleared("a hun", NULL, NULL);
    cleared("the sink redis", NULL, NULL); /* the beginning of a URL is none */
    cleared("to redis://u:hunt", "to redis://******", "to redis://***");
}

static void no_secrets(void **state)
{
    char text[] = "hunter2";
    struct wr_buf b = {0};
    (void)state;
    wr_secrets_hide(NULL, text, strlen(text));
    assert_string_equal(text, "hunter2");
    wr_buf_text(&b, text);
    wr_secrets_scrub(NULL, &b);
    assert_string_equal(b.ptr, "hunter2");
    wr_buf_done(&b);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(whole_secrets),
        cmocka_unit_test(overlapping_secrets),
        cmocka_unit_test(secrets_that_an_end_cuts),
        cmocka_unit_test(no_secrets),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
