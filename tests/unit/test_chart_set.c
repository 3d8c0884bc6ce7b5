#include "chart_fixture.h"

#include "base/strbuf.h"
#include "chart/chartset.h"
#include "chart/glob.h"
#include "chart/judge.h"
#include "chart/nearest.h"

#include <stdlib.h>
#include <string.h>

static struct chart_set *parse_good(const char *text)
{
    struct chart_set *set;
    struct error err;
    if (chart_set_parse(text, strlen(text), "charts.yaml", &set, NULL, &err))
        fail_msg("%s", err.text);
    return set;
}

/* The file's problems as lines "line:column: message", warnings marked. */
static char *problems_of(const char *text)
{
    struct chart_set *set;
    struct chart_problems problems;
    struct error err;
    struct strbuf lines;
    chart_problems_init(&problems);
    strbuf_init(&lines);
    int code = chart_set_parse(text, strlen(text), "charts.yaml", &set, &problems, &err);
    assert_int_equal(code, problems.errors ? ERR_INVALID : 0);
    assert_int_equal(set != NULL, code == 0);
    for (size_t i = 0; i < problems.count; i++)
        strbuf_printf(&lines, "%zu:%zu: %s%s\n", problems.items[i].line, problems.items[i].column,
                      problems.items[i].warning ? "warning: " : "", problems.items[i].message);
    chart_problems_free(&problems);
    chart_set_free(set);
    return strbuf_take(&lines);
}

static void the_example_of_the_handbook(void **state)
{
    (void)state;
    static const char text[] = "charts:\n"
                               "  - name: etch.pressure.mean\n"
                               "    recipe: \"ETCH_*\"                       # glob over recipes\n"
                               "    baseline: [tool, chamber, recipe]\n"
                               "    equation: mean(Pressure, step 4..5)\n"
                               "    unit: mTorr\n"
                               "    limits: { method: shewhart, sigma: 3, history: 100, min_history: 20 }\n"
                               "    rules: [ western_electric, nelson_3 ]\n"
                               "    severity: critical\n";
    struct chart_set *set = parse_good(text);
    assert_int_equal(chart_set_count(set), 1);
    const struct chart *chart = chart_set_at(set, 0);
    assert_string_equal(chart->name, "etch.pressure.mean");
    assert_string_equal(chart->recipe, "ETCH_*");
    assert_string_equal(chart->equation.text, "mean(Pressure, step 4..5)");
    assert_string_equal(chart->unit, "mTorr");
    assert_int_equal(chart->severity, SEVERITY_CRITICAL);
    assert_int_equal(chart->limits.method, LIMITS_SHEWHART);
    assert_near(chart->limits.sigma, 3, 0);
    assert_int_equal(chart->limits.history, 100);
    assert_int_equal(chart->limits.min_history, 20);
    assert_int_equal(chart->rules.enabled, 15u << RULE_WESTERN_ELECTRIC_1 | 1u << RULE_NELSON_3);
    assert_int_equal(chart->baseline_count, 3);
    assert_int_equal(chart->line, 2);
    assert_ptr_equal(chart_set_find(set, "etch.pressure.mean"), chart);
    assert_null(chart_set_find(set, "other"));
    size_t length;
    assert_string_equal(chart_set_text(set, &length), text);
    assert_int_equal(length, strlen(text));
    struct chart_set *again = parse_good(text);
    assert_true(chart_set_id(set) == chart_set_id(again));
    chart_set_free(again);
    chart_set_free(set);
}

static void what_is_not_said_has_a_default(void **state)
{
    (void)state;
    struct chart_set *set = parse_good("charts: [{name: a, equation: max(P)}]");
    const struct chart *chart = chart_set_at(set, 0);
    assert_string_equal(chart->recipe, "*");
    assert_string_equal(chart->unit, "");
    assert_int_equal(chart->severity, SEVERITY_WARNING);
    assert_int_equal(chart->rules.enabled, 1u << RULE_LIMITS);
    assert_int_equal(chart->limits.method, LIMITS_SHEWHART);
    assert_int_equal(chart->limits.history, LIMITS_DEFAULT_HISTORY);
    assert_int_equal(chart->limits.min_history, LIMITS_DEFAULT_MIN_HISTORY);
    assert_string_equal(chart->baseline[2], "recipe");
    assert_int_equal(chart_set_lookback(set), 0);
    chart_set_free(set);
}

static void defaults_are_taken_over_and_overridden(void **state)
{
    (void)state;
    struct chart_set *set =
        parse_good("lookback: 300\n"
                   "notes: for the etcher\n"
                   "defaults:\n"
                   "  recipe: E*\n"
                   "  baseline: [recipe, tool, chamber, lot]\n"
                   "  unit: V\n"
                   "  severity: info\n"
                   "  limits: {method: robust, sigma: 4, history: 50}\n"
                   "  rules: [limits, nelson_2]\n"
                   "charts:\n"
                   "- {name: a, equation: max(P)}\n"
                   "- {name: b, equation: max(P), limits: {sigma: 5}, unit: A, rules: [ewma]}\n"
                   "- {name: c, equation: max(P), limits: {lower: 1, upper: 2}}\n"
                   "- {name: d, equation: max(P), limits: {method: individuals}}\n"
                   "- {name: e, equation: max(P), limits: {history: 10}}\n"
                   "- {name: f, equation: max(P), limits: {fixed: {lower: 1}}, rules: [limits]}\n");
    const struct chart *a = chart_set_at(set, 0), *b = chart_set_at(set, 1), *c = chart_set_at(set, 2),
                       *d = chart_set_at(set, 3), *e = chart_set_at(set, 4), *f = chart_set_at(set, 5);
    assert_string_equal(a->recipe, "E*");
    assert_string_equal(a->unit, "V");
    assert_int_equal(a->baseline_count, 4);
    assert_int_equal(a->severity, SEVERITY_INFO);
    assert_true(a->limits.method == LIMITS_ROBUST && a->limits.sigma == 4 && a->limits.history == 50);
    assert_int_equal(a->rules.enabled, 1u << RULE_LIMITS | 1u << RULE_NELSON_2);
    /* One key of the limits changes; rules are replaced as a whole. */
    assert_true(b->limits.method == LIMITS_ROBUST && b->limits.sigma == 5 && b->limits.history == 50);
    assert_string_equal(b->unit, "A");
    assert_int_equal(b->rules.enabled, 1u << RULE_EWMA);
    /* Another method begins from its own defaults. */
    assert_true(c->limits.method == LIMITS_FIXED && c->limits.lower == 1 && c->limits.upper == 2);
    assert_true(d->limits.method == LIMITS_INDIVIDUALS && d->limits.sigma == 3 && d->limits.history == 100);
    assert_true(e->limits.history == 10 && e->limits.min_history == 10);
    assert_true(f->limits.method == LIMITS_FIXED && f->limits.lower == 1 && isnan(f->limits.upper));
    assert_int_equal(chart_set_lookback(set), 300);
    chart_set_free(set);
}

static void rules_take_parameters(void **state)
{
    (void)state;
    struct chart_set *set = parse_good("charts:\n"
                                       "- name: a\n"
                                       "  equation: max(P)\n"
                                       "  rules:\n"
                                       "  - limits: {severity: critical}\n"
                                       "  - western_electric: {severity: info}\n"
                                       "  - ewma: {lambda: 0.3, limit: 2.7, steady: true, restart: false}\n"
                                       "  - cusum: {k: 0.25, h: 8, restart: false, severity: warning}\n"
                                       "- {name: b, equation: max(P), rules: nelson}\n"
                                       "- {name: c, equation: max(P), rules: []}\n");
    const struct rules_spec *rules = &chart_set_at(set, 0)->rules;
    assert_int_equal(rules->severity[RULE_LIMITS], SEVERITY_CRITICAL);
    assert_int_equal(rules->severity[RULE_WESTERN_ELECTRIC_3], SEVERITY_INFO);
    assert_int_equal(rules->severity[RULE_EWMA], SEVERITY_NONE);
    assert_int_equal(rules->severity[RULE_CUSUM], SEVERITY_WARNING);
    assert_true(rules->ewma_lambda == 0.3 && rules->ewma_limit == 2.7 && rules->ewma_steady &&
                !rules->ewma_restart);
    assert_true(rules->cusum_k == 0.25 && rules->cusum_h == 8 && !rules->cusum_restart);
    assert_int_equal(chart_set_at(set, 1)->rules.enabled, 255u << RULE_NELSON_1);
    assert_int_equal(chart_set_at(set, 2)->rules.enabled, 0);
    chart_set_free(set);
}

/* Every mistake is found, each at its place, with the nearest name. */
static void one_file_full_of_mistakes(void **state)
{
    (void)state;
    char *found = problems_of(
        "defaults:\n"
        "  limits: {sigma: 0}\n"
        "  rule: x\n"
        "charts:\n"
        "  - name: a\n"
        "    equation: 'men(Pressure, step 5..4) + percentile(\"A b\", 200) + mean(''x y'', stp 4)'\n"
        "    rules: [wetsern_electric, nelson_9]\n"
        "    limits: {min_history: 200}\n"
        "  - name: a\n"
        "    baseline: [tool, recip]\n"
        "    equation: >\n"
        "      mean(Pressure) +\n"
        "      maan(Pressure)\n"
        "    severity: criticl\n"
        "  - recipe: \"[abc\"\n"
        "    equation: mean(Pressure\n");
    assert_string_equal(
        found, "2:19: sigma is 0; it must be over 0 and at most 1000\n"
               "3:3: unknown key in defaults 'rule'; did you mean 'rules'?\n"
               "6:16: unknown function 'men'; did you mean 'mean'?\n"
               "6:61: a percentile lies between 0 and 100\n"
               "6:82: unknown window 'stp'; did you mean 'step'? (known: step, time, samples, visit, skip, "
               "drop, trim)\n"
               "7:13: unknown rule 'wetsern_electric'; did you mean 'western_electric'?\n"
               "7:31: unknown rule 'nelson_9'; did you mean 'nelson_1'?\n"
               "8:13: min_history 200 is more than history 100: the chart would never stop learning\n"
               "9:11: a second chart named 'a' (first in line 5)\n"
               "10:15: the baseline lacks 'chamber': histories are kept by tool, chamber and recipe, and can "
               "only be divided "
               "further\n"
               "10:15: the baseline lacks 'recipe': histories are kept by tool, chamber and recipe, and can "
               "only be divided "
               "further\n"
               "10:22: warning: the attribute 'recip' is looked up among the announcement's own fields; did "
               "you mean "
               "'recipe'?\n"
               "13:7: unknown function 'maan'; did you mean 'mean'?\n"
               "14:15: unknown severity 'criticl'; did you mean 'critical'?\n"
               "15:5: the chart has no 'name'\n"
               "15:13: the pattern '[abc' has a '[' without its ']'\n"
               "16:28: expected ',' or ')' after the sensor 'Pressure', but the equation ends; a statistic "
               "takes one sensor, "
               "and a name with other characters than letters, digits, '_' and '.' is written in quotes\n");
    free(found);
}

static void each_mistake_alone(void **state)
{
    (void)state;
#define CHART "charts:\n- name: a\n  equation: max(P)\n  "
    static const struct {
        const char *text, *begins;
    } cases[] = {
        {"", "1:1: the file is empty"},
        {"# nothing\n", "1:1: the file is empty"},
        {"charts", "1:1: the file must be a mapping"},
        {"chart: []", "1:1: unknown key in the file 'chart'; did you mean 'charts'?"},
        {"charts: {}", "1:9: 'charts' must be a list"},
        {"charts: []", "1:9: warning: the file has no charts"},
        {"charts:\n  - a", "2:5: a chart must be a mapping"},
        {"charts:\n- {name: , equation: max(P)}", "2:10: name must not be empty"},
        {"charts:\n- {name: [a], equation: max(P)}", "2:10: name must be a text, but is a list"},
        {"charts:\n- {name: \"a\\tb\", equation: max(P)}", "2:10: name must not contain control"},
        {"charts:\n- {name: a}", "2:3: the chart has no 'equation'"},
        {"charts:\n- {name: a, equation: [max]}", "2:23: equation must be a text"},
        {CHART "name: b\n", "4:3: the key 'name' is given a second time (first in line 2)"},
        {CHART "severity: none\n", "4:13: unknown severity 'none' (known: info, warning, critical)"},
        {CHART "limits: 3\n", "4:11: limits must be a mapping"},
        {CHART "limits: {sigma: x}\n", "4:19: sigma must be a number, but is 'x'"},
        {CHART "limits: {sigma: '3'}\n", "4:19: sigma must be a number"},
        {CHART "limits: {sigma: nan}\n", "4:19: sigma must be a number"},
        {CHART "limits: {sigma: 0x3}\n", "4:19: sigma must be a number"},
        {CHART "limits: {sigma: [3]}\n", "4:19: sigma must be a number, but is a list"},
        {CHART "limits: {sigma: -1}\n", "4:19: sigma is -1; it must be over 0"},
        {CHART "limits: {history: 1}\n", "4:21: history is 1; it must be a whole number from 2 to 10000"},
        {CHART "limits: {history: 20.5}\n", "4:21: history is 20.5"},
        {CHART "limits: {method: shewart}\n",
         "4:20: unknown limits method 'shewart'; did you mean 'shewhart'?"},
        {CHART "limits: {method: fixed}\n", "4:11: fixed limits need"},
        {CHART "limits: {lower: 2, upper: 1}\n", "4:11: the lower limit 2 is not below"},
        {CHART "limits: {lower: 2, upper: 3, target: 4}\n", "4:11: the target 4 lies outside"},
        {CHART "limits: {method: robust, lower: 2}\n",
         "4:35: 'lower' has no meaning for limits of the method 'robust'"},
        {CHART "limits: {lower: 2, sigma: 3}\n",
         "4:29: 'sigma' has no meaning for limits of the method 'fixed'"},
        {CHART "limits: {stdev: 0}\n", "4:19: stdev is 0; it must be over 0"},
        {CHART "limits: {side: left}\n", "4:18: unknown side 'left'"},
        {CHART "limits: {lower: 2}\n  rules: [limits, nelson_2]", "5:10: the rule 'nelson_2' needs a centre"},
        {CHART "limits: {lower: 2, upper: 3}\n  rules: [nelson_2]",
         "5:10: warning: no rule looks at the fixed limits"},
        {CHART "rules: {limits: }\n", "4:10: rules must be a list"},
        {CHART "rules: [[limits]]\n", "4:11: a rule is a name"},
        {CHART "rules: [ewma: {lamda: 0.2}]\n", "4:18: unknown key in ewma 'lamda'; did you mean 'lambda'?"},
        {CHART "rules: [ewma: {lambda: 1.1}]\n", "4:26: lambda is 1.1; it must be over 0 and at most 1"},
        {CHART "rules: [cusum: {h: 0}]\n", "4:22: h is 0"},
        {CHART "rules: [cusum: {restart: maybe}]\n", "4:28: restart must be true or false"},
        {CHART "rules: [limits: {lambda: 1}]\n", "4:20: unknown key in limits 'lambda'"},
        {CHART "rules: [limits, limits]\n", "4:19: warning: the rule 'limits' is given a second time"},
        {CHART "baseline: tool\n", "4:13: baseline must be a list"},
        {CHART "baseline: [tool, chamber, recipe, tool]\n",
         "4:37: the attribute 'tool' is given a second time"},
        {CHART "baseline: [tool, chamber, recipe, waffer]\n", "4:37: warning: the attribute 'waffer'"},
        {CHART "recipe: 'a\\'\n", "4:11: the pattern 'a\\' ends with"},
        {"lookback: 0\ncharts: [{name: a, equation: max(P)}]", "1:11: lookback is 0"},
        {"lookback: 50\ncharts: [{name: a, equation: max(P)}]", "2:10: warning: the chart wants 100 points"},
        {"defaults: {name: a}\ncharts: [{name: a, equation: max(P)}]", "1:18: 'name' cannot be a default"},
        {"defaults: {equation: max(P)}\ncharts: [{name: a, equation: max(P)}]", "1:22: 'equation' cannot be"},
        {"charts: [", "2:1: not YAML"},
        {"charts:\n  - name: a\n equation: b", "3:2: not YAML"},
        {"a: \xff", "1:4: not YAML"},
        {"a: &x 1\nb: *x", "1:4: anchors (&) are not read"},
        {"charts: !!seq []", "1:9: tags (!) are not read"},
        {"recipe: *x", "1:9: aliases (*) are not read"},
        {"a: 1\n---\nb: 2", "2:1: a second document"},
        {"[[[[[[[[[[[[[[[[[[[[]]]]]]]]]]]]]]]]]]]]", "1:17: nested deeper"},
        {"charts: []\n? [a]\n: b\n",
         "1:9: warning: the file has no charts\n2:3: a key must be a single word"},
    };
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        char *found = problems_of(cases[i].text);
        if (strncmp(found, cases[i].begins, strlen(cases[i].begins)) != 0)
            fail_msg("'%s' gives '%s', expected '%s'", cases[i].text, found, cases[i].begins);
        free(found);
    }
}

static void the_first_error_says_file_and_place(void **state)
{
    (void)state;
    struct chart_set *set;
    struct error err;
    static const char text[] = "charts:\n- {name: a, equation: men(P)}\n- {name: b, equation: men(P)}\n";
    assert_int_equal(chart_set_parse(text, strlen(text), "etch.yaml", &set, NULL, &err), ERR_INVALID);
    assert_null(set);
    assert_string_equal(err.text,
                        "etch.yaml:2:23: unknown function 'men'; did you mean 'mean'? (and 1 more)");
}

/* Where byte k of an equation stands, however the scalar is written. */
static void places_in_equations_follow_the_way_they_are_written(void **state)
{
    (void)state;
    static const struct {
        const char *text, *begins;
    } cases[] = {
        {"charts:\n- name: a\n  equation: max(P) + men(P)\n", "3:22: unknown function"},
        {"charts:\n- name: a\n  equation: max(P)\n     + men(P)\n", "4:8: unknown function"},
        {"charts:\n- name: a\n  equation: 'max(''P'') + men(P)'\n", "3:27: unknown function"},
        {"charts:\n- name: a\n  equation: \"max(\\\"P\\\") + men(P)\"\n", "3:27: unknown function"},
        {"charts:\n- name: a\n  equation: \"max(P)\\\n    + men(P)\"\n", "4:7: unknown function"},
        {"charts:\n- name: a\n  equation: \"max('\\xe9') + men(P)\"\n", "3:28: unknown function"},
        {"charts:\n- name: a\n  equation: |\n\n    max(P)\n    + men(P)\n", "6:7: unknown function"},
        {"charts:\n- name: a\n  equation: >-  # folded\n    max(P)\n\n    + men(P)\n",
         "6:7: unknown function"},
        {"charts:\r\n- name: a\r\n  equation: max('\xC3\xA9') + men(P)\r\n", "3:24: unknown function"},
        {"charts: [{name: a, equation: max(P) + }]\n", "1:38: expected a number"},
    };
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        char *found = problems_of(cases[i].text);
        if (strncmp(found, cases[i].begins, strlen(cases[i].begins)) != 0)
            fail_msg("case %zu gives '%s', expected '%s'", i, found, cases[i].begins);
        free(found);
    }
}

static void sensors_are_checked_against_those_that_exist(void **state)
{
    (void)state;
    static const char *const sensors[] = {"Pressure", "RF Power", "step"};
    struct chart_set *set =
        parse_good("charts:\n"
                   "- {name: a, equation: 'mean(Presure) + max(\"RF Power\") + corr(Pressure, Flow)'}\n"
                   "- name: b\n"
                   "  equation: |\n"
                   "    max(Pressure) +\n"
                   "    max('RF Powr')\n");
    struct chart_problems problems;
    chart_problems_init(&problems);
    assert_int_equal(chart_set_check_sensors(set, sensors, 3, &problems, NULL), 0);
    assert_int_equal(problems.count, 3);
    assert_int_equal(problems.warnings, 3);
    assert_string_equal(problems.items[0].message, "no sensor 'Presure' is known; did you mean 'Pressure'?");
    assert_true(problems.items[0].line == 2 && problems.items[0].column == 29);
    assert_string_equal(problems.items[1].message, "no sensor 'Flow' is known");
    assert_string_equal(problems.items[2].message, "no sensor 'RF Powr' is known; did you mean 'RF Power'?");
    assert_true(problems.items[2].line == 6 && problems.items[2].column == 9);
    chart_problems_free(&problems);
    chart_set_free(set);
}

static void bounds_hold(void **state)
{
    (void)state;
    struct chart_set *set;
    struct chart_problems problems;
    struct error err;
    assert_int_equal(chart_set_parse("", (size_t)CHART_FILE_MAX_BYTES + 1, "f", &set, NULL, &err), ERR_LIMIT);
    struct strbuf text;
    strbuf_init(&text);
    strbuf_add(&text, "charts:\n");
    for (size_t i = 0; i <= CHARTS_MAX; i++)
        strbuf_printf(&text, "- {name: n%zu, equation: max(P)}\n", i);
    assert_int_equal(chart_set_parse(text.text, text.length, "f", &set, NULL, &err), ERR_LIMIT);
    text.length -= strlen("- {name: n100000, equation: max(P)}\n");
    assert_int_equal(chart_set_parse(text.text, text.length, "f", &set, NULL, &err), 0);
    assert_int_equal(chart_set_count(set), CHARTS_MAX);
    assert_string_equal(chart_set_find(set, "n77777")->name, "n77777");
    chart_set_free(set);

    /* Thousands of mistakes are cut at a readable number, and say so. */
    strbuf_clear(&text);
    strbuf_add(&text, "charts:\n");
    for (size_t i = 0; i < 2000; i++)
        strbuf_printf(&text, "- {name: n%zu}\n", i);
    chart_problems_init(&problems);
    assert_int_equal(chart_set_parse(text.text, text.length, "f", &set, &problems, &err), ERR_INVALID);
    assert_int_equal(problems.errors, 2000);
    assert_int_equal(problems.count, CHART_PROBLEMS_MAX + 1);
    chart_problems_free(&problems);
    strbuf_free(&text);
}

/* A file cut anywhere, or with bytes turned over, is read or refused, never anything else. */
static void damaged_files_are_refused_in_good_order(void **state)
{
    (void)state;
    static const char text[] = "defaults: {limits: {method: robust, sigma: 4}}\n"
                               "charts:\n"
                               "- name: \"a\\u00e9\"\n"
                               "  equation: 'mean(''P x'', step 4..5, trim 2s) / max(Q)^2'\n"
                               "  rules: [limits, ewma: {lambda: 0.3}]\n"
                               "  baseline: [tool, chamber, recipe, lot]\n"
                               "- name: b\n"
                               "  equation: >\n"
                               "    corr(A, B)\n"
                               "  limits: {fixed: {lower: 1, upper: 2}}\n";
    uint64_t seed = 11;
    char copy[sizeof text];
    for (size_t i = 0; i < sizeof text; i++) {
        memcpy(copy, text, sizeof text);
        copy[i] = '\0';
        free(problems_of(copy));
    }
    for (size_t round = 0; round < 5000; round++) {
        memcpy(copy, text, sizeof text);
        for (size_t i = 0; i < 1 + round % 3; i++) {
            char c = (char)(1 + random_bits(&seed) % 127);
            copy[random_bits(&seed) % (sizeof text - 1)] =
                round % 2 ? c : text[random_bits(&seed) % (sizeof text - 1)];
        }
        free(problems_of(copy));
    }
}

static void patterns_match_as_documented(void **state)
{
    (void)state;
    static const struct {
        const char *pattern, *text;
        bool match;
    } cases[] = {
        {"*", "", true},
        {"", "", true},
        {"", "a", false},
        {"ETCH_*", "ETCH_", true},
        {"ETCH_*", "ETCH", false},
        {"*A", "BAAB", false},
        {"*A", "BAA", true},
        {"a*b*c", "axxbyybzc", true},
        {"a*b*c", "axxc", false},
        {"?", "", false},
        {"?", "a", true},
        {"a?c",
         "a\xC3\xA9"
         "c",
         true},
        {"[abc]x", "bx", true},
        {"[a-c]x", "dx", false},
        {"[!a-c]x", "dx", true},
        {"[]]x", "]x", true},
        {"[!]]x", "]x", false},
        {"\\*", "*", true},
        {"\\*", "a", false},
        {"[a-]", "-", true},
        {"*[0-9]", "run7", true},
        {"*[0-9]", "run", false},
        {"**", "abc", true},
        {"a", "A", false},
    };
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        if (glob_match(cases[i].pattern, cases[i].text) != cases[i].match)
            fail_msg("'%s' and '%s'", cases[i].pattern, cases[i].text);
    }
    /* Stars upon stars take no longer than their product. */
    char pattern[201] = "", text[201];
    for (size_t i = 0; i < 66; i++)
        strcat(pattern, "*a?");
    memset(text, 'a', 200);
    text[200] = '\0';
    assert_true(glob_match(pattern, text));
    strcat(pattern, "b");
    assert_false(glob_match(pattern, text));
    assert_int_equal(glob_check("[", NULL), ERR_INVALID);
    assert_int_equal(glob_check("[!]", NULL), ERR_INVALID);
    assert_int_equal(glob_check("a[b]c*?\\[", NULL), 0);
}

static void nearest_names(void **state)
{
    (void)state;
    static const char *const names[] = {"mean", "median", "max", "min", "western_electric"};
    assert_string_equal(nearest_name("meen", names, 5), "mean");
    assert_string_equal(nearest_name("Mean", names, 5), "mean");
    assert_string_equal(nearest_name("medain", names, 5), "median");
    assert_string_equal(nearest_name("wester_electrik", names, 5), "western_electric");
    assert_null(nearest_name("voltage", names, 5));
    assert_null(nearest_name("xy", names, 5));
    assert_null(nearest_name("", names, 5));
}

/* Every example in the guide is a chart file. */
static void the_guides_examples_are_right(void **state)
{
    (void)state;
    FILE *file = fopen(PROJECT_ROOT "/docs/charts.md", "r");
    assert_non_null(file);
    char line[1000];
    struct strbuf example;
    size_t examples = 0;
    bool inside = false;
    strbuf_init(&example);
    while (fgets(line, sizeof line, file)) {
        if (strcmp(line, "```yaml\n") == 0) {
            inside = true;
        } else if (inside && strcmp(line, "```\n") == 0) {
            inside = false;
            char *found = problems_of(example.text);
            assert_string_equal(found, "");
            free(found);
            strbuf_clear(&example);
            examples++;
        } else if (inside) {
            strbuf_add(&example, line);
        }
    }
    fclose(file);
    strbuf_free(&example);
    assert_true(examples >= 2);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(the_example_of_the_handbook),
        cmocka_unit_test(what_is_not_said_has_a_default),
        cmocka_unit_test(defaults_are_taken_over_and_overridden),
        cmocka_unit_test(rules_take_parameters),
        cmocka_unit_test(one_file_full_of_mistakes),
        cmocka_unit_test(each_mistake_alone),
        cmocka_unit_test(the_first_error_says_file_and_place),
        cmocka_unit_test(places_in_equations_follow_the_way_they_are_written),
        cmocka_unit_test(sensors_are_checked_against_those_that_exist),
        cmocka_unit_test(bounds_hold),
        cmocka_unit_test(damaged_files_are_refused_in_good_order),
        cmocka_unit_test(patterns_match_as_documented),
        cmocka_unit_test(nearest_names),
        cmocka_unit_test(the_guides_examples_are_right),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
