/* The two forms of a batch, and the checks that both share. Internal to batch*.c. */
#ifndef CHAMBERLAIN_COLLECTOR_BATCH_FORMS_H
#define CHAMBERLAIN_COLLECTOR_BATCH_FORMS_H

#include "collector/batch.h"

#define BATCH_TIME_MIN_US INT64_C(0)
#define BATCH_TIME_MAX_US INT64_C(253402300799999999) /* 9999-12-31T23:59:59.999999Z */

int batch_id_check(const char *id, struct error *err);
int batch_sequence_check(uint64_t sequence, struct error *err);
int batch_size_check(size_t length, struct error *err);

/* What must hold of a batch whatever its form: id, number, order of times, no sensor twice, the limits. */
int batch_data_check(const struct batch_data *data, struct error *err);

bool batch_sensors_find(const struct batch_sensors *sensors, const char *name, uint32_t *sensor);

/* True for every version of the binary form. */
bool batch_is_binary(const void *bytes, size_t length);

int batch_binary_label(const unsigned char *bytes, size_t length, struct arena *arena,
                       struct batch_label *label, struct error *err);
int batch_binary_read(const unsigned char *bytes, size_t length, const struct batch_sensors *sensors,
                      struct arena *arena, struct batch_data *data, struct error *err);

int batch_json_label(const char *bytes, size_t length, struct arena *arena, struct batch_label *label,
                     struct error *err);
int batch_json_read(const char *bytes, size_t length, const struct batch_sensors *sensors,
                    struct arena *arena, struct batch_data *data, struct error *err);

#endif
