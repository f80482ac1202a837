// SPDX-License-Identifier: Apache-2.0
//
// A small writer of SVG: one frame, two axes, lines, and a list of what the lines are. Either axis may be logarithmic, with a
// mark at 1, 2 and 5 times each power of ten; the other has marks at even steps. Names go through escape(), since a
// directory or a program may be called anything. Nothing but shapes and text: no script, no style sheet, no font of its own.
//
// The file is written in one go and looked at once, at its end, for errors: a picture that is cut off is an error.
#include "tools/dsmperf_plot.h"

#include <errno.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>

enum { WIDTH = 860, HEIGHT = 500, LEFT = 70, RIGHT = 240, TOP = 50, BOTTOM = 60, POINTS = 200 };
static const char *const palette[] = {"#1f77b4", "#d62728", "#2ca02c",
                                      "#9467bd", "#ff7f0e", "#444444"};
enum { COLORS = sizeof(palette) / sizeof(palette[0]) };

struct axis {
    double least, most;
    bool logarithmic;
    const char *name;
};
struct picture {
    FILE *file;
    struct axis x, y;
    unsigned names; // in the list so far
};

static double part_of(const struct axis *axis, double value)
{
    if (axis->logarithmic) {
        return log(value / axis->least) / log(axis->most / axis->least);
    }
    return (value - axis->least) / (axis->most - axis->least);
}

static double at_x(const struct picture *p, double value)
{
    return LEFT + part_of(&p->x, value) * (WIDTH - LEFT - RIGHT);
}

static double at_y(const struct picture *p, double value)
{
    return HEIGHT - BOTTOM - part_of(&p->y, value) * (HEIGHT - TOP - BOTTOM);
}

static void escape(FILE *file, const char *text)
{
    for (; *text != '\0'; text++) {
        switch (*text) {
        case '<':
            fputs("&lt;", file);
            break;
        case '>':
            fputs("&gt;", file);
            break;
        case '&':
            fputs("&amp;", file);
            break;
        default:
            fputc(*text, file);
        }
    }
}

static void text(const struct picture *p, double x, double y, const char *attributes,
                 const char *what)
{
    fprintf(p->file, "<text x=\"%.1f\" y=\"%.1f\" %s>", x, y, attributes);
    escape(p->file, what);
    fputs("</text>\n", p->file);
}

static void line(const struct picture *p, double x1, double y1, double x2, double y2,
                 const char *attributes)
{
    fprintf(p->file, "<line x1=\"%.1f\" y1=\"%.1f\" x2=\"%.1f\" y2=\"%.1f\" %s/>\n", x1, y1, x2, y2,
            attributes);
}

// The next mark above: 1, 2, 5, 10, ... or even tenths.
static double next_mark(const struct axis *axis, double mark)
{
    if (!axis->logarithmic) {
        return mark + (axis->most - axis->least) / 10;
    }
    double power = pow(10, floor(log10(mark) + 1e-9));
    double lead = mark / power;
    return power * (lead < 1.5 ? 2 : lead < 3 ? 5 : 10);
}

static double first_mark(const struct axis *axis)
{
    if (!axis->logarithmic) {
        return axis->least;
    }
    double mark = pow(10, floor(log10(axis->least)));
    while (mark < axis->least * (1 - 1e-9)) {
        mark = next_mark(axis, mark);
    }
    return mark;
}

static void draw_axes(const struct picture *p)
{
    static const char grid[] = "stroke=\"#dddddd\"";
    char label[32];
    double x = first_mark(&p->x);
    double y = first_mark(&p->y);
    while (x <= p->x.most * (1 + 1e-9)) {
        line(p, at_x(p, x), TOP, at_x(p, x), HEIGHT - BOTTOM, grid);
        (void)snprintf(label, sizeof(label), "%g", x);
        text(p, at_x(p, x), HEIGHT - BOTTOM + 18, "text-anchor=\"middle\"", label);
        x = next_mark(&p->x, x);
    }
    while (y <= p->y.most * (1 + 1e-9)) {
        line(p, LEFT, at_y(p, y), WIDTH - RIGHT, at_y(p, y), grid);
        (void)snprintf(label, sizeof(label), "%g", y);
        text(p, LEFT - 8, at_y(p, y) + 4, "text-anchor=\"end\"", label);
        y = next_mark(&p->y, y);
    }
    fprintf(p->file,
            "<rect x=\"%d\" y=\"%d\" width=\"%d\" height=\"%d\" fill=\"none\" stroke=\"black\"/>\n",
            LEFT, TOP, WIDTH - LEFT - RIGHT, HEIGHT - TOP - BOTTOM);
    text(p, LEFT + (WIDTH - LEFT - RIGHT) / 2.0, HEIGHT - 18, "text-anchor=\"middle\"", p->x.name);
    text(p, LEFT, TOP - 8, "", p->y.name);
}

static int begin(struct picture *p, const struct perf_settings *settings, const char *title,
                 struct failure *failure)
{
    p->file = fopen(settings->plot, "we");
    if (p->file == NULL) {
        return failure_set(failure, -errno, "%s cannot be written.", settings->plot);
    }
    fprintf(p->file,
            "<?xml version=\"1.0\" encoding=\"UTF-8\"?>\n"
            "<svg xmlns=\"http://www.w3.org/2000/svg\" width=\"%d\" height=\"%d\" "
            "viewBox=\"0 0 %d %d\" font-family=\"sans-serif\" font-size=\"12\">\n"
            "<rect width=\"100%%\" height=\"100%%\" fill=\"white\"/>\n",
            WIDTH, HEIGHT, WIDTH, HEIGHT);
    text(p, LEFT, 24, "font-size=\"16\"", title);
    draw_axes(p);
    return 0;
}

static int end(struct picture *p, const struct perf_settings *settings, struct failure *failure)
{
    fputs("</svg>\n", p->file);
    bool failed = ferror(p->file) != 0;
    failed |= fclose(p->file) != 0;
    return failed ? failure_set(failure, -EIO, "%s could not be written.", settings->plot) : 0;
}

static void style(char *attributes, size_t bytes, uint32_t color, bool dashed)
{
    (void)snprintf(attributes, bytes, "fill=\"none\" stroke=\"%s\" stroke-width=\"2\"%s",
                   palette[color % COLORS], dashed ? " stroke-dasharray=\"6 4\"" : "");
}

static void name_line(struct picture *p, const char *name, const char *attributes)
{
    double y = TOP + 12 + 20.0 * p->names++;
    line(p, WIDTH - RIGHT + 12, y, WIDTH - RIGHT + 42, y, attributes);
    text(p, WIDTH - RIGHT + 48, y + 4, "", name);
}

static double clamp(double value, const struct axis *axis)
{
    return value < axis->least ? axis->least : value > axis->most ? axis->most : value;
}

static void draw_distribution(struct picture *p, const struct perf_distribution *distribution,
                              uint32_t color)
{
    char attributes[128];
    style(attributes, sizeof(attributes), color, false);
    fputs("<polyline points=\"", p->file);
    for (int i = 0; i <= POINTS; i++) {
        double percent = 100.0 * i / POINTS;
        double x = perf_percentile(distribution->samples, percent > 0 ? percent : 1e-6);
        fprintf(p->file, "%.1f,%.1f ", at_x(p, clamp(x, &p->x)), at_y(p, percent));
    }
    fprintf(p->file, "\" %s/>\n", attributes);
    name_line(p, distribution->name, attributes);
}

int perf_plot_distributions(const struct perf_settings *settings, const char *title,
                            const struct perf_distribution *all, size_t count, double limit,
                            struct failure *failure)
{
    struct picture p = {.x = {INFINITY, 0, true, "microseconds"},
                        .y = {0, 100, false, "% of the samples that took at most so long"}};
    char attributes[128];
    if (settings->plot == NULL) {
        return 0;
    }
    for (size_t i = 0; i < count; i++) {
        double low = perf_percentile(all[i].samples, 1e-6);
        double high = perf_percentile(all[i].samples, 99.5);
        p.x.least = low < p.x.least ? low : p.x.least;
        p.x.most = high > p.x.most ? high : p.x.most;
    }
    p.x.least = fmin(p.x.least, isnan(limit) ? p.x.least : limit) * 0.9;
    p.x.most = fmax(p.x.most, p.x.least * 10);
    int result = begin(&p, settings, title, failure);
    if (result != 0) {
        return result;
    }
    for (size_t i = 0; i < count; i++) {
        draw_distribution(&p, &all[i], (uint32_t)i);
    }
    if (!isnan(limit)) {
        style(attributes, sizeof(attributes), COLORS - 1, true);
        line(&p, at_x(&p, limit), TOP, at_x(&p, limit), HEIGHT - BOTTOM, attributes);
        name_line(&p, "limit: sum of the medians", attributes);
    }
    return end(&p, settings, failure);
}

static void draw_curve(struct picture *p, const struct perf_curve *curve)
{
    char attributes[128];
    style(attributes, sizeof(attributes), curve->color, curve->dashed);
    fputs("<polyline points=\"", p->file);
    for (size_t i = 0; i < curve->count; i++) {
        if (!isnan(curve->y[i])) {
            fprintf(p->file, "%.1f,%.1f ", at_x(p, curve->x[i]), at_y(p, curve->y[i]));
        }
    }
    fprintf(p->file, "\" %s/>\n", attributes);
    name_line(p, curve->name, attributes);
}

int perf_plot_curves(const struct perf_settings *settings, const char *title, const char *x_name,
                     const char *y_name, const struct perf_curve *curves, size_t count,
                     struct failure *failure)
{
    struct picture p = {.x = {0, 100, false, x_name}, .y = {1, 2, true, y_name}};
    if (settings->plot == NULL) {
        return 0;
    }
    for (size_t i = 0; i < count; i++) {
        for (size_t k = 0; k < curves[i].count; k++) {
            p.x.most = fmax(p.x.most, curves[i].x[k]);
            if (!isnan(curves[i].y[k])) {
                p.y.most = fmax(p.y.most, curves[i].y[k] * 1.1);
                p.y.least = fmin(p.y.least, curves[i].y[k] * 0.9);
            }
        }
    }
    int result = begin(&p, settings, title, failure);
    for (size_t i = 0; i < count && result == 0; i++) {
        draw_curve(&p, &curves[i]);
    }
    return result == 0 ? end(&p, settings, failure) : result;
}
