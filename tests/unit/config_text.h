// Loads a configuration from a text under the name "t.conf"; what it said is kept for the assertions.
#ifndef SJ_TEST_CONFIG_TEXT_H
#define SJ_TEST_CONFIG_TEXT_H

#include "config_internal.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>

#include <cmocka.h>

// libconfig leaks a token at a syntax error.
const char *__lsan_default_suppressions(void);
const char *__lsan_default_suppressions(void) {
    return "leak:libconfig.so\n";
}

enum { SAID_BYTES = 1024 * 1024 };

static char said_error[SAID_BYTES], said_warnings[SAID_BYTES];

static void keep(sj_buffer *buffer, char *out) {
    assert_true(buffer->n < SAID_BYTES);
    if (buffer->n)
        memcpy(out, buffer->p, buffer->n);
    out[buffer->n] = '\0';
    sj_buffer_free(buffer);
}

static inline sj_config *load_bytes(sj_slice text) {
    sj_config *config = NULL;
    sj_buffer error = sj_buffer_with_max(SAID_BYTES - 1), warnings = sj_buffer_with_max(SAID_BYTES - 1);
    bool ok = sj_config_load_text(text, "t.conf", NULL, &config, &error, &warnings);
    keep(&error, said_error);
    keep(&warnings, said_warnings);
    assert_int_equal(ok, config != NULL);
    assert_int_equal(ok, said_error[0] == '\0');
    return config;
}

static inline sj_config *load_text(const char *text) {
    return load_bytes(sj_slice_of(text));
}

// NULL: the environment.
static inline sj_config *load_file(const char *path) {
    sj_config *config = NULL;
    sj_buffer error = sj_buffer_with_max(SAID_BYTES - 1), warnings = sj_buffer_with_max(SAID_BYTES - 1);
    bool ok = sj_config_load(path, &config, &error, &warnings);
    keep(&error, said_error);
    keep(&warnings, said_warnings);
    assert_int_equal(ok, config != NULL);
    return config;
}

// Must load, and say nothing.
static inline sj_config *load_clean(const char *text) {
    sj_config *config = load_text(text);
    assert_string_equal(said_error, "");
    assert_string_equal(said_warnings, "");
    return config;
}

static inline char *print_config(const sj_config *config) {
    sj_buffer out = sj_buffer_with_max(SAID_BYTES);
    assert_true(sj_config_print(config, &out));
    char *text = strndup(out.p, out.n);
    sj_buffer_free(&out);
    assert_non_null(text);
    return text;
}

#endif
