#include "web/files.h"

#include "web/files_embedded.h"

#include <string.h>
#include <strings.h>

/* True when an Accept-Encoding takes gzip. `gzip;q=0`, which refuses it, is believed too. */
static bool takes_gzip(const char *accepted)
{
    for (const char *at = accepted; at && *at; at += strcspn(at, ",")) {
        at += strspn(at, ", \t");
        if (strncasecmp(at, "gzip", 4) != 0 || !strchr(";, \t", at[4]))
            continue;
        size_t length = strcspn(at, ",");
        const char *quality = memchr(at, '=', length);
        return quality == NULL || strspn(quality + 1, "0.") < (size_t)(at + length - quality - 1);
    }
    return false;
}

/* Only embedded files can be asked for, by their whole names: no path is ever looked up in a file system. */
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
    bool packed = file->packed_length > 0 && takes_gzip(http_request_header(request, "Accept-Encoding"));
    const char *known = http_request_header(request, "If-None-Match");
    response->content_type = file->type;
    response->content_encoding = packed ? "gzip" : NULL;
    response->vary = "Accept-Encoding";
    response->etag = packed ? file->packed_etag : file->etag;
    response->cache_control = "no-cache"; /* asked after each time, sent only when it is another */
    if (known && strcmp(known, response->etag) == 0)
        response->status = 304;
    else if (packed)
        strbuf_add_bytes(&response->body, file->packed, file->packed_length);
    else
        strbuf_add_bytes(&response->body, file->bytes, file->length);
}
