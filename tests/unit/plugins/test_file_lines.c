/* SPDX-License-Identifier: Apache-2.0
 *
 * The reader of lines of the plugin file: against a simple splitter, over a pipe in pieces of any
 * size, with its offsets, with ranges, and with lines that are too long.
 */
#include <engine/host.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>

#include "../../../plugins/file/lines.c"

#include <setjmp.h>
#include <stdarg.h>
#include <cmocka.h>

static int file_of(const char *data, size_t len)
{
    FILE *f = tmpfile();
    assert_non_null(f);
    assert_int_equal(fwrite(data, 1, len, f), len);
    assert_int_equal(fflush(f), 0);
    int fd = dup(fileno(f));
    assert_true(fd >= 0);
    assert_int_equal(fclose(f), 0);
    assert_int_equal(lseek(fd, 0, SEEK_SET), 0);
    return fd;
}

static void begin(struct lines *l, int fd, size_t max_line)
{
    struct pool *pool = pool_new(wr_host_control());
    assert_non_null(pool);
    lines_init(l, wr_host_control(), pool, fd, max_line);
}

static void end(struct lines *l)
{
    lines_done(l);
    pool_close(l->pool);
}

/* Takes all lines of the reader, checks offsets, and gives them joined by "|"; "!" for too long, with
 * "." behind it once its end was told. */
static void join(struct lines *l, const char *data, char *out)
{
    for (;;) {
        struct line line;
        enum line_result r = lines_next(l, &line);
        if (r == LINE_END)
            break;
        if (r == LINE_MORE) {
            assert_int_equal(lines_fill(l), 0);
            continue;
        }
        if (r == LINE_TOO_LONG) {
            *out++ = '!';
            lines_skip(l);
            continue;
        }
        if (r == LINE_SKIPPED) {
            assert_int_equal(out[-1], '!');
            assert_true(line.offset == 0 || data[line.offset - 1] == '\n');
            assert_null(memchr(data + line.offset, '\n', (size_t)(line.next - line.offset) - 1));
            assert_true(data[line.next - 1] == '\n' || data[line.next] == '\0');
            *out++ = '.';
            continue;
        }
        assert_memory_equal(line.text.ptr, data + line.offset, line.text.len);
        assert_true(line.next >= line.offset + (int64_t)line.text.len);
        memcpy(out, line.text.ptr, line.text.len);
        out += line.text.len;
        *out++ = '|';
    }
    *out = '\0';
}

static void lines_of(const char *data, size_t max_line, const char *want)
{
    char got[1024];
    struct lines l;
    int fd = file_of(data, strlen(data));
    begin(&l, fd, max_line);
    join(&l, data, got);
    assert_string_equal(got, want);
    end(&l);
    close(fd);
}

static void test_line_ends(void **state)
{
    (void)state;
    lines_of("", 10, "");
    lines_of("a", 10, "a|");
    lines_of("a\n", 10, "a|");
    lines_of("a\r\nb\r\n", 10, "a|b|");
    lines_of("\n\n", 10, "||");
    lines_of("a\rb\r\r\n", 10, "a\rb\r|");
    lines_of("\xef\xbb\xbf"
             "a\nb",
             10, "a|b|");
    lines_of("a\n\xef\xbb\xbf", 10, "a|\xef\xbb\xbf|");
}

static void test_long_lines(void **state)
{
    (void)state;
    lines_of("12345\n123456\n1\n", 5, "12345|!.1|");
    lines_of("12345\r\n123456\r\n1", 5, "12345|!.1|");
    lines_of("123456", 5, "!.");
    lines_of("123456789\n123456789\n", 5, "!.!.");
    lines_of("1234567\n\n12", 5, "!.|12|");
}

static void first_part_of(const char *data, size_t max, const char *want)
{
    struct lines l;
    struct line line;
    int fd = file_of(data, strlen(data));
    begin(&l, fd, 1);
    assert_int_equal(lines_next(&l, &line), LINE_MORE);
    assert_int_equal(lines_fill(&l), 0);
    assert_int_equal(lines_next(&l, &line), LINE_TOO_LONG);
    struct weir_str part = lines_first_part(&l, max);
    assert_int_equal(part.len, strlen(want));
    assert_memory_equal(part.ptr, want, part.len);
    end(&l);
    close(fd);
}

/* Of a line that is too long: never more than the line, never half a character. */
static void test_first_parts(void **state)
{
    (void)state;
    first_part_of("abcdef\nnext\n", 3, "abc");
    first_part_of("abcdef\nnext\n", 100, "abcdef");
    first_part_of("abcdef", 100, "abcdef");
    first_part_of("ab\xc3\xa4z", 3, "ab");
    first_part_of("ab\xc3\xa4z", 4, "ab\xc3\xa4");
    first_part_of("a\xf0\x9f\xa5\xbez", 4, "a");
    first_part_of("a\xf0\x9f\xa5\xbez", 5, "a\xf0\x9f\xa5\xbe");
    first_part_of("ab\xe9\x9e", 100, "ab"); /* the rest is not read yet */
    first_part_of("\x80\x80\x80\x80\x80\x80", 5, "\x80\x80\x80\x80\x80");
    first_part_of("\xff\xff\xff", 3, "\xff\xff");
}

static void test_a_line_is_given_again(void **state)
{
    (void)state;
    struct lines l;
    struct line line;
    int fd = file_of("one\ntwo\n", 8);
    begin(&l, fd, 100);
    assert_int_equal(lines_next(&l, &line), LINE_MORE);
    assert_int_equal(lines_fill(&l), 0);
    assert_int_equal(lines_next(&l, &line), LINE_OK);
    lines_back(&l, &line);
    assert_int_equal(lines_next(&l, &line), LINE_OK);
    assert_memory_equal(line.text.ptr, "one", 3);
    assert_int_equal(lines_next(&l, &line), LINE_OK);
    assert_int_equal(line.offset, 4);
    assert_int_equal(line.next, 8);
    end(&l);
    close(fd);
}

/* Every line belongs to exactly one range, wherever the cuts are. */
static void test_ranges(void **state)
{
    (void)state;
    static const char data[] = "a\nbb\n\nccc\r\ndddd\neeeee";
    const int64_t size = sizeof(data) - 1;
    for (int64_t cut = 0; cut <= size; cut++) {
        char first[64];
        char second[64];
        char all[128];
        struct lines l;
        int fd = file_of(data, (size_t)size);
        begin(&l, fd, 100);
        l.limit = cut;
        join(&l, data, first);
        end(&l);
        begin(&l, fd, 100);
        if (cut == 0)
            assert_int_equal(lseek(fd, 0, SEEK_SET), 0);
        assert_true(lines_seek(&l, cut));
        join(&l, data, second);
        end(&l);
        close(fd);
        snprintf(all, sizeof(all), "%s%s", first, second);
        assert_string_equal(all, "a|bb||ccc|dddd|eeeee|");
    }
}

/* Random lines through a pipe in random pieces; blocks that are still in use keep their bytes. */
static void test_pipes_and_blocks(void **state)
{
    (void)state;
    enum { SIZE = 3 << 20, KEPT = 64 };
    char *data = malloc(SIZE);
    srandom(5);
    for (size_t i = 0; i < SIZE; i++)
        data[i] = (char)('a' + i % 26);
    for (size_t i = 0; i < SIZE; i += 1 + (size_t)random() % (random() % 50 == 0 ? 400000 : 900))
        data[i] = '\n';
    int ends[2];
    struct lines l;
    assert_int_equal(pipe2(ends, O_NONBLOCK), 0); /* it may hold as little as a page */
    begin(&l, ends[0], SIZE);
    struct {
        struct block *block;
        struct line line;
    } kept[KEPT] = {0};
    size_t written = 0, n = 0;
    int64_t next = 0;
    for (bool end = false; !end;) {
        struct line line;
        switch (lines_next(&l, &line)) {
        case LINE_MORE:
            if (written < SIZE) {
                size_t piece = 1 + (size_t)random() % 60000;
                piece = piece < SIZE - written ? piece : SIZE - written;
                ssize_t put = write(ends[1], data + written, piece);
                assert_true(put > 0 || errno == EAGAIN);
                written += put > 0 ? (size_t)put : 0;
            } else if (ends[1] >= 0) {
                close(ends[1]);
                ends[1] = -1;
            }
            assert_int_equal(lines_fill(&l), 0);
            break;
        case LINE_OK:
        case LINE_EMPTY:
            assert_int_equal(line.offset, next);
            assert_memory_equal(line.text.ptr, data + line.offset, line.text.len);
            next = line.next;
            size_t k = n++ % KEPT;
            if (kept[k].block != NULL) {
                assert_memory_equal(kept[k].line.text.ptr, data + kept[k].line.offset,
                                    kept[k].line.text.len);
                block_unref(kept[k].block);
            }
            block_ref(l.block);
            kept[k].block = l.block;
            kept[k].line = line;
            break;
        default:
            end = true;
        }
    }
    assert_int_equal(next, SIZE);
    end(&l); /* before the last blocks are let go of */
    for (size_t k = 0; k < KEPT; k++) {
        if (kept[k].block == NULL)
            continue;
        assert_memory_equal(kept[k].line.text.ptr, data + kept[k].line.offset,
                            kept[k].line.text.len);
        block_unref(kept[k].block);
    }
    close(ends[0]);
    free(data);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_line_ends),
        cmocka_unit_test(test_long_lines),
        cmocka_unit_test(test_first_parts),
        cmocka_unit_test(test_a_line_is_given_again),
        cmocka_unit_test(test_ranges),
        cmocka_unit_test(test_pipes_and_blocks),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
