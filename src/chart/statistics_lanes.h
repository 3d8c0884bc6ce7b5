/* The loops of the statistics over whole groups of eight samples, written once for registers of any width.
 * Included by statistics.c for each instruction set, with these defined:
 *
 *     LANES_NAME(x)     the function's name for this instruction set
 *     LANES_TARGET      its target attribute, or nothing
 *     VECTOR, WIDTH     a register of WIDTH doubles
 *     V_LOAD V_STORE V_SET V_ADD V_SUB V_MUL V_MIN V_MAX     on registers; V_MIN(a, b) is a < b ? a : b
 *
 * Lane j of eight takes samples j, j + 8, j + 16, ... whatever the width, so every width gives the same bits.
 */

enum { LANES_NAME(REGISTERS) = LANES / WIDTH };

LANES_TARGET static void LANES_NAME(sweep)(const double *values, size_t whole, struct sweep *sweep)
{
    VECTOR sum[LANES_NAME(REGISTERS)], min[LANES_NAME(REGISTERS)], max[LANES_NAME(REGISTERS)];
    for (size_t r = 0; r < LANES_NAME(REGISTERS); r++) {
        sum[r] = V_SET(0);
        min[r] = V_SET((double)INFINITY);
        max[r] = V_SET(-(double)INFINITY);
    }
    for (size_t i = 0; i < whole; i += LANES) {
        for (size_t r = 0; r < LANES_NAME(REGISTERS); r++) {
            VECTOR x = V_LOAD(values + i + r * WIDTH);
            sum[r] = V_ADD(sum[r], x);
            min[r] = V_MIN(x, min[r]);
            max[r] = V_MAX(x, max[r]);
        }
    }
    for (size_t r = 0; r < LANES_NAME(REGISTERS); r++) {
        V_STORE(sweep->sum + r * WIDTH, sum[r]);
        V_STORE(sweep->min + r * WIDTH, min[r]);
        V_STORE(sweep->max + r * WIDTH, max[r]);
    }
}

LANES_TARGET static void LANES_NAME(deviations)(const double *values, size_t whole, double mean,
                                                double *square, double *rest)
{
    VECTOR squares[LANES_NAME(REGISTERS)], rests[LANES_NAME(REGISTERS)], centre = V_SET(mean);
    for (size_t r = 0; r < LANES_NAME(REGISTERS); r++)
        squares[r] = rests[r] = V_SET(0);
    for (size_t i = 0; i < whole; i += LANES) {
        for (size_t r = 0; r < LANES_NAME(REGISTERS); r++) {
            VECTOR d = V_SUB(V_LOAD(values + i + r * WIDTH), centre);
            squares[r] = V_ADD(squares[r], V_MUL(d, d));
            rests[r] = V_ADD(rests[r], d);
        }
    }
    for (size_t r = 0; r < LANES_NAME(REGISTERS); r++) {
        V_STORE(square + r * WIDTH, squares[r]);
        V_STORE(rest + r * WIDTH, rests[r]);
    }
}

LANES_TARGET static void LANES_NAME(products)(const double *x, const double *y, size_t whole, double mean_x,
                                              double mean_y, struct products *products)
{
    VECTOR xx[LANES_NAME(REGISTERS)], yy[LANES_NAME(REGISTERS)], xy[LANES_NAME(REGISTERS)];
    VECTOR centre_x = V_SET(mean_x), centre_y = V_SET(mean_y);
    for (size_t r = 0; r < LANES_NAME(REGISTERS); r++)
        xx[r] = yy[r] = xy[r] = V_SET(0);
    for (size_t i = 0; i < whole; i += LANES) {
        for (size_t r = 0; r < LANES_NAME(REGISTERS); r++) {
            VECTOR dx = V_SUB(V_LOAD(x + i + r * WIDTH), centre_x);
            VECTOR dy = V_SUB(V_LOAD(y + i + r * WIDTH), centre_y);
            xx[r] = V_ADD(xx[r], V_MUL(dx, dx));
            yy[r] = V_ADD(yy[r], V_MUL(dy, dy));
            xy[r] = V_ADD(xy[r], V_MUL(dx, dy));
        }
    }
    for (size_t r = 0; r < LANES_NAME(REGISTERS); r++) {
        V_STORE(products->xx + r * WIDTH, xx[r]);
        V_STORE(products->yy + r * WIDTH, yy[r]);
        V_STORE(products->xy + r * WIDTH, xy[r]);
    }
}

LANES_TARGET static void LANES_NAME(trapezoids)(const double *x, const double *y, size_t whole, double *area)
{
    VECTOR sum[LANES_NAME(REGISTERS)];
    for (size_t r = 0; r < LANES_NAME(REGISTERS); r++)
        sum[r] = V_SET(0);
    for (size_t i = 0; i < whole; i += LANES) {
        for (size_t r = 0; r < LANES_NAME(REGISTERS); r++) {
            const double *p = x + i + r * WIDTH, *q = y + i + r * WIDTH;
            VECTOR width = V_SUB(V_LOAD(p + 1), V_LOAD(p));
            sum[r] = V_ADD(sum[r], V_MUL(width, V_ADD(V_LOAD(q), V_LOAD(q + 1))));
        }
    }
    for (size_t r = 0; r < LANES_NAME(REGISTERS); r++)
        V_STORE(area + r * WIDTH, sum[r]);
}

#undef LANES_NAME
#undef LANES_TARGET
#undef VECTOR
#undef WIDTH
#undef V_LOAD
#undef V_STORE
#undef V_SET
#undef V_ADD
#undef V_SUB
#undef V_MUL
#undef V_MIN
#undef V_MAX
