#include <stdio.h>

int main(void) {
    puts("stormjib " SJ_VERSION);
    return 0;
}
