/* SPDX-License-Identifier: Apache-2.0
 *
 * model/conf.h: a YAML text as a located tree. The one home of libyaml.
 *
 * Every node knows its place in the file. Scalars are text with their style; what type a plain one
 * has is decided by who reads it. Aliases share nodes. Limits: 1 MiB, depth 64, 100,000 nodes with
 * each alias counted as all that it stands for.
 */
#ifndef WR_MODEL_CONF_H
#define WR_MODEL_CONF_H

#include <base/arena.h>
#include <model/content.h>
#include <model/diag.h>

#define WR_CONF_BYTES_MAX (1024u * 1024u)
#define WR_CONF_DEPTH_MAX 64u
#define WR_CONF_NODES_MAX 100000u

enum wr_node_kind { WR_NODE_SCALAR, WR_NODE_LIST, WR_NODE_MAP };

enum wr_node_style {
    WR_STYLE_PLAIN,
    WR_STYLE_SINGLE,
    WR_STYLE_DOUBLE,
    WR_STYLE_LITERAL,
    WR_STYLE_FOLDED
};

/* A part of an interpolated scalar: text[at, at + len) came from raw[from...]. Foreign parts were
 * put in by ${...}, which stands at raw[from]. */
struct wr_segment {
    size_t at, len;
    size_t from;
    bool foreign;
};

struct wr_node;

struct wr_field {
    struct weir_str key;
    struct wr_pos pos; /* of the key */
    struct wr_node *value;
};

struct wr_node {
    enum wr_node_kind kind;
    enum wr_node_style style;
    struct wr_pos pos;    /* of its first character; a block map's is that of its first key */
    size_t start, end;    /* bytes of pos.text, with quotes */
    struct weir_str text; /* of a scalar, a NUL behind */
    struct weir_str raw;  /* the same before interpolation */
    struct wr_segment *segments; /* NULL where nothing was put in */
    uint32_t n_segments;
    uint32_t n; /* fields or items */
    struct wr_field *fields;
    struct wr_node **items;
    bool secret; /* some of it came from ${file:...} */
    bool broken; /* a scalar: its interpolation failed; else: something in it was left out; either
                    way it has been reported */
    uint32_t weight, height;     /* nodes in it and depth of it, aliases followed */
    struct wr_node *next_scalar; /* all scalar values of the document */
};

struct wr_conf {
    struct wr_node *root;    /* NULL where the text holds no document */
    struct wr_node *scalars; /* by next_scalar; keys are not among them */
};

/* False with diagnostics where the text is not well-formed (then ret is untouched) or breaks a rule
 * (then the tree is whole all the same, so that more can be found). `text` outlives the tree. */
bool wr_conf_parse(struct weir_arena *a, const struct wr_text *text, struct wr_diags *d,
                   struct wr_conf *ret);

/* Replaces ${env:...} and ${file:...} in all scalars; `dir` for relative paths. False with
 * diagnostics where one failed; that node is then `broken`. The files are put in front of *ret_files
 * (NULL: nobody asks). */
bool wr_conf_interpolate(struct weir_arena *a, const struct wr_conf *conf, const char *dir,
                         struct wr_diags *d, struct wr_content_file **ret_files);

/* The field of that key, or NULL. */
const struct wr_field *wr_node_field(const struct wr_node *map, struct weir_str key);
/* Where byte `offset` of a scalar's text stands in the file. */
struct wr_pos wr_node_pos_at(const struct wr_node *scalar, size_t offset);

/* The type of a scalar in YAML's core schema; quoted and block scalars are strings. */
enum wr_scalar_type {
    WR_SCALAR_NULL,
    WR_SCALAR_BOOL,
    WR_SCALAR_INT,
    WR_SCALAR_FLOAT,
    WR_SCALAR_STRING
};
enum wr_scalar_type wr_scalar_type(const struct wr_node *scalar);

#endif
