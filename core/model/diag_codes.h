/* SPDX-License-Identifier: Apache-2.0
 *
 * model/diag_codes.h: every code that a diagnostic can have, with what it means. Codes are stable:
 * scripts and editors match on them. A new one goes where its neighbors are; none is ever renamed.
 */
#ifndef WR_MODEL_DIAG_CODES_H
#define WR_MODEL_DIAG_CODES_H

/* X(code, what it means and what to do) */
#define WR_DIAG_CODES(X)                                                                           \
    /* the file and its YAML */                                                                    \
    X("file-unreadable", "The pipeline file cannot be read. Check its path and permissions.")      \
    X("file-too-large", "A pipeline file may have at most 1 MiB.")                                 \
    X("file-encoding", "A pipeline file is UTF-8 text without control characters.")                \
    X("empty-file", "A pipeline file needs at least the maps `sources` and `sinks`.")              \
    X("yaml-syntax", "The file is not well-formed YAML; nothing behind this place was read.")      \
    X("yaml-depth", "Maps and lists may be nested 64 deep.")                                       \
    X("yaml-nodes", "A file may have 100,000 values, each alias counted with all that it stands "  \
                    "for.")                                                                        \
    X("yaml-documents", "A pipeline file holds one YAML document; write one file a pipeline.")     \
    X("yaml-tag", "Tags are not used in pipeline files, except the standard !!str, !!map, !!seq.") \
    X("yaml-merge", "The merge key << is not supported: name the options in each place.")          \
    X("yaml-alias", "An alias must name an anchor that stands before it and does not hold it.")    \
    X("yaml-key", "Keys are plain or quoted text; lists, maps and aliases cannot be keys.")        \
    X("duplicate-key", "A key may stand only once in a map.")                                      \
    /* interpolation */                                                                            \
    X("bad-interpolation", "${...} must be ${env:NAME}, ${env:NAME:-default}, "                    \
                           "${env:NAME:?message} or ${file:PATH}; write $${ for the characters "   \
                           "themselves.")                                                          \
    X("env-unset", "The environment variable is not set and the place names no default.")          \
    X("env-value", "The environment variable's value cannot be used: it is not UTF-8 text.")       \
    X("file-value", "A file named by ${file:PATH} must be a regular UTF-8 file of at most 1 MiB.") \
    X("interpolation-size", "What interpolation puts in may have 8 MiB in all.")                   \
    /* options */                                                                                  \
    X("unknown-option", "This component, or the top of the file, has no option of that name.")     \
    X("missing-option", "A required option is not there.")                                         \
    X("wrong-type", "The value has another type than the option.")                                 \
    X("bad-number", "The number cannot be read, or does not fit 64 bits.")                         \
    X("bad-duration", "A duration is a number and a unit: ns, us, ms, s, m, h or d.")              \
    X("bad-size", "A size is a number and a unit: B, KiB, MiB, GiB, TiB, kB, MB, GB or TB.")       \
    X("bad-choice", "The option takes one of a few words.")                                        \
    X("out-of-range", "The number is below or above what the option allows.")                      \
    X("empty-value", "The option must not be empty.")                                              \
    X("bad-text", "The text holds a NUL character, which this option cannot take.")                \
    X("bad-value", "The value cannot be written as JSON.")                                         \
    X("deprecated-option", "The option still works and will go; use the one that is named.")       \
    X("option-twice", "An option and the one that replaces it are both given.")                    \
    X("bad-template", "The template cannot be compiled.")                                          \
    X("template-prefix", "A template in this place must begin with literal text, so that events "  \
                         "cannot choose any name they like.")                                      \
    X("bad-condition", "The condition is no valid Lua expression.")                                \
    X("no-condition-service", "Conditions need the lua plugin, which was not found.")              \
    X("component-check", "The component's own check of its options failed.")                       \
    X("component-warning", "The component's own check of its options has a remark.")               \
    X("bad-plugin", "The plugin breaks the rules of the ABI; its author must mend it.")            \
    /* components */                                                                               \
    X("bad-id", "An id has 1 to 64 characters of a-z, 0-9, _ and -.")                              \
    X("duplicate-id", "An id may stand only once in a pipeline, whatever the kind.")               \
    X("unknown-type", "No plugin that was found offers this component type.")                      \
    X("too-many-components", "A pipeline may have 1,000 components.")                              \
    X("no-sources", "A pipeline needs at least one source.")                                       \
    X("no-sinks", "A pipeline needs at least one sink.")                                           \
    X("bad-port", "A port's name has 1 to 64 characters of a-z, 0-9, _ and -, and stands once.")   \
    X("bad-retry", "retry.initial must not be above retry.max; on_unavailable: dead_letter needs retry.attempts.")                                   \
    X("bad-buffer", "The buffer's options do not go together, or its folder cannot be made or is another's.") \
    X("in-flight", "This type applies one write at a time, so in_flight must be 1.")               \
    /* edges */                                                                                    \
    X("missing-inputs", "A transform or sink must say what it reads, because the file is no "      \
                        "single line from one source to one sink.")                                \
    X("source-inputs", "A source reads from outside and has no inputs.")                           \
    X("unknown-input", "`inputs` names a component that is not there.")                            \
    X("unknown-port", "The component has no output port of that name.")                            \
    X("missing-port", "The component has several output ports: say which as id.port.")             \
    X("sink-input", "A sink has no output, so nothing can read from it.")                          \
    X("duplicate-input", "An input may be named only once, or events would come twice.")           \
    X("cycle", "Transforms read from each other in a circle.")                                     \
    X("unread-component", "Nobody reads this component, so its events would have no way to go.")   \
    X("unread-port", "Nobody reads this port; name it in `drop` if its events may go.")            \
    X("dropped-port-read", "A port is named in `drop` and is read all the same.")                  \
    /* dead letters */                                                                             \
    X("unknown-dead-letter", "`dead_letter` must name a sink of this pipeline.")                   \
    X("no-dead-letter", "Events that cannot be taken stop the pipeline, because no `dead_letter` " \
                        "sink is named.")                                                          \
    X("dead-letter-missing", "An option says `dead_letter` and no dead-letter sink is named.")     \
    X("dead-letter-loop", "A dead-letter sink retries or stops; it cannot pass events on.")        \
    /* commands */                                                                                 \
    X("replay", "`weir replay` cannot begin as it was asked to.")                                  \
    /* the process's memory */                                                                     \
    X("memory-budget", "What the options let components take does not fit into the process's "     \
                       "memory: lower them, or raise the limit.")                                  \
    /* the list itself */                                                                          \
    X("too-many-problems", "Only the first problems are shown; mend them and check again.")

#endif
