/* SPDX-License-Identifier: MIT */
#include "viewer.h"

static bool same(struct jc_slice a, struct jc_slice b)
{
    if (a.n != b.n)
        return false;
    for (uint32_t i = 0; i < a.n; i++)
        if (jc_lower(a.p[i]) != jc_lower(b.p[i]))
            return false;
    return true;
}

void jc_viewer_bind(const struct jc_criteria *c, const struct jc_segment *s,
                    struct jc_ranges *codes)
{
    const struct jc_dict *accounts = &s->dict[JC_FIELD_ACCOUNT];

    for (size_t i = 0; i < c->viewer_accounts.n; i++) {
        struct jc_slice want = c->viewer_accounts.v[i];
        uint32_t state = 0, id;

        while ((id = jc_dict_alike(accounts, want, &state)) != JC_DICT_NONE)
            if (same(want, jc_dict_get(accounts, id)))
                jc_ranges_add(codes, jc_code_dict(id), jc_code_dict(id));
    }
    jc_ranges_sort(codes);
}

void jc_viewer_keep(const struct jc_criteria *c, const struct jc_ranges *codes,
                    const struct jc_block *b, uint8_t *match)
{
    uint64_t uid[JC_BLOCK_ROWS], account[JC_BLOCK_ROWS];

    jc_block_column(b, JC_FIELD_UID, uid);
    jc_block_column(b, JC_FIELD_ACCOUNT, account);
    for (uint32_t i = 0; i < b->rows; i++)
        match[i] &= uid[i] == c->viewer || jc_ranges_have(codes, account[i]);
}
