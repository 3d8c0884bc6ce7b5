#include "web/files.h"

#include <string.h>

/* Made by scripts/embed-files from the folder web/: ends with a NULL path. Only these can be asked for, by
 * their whole names: no path is ever looked up in a file system. */
struct embedded_file {
    const char *path, *type, *etag;
    const unsigned char *bytes;
    size_t length;
};
extern const struct embedded_file embedded_files[];

void files_answer(void *arg, const struct http_request *request, struct http_response *response)
{
    (void)arg;
    const char *path = strcmp(request->path, "/") == 0 ? "/index.html" : request->path;
    const struct embedded_file *file = embedded_files;
    while (file->path && strcmp(file->path, path) != 0)
        file++;
    if (file->path == NULL) {
        http_problem(response, 404, "there is nothing under this path; docs/api.md names what there is");
        return;
    }
    const char *known = http_request_header(request, "If-None-Match");
    response->content_type = file->type;
    response->etag = file->etag;
    response->cache_control = "no-cache"; /* asked after each time, sent only when it is another */
    if (known && strcmp(known, file->etag) == 0)
        response->status = 304;
    else
        strbuf_add_bytes(&response->body, file->bytes, file->length);
}
