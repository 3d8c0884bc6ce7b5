/* Student's t distribution: how far out a limit must lie when the deviation itself was estimated from few
 * points. */
#ifndef CHAMBERLAIN_CHART_STUDENT_H
#define CHAMBERLAIN_CHART_STUDENT_H

/* P(T > t) for t >= 0 and `nu` > 0 degrees of freedom (need not be whole): half the regularised incomplete
 * beta function I_x(nu/2, 1/2) at x = nu / (nu + t^2) (Abramowitz and Stegun 26.5.27), by its continued
 * fraction (26.5.8). The relative error is below 1e-12 for nu up to 1,000 and grows with nu, to about 1e-9 at
 * a million. NaN for other arguments. */
double student_tail(double t, double nu);

/* The t with P(T > t) = p, for 0 < p <= 1/2: to the last bits of what student_tail gives, by bisection.
 * Infinite where t would be beyond 1e150 (a tiny p at a nu below 1). NaN for other arguments. */
double student_quantile(double p, double nu);

#endif
