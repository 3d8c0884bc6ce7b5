/* cmocka needs these four before its own header; every unit test includes this one line instead. */
#ifndef CHAMBERLAIN_TESTS_CMOCKA_SETUP_H
#define CHAMBERLAIN_TESTS_CMOCKA_SETUP_H

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#endif
