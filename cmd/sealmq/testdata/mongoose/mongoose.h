// The parts of Mongoose's interface that mongoose_device.c uses, for a syntax
// check without the library.
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum { MG_EV_ERROR, MG_EV_CONNECT, MG_EV_CLOSE, MG_EV_MQTT_MSG, MG_EV_MQTT_OPEN };

struct mg_str { char *buf; size_t len; };
struct mg_fs { int unused; };
struct mg_mgr { int unused; };
struct mg_connection { void *fn_data; };
struct mg_tls_opts { struct mg_str ca, cert, key, name; int skip_verification; };
struct mg_mqtt_opts {
  struct mg_str user, pass, client_id, topic, message;
  uint8_t qos, version;
  uint16_t keepalive, retransmit_id;
  bool retain, clean;
};
struct mg_mqtt_message { struct mg_str topic, data, dgram; };

typedef void (*mg_event_handler_t)(struct mg_connection *, int ev, void *ev_data);

extern struct mg_fs mg_fs_posix;
struct mg_str mg_str(const char *s);
struct mg_str mg_url_host(const char *url);
struct mg_str mg_file_read(struct mg_fs *fs, const char *path);
void mg_tls_init(struct mg_connection *, const struct mg_tls_opts *);
void mg_mgr_init(struct mg_mgr *);
void mg_mgr_poll(struct mg_mgr *, int ms);
void mg_mgr_free(struct mg_mgr *);
void mg_mqtt_sub(struct mg_connection *, const struct mg_mqtt_opts *);
uint16_t mg_mqtt_pub(struct mg_connection *, const struct mg_mqtt_opts *);
struct mg_connection *mg_mqtt_connect(struct mg_mgr *, const char *url, const struct mg_mqtt_opts *, mg_event_handler_t fn, void *fn_data);
