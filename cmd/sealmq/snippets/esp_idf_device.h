// Identity of {{.ID}} for {{.URL}}, valid until {{.Until}}: ESP-IDF 5 and esp-mqtt.
//
// Put this header and the three .pem files into main/, and name the files in main/CMakeLists.txt:
//   idf_component_register(SRCS "main.c" INCLUDE_DIRS "." EMBED_TXTFILES ca.pem cert.pem key.pem)
//
// Or keep the identity out of the program, in an NVS partition of its own (strings in the namespace "sealmq"):
//   python $IDF_PATH/components/nvs_flash/nvs_partition_generator/nvs_partition_gen.py generate esp_idf_nvs.csv nvs.bin 0x4000
#pragma once

#include "mqtt_client.h"

#define SEALMQ_URL "{{.URL}}"
#define SEALMQ_ID "{{.ID}}"

extern const char sealmq_ca[] asm("_binary_ca_pem_start");
extern const char sealmq_cert[] asm("_binary_cert_pem_start");
extern const char sealmq_key[] asm("_binary_key_pem_start");

// Certificates have dates: set the clock (esp_netif_sntp_init) before the client is started.
static inline esp_mqtt_client_handle_t sealmq_client(void) {
  const esp_mqtt_client_config_t config = {
      .broker = {
          .address = {.uri = SEALMQ_URL},
          .verification = {.certificate = sealmq_ca},
      },
      .credentials = {
          .client_id = SEALMQ_ID,
          .authentication = {.certificate = sealmq_cert, .key = sealmq_key},
      },
      .session = {.keepalive = 60},
  };
  return esp_mqtt_client_init(&config);
}

/* A whole program, once the network is up:

#include "esp_idf_device.h"

static void on_event(void *arg, esp_event_base_t base, int32_t id, void *data) {
  esp_mqtt_event_handle_t event = data;
  if (id == MQTT_EVENT_CONNECTED) {
    esp_mqtt_client_subscribe(event->client, SEALMQ_ID "/#", 1);
    esp_mqtt_client_publish(event->client, SEALMQ_ID "/hello", "world", 0, 1, 0);
  } else if (id == MQTT_EVENT_DATA) {
    printf("%.*s %.*s\n", event->topic_len, event->topic, event->data_len, event->data);
  }
}

void start(void) {
  esp_mqtt_client_handle_t client = sealmq_client();
  esp_mqtt_client_register_event(client, MQTT_EVENT_ANY, on_event, NULL);
  esp_mqtt_client_start(client);
}

*/
