#include "key_source.h"

#include "buffer.h"

#include <ctype.h>
#include <stdio.h>

enum { MAX_FILE = 1024 * 1024 };

typedef enum sj_token_kind { TOKEN_END, TOKEN_NAME, TOKEN_STRING, TOKEN_SIGN } sj_token_kind;

typedef struct sj_scan {
    sj_slice rest;
    int line;
    sj_token_kind kind;
    sj_slice text; // a string's without its quotes
} sj_scan;

static void step(sj_scan *scan, size_t n) {
    for (size_t i = 0; i < n; i++)
        scan->line += scan->rest.p[i] == '\n';
    scan->rest = sj_slice_from(scan->rest, n);
}

static size_t up_to(sj_slice text, const char *end) {
    const char *p = memmem(text.p, text.n, end, strlen(end));
    return p ? (size_t)(p - text.p) + strlen(end) : text.n;
}

// White space and comments, as libconfig knows them.
static void skip(sj_scan *scan) {
    while (scan->rest.n) {
        if (isspace((unsigned char)scan->rest.p[0]))
            step(scan, 1);
        else if (scan->rest.p[0] == '#' || sj_slice_starts(scan->rest, SJ_SLICE("//")))
            step(scan, up_to(scan->rest, "\n"));
        else if (sj_slice_starts(scan->rest, SJ_SLICE("/*")))
            step(scan, up_to(scan->rest, "*/"));
        else
            return;
    }
}

static bool in_name(char c) {
    return isalnum((unsigned char)c) || c == '_' || c == '-' || c == '*';
}

static void next(sj_scan *scan) {
    skip(scan);
    sj_slice rest = scan->rest;
    size_t n = 0;
    if (rest.n == 0) {
        scan->kind = TOKEN_END;
    } else if (rest.p[0] == '"') {
        scan->kind = TOKEN_STRING;
        for (n = 1; n < rest.n && rest.p[n] != '"'; n++)
            n += rest.p[n] == '\\' && n + 1 < rest.n;
        n = n < rest.n ? n : rest.n - 1;
        scan->text = (sj_slice){rest.p + 1, n ? n - 1 : 0};
        step(scan, n + 1);
    } else if (in_name(rest.p[0])) {
        scan->kind = TOKEN_NAME;
        while (n < rest.n && in_name(rest.p[n]))
            n++;
        scan->text = (sj_slice){rest.p, n};
        step(scan, n);
    } else {
        scan->kind = TOKEN_SIGN;
        scan->text = (sj_slice){rest.p, 1};
        step(scan, 1);
    }
}

static bool is_sign(const sj_scan *scan, const char *any) {
    return scan->kind == TOKEN_SIGN && strchr(any, scan->text.p[0]);
}

// To the setting of that name in the group the scan stands in; false: the group ended.
static bool find_setting(sj_scan *scan, const char *name) {
    int depth = 0;
    for (next(scan); scan->kind != TOKEN_END; next(scan)) {
        if (is_sign(scan, "{([")) {
            depth++;
        } else if (is_sign(scan, "})]") && --depth < 0) {
            return false;
        } else if (depth == 0 && scan->kind == TOKEN_NAME && sj_slice_equal(scan->text, sj_slice_of(name))) {
            sj_scan after = *scan;
            next(&after);
            if (is_sign(&after, "=:")) {
                *scan = after;
                return true;
            }
        }
    }
    return false;
}

static bool enter_group(sj_scan *scan, const char *name) {
    if (!find_setting(scan, name))
        return false;
    next(scan);
    return is_sign(scan, "{");
}

static void name_variable(sj_slice value, sj_key_source *source) {
    if (value.n > 3 && value.n - 3 < sizeof source->variable && sj_slice_starts(value, SJ_SLICE("${")) &&
        value.p[value.n - 1] == '}')
        memcpy(source->variable, value.p + 2, value.n - 3);
}

sj_key_source sj_key_source_find(sj_slice text, const char *upstream, size_t index) {
    sj_key_source source = {0};
    sj_scan scan = {.rest = text, .line = 1};
    if (!enter_group(&scan, "upstreams") || !enter_group(&scan, upstream))
        return source;
    sj_scan group = scan;
    if (!find_setting(&scan, "api_key")) {
        scan = group;
        if (!find_setting(&scan, "api_keys"))
            return source;
    }
    source.line = scan.line;
    for (next(&scan); scan.kind == TOKEN_STRING || is_sign(&scan, "[(,"); next(&scan)) {
        if (scan.kind == TOKEN_STRING && index-- == 0) {
            source.line = scan.line;
            name_variable(scan.text, &source);
            break;
        }
    }
    return source;
}

sj_key_source sj_key_source_in_file(const char *path, const char *upstream, size_t index) {
    sj_key_source source = {0};
    FILE *file = fopen(path, "re");
    if (!file)
        return source;
    sj_buffer text = sj_buffer_with_max(MAX_FILE);
    char chunk[4096];
    size_t n;
    while ((n = fread(chunk, 1, sizeof chunk, file)) > 0 && sj_buffer_append(&text, chunk, n))
        ;
    source = sj_key_source_find(sj_buffer_slice(&text), upstream, index);
    if (text.p)
        explicit_bzero(text.p, text.n); // a key may stand in it
    explicit_bzero(chunk, sizeof chunk);
    fclose(file);
    sj_buffer_free(&text);
    return source;
}
