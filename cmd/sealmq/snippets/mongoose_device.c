// {{.ID}} speaks to {{.URL}}. In this folder, with the two files of
// Mongoose (7.14 or later) in ../mongoose:
//   cc -DMG_TLS=MG_TLS_OPENSSL -I../mongoose mongoose_device.c ../mongoose/mongoose.c -lssl -lcrypto -o device
//   ./device
#include "mongoose.h"

static const char *url = "{{.URL}}";
static const char *id = "{{.ID}}";

static void on_event(struct mg_connection *c, int ev, void *data) {
  if (ev == MG_EV_CONNECT) {
    struct mg_tls_opts tls;
    memset(&tls, 0, sizeof(tls));
    tls.ca = mg_file_read(&mg_fs_posix, "ca.pem");
    tls.cert = mg_file_read(&mg_fs_posix, "cert.pem");
    tls.key = mg_file_read(&mg_fs_posix, "key.pem");
    tls.name = mg_url_host(url);
    mg_tls_init(c, &tls);
    free((void *) tls.ca.buf);
    free((void *) tls.cert.buf);
    free((void *) tls.key.buf);
  } else if (ev == MG_EV_MQTT_OPEN) {
    struct mg_mqtt_opts sub, pub;
    memset(&sub, 0, sizeof(sub));
    sub.topic = mg_str("{{.ID}}/#");
    sub.qos = 1;
    mg_mqtt_sub(c, &sub);
    memset(&pub, 0, sizeof(pub));
    pub.topic = mg_str("{{.ID}}/hello");
    pub.message = mg_str("world");
    pub.qos = 1;
    mg_mqtt_pub(c, &pub);
  } else if (ev == MG_EV_MQTT_MSG) {
    struct mg_mqtt_message *m = (struct mg_mqtt_message *) data;
    printf("%.*s %.*s\n", (int) m->topic.len, m->topic.buf, (int) m->data.len, m->data.buf);
    fflush(stdout);
  } else if (ev == MG_EV_ERROR) {
    fprintf(stderr, "%s\n", (char *) data);
  } else if (ev == MG_EV_CLOSE) {
    *(bool *) c->fn_data = true;
  }
}

int main(void) {
  struct mg_mgr mgr;
  struct mg_mqtt_opts opts;
  bool done = false;
  memset(&opts, 0, sizeof(opts));
  opts.client_id = mg_str(id);
  opts.clean = true;
  opts.keepalive = 60;
  mg_mgr_init(&mgr);
  mg_mqtt_connect(&mgr, url, &opts, on_event, &done);
  while (!done) mg_mgr_poll(&mgr, 1000);
  mg_mgr_free(&mgr);
  return 1;
}
