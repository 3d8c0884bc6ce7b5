/* log and exp from additions, multiplications and divisions alone. The C library picks its own by processor,
 * and their last bits differ; an indicator must have the same bits wherever it is computed. Both within 2
 * units in the last place of the true value. */
#ifndef CHAMBERLAIN_CHART_ELEMENTARY_H
#define CHAMBERLAIN_CHART_ELEMENTARY_H

double elementary_log(double x); /* NaN for x < 0 and NaN, -infinity for 0 */
double elementary_exp(double x);
double elementary_power(double x, int exponent); /* by repeated multiplication */

#endif
