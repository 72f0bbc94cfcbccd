// "*" any run of characters (also none), "?" one; everything else literally. Linear in practice: one backtrack point.
#ifndef SJ_GLOB_H
#define SJ_GLOB_H

#include "slice.h"

bool sj_glob_match(sj_slice pattern, sj_slice text);

#endif
