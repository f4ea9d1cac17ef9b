/* SPDX-License-Identifier: Apache-2.0
 *
 * Any bytes as a pipeline file: from YAML over interpolation, options, templates and wiring to a
 * plan, and every diagnostic printed. The component types are those of the unit tests.
 */
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>

#include <base/check.h>
#include <engine/plan.h>

#include "../unit/model/fake_loader.h"

int LLVMFuzzerInitialize(int *argc, char ***argv);
int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

int LLVMFuzzerInitialize(int *argc, char ***argv)
{
    (void)argc;
    (void)argv;
    setenv("A", "{{ b }} ${env:A} : [", 1);
    setenv("N", "12", 1);
    return 0;
}

/* Each position lies in the text, or just behind a line of it. */
static void check_positions(struct wr_diags *d, size_t size)
{
    uint32_t n = wr_diags_count(d, WR_ERROR) + wr_diags_count(d, WR_WARNING);

    for (uint32_t i = 0; i < n; i++) {
        const struct wr_pos *pos = &wr_diags_at(d, i)->pos;
        WR_BUG_ON(pos->line > size + 1 || pos->col > size + 1);
        WR_BUG_ON(pos->line > 0 && pos->col == 0);
    }
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    struct wr_diags *d = wr_diags_new();
    struct wr_plan *p =
        wr_plan_parse("fuzz.yaml", "/nowhere", weir_str_n((const char *)data, size), NULL, d);
    struct wr_buf out = {0};

    WR_BUG_ON((p == NULL) != (wr_diags_count(d, WR_ERROR) > 0));
    check_positions(d, size);
    wr_diags_print(d, &out, false);
    wr_diags_json(d, &out);
    wr_buf_done(&out);
    wr_plan_free(p);
    wr_diags_free(d);
    return 0;
}
