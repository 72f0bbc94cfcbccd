// Any text must end in a verdict with a reason; what loads must print to something that loads and prints the same.
#include "config_internal.h"

#include <assert.h>
#include <stdlib.h>

enum { SAID_BYTES = 4 * 1024 * 1024 };

int LLVMFuzzerInitialize(int *argc, char ***argv);
int LLVMFuzzerTestOneInput(const uint8_t *bytes, size_t n);

// libconfig leaks a token at a syntax error.
const char *__lsan_default_suppressions(void);
const char *__lsan_default_suppressions(void) {
    return "leak:libconfig.so\n";
}

int LLVMFuzzerInitialize(int *argc, char ***argv) {
    (void)argc, (void)argv;
    return setenv("K", "value-of-k", 1);
}

static bool load(sj_slice text, sj_config **config) {
    sj_buffer error = sj_buffer_with_max(SAID_BYTES), warnings = sj_buffer_with_max(SAID_BYTES);
    bool ok = sj_config_load_text(text, "fuzz.conf", NULL, config, &error, &warnings);
    assert(ok == (*config != NULL) && ok == (error.n == 0));
    assert(!error.n || error.p[error.n - 1] == '\n');
    assert(!error.n || !memmem(error.p, error.n, "value-of-k", 10));
    sj_buffer_free(&error);
    sj_buffer_free(&warnings);
    return ok;
}

int LLVMFuzzerTestOneInput(const uint8_t *bytes, size_t n) {
    sj_config *config, *again;
    if (n && memmem(bytes, n, "value-of-k", 10))
        return 0; // then an error may show it
    if (!load((sj_slice){(const char *)bytes, n}, &config))
        return 0;
    sj_buffer first = sj_buffer_with_max(SAID_BYTES), second = sj_buffer_with_max(SAID_BYTES);
    if (sj_config_print(config, &first)) {
        bool loads = load(sj_buffer_slice(&first), &again);
        assert(loads && sj_config_print(again, &second));
        assert(sj_slice_equal(sj_buffer_slice(&first), sj_buffer_slice(&second)));
        sj_config_unref(&again);
    }
    sj_config_unref(&config);
    sj_buffer_free(&first);
    sj_buffer_free(&second);
    return 0;
}
