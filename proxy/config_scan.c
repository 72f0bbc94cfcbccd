// Reads the text before libconfig does. libconfig wraps integers silently, takes an unterminated comment for the rest of the file, stops at a
// NUL byte, opens whatever @include names, and says "syntax error" or "duplicate setting name" without saying which. The tokens are its own.
#include "config_internal.h"

#include <ctype.h>
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/stat.h>
#include <unistd.h>

enum { NAME_MAX_BYTES = 63 };

typedef struct name_seen {
    char name[NAME_MAX_BYTES + 1]; // a copy: an included file's text does not outlive its reading
    const char *file;
    int line;
} name_seen;

typedef struct bracket {
    char open;
    const char *file;
    int line;
    size_t names; // names seen before it opened
} bracket;

typedef struct scan {
    sj_loader *loader;
    name_seen *names; // of the groups that are open
    size_t name_count, settings;
    bracket open[SJ_CONFIG_MAX_DEPTH];
    int depth, includes;
} scan;

typedef struct text {
    const char *at, *end;
    const char *file;
    int line;
    int last_line;
    char last; // the last token: a character, 'n' name, 's' string, '0' number
    sj_slice last_name;
    bool line_start; // only blanks since the line began
} text;

bool sj_config_read_file(sj_loader *loader, const char *path, sj_buffer *out) {
    int fd = open(path, O_RDONLY | O_CLOEXEC | O_NONBLOCK | O_NOCTTY);
    if (fd < 0) {
        sj_config_fault_at(loader, path, 0, "cannot be opened: %s", strerror(errno));
        return false;
    }
    struct stat about;
    const char *problem = NULL;
    if (fstat(fd, &about) != 0)
        problem = "cannot be read";
    else if (S_ISDIR(about.st_mode))
        problem = "is a directory; name a file in it";
    else if (!S_ISREG(about.st_mode))
        problem = "is not a regular file";
    else if (about.st_size > SJ_CONFIG_MAX_BYTES)
        problem = "is larger than 4 MiB: that is no configuration";
    char piece[16384];
    ssize_t n = 1;
    while (!problem && n > 0) {
        n = read(fd, piece, sizeof piece);
        if (n < 0 && errno == EINTR)
            n = 1;
        else if (n < 0)
            problem = strerror(errno);
        else if (!sj_buffer_append(out, piece, (size_t)n))
            problem = "is larger than 4 MiB: that is no configuration";
    }
    (void)close(fd);
    if (problem)
        sj_config_fault_at(loader, path, 0, "%s", problem);
    return !problem;
}

static bool scan_text(scan *s, sj_slice bytes, const char *file);

#define FAULT(s, t, ...) (sj_config_fault_at((s)->loader, (t)->file, (t)->line, __VA_ARGS__), false)

static bool at_literal(const text *t, const char *literal) {
    size_t n = strlen(literal);
    return (size_t)(t->end - t->at) >= n && memcmp(t->at, literal, n) == 0;
}

static bool skip_comment(scan *s, text *t) {
    int from = t->line;
    if (*t->at == '#' || t->at[1] == '/') {
        const char *eol = memchr(t->at, '\n', (size_t)(t->end - t->at));
        t->at = eol ? eol : t->end;
        return true;
    }
    const char *close = memmem(t->at + 2, (size_t)(t->end - t->at) - 2, "*/", 2);
    for (const char *p = t->at; close && p < close; p++)
        t->line += *p == '\n';
    if (!close)
        return FAULT(s, t, "the comment that begins in line %d is never closed; end it with */", from);
    t->at = close + 2;
    return true;
}

static bool skip_string(scan *s, text *t) {
    int from = t->line;
    for (t->at++; t->at < t->end && *t->at != '"'; t->at++) {
        t->line += *t->at == '\n';
        if (*t->at == '\\' && t->at + 1 < t->end && t->at[1] != '\n')
            t->at++;
    }
    if (t->at >= t->end) {
        sj_config_fault_at(s->loader, t->file, from,
                           "the string that begins here is never closed; end it with a double quote");
        return false;
    }
    t->at++;
    t->last = 's';
    return true;
}

// @include "file", alone at the start of a line.
static bool follow_include(scan *s, text *t) {
    t->at += strlen("@include");
    while (t->at < t->end && (*t->at == ' ' || *t->at == '\t'))
        t->at++;
    const char *from = t->at + 1;
    if (t->at >= t->end || *t->at != '"')
        return FAULT(s, t, "write @include \"file\"");
    const char *eol = memchr(from, '\n', (size_t)(t->end - from));
    const char *close = memchr(from, '"', (size_t)((eol ? eol : t->end) - from));
    if (!close || memchr(from, '\\', (size_t)(close - from)) || close - from > 1024)
        return FAULT(s, t, "write @include \"file\", without backslashes");
    if (!s->loader->include_dir)
        return FAULT(s, t, "@include works in files only");
    if (s->includes >= SJ_CONFIG_MAX_INCLUDES)
        return FAULT(s, t, "@include is nested more than %d deep; does a file include itself?",
                     SJ_CONFIG_MAX_INCLUDES);
    char path[4096];
    if (snprintf(path, sizeof path, "%s/%.*s", s->loader->include_dir, (int)(close - from), from) >=
        (int)sizeof path)
        return FAULT(s, t, "the path of the included file is too long");
    t->at = close + 1;
    sj_buffer bytes = sj_buffer_with_max(SJ_CONFIG_MAX_BYTES);
    char *file = sj_config_copy(s->loader, sj_slice_of(path));
    s->includes++;
    bool ok = file && sj_config_read_file(s->loader, file, &bytes);
    if (ok)
        ok = scan_text(s, sj_buffer_slice(&bytes), file);
    else
        (void)FAULT(s, t, "it is included here");
    s->includes--;
    sj_buffer_free(&bytes);
    return ok;
}

// A 32-bit integer without L wraps in libconfig; so does a 64-bit one. The digits are never shown: they may be a secret without quotes.
static bool check_integer(scan *s, const text *t, sj_slice token, int base) {
    char digits[32];
    bool wide = token.p[token.n - 1] == 'L';
    bool fits = token.n < sizeof digits;
    if (fits) {
        memcpy(digits, token.p, token.n);
        digits[token.n] = '\0';
        errno = 0;
        long long value = strtoll(digits, NULL, base);
        fits = errno == 0 && (wide || (value >= INT32_MIN && value <= INT32_MAX));
    }
    if (fits)
        return true;
    return FAULT(s, t, "a whole number that does not fit in %d bits%s", wide ? 64 : 32,
                 wide ? "" : "; put an L behind it");
}

static size_t count_of(sj_slice token, size_t from, const char *set) {
    size_t n = from;
    while (n < token.n && strchr(set, token.p[n]))
        n++;
    return n;
}

static bool check_number(scan *s, const text *t, sj_slice token) {
    bool hex = token.n > 2 && token.p[0] == '0' && (token.p[1] == 'x' || token.p[1] == 'X');
    size_t n = hex ? count_of(token, 2, "0123456789abcdefABCDEF") : count_of(token, 0, "+-0123456789");
    if (count_of(token, n, "L") == token.n)
        return check_integer(s, t, token, hex ? 16 : 10);
    if (!hex && count_of(token, 0, "+-.eE0123456789") == token.n)
        return true;
    return FAULT(s, t, "a text that is not in quotes, or no number; a duration is written \"5s\"");
}

static bool scan_number(scan *s, text *t) {
    const char *from = t->at;
    for (t->at++; t->at < t->end; t->at++) {
        bool exponent = (t->at[-1] == 'e' || t->at[-1] == 'E') && (*t->at == '+' || *t->at == '-');
        if (!isalnum((unsigned char)*t->at) && *t->at != '.' && !exponent)
            break;
    }
    t->last = '0';
    return check_number(s, t, (sj_slice){from, (size_t)(t->at - from)});
}

static bool refuse_second(scan *s, const text *t, const name_seen *first) {
    const char *where = strcmp(first->file, t->file) == 0 ? "" : first->file;
    return FAULT(s, t, "key '%s' stands here a second time (first in %s%sline %d); remove one", first->name,
                 where, *where ? " " : "", first->line);
}

// A name is a key when '=' or ':' follows; true and false are values.
static bool see_key(scan *s, text *t) {
    if (t->last == 's' || t->last == '0')
        return FAULT(s, t,
                     "a key is written without quotes and begins with a letter; for names of other "
                     "characters use the form ( { name = \"...\"; value = \"...\"; } )");
    if (t->last != 'n')
        return FAULT(s, t, "'=' without a key before it");
    if (++s->settings > SJ_CONFIG_MAX_SETTINGS)
        return FAULT(s, t, "more than %d settings", SJ_CONFIG_MAX_SETTINGS);
    if (t->last_name.n > NAME_MAX_BYTES)
        return FAULT(s, t, "a key of more than %d letters", NAME_MAX_BYTES);
    name_seen *seen = &s->names[s->name_count];
    memcpy(seen->name, t->last_name.p, t->last_name.n);
    seen->name[t->last_name.n] = '\0';
    seen->file = t->file;
    seen->line = t->line;
    for (size_t i = s->depth ? s->open[s->depth - 1].names : 0; i < s->name_count; i++) {
        if (strcmp(s->names[i].name, seen->name) == 0)
            return refuse_second(s, t, &s->names[i]);
    }
    s->name_count++;
    t->last = '=';
    return true;
}

static bool open_bracket(scan *s, text *t, char c) {
    if (s->depth >= SJ_CONFIG_MAX_DEPTH)
        return FAULT(s, t, "more than %d nested brackets", SJ_CONFIG_MAX_DEPTH);
    s->open[s->depth++] = (bracket){c, t->file, t->line, s->name_count};
    t->last = c;
    return true;
}

static bool close_bracket(scan *s, text *t, char c) {
    char open = c == '}' ? '{' : c == ']' ? '[' : '(';
    if (s->depth == 0)
        return FAULT(s, t, "'%c' without a '%c' before it", c, open);
    const bracket *b = &s->open[s->depth - 1];
    if (b->open != open)
        return FAULT(s, t, "'%c' does not close the '%c' of line %d", c, b->open, b->line);
    if (t->last == ',' && c != '}')
        return FAULT(s, t, "a comma right before '%c'; remove it", c);
    sj_loader *loader = s->loader;
    bool late = t->last == 's' && t->last_line != t->line && s->includes == 0;
    if (late && loader->late_count < SJ_CONFIG_MAX_LATE) {
        loader->late_lines[loader->late_count].bracket = t->line;
        loader->late_lines[loader->late_count++].string = t->last_line;
    }
    s->depth--;
    s->name_count = b->names;
    t->last = c;
    return true;
}

static bool is_name_byte(char c) {
    return isalnum((unsigned char)c) || c == '-' || c == '_' || c == '*';
}

static bool scan_name(scan *s, text *t) {
    const char *from = t->at;
    while (t->at < t->end && is_name_byte(*t->at))
        t->at++;
    if (t->at < t->end && *t->at == '.' && t->last != '=')
        return FAULT(s, t, "a dot cannot stand in a key; open a group: a = { b = ...; };");
    // Never shown in an error before '=' follows: it may be a secret that lacks its quotes.
    t->last_name = (sj_slice){from, (size_t)(t->at - from)};
    bool value = t->last == '=' || ((t->last == ',' || t->last == '[' || t->last == '(') && s->depth &&
                                    s->open[s->depth - 1].open != '{');
    if (value && !sj_slice_equal_nocase(t->last_name, SJ_SLICE("true")) &&
        !sj_slice_equal_nocase(t->last_name, SJ_SLICE("false")))
        return FAULT(s, t, "a text that is not in quotes; write \"...\"");
    t->last = value ? 'b' : 'n';
    return true;
}

// The two commonest slips, which libconfig reports at the next token, perhaps lines away.
static bool check_order(scan *s, const text *t, char next) {
    const char *problem = NULL;
    if (t->last == 'n' && next != '=' && next != ':')
        problem = "a name without '=' and a value behind it";
    else if (t->last == '=' && strchr(",;=:}])", next))
        problem = "a key without a value";
    if (problem)
        sj_config_fault_at(s->loader, t->file, t->last_line, "%s", problem);
    return !problem;
}

static bool scan_token(scan *s, text *t) {
    char c = *t->at;
    if (!check_order(s, t, c))
        return false;
    if (c == '"')
        return skip_string(s, t);
    if (c == '{' || c == '[' || c == '(') {
        t->at++;
        return open_bracket(s, t, c);
    }
    if (c == '}' || c == ']' || c == ')') {
        t->at++;
        return close_bracket(s, t, c);
    }
    if (c == '=' || c == ':') {
        t->at++;
        return see_key(s, t);
    }
    if (isalpha((unsigned char)c) || c == '*')
        return scan_name(s, t);
    if (isdigit((unsigned char)c) || c == '+' || c == '-' || c == '.')
        return scan_number(s, t);
    if (c == ',' || c == ';') {
        t->at++;
        t->last = c;
        return true;
    }
    if (isgraph((unsigned char)c))
        return FAULT(s, t, "'%c' cannot stand here; is a text without quotes?", c);
    return FAULT(s, t, "byte 0x%02x cannot stand here; is this a configuration file?", (unsigned char)c);
}

static bool scan_text(scan *s, sj_slice bytes, const char *file) {
    if (bytes.n == 0) // p may be NULL then
        return true;
    text t = {
        .at = bytes.p, .end = bytes.p + bytes.n, .file = file, .line = 1, .last = ';', .line_start = true};
    bool ok = true;
    const char *nul = memchr(bytes.p, '\0', bytes.n);
    if (nul) {
        for (; t.at < nul; t.at++)
            t.line += *t.at == '\n';
        return FAULT(s, &t, "a NUL byte: this is not a text file");
    }
    while (ok && t.at < t.end) {
        char c = *t.at;
        if (c == '\n') {
            t.line++;
            t.line_start = true;
            t.at++;
        } else if (c == ' ' || c == '\t' || c == '\r' || c == '\f') {
            t.at++;
        } else if (c == '#' || at_literal(&t, "//") || at_literal(&t, "/*")) {
            ok = skip_comment(s, &t);
        } else if (t.line_start && at_literal(&t, "@include")) {
            ok = follow_include(s, &t);
        } else {
            t.line_start = false;
            ok = scan_token(s, &t);
            t.last_line = t.line;
        }
    }
    return ok && check_order(s, &t, ';');
}

bool sj_config_scan(sj_loader *loader, sj_slice bytes) {
    scan s = {.loader = loader, .names = malloc((SJ_CONFIG_MAX_SETTINGS + 1) * sizeof *s.names)};
    const char *file = loader->path ? loader->path : "environment";
    if (!s.names) {
        sj_config_fault_at(loader, file, 0, "out of memory");
        return false;
    }
    bool ok = scan_text(&s, bytes, file);
    if (ok && s.depth) {
        const bracket *b = &s.open[s.depth - 1];
        sj_config_fault_at(loader, b->file, b->line, "the '%c' of this line is never closed", b->open);
        ok = false;
    }
    free(s.names);
    return ok;
}
