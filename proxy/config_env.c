// Start without a file: the environment is written down as a configuration and read like one, so the same checks hold.
#include "config_internal.h"

#include <ctype.h>
#include <stdlib.h>

static const char *env(const char *name) {
    const char *value = getenv(name);
    return value && *value ? value : NULL;
}

bool sj_config_quote(sj_buffer *out, const char *text) {
    bool ok = sj_buffer_text(out, "\"");
    for (; *text && ok; text++) {
        unsigned char c = (unsigned char)*text;
        if (c == '"' || c == '\\')
            ok = sj_buffer_printf(out, "\\%c", c);
        else if (c < ' ' || c == 0x7f)
            ok = sj_buffer_printf(out, "\\x%02x", c);
        else
            ok = sj_buffer_append(out, text, 1);
    }
    return ok && sj_buffer_text(out, "\"");
}

// Settings whose value is a variable's, when it is set.
static bool add_settings(sj_buffer *out) {
    static const struct {
        const char *key, *variable;
    } settings[] = {
        {"listen", "STORMJIB_LISTEN"},
        {"admin", "STORMJIB_ADMIN"},
        {"admin_token", "STORMJIB_ADMIN_TOKEN"},
        {"client_keys", "STORMJIB_CLIENT_KEYS"},
    };
    bool ok = true;
    for (size_t i = 0; i < sizeof settings / sizeof *settings && ok; i++) {
        if (env(settings[i].variable))
            ok = sj_buffer_printf(out, "%s = \"${%s}\";\n", settings[i].key, settings[i].variable);
    }
    // Set and empty means off.
    if (ok && getenv("STORMJIB_ADMIN") && !env("STORMJIB_ADMIN"))
        ok = sj_buffer_text(out, "admin = \"\";\n");
    if (ok && env("STORMJIB_LOG_FORMAT"))
        ok = sj_buffer_text(out, "log = { format = \"${STORMJIB_LOG_FORMAT}\"; };\n");
    return ok;
}

bool sj_config_supply_listen(config_setting_t *root) {
    if (config_setting_get_member(root, "listen") || !env("STORMJIB_LISTEN"))
        return true;
    config_setting_t *listen = config_setting_add(root, "listen", CONFIG_TYPE_STRING);
    return listen && config_setting_set_string(listen, "${STORMJIB_LISTEN}");
}

static bool add_upstream(sj_buffer *out, const char *base_url) {
    return sj_buffer_text(out, "upstreams = { default = { base_url = ") && sj_config_quote(out, base_url) &&
           sj_buffer_text(out, "; ") &&
           (!env("OPENAI_API_KEY") || sj_buffer_text(out, "api_key = \"${OPENAI_API_KEY}\"; ")) &&
           sj_buffer_text(out, "}; };\n");
}

static bool add_route(sj_buffer *out, const char *fallback) {
    bool ok = sj_buffer_text(out, "routes = ( { path = \"*\"; model = \"*\"; chain = [ \"default\"");
    if (ok && fallback) {
        sj_buffer target = sj_buffer_with_max(1024);
        ok = sj_buffer_printf(&target, "default/%s", fallback) && sj_buffer_append(&target, "", 1) &&
             sj_buffer_text(out, ", ") && sj_config_quote(out, target.p);
        sj_buffer_free(&target);
    }
    return ok && sj_buffer_text(out, " ]; } );\n");
}

bool sj_config_from_environment(sj_loader *loader, sj_buffer *text) {
    const char *base_url = env("STORMJIB_UPSTREAM") ? "${STORMJIB_UPSTREAM}"
                           : env("OPENAI_BASE_URL") ? "${OPENAI_BASE_URL}"
                           : env("OPENAI_API_KEY")  ? "https://api.openai.com/v1"
                                                    : NULL;
    if (!base_url) {
        sj_config_fault_at(
            loader, "environment", 0,
            "no upstream: set OPENAI_API_KEY (for https://api.openai.com/v1), or STORMJIB_UPSTREAM or "
            "OPENAI_BASE_URL "
            "to an OpenAI-compatible base URL, or give a file with -c (conf/default.conf is a start); "
            "`stormjib demo` needs nothing");
        return false;
    }
    const char *fallback = env("STORMJIB_FALLBACK_MODEL");
    for (const char *p = fallback; p && *p; p++) {
        if (iscntrl((unsigned char)*p) || p - fallback > 255) {
            sj_config_fault_at(loader, "environment", 0, "STORMJIB_FALLBACK_MODEL is no model's name");
            return false;
        }
    }
    if (add_settings(text) && add_upstream(text, base_url) && add_route(text, fallback))
        return true;
    sj_config_fault_at(loader, "environment", 0, "out of memory");
    return false;
}
