/* The dashboard's files, built in from web/. */
#ifndef CHAMBERLAIN_WEB_FILES_H
#define CHAMBERLAIN_WEB_FILES_H

#include "http/server.h"

/* Answers the path of a file ("/" is /index.html) with it, anything else with 404. A handler for the route
 * "*". */
void files_answer(void *arg, const struct http_request *request, struct http_response *response);

#endif
