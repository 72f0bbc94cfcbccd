#include "glob.h"

#include <stdint.h>

bool sj_glob_match(sj_slice pattern, sj_slice text) {
    size_t p = 0, t = 0;
    size_t after_star = SIZE_MAX, star_end = 0; // where to go on when what follows the last "*" does not fit
    while (t < text.n) {
        if (p < pattern.n && pattern.p[p] == '*') {
            after_star = ++p;
            star_end = t;
        } else if (p < pattern.n && (pattern.p[p] == '?' || pattern.p[p] == text.p[t])) {
            p++;
            t++;
        } else if (after_star != SIZE_MAX) {
            p = after_star;
            t = ++star_end;
        } else {
            return false;
        }
    }
    while (p < pattern.n && pattern.p[p] == '*')
        p++;
    return p == pattern.n;
}
